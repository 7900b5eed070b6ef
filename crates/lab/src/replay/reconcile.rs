//! After a run: compares the server's stock and money with what was booked.
//!
//! Deliberately not here: whether what was booked adds up to the file (`ledger`).

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use kontor_client::api::{Order, Page, StockItem};
use kontor_client::{Client, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::buy::pause;
use super::plan::{InvoiceWork, ReplayPlan};
use super::run::{FaultLog, ReplayState};

/// The longest time until the server's lists contain the whole run.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// The most pages of a list that are read.
const PAGES_MAX: usize = 100_000;

/// The expected units of one code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Before the first order.
    pub opening: i64,
    /// Wanted by all orders.
    pub wanted: i64,
    /// Sold to all orders.
    pub sold: i64,
    /// Returned, and written off.
    pub returned: i64,
}

/// The comparison of the server with what was booked.
#[derive(Debug, Default, Serialize)]
pub struct Reconciled {
    /// Codes compared.
    pub skus: usize,
    /// Units at the beginning.
    pub opening_units: i64,
    /// Units sold.
    pub sold_units: i64,
    /// Units that are still available to sell.
    pub sellable_units: i64,
    /// Orders compared.
    pub orders: usize,
    /// Captured less refunded according to what was booked, in pence.
    pub booked_pence: i64,
    /// Captured less refunded according to the server's orders, in pence.
    pub server_pence: i64,
    /// The differences.
    pub differences: FaultLog,
}

impl Reconciled {
    /// Whether there are no differences.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.differences.count == 0
    }
}

/// The expected units of every code.
#[must_use]
pub fn expected(
    plan: &ReplayPlan,
    state: &ReplayState,
    opening: &BTreeMap<String, i64>,
) -> BTreeMap<String, Expected> {
    let mut skus: BTreeMap<String, Expected> = BTreeMap::new();
    for (sku, units) in opening {
        skus.entry(sku.clone()).or_default().opening = *units;
    }
    for (index, step) in plan.steps.iter().enumerate() {
        let InvoiceWork::Order(order) = &step.work else { continue };
        let placed = state.orders.get(&index);
        for (number, line) in order.lines.iter().enumerate() {
            let sku = skus.entry(line.code.to_string()).or_default();
            sku.wanted += line.quantity;
            sku.sold += placed.map_or(0, |placed| placed.sold[number]);
        }
    }
    for (place, back) in &state.returned {
        if let InvoiceWork::Order(order) = &plan.steps[place.step].work {
            let code = order.lines[place.line].code.to_string();
            skus.entry(code).or_default().returned += back.units;
        }
    }
    skus
}

/// Compares until there are no differences, or a timeout.
///
/// # Errors
/// [`Error`] when a list cannot be read.
pub async fn reconcile(
    client: &Client,
    state: &ReplayState,
    skus: &BTreeMap<String, Expected>,
) -> Result<Reconciled, Error> {
    let deadline = Instant::now() + SETTLE_MAX;
    let mut attempt = 0;
    loop {
        let stock: Vec<StockItem> = all(client, "/v1/admin/stock").await?;
        let orders: Vec<Order> = all(client, "/v1/admin/orders").await?;
        let mut found = Reconciled::default();
        compare_stock(skus, &stock, &mut found);
        compare_orders(state, &orders, &mut found);
        if found.holds() || Instant::now() >= deadline {
            return Ok(found);
        }
        attempt += 1;
        pause(attempt * 10).await;
    }
}

async fn all<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Vec<T>, Error> {
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let mut call = client.get::<Page<T>>(path).query("limit", "200");
        if let Some(after) = &after {
            call = call.query("after", after);
        }
        let page = call.send().await?.body;
        rows.extend(page.data);
        after = page.next_cursor;
        if after.is_none() {
            break;
        }
    }
    Ok(rows)
}

fn compare_stock(skus: &BTreeMap<String, Expected>, stock: &[StockItem], found: &mut Reconciled) {
    let held: HashMap<&str, &StockItem> =
        stock.iter().map(|item| (item.sku.as_str(), item)).collect();
    for (sku, want) in skus {
        found.skus += 1;
        found.opening_units += want.opening;
        found.sold_units += want.sold;
        if want.sold != want.wanted.min(want.opening) {
            let text = format!(
                "stock of {sku}: {} sold of {} wanted with {} at the beginning",
                want.sold, want.wanted, want.opening
            );
            found.differences.add(text);
        }
        let Some(item) = held.get(sku.as_str()) else {
            found.differences.add(format!("stock of {sku}: the server has none of it"));
            continue;
        };
        found.sellable_units += item.sellable;
        let pairs = [
            ("sellable", item.sellable, want.opening - want.sold),
            ("reserved", item.reserved, 0),
            ("allocated and sold", item.allocated + item.sold, want.sold - want.returned),
        ];
        for (what, is, should) in pairs {
            if is != should {
                let text = format!("stock of {sku}: {what} is {is}, should be {should}");
                found.differences.add(text);
            }
        }
    }
}

fn compare_orders(state: &ReplayState, orders: &[Order], found: &mut Reconciled) {
    let held: HashMap<&str, &Order> =
        orders.iter().map(|order| (order.id.as_str(), order)).collect();
    let mut back: HashMap<usize, i64> = HashMap::new();
    for (place, worth) in &state.returned {
        *back.entry(place.step).or_default() += worth.pence;
    }
    let placed = state
        .orders
        .iter()
        .map(|(step, placed)| (&placed.id, placed.total - back.get(step).copied().unwrap_or(0)));
    let cancelled = state.cancelled.iter().map(|id| (id, 0));
    for (id, should) in placed.chain(cancelled) {
        found.orders += 1;
        found.booked_pence += should;
        let kept = held.get(id.as_str()).and_then(|order| order.kept());
        found.server_pence += kept.unwrap_or(0);
        match kept {
            Some(kept) if kept == should => {}
            Some(kept) => {
                found.differences.add(format!("order {id}: {kept} pence kept, should be {should}"));
            }
            None => found.differences.add(format!("order {id}: the server does not list it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(sellable: i64, allocated: i64) -> StockItem {
        StockItem { sku: "a".into(), reserved: 0, allocated, sellable, sold: 0 }
    }

    #[test]
    fn stock_is_compared_unit_by_unit() {
        let want = Expected { opening: 10, wanted: 12, sold: 10, returned: 3 };
        let skus = BTreeMap::from([("a".to_owned(), want)]);
        for (item, differences) in [(item(0, 7), 0), (item(3, 7), 1), (item(1, 8), 2)] {
            let mut found = Reconciled::default();
            compare_stock(&skus, &[item], &mut found);
            assert_eq!(found.differences.count, differences, "{:?}", found.differences);
        }
        let mut found = Reconciled::default();
        let short = Expected { sold: 9, ..want };
        compare_stock(&BTreeMap::from([("a".to_owned(), short)]), &[], &mut found);
        assert_eq!(found.differences.count, 2);
    }
}
