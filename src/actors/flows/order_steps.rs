//! All effects of an order, each step next to its compensation.
//!
//! An order's state determines its steps (`domain/order/effect.rs`); each is implemented in the
//! file of its flow. A step is repeated until its event is stored. Every repetition has the same
//! step name, and so the same idempotency keys, so it is safe even after a crash.

use std::sync::Arc;

use async_trait::async_trait;

use super::order_numbers::ArrivedNumbers;
use super::order_tally::OrderTally;
use super::payment::PaymentSteps;
use super::reservation::Reservation;
use super::stock_movements::StockMovements;
use crate::actors::engine::host::{Flow, Teller};
use crate::domain::entity::{EntityId, Record};
use crate::domain::order::{Effect, Order};

/// Performs the steps of orders.
pub struct OrderSteps {
    pub(super) reservation: Reservation,
    pub(super) payment: PaymentSteps,
    pub(super) movements: StockMovements,
    pub(super) arrived: Arc<ArrivedNumbers>,
    pub(super) tally: Arc<OrderTally>,
}

#[async_trait]
impl Flow<Order> for OrderSteps {
    async fn perform(&self, entity: &EntityId, effect: Effect, teller: Teller<Order>) {
        let (stock, payment, movements) = (&self.reservation, &self.payment, &self.movements);
        let teller = &teller;
        match effect {
            // 1. Reserve stock, all of it or none.
            Effect::Reserve { order, generation, units, hold } => {
                stock.reserve(order, generation, (units, hold), teller).await;
            }
            // Compensates 1 and 3.
            Effect::Release { order, units } => stock.release(order, units, teller).await,

            // 2. Authorize the money.
            Effect::Authorize { attempt, provider, token, amount } => {
                payment.authorize(entity, attempt, (provider, token, amount), teller).await;
            }
            // After a failed payment, 1 holds only until another order needs the units.
            Effect::Yield { order, generation, units } => {
                stock.yield_holds(order, generation, units, teller).await;
            }
            // These compensate 2: `Reverse` if the outcome of the authorization is unknown, `Void`
            // if it succeeded.
            Effect::Reverse { attempt, provider } => {
                payment.reverse(entity, attempt, &provider, teller).await;
            }
            Effect::Void { attempt, provider, payment: id, amount } => {
                payment.void(entity, attempt, (&provider, &id, amount), teller).await;
            }

            // 3. Turn holds into allocations and draw the order number: the order is confirmed.
            Effect::Commit { order, generation, units } => {
                stock.allocate(order, generation, units, teller).await;
            }

            // 4. Capture the money.
            Effect::Capture { capture, provider, payment: id, amount } => {
                payment.capture(entity, capture, (&provider, &id, amount), teller).await;
            }
            // Compensates 4.
            Effect::Refund { refund, provider, payment: id, amount } => {
                payment.refund(entity, refund, (&provider, &id, amount), teller).await;
            }

            // 5. Ship the goods.
            Effect::Ship { order, fulfillment, units } => {
                movements.ship(order, fulfillment, units, teller).await;
            }
            // Compensates 3 and 5, for refunded units.
            Effect::Restock { order, refund, units, restock } => {
                movements.restock(order, refund, (units, restock), teller).await;
            }
        }
    }

    fn committed(&self, record: &Record) {
        self.tally.count(&record.kind);
        if &*record.kind == "confirmed"
            && let Ok(order) = record.entity.as_str().parse()
        {
            self.arrived.note(order);
        }
    }
}
