//! Simulated shopkeepers for `kontor demo`: they receive goods, ship orders and make refunds.
//!
//! Deliberately not here: stuck orders, which are left to the visitor.

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

/// Of each group of this many SKUs, in the order of popularity, the first SKU may sell out.
const SCARCE_EACH: usize = 25;
/// The most stock levels, and the most orders, that are read in one turn.
const PAGE: &str = "200";
/// The most orders that are shipped in one turn.
const PARCELS_MAX: usize = 50;
/// The most units in a delivery.
const DELIVERY_MAX: i64 = 100_000;

/// The shopkeepers' behavior.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The period of their turns.
    pub turn: Duration,
    /// The age of an order when it is shipped.
    pub pack_after: Duration,
    /// An order whose number is a multiple of this is left to the visitor at first; none if 0.
    pub left_each: i64,
    /// The age at which such an order is shipped after all.
    pub left_for: Duration,
    /// A SKU is reordered when this many units are available to sell.
    pub low: i64,
    /// The units of a delivery; doubled each time that it arrives after the SKU has sold out.
    pub delivery: i64,
    /// How long a scarce SKU stays sold out.
    pub empty_for: Duration,
    /// The percentage of orders that are cancelled instead of shipped.
    pub cancel_percent: u32,
    /// The percentage of shipped orders that are partly refunded.
    pub refund_percent: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            turn: Duration::from_secs(1),
            pack_after: Duration::from_secs(8),
            left_each: 3,
            left_for: Duration::from_mins(10),
            low: 40,
            delivery: 120,
            empty_for: Duration::from_mins(1),
            cancel_percent: 1,
            refund_percent: 3,
        }
    }
}

/// The shopkeepers' totals so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ShopkeeperCounts {
    /// Deliveries received.
    pub received: u64,
    /// Orders shipped.
    pub shipped: u64,
    /// Refunds of a unit.
    pub refunded: u64,
    /// Orders canceled.
    pub canceled: u64,
    /// Failed requests.
    pub errors: u64,
}

/// The shopkeepers' counters.
#[derive(Debug, Default)]
pub struct ShopkeeperCounters(Mutex<ShopkeeperCounts>);

impl ShopkeeperCounters {
    /// The current totals.
    #[must_use]
    pub fn read(&self) -> ShopkeeperCounts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, one: impl FnOnce(&mut ShopkeeperCounts)) {
        one(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Runs the shopkeepers at the server of `client`, which has an API key, until `shutdown` is true
/// or dropped.
///
/// # Errors
/// [`Error`] when the products cannot be read; later failures are counted.
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
    number: Option<i64>,
}

struct Staff {
    client: Client,
    options: Options,
    counters: Arc<ShopkeeperCounters>,
    rng: SmallRng,
    scarce: HashSet<String>,
    /// Since when scarce SKUs are sold out.
    empty: HashMap<String, Instant>,
    /// The units of the next delivery, of SKUs that sell out between deliveries.
    deliveries: HashMap<String, i64>,
    /// Shipped orders that will be partly refunded.
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

    /// The units of a SKU to receive now.
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

    /// Whether an order is left to the visitor at first.
    fn is_left(&self, order: &Listed) -> bool {
        let each = self.options.left_each;
        each > 0 && order.number.is_some_and(|number| number % each == 0)
    }

    /// Ships orders that are paid and old enough, or cancels them.
    async fn pack(&mut self) -> Result<(), Error> {
        let mut orders = self.unshipped(self.options.pack_after).await?;
        orders.retain(|order| !self.is_left(order));
        let late = self.unshipped(self.options.left_for).await?;
        orders.extend(late.into_iter().filter(|order| self.is_left(order)));
        // The newest are listed first, and wait.
        for order in orders.iter().rev().take(PARCELS_MAX) {
            self.ship_or_cancel(order).await?;
        }
        Ok(())
    }

    /// The newest orders of this age that are paid and not shipped.
    async fn unshipped(&self, age: Duration) -> Result<Vec<Listed>, Error> {
        let placed_to = OffsetDateTime::now_utc() - age;
        let placed_to = placed_to.format(&Rfc3339).unwrap_or_default();
        let list = self.client.get::<Page<Listed>>("/v1/admin/orders").query("status", "confirmed");
        let list = list
            .query("fulfillment_status", "unfulfilled")
            .query("placed_to", &placed_to)
            .query("limit", PAGE);
        Ok(list.send().await?.body.data)
    }

    async fn ship_or_cancel(&mut self, order: &Listed) -> Result<(), Error> {
        let path = format!("/v1/admin/orders/{}", segment(&order.id));
        if self.rng.random_range(0..100) < self.options.cancel_percent {
            let reason = json!({"reason": "the buyer changed their mind"});
            if self.change(&format!("{path}/cancel"), &reason).await? {
                self.counters.count(|counts| counts.canceled += 1);
            }
            return Ok(());
        }
        let number = format!("RM{:010}GB", self.rng.random::<u32>());
        let parcel = json!({"tracking": {"carrier": "Royal Mail", "number": number}});
        if self.change(&format!("{path}/fulfillments"), &parcel).await? {
            self.counters.count(|counts| counts.shipped += 1);
            if self.rng.random_range(0..100) < self.options.refund_percent {
                self.complaints.push(format!("{path}/refunds"));
            }
        }
        Ok(())
    }

    /// Refunds a unit of the first line of each order with a complaint.
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

    /// Sends a change; returns whether it was made. A refusal because nothing is left to do is not
    /// an error, because lists lag behind.
    async fn change(&self, path: &str, body: &Value) -> Result<bool, Error> {
        match self.client.post::<Value>(path).json(body).send().await {
            Ok(_) => Ok(true),
            Err(Error::Problem(problem)) if matches!(problem.status, 409 | 422) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
