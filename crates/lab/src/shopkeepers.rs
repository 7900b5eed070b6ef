//! Simulated people of the shop for `kontor demo`: they receive goods, pack parcels, give money
//! back.
//!
//! What deliberately is not here: orders that are stuck, which are left to the visitor.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kontor_client::api::Page;
use kontor_client::{Client, Error, segment};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::shoppers::skus;

/// One SKU of so many, from the one that most buyers like, is left to sell out.
const SCARCE_EACH: usize = 25;
/// The most levels, and the most orders, that one turn takes.
const PAGE: &str = "200";
/// The most orders that go out in one turn.
const PARCELS_MAX: usize = 50;
/// The most units in a delivery.
const DELIVERY_MAX: i64 = 100_000;

/// How the people of the shop work.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often they look.
    pub turn: Duration,
    /// How old an order is when it is packed.
    pub pack_after: Duration,
    /// A SKU runs low when so many units are sellable.
    pub low: i64,
    /// The units in a delivery; twice as many each time that it comes to an empty shelf.
    pub delivery: i64,
    /// How long a scarce SKU stays empty.
    pub empty_for: Duration,
    /// How many of 100 orders are canceled instead of packed.
    pub cancel_percent: u32,
    /// How many of 100 packed orders are given back in part.
    pub refund_percent: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            turn: Duration::from_secs(1),
            pack_after: Duration::from_secs(8),
            low: 40,
            delivery: 120,
            empty_for: Duration::from_mins(1),
            cancel_percent: 1,
            refund_percent: 3,
        }
    }
}

/// What the people of the shop have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ShopkeeperCounts {
    /// Deliveries received.
    pub received: u64,
    /// Orders that went out.
    pub shipped: u64,
    /// Refunds of a unit.
    pub refunded: u64,
    /// Orders canceled.
    pub canceled: u64,
    /// Answers that nobody wants.
    pub errors: u64,
}

/// Where they count.
#[derive(Debug, Default)]
pub struct ShopkeeperCounters(Mutex<ShopkeeperCounts>);

impl ShopkeeperCounters {
    /// What they say now.
    #[must_use]
    pub fn read(&self) -> ShopkeeperCounts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, one: impl FnOnce(&mut ShopkeeperCounts)) {
        one(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Works at the server of `client`, which has a key, until `shutdown` says true, or is dropped.
///
/// # Errors
/// [`Error`] when the products cannot be read; what goes wrong later is counted.
pub async fn run(
    client: Client,
    options: Options,
    counters: Arc<ShopkeeperCounters>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let staff = Staff {
        scarce: skus(&client).await?.into_iter().step_by(SCARCE_EACH).collect(),
        client,
        options,
        counters,
        rng: SmallRng::seed_from_u64(1),
        empty: HashMap::new(),
        deliveries: HashMap::new(),
        complaints: Vec::new(),
    };
    tokio::select! {
        _ = shutdown.wait_for(|stop| *stop) => {}
        () = staff.work() => {}
    }
    Ok(())
}

#[derive(Deserialize)]
struct Level {
    sku: String,
    location: String,
    sellable: i64,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
}

struct Staff {
    client: Client,
    options: Options,
    counters: Arc<ShopkeeperCounters>,
    rng: SmallRng,
    scarce: HashSet<String>,
    /// Since when scarce SKUs are seen empty.
    empty: HashMap<String, Instant>,
    /// The units that come next, of SKUs that sell faster than they come.
    deliveries: HashMap<String, i64>,
    /// Orders that went out, and of which something comes back.
    complaints: Vec<String>,
}

impl Staff {
    async fn work(mut self) {
        let mut pace = tokio::time::interval(self.options.turn.max(Duration::from_millis(1)));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            for outcome in [self.restock().await, self.refund().await, self.pack().await] {
                if outcome.is_err() {
                    self.counters.count(|counts| counts.errors += 1);
                }
            }
        }
    }

    async fn restock(&mut self) -> Result<(), Error> {
        let list = self.client.get::<Page<Level>>("/v1/admin/stock").query("limit", PAGE);
        let list = list.query("sellable_max", &self.options.low.to_string());
        let levels = list.send().await?.body.data;
        self.empty
            .retain(|sku, _| levels.iter().any(|level| level.sku == *sku && level.sellable <= 0));
        for level in &levels {
            let Some(units) = self.units(level) else { continue };
            let (sku, location) = (segment(&level.sku), segment(&level.location));
            let path = format!("/v1/admin/stock/{sku}/{location}/receipts");
            if self.change(&path, &json!({"quantity": units})).await? {
                self.counters.count(|counts| counts.received += 1);
            }
        }
        Ok(())
    }

    /// How much of a SKU is to come in now.
    fn units(&mut self, level: &Level) -> Option<i64> {
        let sku = level.sku.clone();
        if self.scarce.contains(&sku) {
            let now = Instant::now();
            let since = (level.sellable <= 0).then(|| self.empty.entry(sku).or_insert(now))?;
            let due = now.duration_since(*since) >= self.options.empty_for;
            return due.then(|| std::mem::replace(since, now)).map(|_| self.options.delivery);
        }
        let units = self.deliveries.get(&sku).copied().unwrap_or(self.options.delivery);
        if level.sellable > 0 {
            return Some(units);
        }
        let units = units.saturating_mul(2).min(DELIVERY_MAX);
        self.deliveries.insert(sku, units);
        Some(units)
    }

    /// Ships orders that are paid and old enough, or cancels them.
    async fn pack(&mut self) -> Result<(), Error> {
        let placed_to = OffsetDateTime::now_utc() - self.options.pack_after;
        let placed_to = placed_to.format(&Rfc3339).unwrap_or_default();
        let list = self.client.get::<Page<Listed>>("/v1/admin/orders").query("status", "confirmed");
        let list = list
            .query("fulfillment_status", "unfulfilled")
            .query("placed_to", &placed_to)
            .query("limit", PAGE);
        // The newest come first, and wait.
        for order in list.send().await?.body.data.iter().rev().take(PARCELS_MAX) {
            let path = format!("/v1/admin/orders/{}", segment(&order.id));
            if self.rng.random_range(0..100) < self.options.cancel_percent {
                let reason = json!({"reason": "the buyer changed their mind"});
                if self.change(&format!("{path}/cancel"), &reason).await? {
                    self.counters.count(|counts| counts.canceled += 1);
                }
                continue;
            }
            let number = format!("RM{:010}GB", self.rng.random::<u32>());
            let parcel = json!({"tracking": {"carrier": "Royal Mail", "number": number}});
            if self.change(&format!("{path}/fulfillments"), &parcel).await? {
                self.counters.count(|counts| counts.shipped += 1);
                if self.rng.random_range(0..100) < self.options.refund_percent {
                    self.complaints.push(format!("{path}/refunds"));
                }
            }
        }
        Ok(())
    }

    /// Gives back a unit of the first line of each order that somebody complained about.
    async fn refund(&mut self) -> Result<(), Error> {
        for path in std::mem::take(&mut self.complaints) {
            let lines = json!([{"line": "1", "quantity": 1}]);
            let refund = json!({"lines": lines, "reason": "it broke on the way"});
            if self.change(&path, &refund).await? {
                self.counters.count(|counts| counts.refunded += 1);
            }
        }
        Ok(())
    }

    /// Whether it was done. "Nothing is left to do" is no fault: lists are a moment behind.
    async fn change(&self, path: &str, body: &Value) -> Result<bool, Error> {
        match self.client.post::<Value>(path).json(body).send().await {
            Ok(_) => Ok(true),
            Err(Error::Problem(problem)) if matches!(problem.status, 409 | 422) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
