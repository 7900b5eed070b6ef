//! How orders get their numbers: each draws one from the counter, which remembers it until it has
//! heard that it arrived, so that an order that asks again gets the same.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::actors::engine::host::{Flow, Host, Teller, View, saga};
use crate::bus::calls::{LONGEST, SKEW};
use crate::domain::counter::{self, Counter};
use crate::domain::entity::EntityId;
use crate::domain::id::OrderId;
use crate::domain::order::{self, Order};

/// How long the counter of a cluster remembers an order that has its number: so long a first draw
/// may be on its way, though the order got its number by a second one.
const ON_ITS_WAY: Duration = SKEW.saturating_add(LONGEST);

/// Orders that have their number for good, so that the counter need not remember it, and when it
/// may forget each. Losing one at a crash costs a few bytes until the next start.
pub struct ArrivedNumbers {
    remembered: Duration,
    arrived: Mutex<VecDeque<(Instant, OrderId)>>,
}

/// How many arrivals one draw carries at the most.
const ARRIVED_MAX: usize = 500;

impl ArrivedNumbers {
    /// None yet, of a node that has `others` or is alone: without others, no draw comes late.
    #[must_use]
    pub fn new(others: bool) -> Self {
        let remembered = if others { ON_ITS_WAY } else { Duration::ZERO };
        Self { remembered, arrived: Mutex::default() }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<(Instant, OrderId)>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An order has its number for good.
    pub(super) fn note(&self, order: OrderId) {
        self.queue().push_back((Instant::now() + self.remembered, order));
    }

    /// Those that the counter may forget by now.
    fn take(&self) -> Vec<OrderId> {
        let (mut arrived, now) = (self.queue(), Instant::now());
        let due = arrived.iter().take(ARRIVED_MAX).take_while(|(at, _)| *at <= now).count();
        arrived.drain(..due).map(|(_, order)| order).collect()
    }

    fn give_back(&self, orders: Vec<OrderId>) {
        let (mut arrived, now) = (self.queue(), Instant::now());
        for order in orders {
            arrived.push_front((now, order));
        }
    }
}

/// Draws numbers.
#[derive(Clone)]
pub struct OrderNumbers {
    pub(super) counters: Host<Counter>,
    pub(super) arrived: Arc<ArrivedNumbers>,
}

impl OrderNumbers {
    /// The number of an order, drawn now or before; nothing if the counter gives no answer.
    pub(super) async fn draw(&self, order: OrderId) -> Option<i64> {
        let arrived = self.arrived.take();
        let draw = counter::Draw { order, arrived: arrived.clone() };
        let read = move |view: View<'_, Counter>| view.state.open().get(&order).copied();
        let drawn = self.counters.ask(&counter::order_numbers(), draw, saga(), read).await;
        if drawn.is_err() {
            self.arrived.give_back(arrived);
        }
        drawn.ok().flatten()
    }
}

/// The flow of counters: once a node runs the counter of order numbers, it finds out which of the
/// numbers that are remembered have arrived.
pub struct RememberedNumbers {
    pub(super) orders: Host<Order>,
    pub(super) arrived: Arc<ArrivedNumbers>,
}

#[async_trait]
impl Flow<Counter> for RememberedNumbers {
    async fn perform(&self, _: &EntityId, effect: Infallible, _: Teller<Counter>) {
        match effect {}
    }

    async fn opened(&self, counters: &Host<Counter>, shard: u16) {
        let numbers = counter::order_numbers();
        if !counters.lives_on(&numbers, shard) {
            return;
        }
        let drawn = counters.read(&numbers, |view| view.state.open().clone()).await;
        for (order, number) in drawn.unwrap_or_default() {
            let entity = order::entity_id(order);
            let has = self.orders.read(&entity, move |view| view.state.number() == Some(number));
            if has.await == Ok(true) {
                self.arrived.note(order);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::id::Key;

    #[tokio::test(start_paused = true)]
    async fn a_number_is_remembered_for_as_long_as_a_draw_may_be_on_its_way() {
        let order = |n: u128| OrderId(Key::new(Uuid::from_u128(n)));
        let alone = ArrivedNumbers::new(false);
        alone.note(order(1));
        assert_eq!(alone.take(), [order(1)]);

        let numbers = ArrivedNumbers::new(true);
        numbers.note(order(1));
        tokio::time::advance(SKEW).await;
        numbers.note(order(2));
        assert_eq!(numbers.take(), [], "a first draw may come still");
        tokio::time::advance(LONGEST).await;
        assert_eq!(numbers.take(), [order(1)]);
        numbers.give_back(vec![order(1)]);
        assert_eq!(numbers.take(), [order(1)]);
        tokio::time::advance(SKEW).await;
        assert_eq!(numbers.take(), [order(2)]);
        assert_eq!(numbers.take(), []);
    }
}
