//! The sandbox's clock, times and ids. The sandbox is a separate program, so it has its own clock,
//! which no test controls.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mti::prelude::TypeIdSuffix;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;
use uuid::Uuid;

/// A time: milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Whole seconds since 1970.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0 / 1_000
    }

    /// The time after a duration.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// Writes the time as RFC 3339, in UTC, with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000);
        let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        f.write_str(&at.format(shape).map_err(|_| fmt::Error)?)
    }
}

/// The current time.
#[expect(clippy::disallowed_methods, reason = "a program of its own has a clock of its own")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Creates an id; ids sort by the time of their creation.
#[expect(clippy::disallowed_methods, reason = "a program of its own draws its own ids")]
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", TypeIdSuffix::from(Uuid::now_v7()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_in_utc_with_milliseconds() {
        assert_eq!(Timestamp(1_290_000_000_023).to_string(), "2010-11-17T13:20:00.023Z");
        assert_eq!(Timestamp(1_290_000_000_999).secs(), 1_290_000_000);
    }
}
