//! The units that the unpaid orders of guests hold, and how this node learns that they hold them no
//! longer.
//!
//! The node that has counted an order remembers it until it is known to be confirmed, declined or
//! cancelled. Who waits for the outcome brings that knowledge. Of all other orders it is asked for when
//! a bound would refuse somebody, and now and then, because nodes that share a count know only their
//! own orders.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::actors::engine::host::{Host, View};
use crate::cache::{Cache, Limit};
use crate::domain::id::OrderId;
use crate::domain::order::{self, Order};

/// The most orders that a node remembers; the units of others come back with time alone.
const ORDERS_MAX: usize = 100_000;
/// The most orders that are asked because a bound would refuse, how often for one client, and how long
/// who would be refused waits for that.
const ASKED_MAX: usize = 64;
const ASK_EVERY: Duration = Duration::from_secs(1);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two rounds, which is the first pause of each order; it doubles with each round.
const ROUND: Duration = Duration::from_secs(5);
/// The most orders of a round, and how many are asked at once.
const ROUND_MAX: usize = 500;
const AT_ONCE: usize = 8;

/// Units that are counted for the order of a guest.
#[derive(Debug)]
pub struct HeldUnits {
    pub(super) cache: Cache,
    pub(super) counted: Arc<[(String, Limit)]>,
    pub(super) units: u32,
    pub(super) since: Instant,
}

impl HeldUnits {
    /// The order holds them no longer. What has come back with time is not given back again.
    pub(super) fn give_back(self) {
        let per = self.counted.first().map_or(Duration::ZERO, |(_, limit)| limit.per);
        let units = left(self.units, self.since.elapsed(), per);
        if units > 0 {
            self.cache.put_back(&self.counted, units);
        }
    }

    fn is_over(&self) -> bool {
        let age = self.since.elapsed();
        self.counted.first().is_none_or(|(_, limit)| age >= limit.per)
    }
}

/// Of units that come back evenly over `per`, how many are still counted.
fn left(units: u32, age: Duration, per: Duration) -> u32 {
    let (age, per) = (age.as_millis(), per.as_millis().max(1));
    let left = (u128::from(units) * per.saturating_sub(age) + per / 2) / per;
    u32::try_from(left).unwrap_or(units)
}

/// An order whose units are counted.
struct CountedOrder {
    nth: u64,
    held: HeldUnits,
    /// When it is asked in a round, and the pause until the next one.
    due: Instant,
    pause: Duration,
}

/// The orders of one client, those first that were not asked for longest.
#[derive(Default)]
struct OfClient {
    orders: VecDeque<OrderId>,
    /// Who asks them; it has when they were asked last.
    turn: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

#[derive(Default)]
struct Remembered {
    orders: HashMap<OrderId, CountedOrder>,
    of: HashMap<String, OfClient>,
    next: u64,
}

impl Remembered {
    fn add(&mut self, order: OrderId, held: HeldUnits) {
        for (key, _) in held.counted.iter() {
            self.of.entry(key.clone()).or_default().orders.push_back(order);
        }
        self.next += 1;
        let (nth, due) = (self.next, Instant::now() + ROUND);
        self.orders.insert(order, CountedOrder { nth, held, due, pause: ROUND });
    }

    fn remove(&mut self, order: OrderId) -> Option<HeldUnits> {
        let CountedOrder { held, .. } = self.orders.remove(&order)?;
        for (key, _) in held.counted.iter() {
            let Some(of) = self.of.get_mut(key) else { continue };
            of.orders.retain(|one| *one != order);
            if of.orders.is_empty() {
                self.of.remove(key);
            }
        }
        Some(held)
    }

    /// Takes the next orders of a client, which become the last ones.
    fn next_of(&mut self, key: &str) -> Vec<(OrderId, u64)> {
        let Some(of) = self.of.get_mut(key) else { return Vec::new() };
        let next: Vec<_> = of.orders.iter().take(ASKED_MAX).copied().collect();
        of.orders.rotate_left(next.len());
        next.into_iter().filter_map(|one| Some((one, self.orders.get(&one)?.nth))).collect()
    }

    /// Takes the orders that are due. Whose units have all come back is forgotten.
    fn next_due(&mut self) -> Vec<(OrderId, u64)> {
        let over = self.orders.iter().filter(|(_, one)| one.held.is_over());
        for order in over.map(|(order, _)| *order).collect::<Vec<_>>() {
            self.remove(order);
        }
        let now = Instant::now();
        let due = self.orders.iter_mut().filter(|(_, one)| one.due <= now);
        let asked = due.take(ROUND_MAX).map(|(order, one)| {
            one.pause *= 2;
            one.due = now + one.pause;
            (*order, one.nth)
        });
        asked.collect()
    }
}

/// The orders of guests whose units this node counts.
pub struct CountedOrders {
    orders: Host<Order>,
    remembered: Mutex<Remembered>,
}

impl CountedOrders {
    pub(super) fn new(orders: Host<Order>) -> Self {
        Self { orders, remembered: Mutex::default() }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an order; what was counted for it before is given back.
    pub(super) fn add(&self, order: OrderId, held: HeldUnits) {
        let mut remembered = self.remembered();
        let before = remembered.remove(order);
        if remembered.orders.len() < ORDERS_MAX {
            remembered.add(order, held);
        }
        drop(remembered);
        if let Some(before) = before {
            before.give_back();
        }
    }

    /// Gives back the units of an order that holds none.
    pub(super) fn settle(&self, id: OrderId, order: &Order) {
        if order.keeps_unpaid_units() {
            return;
        }
        let held = self.remembered().remove(id);
        if let Some(held) = held {
            held.give_back();
        }
    }

    /// Asks orders of a client, which a bound would refuse, or waits for who does.
    pub(super) async fn ask(&self, key: &str) {
        let turn = self.remembered().of.get(key).map(|of| of.turn.clone());
        let Some(turn) = turn else { return };
        let asked = tokio::time::timeout(ASK_TIMEOUT, async {
            let mut last = turn.lock().await;
            if last.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
                *last = Some(Instant::now());
                let asked = self.remembered().next_of(key);
                self.look_at(asked).await;
            }
        });
        if asked.await.is_err() {
            tracing::debug!("orders of a guest do not say in time whether they hold units");
        }
    }

    /// Asks the orders of this node now and then, until stopped.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(ROUND);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = rounds.tick() => {}
            }
            let due = self.remembered().next_due();
            self.look_at(due).await;
        }
    }

    async fn look_at(&self, orders: Vec<(OrderId, u64)>) {
        let looks = orders.into_iter().map(|(id, nth)| async move {
            let read = |view: View<'_, Order>| view.state.keeps_unpaid_units();
            let keeps = self.orders.read(&order::entity_id(id), read).await;
            // An order that cannot be read now counts as before; so does one that was paid again
            // meanwhile.
            if !keeps.unwrap_or(true) {
                let mut remembered = self.remembered();
                let same = remembered.orders.get(&id).is_some_and(|one| one.nth == nth);
                let held = if same { remembered.remove(id) } else { None };
                drop(remembered);
                if let Some(held) = held {
                    held.give_back();
                }
            }
        });
        stream::iter(looks).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_back_with_time_is_not_given_back_again() {
        let hour = Duration::from_secs(3_600);
        for (units, minutes, expected) in
            [(100, 0, 100), (100, 15, 75), (100, 60, 0), (100, 99, 0), (1, 29, 1), (1, 31, 0)]
        {
            assert_eq!(left(units, Duration::from_secs(60 * minutes), hour), expected);
        }
    }
}
