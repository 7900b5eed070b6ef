//! Locations, and the stock level at a location. The claims of orders are in the parent module.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// The name of a location: 1 to 32 characters of `a-z0-9-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Location(Arc<str>);

impl Location {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 32 of a-z, 0-9 and '-'")]
pub struct InvalidLocation;

impl FromStr for Location {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(letter) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidLocation)
        }
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The units of one SKU at one location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Units on hand, including reserved and allocated ones.
    pub on_hand: i64,
    /// Units under holds, which expire.
    pub reserved: i64,
    /// Units allocated to paid orders.
    pub allocated: i64,
    /// Units that are announced and not received yet.
    pub incoming: i64,
    /// Units that were shipped and did not come back.
    pub sold: i64,
    /// All units that came to the location (received, found or transferred), less those that were
    /// lost, written off or transferred away: always `on_hand + sold`.
    pub received: i64,
}

impl Level {
    /// Whether there are units, or some on their way.
    #[must_use]
    pub const fn has_units(&self) -> bool {
        self.on_hand != 0 || self.incoming != 0
    }

    /// Units that are available to sell.
    #[must_use]
    pub const fn sellable(&self) -> i64 {
        self.on_hand - self.reserved - self.allocated
    }

    /// Whether the numbers are consistent: none is negative, and `received` is `on_hand + sold`.
    #[must_use]
    pub const fn sound(&self) -> bool {
        self.sellable() >= 0
            && self.reserved >= 0
            && self.allocated >= 0
            && self.sold >= 0
            && self.incoming >= 0
            && self.on_hand + self.sold == self.received
    }
}

/// Units at a location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationUnits {
    /// The location.
    #[serde(rename = "loc")]
    pub location: Location,
    /// The units.
    #[serde(rename = "qty")]
    pub quantity: i64,
}

impl<'a> std::iter::Sum<&'a Self> for Level {
    fn sum<I: Iterator<Item = &'a Self>>(levels: I) -> Self {
        levels.fold(Self::default(), |sum, level| Self {
            on_hand: sum.on_hand + level.on_hand,
            reserved: sum.reserved + level.reserved,
            allocated: sum.allocated + level.allocated,
            incoming: sum.incoming + level.incoming,
            sold: sum.sold + level.sold,
            received: sum.received + level.received,
        })
    }
}
