//! All that an order wants done outside of itself, on one page: each step beside what undoes it.
//!
//! Which steps an order wants follows from its state (`domain/order/effect.rs`); how one is done is
//! in the file of its flow. A step is performed until its event is there, under the same name each
//! time, so that it may be begun again after a crash.

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

/// The steps of orders.
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
            // 1. Stock is held, all of it or none.
            Effect::Reserve { order, generation, units, hold } => {
                stock.reserve(order, generation, (units, hold), teller).await;
            }
            // It undoes 1 and 3.
            Effect::Release { order, units } => stock.release(order, units, teller).await,

            // 2. Money is set aside.
            Effect::Authorize { attempt, provider, token, amount } => {
                payment.authorize(entity, attempt, (provider, token, amount), teller).await;
            }
            // They undo 2: where its outcome is not known, and where it is.
            Effect::Reverse { attempt, provider } => {
                payment.reverse(entity, attempt, &provider, teller).await;
            }
            Effect::Void { attempt, provider, payment: id, amount } => {
                payment.void(entity, attempt, (&provider, &id, amount), teller).await;
            }

            // 3. What is held is allocated, and the order gets its number: it is confirmed.
            Effect::Commit { order, generation, units } => {
                stock.allocate(order, generation, units, teller).await;
            }

            // 4. Money is taken.
            Effect::Capture { capture, provider, payment: id, amount } => {
                payment.capture(entity, capture, (&provider, &id, amount), teller).await;
            }
            // It undoes 4.
            Effect::Refund { refund, provider, payment: id, amount } => {
                payment.refund(entity, refund, (&provider, &id, amount), teller).await;
            }

            // 5. Goods go out.
            Effect::Ship { order, fulfillment, units } => {
                movements.ship(order, fulfillment, units, teller).await;
            }
            // It undoes 3 and 5, for what is refunded.
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
