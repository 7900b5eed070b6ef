//! The flash sale: many buyers at once for a few units of one SKU.
//!
//! Before the clock starts, every buyer has a filled cart and its own open connection. Then all
//! checkouts are due at the same time. Deliberately not here: flows (`buyer`).

use std::rc::Rc;
use std::time::Duration;

use kontor_client::Client;
use kontor_client::api::StockItem;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Error;
use super::buyer::{FilledCart, LoadBuyer, LoadRun};
use super::progress::ProgressOutput;

/// Carts that are created, and connections that are opened, at once.
const AT_ONCE: usize = 32;
/// File descriptors beside the buyers' connections.
const FILES_BESIDE: u64 = 64;

/// The result of a flash sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sale {
    /// Units at the start.
    pub units: i64,
    /// Buyers.
    pub buyers: u64,
    /// Buyers whose order was answered as confirmed.
    pub confirmed: u64,
    /// Buyers who got `out_of_stock`.
    pub refused: u64,
    /// Buyers with any other answer, or none.
    pub otherwise: u64,
    /// Orders that the server lists as confirmed, if the check was made.
    pub orders_confirmed: Option<u64>,
    /// The time from the start to the last answer, in milliseconds.
    pub last_answer_ms: u64,
    /// Units that the server counts as sold.
    pub sold: i64,
    /// Units that are still available to sell.
    pub sellable: i64,
}

impl Sale {
    /// Whether as many were confirmed and sold as possible, and the rest is available.
    #[must_use]
    pub fn exact(&self) -> bool {
        let most = self.units.min(i64::try_from(self.buyers).unwrap_or(i64::MAX));
        let confirmed = self.orders_confirmed.unwrap_or(self.confirmed);
        i64::try_from(confirmed) == Ok(most)
            && self.confirmed <= confirmed
            && self.sold == most
            && self.sellable == self.units - most
    }
}

/// The prepared buyers: each with a cart of one unit and an open connection.
pub struct Ready(Vec<(LoadBuyer, FilledCart)>);

/// Fills each buyer's cart and connects it.
///
/// # Errors
/// [`Error::Prepare`] if one fails.
pub async fn prepare(
    run: &Rc<LoadRun>,
    sku: &str,
    buyers: u32,
    progress: ProgressOutput,
) -> Result<Ready, Error> {
    let files = u64::from(buyers) + FILES_BESIDE;
    if !may_open(files) {
        return Err(Error::Prepare(format!(
            "{buyers} connections need {files} open files; raise the limit with ulimit -n"
        )));
    }
    let (few, sku) = (Rc::new(Semaphore::new(AT_ONCE)), Rc::<str>::from(sku));
    let mut all = JoinSet::new();
    for number in 0..buyers {
        let (run, few, sku) = (run.clone(), few.clone(), sku.clone());
        all.spawn_local(async move {
            let _one = few.acquire().await;
            let mut buyer = LoadBuyer::new(run, SmallRng::seed_from_u64(number.into()));
            let connected = buyer.connect().await.is_ok();
            let cart = buyer.cart_of(&sku).await;
            cart.filter(|_| connected).map(|cart| (buyer, cart))
        });
    }
    let mut ready = Vec::with_capacity(buyers as usize);
    while let Some(done) = all.join_next().await {
        let one = done.ok().flatten();
        ready.push(one.ok_or_else(|| Error::Prepare("cannot create a buyer's cart".into()))?);
        if ready.len() % 500 == 0 {
            progress.say(&format!("buyers ready: {} of {buyers}", ready.len()));
        }
    }
    Ok(Ready(ready))
}

/// All buyers check out at once; returns the time until the last answer.
pub async fn sell(ready: Ready, due: Instant) -> Duration {
    let mut all = JoinSet::new();
    for (mut buyer, cart) in ready.0 {
        all.spawn_local(async move {
            buyer.check_out(cart, due).await;
            // The connection stays open until all have ended.
            buyer
        });
    }
    let done = all.join_all().await;
    let took = due.elapsed();
    drop(done);
    took
}

/// Waits until no unit of the SKU is reserved any more, at most for `patience`; returns the stock.
///
/// # Errors
/// The client's error.
pub async fn stock(client: &Client, sku: &str, patience: Duration) -> Result<StockItem, Error> {
    let started = Instant::now();
    loop {
        let item = client.get_stock(sku).send().await?.body;
        if item.reserved == 0 || started.elapsed() >= patience {
            return Ok(item);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Raises the limit of open files.
#[cfg(unix)]
fn may_open(files: u64) -> bool {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|now| now >= files) {
        return true;
    }
    limit.current = limit.maximum;
    limit.maximum.is_none_or(|most| most >= files) && setrlimit(Resource::Nofile, limit).is_ok()
}

#[cfg(not(unix))]
fn may_open(_: u64) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sale_is_exact_or_not() {
        let sale = Sale {
            units: 5,
            buyers: 20,
            confirmed: 5,
            refused: 15,
            otherwise: 0,
            orders_confirmed: None,
            last_answer_ms: 1,
            sold: 5,
            sellable: 0,
        };
        assert!(sale.exact());
        assert!(Sale { units: 30, confirmed: 20, sold: 20, sellable: 10, ..sale.clone() }.exact());
        for wrong in [
            Sale { confirmed: 6, ..sale.clone() },
            Sale { confirmed: 4, ..sale.clone() },
            Sale { sold: 6, ..sale.clone() },
            Sale { orders_confirmed: Some(6), ..sale.clone() },
            Sale { sellable: 1, ..sale },
        ] {
            assert!(!wrong.exact(), "{wrong:?}");
        }
    }
}
