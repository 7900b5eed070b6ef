//! Order numbers: each order draws one from the counter. The counter remembers the number until it
//! learns that the order has stored it, so an order that asks again gets the same number.

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

/// How long the counter of a cluster remembers an order's number after the order has stored it: the
/// order's first request may still be in transit, although a repeated request has got the number
/// already.
const ON_ITS_WAY: Duration = SKEW.saturating_add(LONGEST);

/// The orders that have stored their number, each with the time from which the counter may forget
/// it. If a crash loses this list, the counter remembers a few numbers more until its shard is
/// opened again.
pub struct ArrivedNumbers {
    remembered: Duration,
    arrived: Mutex<VecDeque<(Instant, OrderId)>>,
}

/// The most orders that one draw reports to the counter as having stored their number.
const ARRIVED_MAX: usize = 500;

impl ArrivedNumbers {
    /// An empty list. `others` says whether the node is in a cluster: on a single node, no request
    /// arrives late.
    #[must_use]
    pub fn new(others: bool) -> Self {
        let remembered = if others { ON_ITS_WAY } else { Duration::ZERO };
        Self { remembered, arrived: Mutex::default() }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<(Instant, OrderId)>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that an order has stored its number.
    pub(super) fn note(&self, order: OrderId) {
        self.queue().push_back((Instant::now() + self.remembered, order));
    }

    /// Takes the orders whose numbers the counter may forget by now.
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

/// Draws order numbers.
#[derive(Clone)]
pub struct OrderNumbers {
    pub(super) counters: Host<Counter>,
    pub(super) arrived: Arc<ArrivedNumbers>,
}

impl OrderNumbers {
    /// The number of an order, drawn now or before; `None` if the counter does not answer.
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

/// The flow of counters: when a node opens the shard of the order-number counter, this flow finds
/// out which of the remembered numbers are stored in their orders.
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
    async fn order_number_is_remembered_while_a_draw_may_be_in_transit() {
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
