//! A buyer gives up an order that is not paid: it is cancelled, which frees its units, and a new
//! cart may take its place.
//!
//! The order is cancelled, durably, before there is a new cart: a buyer never has both. Both steps
//! can be repeated, so a caller who got no answer repeats the request.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::actors::buyer_data::NewBuyerData;
use crate::actors::engine::clock::Clock;
use crate::actors::engine::host::{self, Host, Until, View};
use crate::domain::cart::{self, Cart};
use crate::domain::entity::Cause;
use crate::domain::id::{CartId, OrderId};
use crate::domain::order::{self, Command, Order, Phase};
use crate::domain::time::Timestamp;
use crate::seeded_fault::{self, SeededFault};
use crate::store::{self, Tables};

/// Cancels orders for their buyers, and makes new carts in their place.
pub struct StartOver {
    pub(super) carts: Host<Cart>,
    pub(super) orders: Host<Order>,
    pub(super) store: Arc<dyn Tables>,
    pub(super) clock: Clock,
}

/// Why an order was not cancelled, or why it has no new cart.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each means")]
pub enum StartOverRefusal {
    #[error(transparent)]
    Order(#[from] host::Error<order::Rejection>),
    #[error(transparent)]
    Cart(#[from] host::Error<cart::Rejection>),
    #[error(transparent)]
    Store(#[from] store::Error),
}

fn wrong(what: &'static str) -> StartOverRefusal {
    StartOverRefusal::Order(host::Error::Rejected(order::Rejection::WrongState {
        what: what.into(),
    }))
}

impl StartOver {
    /// Cancels an order that is not paid, and waits until its units are free, at most `patience`.
    /// If the order has another version than `if_seq`, nothing is done and the answer is `Err` with
    /// that version.
    ///
    /// # Errors
    /// [`order::Rejection`]: there is no such order, or it is paid; or a failure of the host.
    pub async fn cancel(
        &self,
        order: OrderId,
        if_seq: Option<i64>,
        (cause, patience): (Cause, Duration),
    ) -> Result<Result<(Order, i64), i64>, host::Error<order::Rejection>> {
        let entity = order::entity_id(order);
        let read = |view: View<'_, Order>| (view.state.clone(), view.seq);
        let asked = self.orders.ask_at_version(&entity, if_seq, Command::Abandon, cause, read);
        let (mut state, mut seq) = match asked.await? {
            Ok(asked) => asked,
            Err(other) => return Ok(Err(other)),
        };
        let deadline = Instant::now() + patience;
        while state.phase() == Phase::Cancelling {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // It is cancelled, whether or not we can wait for its units here and now.
            match self.orders.wait(&entity, left, Until::Past(seq), read).await {
                Ok(newer) => (state, seq) = newer,
                Err(_) => break,
            }
        }
        Ok(Ok((state, seq)))
    }

    /// Whether a cart was ordered, or has expired. A cart that cannot be read now counts as open.
    pub async fn is_used_up(&self, cart: CartId, now: Timestamp) -> bool {
        let read = move |view: View<'_, Cart>| {
            use cart::Rejection::{Expired, Spent};
            matches!(view.state.open(now), Err(Spent { .. } | Expired))
        };
        self.carts.read(&cart::entity_id(cart), read).await.unwrap_or(false)
    }

    /// Cancels an order that is not paid, unless it is cancelled already, and creates `cart` with
    /// the contents of the order's cart. If `cart` exists, it is only read.
    ///
    /// # Errors
    /// [`StartOverRefusal`]: the order is paid, or the shop has cancelled it.
    pub async fn new_cart(
        &self,
        order: OrderId,
        cart: CartId,
        (cause, patience): (Cause, Duration),
    ) -> Result<(Cart, i64), StartOverRefusal> {
        if !seeded_fault::active(SeededFault::OrderKeptBesideNewCart) {
            let cancelled = self.cancel(order, None, (cause.clone(), patience)).await?;
            let replaceable = |state: &Order| state.given_up() && state.replaceable();
            if !cancelled.is_ok_and(|(state, _)| replaceable(&state)) {
                return Err(wrong("the shop has cancelled the order"));
            }
        }
        let read = |view: View<'_, Cart>| (view.state.clone(), view.seq);
        let old = self.carts.read(&cart::entity_id(CartId(order.0)), read).await?;
        let (entity, cause) = (cart::entity_id(cart), Cause { idempotency: None, ..cause });
        // Sealed for the new cart: who is erased is found by the keys of each cart.
        let data = NewBuyerData::of_cart(&*self.store, &old.0).await?;
        let data = data.sealed(&*self.store, &entity, self.clock.for_key()).await?;
        let replace = old.0.replacement(order, data);
        let replace = replace.ok_or_else(|| wrong("the order has no cart"))?;
        match self.carts.ask(&entity, replace, cause, read).await {
            Err(host::Error::Rejected(cart::Rejection::Exists)) => {
                Ok(self.carts.read(&entity, read).await?)
            }
            made => Ok(made?),
        }
    }
}
