//! Runtime settings: their names, valid values and current values. A change is a row in the store,
//! with its author and reason, and reaches every node within a second. Code that depends on a
//! setting reads or watches its current value, so a change needs no restart. Settings that do need
//! one are in the configuration (`config`).

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::{Notice, Notices};
use crate::domain::limits::within;
use crate::domain::time::Timestamp;
use crate::providers::challenge::{self, FloodMarks};
use crate::store::runtime_setting::Row;
use crate::store::{self, Store};

/// How often the store is read for changes.
const EVERY: Duration = Duration::from_millis(500);
/// The most attempts of one change, if concurrent changes of the same setting keep being written
/// first.
const TRIES_MAX: u32 = 16;
/// The highest rate limit, in requests per minute.
pub const RATE_MAX: u32 = 10_000_000;
/// The orders that the sweep wakes in a second, unless it is set.
const SWEEP_ORDERS: u64 = 100;
/// The most orders that the sweep may be set to wake in a second.
const SWEEP_ORDERS_MAX: u64 = 100_000;
/// The longest period of the sweep, in seconds.
pub const SWEEP_MAX_SECS: u64 = 604_800;
/// The longest TTL of the product-list cache, in seconds.
pub const PRODUCTS_CACHED_MAX_SECS: u64 = 3_600;

/// Rate limits of one client, in requests per minute; after a pause, a client may send a whole
/// minute's requests at once. 0 is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Browsing.
    #[garde(custom(within(0..=RATE_MAX)))]
    pub browse: u32,
    /// Changes of carts.
    #[garde(custom(within(0..=RATE_MAX)))]
    pub cart: u32,
    /// Checkouts, and reads of orders.
    #[garde(custom(within(0..=RATE_MAX)))]
    pub checkout: u32,
    /// Requests of operators.
    #[garde(custom(within(0..=RATE_MAX)))]
    pub operate: u32,
    /// Changes of carts of a buyer without a key, from a public IP address.
    #[garde(custom(within(0..=RATE_MAX)))]
    pub guest_cart: u32,
    /// Checkouts, and reads of orders, of such a buyer.
    #[garde(custom(within(0..=RATE_MAX)))]
    pub guest_checkout: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { browse: 0, cart: 0, checkout: 0, operate: 0, guest_cart: 600, guest_checkout: 120 }
    }
}

/// The units that a buyer without a key, from a public IP address, may have in orders that are not
/// paid. 0 is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct GuestHolds {
    /// In one cart.
    #[garde(custom(within(0..=RATE_MAX)))]
    pub cart: u32,
    /// Of one email address.
    #[garde(custom(within(0..=RATE_MAX)))]
    pub email: u32,
    /// From one IP address; of IPv6, from one /64 network.
    #[garde(custom(within(0..=RATE_MAX)))]
    pub address: u32,
    /// From one network: a /24 of IPv4, or a /56 of IPv6.
    #[garde(custom(within(0..=RATE_MAX)))]
    pub network: u32,
}

impl Default for GuestHolds {
    fn default() -> Self {
        Self { cart: 100, email: 100, address: 200, network: 1_000 }
    }
}

/// The values of settings that nobody has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The rate limits of clients.
    pub rates: Rates,
    /// The units that guests may have in unpaid orders.
    pub holds: GuestHolds,
    /// When guests' checkouts are suspicious.
    pub floods: FloodMarks,
    /// TTL of the product-list cache, in seconds.
    pub products_cached_secs: u64,
    /// The period of the sweep, which compares the providers' lists with the store, in seconds.
    pub sweep_secs: u64,
    /// The configured payment providers.
    pub providers: Vec<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            rates: Rates::default(),
            holds: GuestHolds::default(),
            floods: challenge::Options::default().floods(),
            products_cached_secs: 5,
            sweep_secs: 180,
            providers: Vec::new(),
        }
    }
}

/// The current values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The rate limits of clients.
    pub rates: Rates,
    /// The units that guests may have in unpaid orders.
    pub holds: GuestHolds,
    /// When guests' checkouts are suspicious.
    pub floods: FloodMarks,
    /// Whether checkouts are accepted.
    pub checkout: bool,
    /// Whether imports of products are accepted.
    pub imports: bool,
    /// The payment providers that get no new payments.
    pub providers_off: BTreeSet<String>,
    /// Whether projections are paused.
    pub projections_paused: bool,
    /// TTL of the product-list cache; zero turns it off.
    pub products_cached: Duration,
    /// The period of the sweep; zero turns it off.
    pub sweep: Duration,
    /// The orders that the sweep wakes in a second; zero for no limit.
    pub sweep_orders: u32,
}

/// A value of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RuntimeValue {
    /// On or off.
    Switch(bool),
    /// A whole number.
    Number(u64),
}

/// The type and range of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum SettingKind {
    /// On or off.
    Switch,
    /// A whole number within a range.
    Number {
        /// The minimum.
        min: u64,
        /// The maximum.
        max: u64,
    },
}

/// The definition of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Its type and range.
    pub kind: SettingKind,
    /// Its value if nobody has changed it.
    pub default: RuntimeValue,
    /// Its effect.
    pub about: String,
}

impl Definition {
    /// Returns why a value is invalid, or `None` if it is valid.
    fn fault(&self, value: RuntimeValue) -> Option<String> {
        match (self.kind, value) {
            (SettingKind::Switch, RuntimeValue::Switch(_)) => None,
            (SettingKind::Number { min, max }, RuntimeValue::Number(number))
                if (min..=max).contains(&number) =>
            {
                None
            }
            _ => Some(self.rule()),
        }
    }

    /// What its value must be.
    fn rule(&self) -> String {
        match self.kind {
            SettingKind::Switch => "must be true or false, or null for the default".to_owned(),
            SettingKind::Number { min, max } => {
                format!("must be a whole number from {min} to {max}, or null for the default")
            }
        }
    }

    /// Its value from JSON; `None` is the default.
    ///
    /// # Errors
    /// What the value must be.
    pub fn read(&self, json: &serde_json::Value) -> Result<Option<RuntimeValue>, Error> {
        let value = match json {
            serde_json::Value::Null => return Ok(None),
            serde_json::Value::Bool(on) => Some(RuntimeValue::Switch(*on)),
            other => other.as_u64().map(RuntimeValue::Number),
        };
        let value = value.filter(|value| self.fault(*value).is_none());
        value.map(Some).ok_or_else(|| Error::Invalid(self.rule()))
    }
}

/// A setting with its current value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The definition.
    pub definition: Definition,
    /// The current value.
    pub value: RuntimeValue,
    /// The number of changes so far; 0 if the setting was never changed.
    pub version: i64,
    /// The last change.
    pub last: Option<Row>,
}

/// Why a setting was not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No setting has this name.
    #[error("there is no such setting")]
    Unknown,
    /// The value is invalid.
    #[error("{0}")]
    Invalid(String),
    /// The setting has another version.
    #[error("the setting has version {version}")]
    VersionMismatch {
        /// Its version.
        version: i64,
    },
    /// Concurrent changes were written first in every attempt.
    #[error("other requests keep changing the setting: try again")]
    TryAgain,
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The author and reason of a change.
#[derive(Clone, Debug)]
pub struct Author {
    /// The author, in the form that the journal uses for principals, such as `key:…`.
    pub by: String,
    /// The name of the author's key or sign-in link.
    pub name: Option<Arc<str>>,
    /// The reason.
    pub reason: String,
    /// The request id.
    pub request_id: String,
    /// The time.
    pub at: Timestamp,
}

impl Author {
    /// The author as a row has it.
    fn signature(&self) -> String {
        self.name.iter().fold(self.by.clone(), |by, name| format!("{by} {name}"))
    }
}

/// The settings of a node. Clones share the same values.
#[derive(Clone, Debug)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    definitions: Vec<Definition>,
    rows: Mutex<BTreeMap<String, Row>>,
    current: watch::Sender<Arc<Current>>,
}

impl Runtime {
    /// Settings that are all at their defaults until [`Runtime::refresh`] has read the store.
    #[must_use]
    pub fn new(defaults: &Defaults) -> Self {
        let definitions = definitions(defaults);
        let current = current(&definitions, &BTreeMap::new());
        let inner = Inner {
            definitions,
            rows: Mutex::default(),
            current: watch::Sender::new(Arc::new(current)),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The current values.
    #[must_use]
    pub fn current(&self) -> Arc<Current> {
        self.inner.current.borrow().clone()
    }

    /// Watches the values.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Current>> {
        self.inner.current.subscribe()
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, Row>> {
        self.inner.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All settings, as this node last read them.
    #[must_use]
    pub fn all(&self) -> Vec<Shown> {
        let rows = self.rows();
        self.inner.definitions.iter().map(|one| shown(one, rows.get(&one.name))).collect()
    }

    /// A setting, as this node last read it.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<Shown> {
        let definition = self.inner.definitions.iter().find(|one| one.name == name)?;
        Some(shown(definition, self.rows().get(name)))
    }

    /// Reads the values from the store.
    ///
    /// # Errors
    /// The store's; the values stay as they are.
    pub async fn refresh(&self, store: &Store) -> Result<(), store::Error> {
        let rows = store.runtime_settings().await?;
        let mut known = self.rows();
        for row in rows {
            // A row that was read may be older than the one that this node already knows.
            let newer = known.get(&row.name).is_none_or(|there| there.version < row.version);
            if newer {
                tracing::info!(
                    setting = row.name,
                    value = row.value.as_deref().unwrap_or("default"),
                    version = row.version,
                    by = row.changed_by,
                    reason = row.reason,
                    "a setting was changed"
                );
                known.insert(row.name.clone(), row);
            }
        }
        let next = Arc::new(current(&self.inner.definitions, &known));
        self.inner.current.send_if_modified(|current| {
            let changed = **current != *next;
            *current = next;
            changed
        });
        Ok(())
    }

    /// Reads the values from the store periodically, and at once when another node announces a
    /// change, until stopped.
    pub async fn follow(self, store: Store, notices: Option<Notices>, stop: CancellationToken) {
        let mut heard = notices.map(|notices| notices.listen());
        let mut well = true;
        loop {
            let told = async {
                let Some(heard) = &mut heard else { return pending().await };
                loop {
                    match heard.recv().await {
                        Ok(Notice::Settings | Notice::Missed) | Err(RecvError::Lagged(_)) => return,
                        Ok(_) => {}
                        Err(RecvError::Closed) => pending().await,
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = told => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            let read = self.refresh(&store).await;
            if let Err(error) = &read
                && well
            {
                tracing::warn!(%error, "cannot read the settings; the previous values stay in \
                                        effect");
            }
            well = read.is_ok();
        }
    }

    /// Changes a setting, or resets it to its default. It takes effect on this node at once.
    ///
    /// # Errors
    /// [`Error`]; nothing is changed then.
    pub async fn change(
        &self,
        store: &Store,
        name: &str,
        value: Option<RuntimeValue>,
        expect: Option<i64>,
        author: &Author,
    ) -> Result<Shown, Error> {
        let json = |value: RuntimeValue| {
            let wrong = |error: serde_json::Error| Error::Invalid(error.to_string());
            serde_json::to_string(&value).map_err(wrong)
        };
        for _ in 0..TRIES_MAX {
            self.refresh(store).await?;
            let now = self.setting(name).ok_or(Error::Unknown)?;
            if let Some(fault) = value.and_then(|value| now.definition.fault(value)) {
                return Err(Error::Invalid(fault));
            }
            if expect.is_some_and(|version| version != now.version) {
                return Err(Error::VersionMismatch { version: now.version });
            }
            let row = Row {
                name: name.to_owned(),
                version: now.version + 1,
                value: value.map(json).transpose()?,
                before: json(now.value)?,
                changed_by: author.signature(),
                reason: author.reason.clone(),
                request_id: author.request_id.clone(),
                at: author.at,
            };
            if store.change_runtime_setting(&row).await? {
                self.refresh(store).await?;
                return self.setting(name).ok_or(Error::Unknown);
            }
        }
        Err(Error::TryAgain)
    }
}

fn shown(definition: &Definition, last: Option<&Row>) -> Shown {
    Shown {
        definition: definition.clone(),
        value: value(definition, last),
        version: last.map_or(0, |row| row.version),
        last: last.cloned(),
    }
}

/// The value of a setting. A stored value that is invalid for this version of the program counts as
/// the default.
fn value(definition: &Definition, last: Option<&Row>) -> RuntimeValue {
    let stored = last.and_then(|row| row.value.as_deref());
    let read = stored.and_then(|text| serde_json::from_str(text).ok());
    read.filter(|value| definition.fault(*value).is_none()).unwrap_or(definition.default)
}

/// The name of the setting that turns a payment provider on or off.
fn provider_switch(provider: &str) -> String {
    format!("providers.{provider}")
}

fn definitions(defaults: &Defaults) -> Vec<Definition> {
    let number = |name: &str, default: u64, max: u64, about: &str| Definition {
        name: name.to_owned(),
        kind: SettingKind::Number { min: 0, max },
        default: RuntimeValue::Number(default),
        about: about.to_owned(),
    };
    let switch = |name: String, default: bool, about: String| Definition {
        name,
        kind: SettingKind::Switch,
        default: RuntimeValue::Switch(default),
        about,
    };
    let rates = defaults.rates;
    let rate = |class: &str, default: u32, about: &str| {
        let about = format!("{about}: requests per minute of one client; 0 for no limit");
        number(&format!("rates.{class}"), default.into(), RATE_MAX.into(), &about)
    };
    let (holds, floods) = (defaults.holds, defaults.floods);
    let held = |of: &str, default: u32, about: &str| {
        let about = format!("Units in unpaid orders of guests, {about}; 0 for no limit");
        number(&format!("holds.{of}"), default.into(), RATE_MAX.into(), &about)
    };
    let flood = |of: &str, default: u32, about: &str| {
        let about =
            format!("Checkouts of guests a minute {about} that are not suspicious; 0 for any");
        number(&format!("challenge.{of}"), default.into(), RATE_MAX.into(), &about)
    };
    let mut all = vec![
        flood("network_checkouts", floods.network_checkouts, "from one network"),
        flood("sku_checkouts", floods.sku_checkouts, "of one SKU"),
        switch("checkout".to_owned(), true, "Whether carts can be checked out".to_owned()),
        switch("imports".to_owned(), true, "Whether products can be imported".to_owned()),
        held("address", holds.address, "by IP address"),
        held("cart", holds.cart, "by cart"),
        held("email", holds.email, "by email address"),
        held("network", holds.network, "by network"),
        number(
            "products.cached_secs",
            defaults.products_cached_secs,
            PRODUCTS_CACHED_MAX_SECS,
            "TTL of the product-list cache, in seconds; 0 for no cache",
        ),
        switch(
            "projections.paused".to_owned(),
            false,
            "Whether updates of the lists of orders and stock are paused".to_owned(),
        ),
        rate("browse", rates.browse, "Browsing"),
        rate("cart", rates.cart, "Creating and filling carts"),
        rate("checkout", rates.checkout, "Checkout, and reading an order"),
        rate("operate", rates.operate, "Operators"),
        rate("guest_cart", rates.guest_cart, "Carts of buyers without a key, by public IP address"),
        rate("guest_checkout", rates.guest_checkout, "Their checkouts, and reading their orders"),
        number(
            "sweep.orders_per_second",
            SWEEP_ORDERS,
            SWEEP_ORDERS_MAX,
            "How many orders the sweep wakes in a second: those whose rows differ from the list; 0 for no limit",
        ),
        number(
            "sweep.period_secs",
            defaults.sweep_secs,
            SWEEP_MAX_SECS,
            "How often the lists of payment providers are compared, in seconds; 0 for never",
        ),
    ];
    all.extend(defaults.providers.iter().map(|provider| {
        let about =
            format!("Whether {provider} accepts new payments; payments in progress are completed");
        switch(provider_switch(provider), true, about)
    }));
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

fn current(definitions: &[Definition], rows: &BTreeMap<String, Row>) -> Current {
    let values: BTreeMap<&str, RuntimeValue> = definitions
        .iter()
        .map(|one| (one.name.as_str(), value(one, rows.get(&one.name))))
        .collect();
    let number = |name: &str| match values.get(name) {
        Some(RuntimeValue::Number(number)) => *number,
        _ => 0,
    };
    let on = |name: &str| values.get(name) == Some(&RuntimeValue::Switch(true));
    let small = |name: &str| u32::try_from(number(name)).unwrap_or(RATE_MAX);
    let rate = |class: &str| small(&format!("rates.{class}"));
    let off = |(name, value): (&&str, &RuntimeValue)| {
        let provider = name.strip_prefix("providers.")?;
        (*value == RuntimeValue::Switch(false)).then(|| provider.to_owned())
    };
    Current {
        rates: Rates {
            browse: rate("browse"),
            cart: rate("cart"),
            checkout: rate("checkout"),
            operate: rate("operate"),
            guest_cart: rate("guest_cart"),
            guest_checkout: rate("guest_checkout"),
        },
        holds: GuestHolds {
            cart: small("holds.cart"),
            email: small("holds.email"),
            address: small("holds.address"),
            network: small("holds.network"),
        },
        floods: FloodMarks {
            sku_checkouts: small("challenge.sku_checkouts"),
            network_checkouts: small("challenge.network_checkouts"),
        },
        checkout: on("checkout"),
        imports: on("imports"),
        providers_off: values.iter().filter_map(off).collect(),
        projections_paused: on("projections.paused"),
        products_cached: Duration::from_secs(number("products.cached_secs")),
        sweep: Duration::from_secs(number("sweep.period_secs")),
        sweep_orders: small("sweep.orders_per_second"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, version: i64, value: Option<&str>) -> Row {
        Row {
            name: name.to_owned(),
            version,
            value: value.map(str::to_owned),
            before: "0".to_owned(),
            changed_by: "key:1".to_owned(),
            reason: "test".to_owned(),
            request_id: "req_1".to_owned(),
            at: Timestamp::default(),
        }
    }

    #[test]
    fn invalid_stored_setting_counts_as_the_default() {
        let rates = Rates { browse: 7, ..Rates::default() };
        let defaults =
            Defaults { rates, providers: vec!["sandbox".to_owned()], ..Defaults::default() };
        let definitions = definitions(&defaults);
        let with = |name: &str, value: Option<&str>| {
            let rows = [(name.to_owned(), row(name, 1, value))].into();
            current(&definitions, &rows)
        };
        let untouched = current(&definitions, &BTreeMap::new());
        assert_eq!((untouched.rates.browse, untouched.checkout), (7, true));
        assert_eq!(with("rates.browse", Some("9")).rates.browse, 9);
        assert!(with("providers.sandbox", Some("false")).providers_off.contains("sandbox"));
        assert_eq!(with("sweep.period_secs", Some("0")).sweep, Duration::ZERO);
        for (name, value) in [
            ("rates.browse", Some("true")),
            ("rates.browse", Some("-1")),
            ("rates.browse", Some("10000001")),
            ("rates.browse", Some("1e3")),
            ("rates.browse", None),
            ("rates.unheard_of", Some("1")),
            ("checkout", Some("0")),
        ] {
            assert_eq!(with(name, value), untouched, "{name} {value:?}");
        }
    }

    #[test]
    fn settings_have_descriptions_and_valid_defaults() {
        let defaults = Defaults { providers: vec!["sandbox".to_owned()], ..Defaults::default() };
        let all = definitions(&defaults);
        for one in &all {
            assert_eq!(one.fault(one.default), None, "{}", one.name);
            assert!(one.about.len() > 10, "{}", one.name);
        }
        assert!(all.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
