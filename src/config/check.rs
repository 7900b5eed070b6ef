//! Finds all invalid settings of a configuration at once. Each is reported with its path, its value
//! and the valid values.
//!
//! The valid values are declared in garde's attributes at the fields of each `Options`.
//! Deliberately not here: wrong types, which are found when a value is read; and faults of the
//! environment (a port that is in use, a folder that cannot be written), which are found when the
//! setting is used.

use std::fmt;

use figment::error::{Actual, Kind};
use figment::value::Value as Figures;
use garde::Validate as _;
use serde_json::Value;

use super::{Config, mask, masked_values};
use crate::domain::masked_url::masked_url;
use crate::domain::money::{UnitPrice, parse_currency, parse_major};
use crate::http::edge::rule::must_be;

/// Of a longer list, only the number of its entries is shown.
const SHOWN_MAX: usize = 10;

/// The maximum number of unreadable settings that are reported at once.
const FAULTS_MAX: usize = 100;

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
    let report = config.validate().err();
    let mut across = across(config).peekable();
    if report.is_none() && across.peek().is_none() {
        return Vec::new();
    }
    let values = masked_values(config).unwrap_or_default();
    let fault = |(path, error): &(garde::Path, garde::Error)| {
        let path = path.to_string();
        let found = shown(find(&values, &path));
        InvalidSetting { path, found, wanted: error.message().to_owned(), source: None }
    };
    let across = across.map(|(path, wanted)| {
        let found = shown(find(&values, path));
        InvalidSetting { path: path.to_owned(), found, wanted: wanted.to_owned(), source: None }
    });
    report.iter().flat_map(garde::Report::iter).map(fault).chain(across).collect()
}

/// What one section asks of another: the path of a setting, and what it must be.
fn across(config: &Config) -> impl Iterator<Item = (&'static str, &'static str)> {
    let is_encrypted = config.cluster.tls.own().is_some();
    let url = &config.cluster.url;
    let faults = [
        (
            config.http.internal_listen.is_empty(),
            "http.internal_listen",
            "must be an address of its own, such as 10.0.1.11:8090, where cluster.tls is set: there \
             nodes are called with TLS",
        ),
        (
            !url.is_empty() && !url.starts_with("https://"),
            "cluster.url",
            "must begin with https:// where cluster.tls is set",
        ),
    ];
    let faults = faults.into_iter().filter(move |(is_wrong, ..)| is_encrypted && *is_wrong);
    faults.map(|(_, path, wanted)| (path, wanted))
}

/// Reads the settings. A setting that is unknown or cannot be read is a fault, and left at its
/// default.
///
/// # Errors
/// The error of figment if that is not possible.
pub fn readable(mut values: Figures) -> Result<(Config, Vec<InvalidSetting>), figment::Error> {
    let defaults = Figures::serialize(Config::default())?;
    let mut faults: Vec<InvalidSetting> = Vec::new();
    loop {
        let error = match values.deserialize::<Config>() {
            Ok(config) => return Ok((config, faults)),
            Err(error) => error,
        };
        let mut at = error.path.clone();
        if let Kind::UnknownField(name, _) = &error.kind
            && at.last() != Some(name)
        {
            at.push(name.clone());
        }
        let fault = unreadable(&at, &error.kind);
        // What is replaced by its default is not faulty again.
        if at.is_empty()
            || faults.len() >= FAULTS_MAX
            || faults.iter().any(|one| one.path == fault.path)
        {
            return Err(error);
        }
        reset(&mut values, &defaults, &at);
        faults.push(fault);
    }
}

/// What is wrong with the setting at a path.
fn unreadable(at: &[String], kind: &Kind) -> InvalidSetting {
    let named = |path: String, part: &String| match part.parse::<usize>() {
        Ok(index) => format!("{path}[{index}]"),
        Err(_) if path.is_empty() => part.clone(),
        Err(_) => format!("{path}.{part}"),
    };
    let path = at.iter().fold(String::new(), named);
    let is_secret = at.last().is_some_and(|name| name == "master_key");
    let (found, wanted) = match kind {
        Kind::UnknownField(_, known) => {
            ("not a setting".to_owned(), format!("must be one of {}", known.join(", ")))
        }
        Kind::UnknownVariant(name, known) => {
            (format!("{:?}", masked_url(name)), format!("must be one of {}", known.join(", ")))
        }
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            let found = in_words(actual);
            let wanted = match at {
                [.., prices, code] if prices == "prices" => whole_minor_units(&found, code),
                _ => must_be(expected, &found),
            };
            (found, wanted)
        }
        Kind::MissingField(name) => ("incomplete".to_owned(), format!("must have {name}")),
        other => {
            let wanted = format!("must be as config.toml shows it: {}", mask::message(other));
            ("not readable".to_owned(), wanted)
        }
    };
    let found = if is_secret { "not shown".to_owned() } else { found };
    InvalidSetting { path, found, wanted, source: None }
}

/// The rule of a price, with the amount that was probably meant.
fn whole_minor_units(found: &str, code: &str) -> String {
    let rule = "must be a whole number of minor units";
    let meant = parse_currency(code).and_then(|currency| parse_major(found, currency));
    match meant.ok().and_then(UnitPrice::whole) {
        Some(meant) => format!("{rule}: {found} {code} is {meant}"),
        None => rule.to_owned(),
    }
}

fn in_words(actual: &Actual) -> String {
    match actual {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Char(value) => format!("{value:?}"),
        Actual::Str(value) => format!("{:?}", masked_url(value)),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// Sets a value to its default, or removes it if it has none. A list is one value.
fn reset(values: &mut Figures, defaults: &Figures, at: &[String]) {
    let Figures::Dict(_, dict) = values else { return };
    let Some((first, rest)) = at.split_first() else { return };
    let default = match defaults {
        Figures::Dict(_, defaults) => defaults.get(first),
        _ => None,
    };
    match (dict.get_mut(first), default) {
        (Some(inner @ Figures::Dict(..)), Some(default @ Figures::Dict(..)))
            if !rest.is_empty() =>
        {
            reset(inner, default, rest);
        }
        (_, Some(default)) => drop(dict.insert(first.clone(), default.clone())),
        (_, None) => drop(dict.remove(first)),
    }
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
