//! The orders that have their number for good, on their way to the counter, which need not
//! remember them then.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::calls::{LONGEST, SKEW};
use crate::domain::id::OrderId;

/// How long the counter of a cluster remembers an order that has its number: so long a first draw
/// may be on its way, though the order got its number by a second one.
const ON_ITS_WAY: Duration = SKEW.saturating_add(LONGEST);

/// Orders that have their number for good, so that the counter need not remember it, and when it
/// may forget each. Losing one at a crash costs a few bytes until the next start.
pub(super) struct Numbers {
    remembered: Duration,
    arrived: Mutex<VecDeque<(Instant, OrderId)>>,
}

/// How many arrivals one draw carries at the most.
const ARRIVED_MAX: usize = 500;

impl Numbers {
    /// Those of a node that has others, or none: without others, no draw comes late.
    pub(super) fn new(others: bool) -> Self {
        let remembered = if others { ON_ITS_WAY } else { Duration::ZERO };
        Self { remembered, arrived: Mutex::default() }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<(Instant, OrderId)>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arrived(&self, order: OrderId) {
        self.queue().push_back((Instant::now() + self.remembered, order));
    }

    pub(super) fn take(&self) -> Vec<OrderId> {
        let (mut arrived, now) = (self.queue(), Instant::now());
        let due = arrived.iter().take(ARRIVED_MAX).take_while(|(at, _)| *at <= now).count();
        arrived.drain(..due).map(|(_, order)| order).collect()
    }

    pub(super) fn give_back(&self, orders: Vec<OrderId>) {
        let (mut arrived, now) = (self.queue(), Instant::now());
        for order in orders {
            arrived.push_front((now, order));
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
        let alone = Numbers::new(false);
        alone.arrived(order(1));
        assert_eq!(alone.take(), [order(1)]);

        let numbers = Numbers::new(true);
        numbers.arrived(order(1));
        tokio::time::advance(SKEW).await;
        numbers.arrived(order(2));
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
