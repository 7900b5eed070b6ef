//! Finds all invalid settings of a configuration at once. Each is reported with its path, its value
//! and the valid values.
//!
//! The valid values are declared in garde's attributes at the fields of each `Options`.
//! Deliberately not here: wrong types, which are found when a value is read; and faults of the
//! environment (a port that is in use, a folder that cannot be written), which are found when the
//! setting is used.

use std::fmt;

use garde::Validate as _;
use serde_json::Value;

use super::{Config, masked_values};

/// Of a longer list, only the number of its entries is shown.
const SHOWN_MAX: usize = 10;

/// A setting with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    /// Its path, for example `shop.hold_secs`.
    pub path: String,
    /// The value, as text.
    pub found: String,
    /// The condition that the value violates, such as `must be from 1 to 100`.
    pub wanted: String,
    /// The source of the value, if known.
    pub source: Option<String>,
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, found, wanted, source } = self;
        write!(f, "{path} is {found}")?;
        if let Some(source) = source {
            write!(f, " (from {source})")?;
        }
        write!(f, ": it {wanted}")
    }
}

/// Returns all invalid settings of a configuration, without the sources of their values.
#[must_use]
pub fn faults(config: &Config) -> Vec<InvalidSetting> {
    let Err(report) = config.validate() else {
        return Vec::new();
    };
    let values = masked_values(config).unwrap_or_default();
    let fault = |(path, error): &(garde::Path, garde::Error)| {
        let path = path.to_string();
        let found = shown(find(&values, &path));
        InvalidSetting { path, found, wanted: error.message().to_owned(), source: None }
    };
    report.iter().map(fault).collect()
}

/// The value at a path such as `pricing.delivery[2].id`.
fn find<'a>(values: &'a Value, path: &str) -> Option<&'a Value> {
    let pointer = path.replace(['.', '['], "/").replace(']', "");
    values.pointer(&format!("/{pointer}"))
}

fn shown(value: Option<&Value>) -> String {
    match value {
        // JSON has no NaN: it is serialized as null.
        None | Some(Value::Null) => "no value".to_owned(),
        Some(Value::Array(list)) if list.is_empty() => "empty".to_owned(),
        Some(Value::Array(list)) if list.len() > SHOWN_MAX => format!("a list of {}", list.len()),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_settings_are_valid() {
        assert_eq!(faults(&Config::default()), []);
    }

    #[test]
    fn all_invalid_settings_are_reported_at_once() {
        let mut config = Config::default();
        config.shop.hold_secs = 0;
        config.shop.payment_deadline_secs = -1;
        config.shop.timer_poll_ms = 0;
        config.shop.locations = [].into();
        config.http.body_bytes_max = 0;
        config.http.connections_max = 2_000_000;
        config.http.live.ping_secs = 60;
        config.http.rates.cart = u32::MAX;
        config.sandbox.url = "psp".into();
        config.sandbox.breaker.failure_rate = f32::NAN;
        config.entities.commands_max = 0;
        config.store.read_connections = 0;
        config.store.lane.batch_appends = 0;
        config.store.replica_url = "postgres://k:secret@db/shop".into();
        config.cache.url = "redis:6379".into();
        config.cache.prefix = "a b".into();
        config.cache.poll_ms = 0;
        config.cluster.renew_ms = 9_000;
        config.bus.url = "http://u:secret@a".into();
        config.bus.calls_max = 0;
        config.log.filter = "a=b=c".into();
        let mut option = config.pricing.delivery[1].clone();
        option.name = " ".into();
        option.prices.values_mut().for_each(|price| *price = -1);
        option.tax_rate = serde_json::from_str("1000001").unwrap();
        config.pricing.delivery.push(option);
        let found = faults(&config);
        let mut paths: Vec<&str> = found.iter().map(|fault| fault.path.as_str()).collect();
        paths.sort_unstable();
        let mut expected = [
            "http.connections_max",
            "http.body_bytes_max",
            "http.rates.cart",
            "http.live.ping_secs",
            "shop.locations",
            "shop.hold_secs",
            "shop.payment_deadline_secs",
            "shop.timer_poll_ms",
            "pricing.delivery",
            "pricing.delivery[2].name",
            "pricing.delivery[2].prices",
            "pricing.delivery[2].tax_rate",
            "sandbox.url",
            "sandbox.breaker.failure_rate",
            "entities.commands_max",
            "cluster.renew_ms",
            "store.replica_url",
            "store.read_connections",
            "store.lane.batch_appends",
            "cache.url",
            "cache.prefix",
            "cache.poll_ms",
            "bus.url",
            "bus.calls_max",
            "log.filter",
        ];
        expected.sort_unstable();
        assert_eq!(paths, expected);
        assert!(found.iter().all(|fault| !fault.to_string().contains("secret")), "{found:?}");
        let text = |path| found.iter().find(|fault| fault.path == path).unwrap().to_string();
        assert_eq!(text("shop.hold_secs"), "shop.hold_secs is 0: it must be from 1 to 31536000");
        assert_eq!(
            text("shop.locations"),
            "shop.locations is empty: it must name at least one location"
        );
        assert_eq!(
            text("pricing.delivery[2].name"),
            "pricing.delivery[2].name is \" \": it must have 1 to 200 characters"
        );
        assert!(text("pricing.delivery").ends_with("must have different ids: express"));
    }
}
