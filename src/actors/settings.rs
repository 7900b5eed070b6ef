//! The shop's settings, from the configuration. Settings that may change at runtime are in
//! `engine/runtime.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::domain::cart::LINES_MAX;
use crate::domain::limits::{holds, within};
use crate::domain::money::{Currency, parse_currency};
use crate::domain::order::CapturePolicy;
use crate::domain::stock::{Location, QUANTITY_MAX};
use crate::domain::time::Span;

/// A year, in seconds.
const YEAR_SECS: i64 = 365 * 24 * 3600;
/// The most locations in the priority list.
const LOCATIONS_MAX: usize = 100;

fn some_locations(locations: &[Location], (): &()) -> garde::Result {
    let names: BTreeSet<&str> = locations.iter().map(Location::as_str).collect();
    holds(!locations.is_empty(), || "must name at least one location")?;
    holds(names.len() == locations.len(), || "must name each location only once")?;
    holds(locations.len() <= LOCATIONS_MAX, || {
        format!("must have at most {LOCATIONS_MAX} locations")
    })
}

/// How much buyers see of the stock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StockDisplay {
    /// Nothing.
    #[default]
    Hidden,
    /// Whether there is stock.
    InStock,
    /// Also whether few units are left.
    FewLeft,
    /// Also the number of units.
    Number,
}

/// The shop's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct ShopSettings {
    /// The currency of a cart, or of an imported price, that names none.
    #[garde(custom(minor_units))]
    pub currency: Currency,
    /// The locations from which stock is taken, in order of priority; all others follow by name.
    #[garde(custom(some_locations))]
    pub locations: Arc<[Location]>,
    /// How much buyers see of the stock.
    pub availability: StockDisplay,
    /// The number of units up to which few are left.
    #[garde(custom(within(1..=QUANTITY_MAX)))]
    pub few_left_at: i64,
    /// How long stock is held for an unpaid order, in seconds.
    #[garde(custom(within(1..=YEAR_SECS)))]
    pub hold_secs: i64,
    /// How long an order can be paid, in seconds.
    #[garde(custom(within(1..=YEAR_SECS)))]
    pub payment_deadline_secs: i64,
    /// How long an order's token is valid after the day of its issue, in days.
    #[garde(custom(within(1..=3_650)))]
    pub order_token_days: i64,
    /// How long a price that was agreed for a line of a cart holds, in days.
    #[garde(custom(within(1..=3_650)))]
    pub agreed_price_days: i64,
    /// The most lines that a buyer without a key may put into a cart.
    #[garde(custom(within(1..=LINES_MAX)))]
    pub guest_cart_lines: usize,
    /// How long the personal data of an order must be kept after it was placed, in days, whoever asks
    /// for their erasure.
    #[garde(custom(within(0..=36_500)))]
    pub retention_days: i64,
    /// The same for deliveries to certain countries (ISO 3166-1 alpha-2), such as `{ DE = 3650 }`.
    #[garde(custom(days_by_country))]
    pub retention_days_in: BTreeMap<String, i64>,
    /// When the money of a confirmed order is captured.
    pub capture: CapturePolicy,
    /// How often due timers are looked for, in milliseconds.
    #[garde(custom(within(1..=60_000)))]
    pub timer_poll_ms: u64,
    /// The shortest time between two transactions of the projector, in milliseconds.
    #[garde(custom(within(0..=60_000)))]
    pub projection_pause_ms: u64,
    /// TTL of a cached product, in milliseconds, where several nodes write to the store.
    #[garde(custom(within(0..=600_000)))]
    pub product_cache_ttl_ms: u64,
}

impl ShopSettings {
    /// How long an order's token is valid after the day of its issue.
    #[must_use]
    pub const fn order_token_lifetime(&self) -> Span {
        Span::from_secs(self.order_token_days * 24 * 3600)
    }

    /// How long an order can be paid.
    #[must_use]
    pub fn payment_deadline(&self) -> Duration {
        Duration::from_secs(self.payment_deadline_secs.unsigned_abs())
    }

    /// How long the personal data of an order to a country must be kept after it was placed.
    #[must_use]
    pub fn retention(&self, country: &str) -> Span {
        let days = self.retention_days_in.get(country).copied().unwrap_or(self.retention_days);
        Span::from_secs(days * 24 * 3600)
    }

    /// How long an agreed price holds.
    #[must_use]
    pub const fn agreed_price_lifetime(&self) -> Span {
        Span::from_secs(self.agreed_price_days * 24 * 3600)
    }
}

fn days_by_country(all: &BTreeMap<String, i64>, (): &()) -> garde::Result {
    let is_code =
        |code: &String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    holds(all.keys().all(is_code), || "must have country codes of two capital letters")?;
    holds(all.values().all(|days| (0..=36_500).contains(days)), || "must be from 0 to 36500 days")
}

fn minor_units(currency: &Currency, (): &()) -> garde::Result {
    parse_currency(currency.code())
        .map(|_| ())
        .map_err(|error| garde::Error::new(error.to_string()))
}

impl Default for ShopSettings {
    fn default() -> Self {
        Self {
            currency: Currency::GBP,
            locations: "main".parse().into_iter().collect(),
            availability: StockDisplay::default(),
            few_left_at: 5,
            hold_secs: 15 * 60,
            payment_deadline_secs: 30 * 60,
            order_token_days: 180,
            agreed_price_days: 30,
            guest_cart_lines: 200,
            retention_days: 0,
            retention_days_in: BTreeMap::new(),
            capture: CapturePolicy::default(),
            timer_poll_ms: 1_000,
            projection_pause_ms: 50,
            product_cache_ttl_ms: 2_000,
        }
    }
}
