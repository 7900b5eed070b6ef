//! Performs what orders want: each effect goes to the file of its flow.

use std::sync::{Arc, Weak};

use async_trait::async_trait;

use crate::actors::engine::host::{Flow, Teller};
use crate::actors::node::Node;
use crate::domain::entity::EntityId;
use crate::domain::order::{Effect, Order};

/// The flow of orders.
pub(in crate::actors) struct Orders(Weak<Node>);

impl Orders {
    pub(in crate::actors) fn new(node: &Arc<Node>) -> Self {
        Self(Arc::downgrade(node))
    }
}

#[async_trait]
impl Flow<Order> for Orders {
    async fn perform(&self, entity: &EntityId, effect: Effect, teller: Teller<Order>) {
        let Some(node) = self.0.upgrade() else {
            return;
        };
        match effect {
            Effect::Reserve { order, generation, units, hold } => {
                node.reserve(order, generation, (units, hold), &teller).await;
            }
            Effect::Commit { order, generation, units } => {
                node.commit(order, generation, units, &teller).await;
            }
            Effect::Release { order, units } => node.release(order, units, &teller).await,
            Effect::Ship { order, fulfillment, units } => {
                node.ship(order, fulfillment, units, &teller).await;
            }
            Effect::Restock { order, refund, units, restock } => {
                node.restock(order, refund, (units, restock), &teller).await;
            }
            money => node.perform_payment(entity, money, &teller).await,
        }
    }
}
