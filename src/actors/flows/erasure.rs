//! Erasing a person: every order and cart is told, then the keys of their personal data are destroyed,
//! so that nobody can read the data any more, wherever they were copied to.
//!
//! An order that is not complete, or that must be kept by law, keeps its data: the erasure stays open
//! and is continued later. So is one that was interrupted.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::actors::buyer_data::key_ids;
use crate::actors::engine::clock::Clock;
use crate::actors::engine::fold;
use crate::actors::engine::host::{self, Host, View};
use crate::actors::settings::ShopSettings;
use crate::domain::cart::{self, Cart};
use crate::domain::entity::{Cause, EntityId, Noun as _};
use crate::domain::order::{self, Order};
use crate::domain::sealed::KeyId;
use crate::domain::time::Timestamp;
use crate::seeded_fault::{self, SeededFault};
use crate::store::erase_again::{ListedErasure, holds_placed, holds_to_place};
use crate::store::personal::StoredKey;
use crate::store::personal::erasure::Erasure;
use crate::store::{self, Tables};

/// The reason of a legal hold that is placed again.
const HELD_AGAIN: &str =
    "placed again: the order was under a legal hold before the store was put back";

/// Erases persons.
pub struct ErasureFlow {
    pub(super) carts: Host<Cart>,
    pub(super) orders: Host<Order>,
    pub(super) store: Arc<dyn Tables>,
    pub(super) settings: ShopSettings,
    pub(super) clock: Clock,
}

/// Why an order keeps its personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptBecause {
    /// It is not paid and shipped, or cancelled, or something is left to be done.
    Incomplete,
    /// The law asks for it, as `shop.retention_days` says.
    Retention,
    /// It is under a legal hold.
    LegalHold,
}

/// An order that keeps its personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptOrder {
    /// The order.
    pub order: EntityId,
    /// Why.
    pub because: KeptBecause,
    /// Until when, if that is known.
    pub until: Option<Timestamp>,
}

/// What an erasure has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// The orders whose personal data are erased.
    pub orders: Vec<EntityId>,
    /// The number of carts whose personal data are erased.
    pub carts: usize,
    /// The orders that keep them for now.
    pub kept: Vec<KeptOrder>,
}

/// Why a person was not erased. The erasure is recorded, and is continued later.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each means")]
pub enum ErasureError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Order(#[from] host::Error<order::Rejection>),
    #[error(transparent)]
    Cart(#[from] host::Error<cart::Rejection>),
}

impl ErasureFlow {
    /// Erases the person with this email address.
    ///
    /// # Errors
    /// [`ErasureError`].
    pub async fn erase(&self, email: &str, cause: &Cause) -> Result<Erased, ErasureError> {
        self.hold_again().await?;
        let subject = self.store.lookups().await?.email(email);
        let (erased_at, by) = (self.clock.now(), cause.by.clone());
        let erasure = Erasure { subject, erased_at, by };
        // Recorded first: whatever follows is continued after a crash.
        self.store.erase_keys(&erasure, &[]).await?;
        self.go_on(&erasure, cause).await
    }

    /// Continues all erasures that are open; returns the number of those that are done now.
    ///
    /// # Errors
    /// [`ErasureError`] of the first that cannot be continued.
    pub async fn go_on_with_all(&self) -> Result<usize, ErasureError> {
        self.hold_again().await?;
        let mut done = 0;
        for erasure in self.store.erasures(true).await? {
            let cause = Cause { by: erasure.by.clone(), ..Cause::default() };
            done += usize::from(self.go_on(&erasure, &cause).await?.kept.is_empty());
        }
        Ok(done)
    }

    /// Puts orders under a legal hold that were under one when a list of erasures was made which this
    /// store has got: it was put back to a time before that.
    async fn hold_again(&self) -> Result<(), ErasureError> {
        let orders = holds_to_place(&*self.store).await?;
        if orders.is_empty() {
            return Ok(());
        }
        for id in &orders {
            let id = EntityId::new(id);
            let state = self.orders.read(&id, |view: View<'_, Order>| view.state.clone()).await?;
            if state.placed().is_none() || state.is_erased() || state.legal_hold().is_some() {
                continue;
            }
            let command = order::Command::PlaceLegalHold { reason: HELD_AGAIN.into() };
            let cause = Cause { by: "saga".into(), ..Cause::default() };
            self.orders.ask(&id, command, cause, |_| ()).await?;
        }
        Ok(holds_placed(&*self.store).await?)
    }

    async fn go_on(&self, erasure: &Erasure, cause: &Cause) -> Result<Erased, ErasureError> {
        let keys = self.store.keys_of_subject(&erasure.subject).await?;
        let made = |key: &&StoredKey| made_at(key) <= erasure.erased_at;
        let keys: Vec<StoredKey> = keys.iter().filter(made).cloned().collect();
        let carts: BTreeSet<EntityId> = keys.iter().map(|key| EntityId::new(&key.entity)).collect();
        let orders = orders_of(&*self.store, &erasure.subject, &carts).await?;
        let (mut erased, mut needed) = (Erased::default(), BTreeSet::new());
        let mut ready = Vec::new();
        for id in orders {
            let state = self.orders.read(&id, |view: View<'_, Order>| view.state.clone()).await?;
            if state.placed().is_none()
                || state.is_erased()
                || state.placed_at() > erasure.erased_at
            {
                continue;
            }
            let mut ids = BTreeSet::new();
            key_ids(&state, &mut ids);
            match self.kept(&id, &state) {
                Some(kept) => {
                    erased.kept.push(kept);
                    needed.extend(ids);
                }
                None => ready.push((id, ids)),
            }
        }
        // An order whose keys another one still needs waits for that one.
        for (id, ids) in ready {
            if ids.is_disjoint(&needed) {
                self.orders.ask(&id, order::Command::Erase, cause.clone(), |_| ()).await?;
                erased.orders.push(id);
            } else {
                let (because, until) = (KeptBecause::Incomplete, None);
                erased.kept.push(KeptOrder { order: id, because, until });
                needed.extend(ids);
            }
        }
        if seeded_fault::active(SeededFault::NeededKeyDestroyed) {
            needed.clear();
        }
        let free = |key: &&StoredKey| key.id.parse().is_ok_and(|id: KeyId| !needed.contains(&id));
        let gone: Vec<StoredKey> = keys.iter().filter(free).cloned().collect();
        let kept: BTreeSet<&str> =
            keys.iter().filter(|key| !free(key)).map(|key| key.entity.as_str()).collect();
        for cart in carts.iter().filter(|cart| !kept.contains(cart.as_str())) {
            self.carts.ask(cart, cart::Command::Erase, cause.clone(), |_| ()).await?;
            erased.carts += 1;
        }
        if !seeded_fault::active(SeededFault::KeyNotDestroyed) {
            self.store.erase_keys(erasure, &gone).await?;
        }
        if erased.kept.is_empty() {
            self.store.end_erasure(erasure).await?;
        }
        Ok(erased)
    }

    /// Why an order keeps its personal data; `None` if they can be erased.
    fn kept(&self, id: &EntityId, state: &Order) -> Option<KeptOrder> {
        let order = id.clone();
        let open = |because| Some(KeptOrder { order: id.clone(), because, until: None });
        if state.legal_hold().is_some() {
            return open(KeptBecause::LegalHold);
        }
        if state.needs_buyer() {
            return open(KeptBecause::Incomplete);
        }
        let country = state.placed().map_or("", |placed| &placed.shipping_address.country);
        let until = state.placed_at() + self.settings.retention(country);
        let kept = KeptOrder { order, because: KeptBecause::Retention, until: Some(until) };
        (until > self.clock.now()).then_some(kept)
    }
}

/// The orders of a person: those whose rows have the address, and those of these carts.
async fn orders_of(
    store: &dyn Tables,
    subject: &str,
    carts: &BTreeSet<EntityId>,
) -> Result<BTreeSet<EntityId>, store::Error> {
    let mut orders = store.orders_of_subject(subject).await?;
    let order = |cart: &EntityId| EntityId::new(&format!("{}_{}", Order::PREFIX, cart.key()));
    orders.extend(carts.iter().map(order));
    Ok(orders)
}

/// The list of all erasures, to be kept outside of the store, with the orders that are under a legal hold
/// of those that are open.
///
/// # Errors
/// [`store::Error`].
pub async fn list_erasures(store: &dyn Tables) -> Result<Vec<ListedErasure>, store::Error> {
    let (open, journal) = (store.erasures(true).await?, store.journal());
    let mut list = Vec::new();
    for erasure in store.erasures(false).await? {
        let mut held = Vec::new();
        if open.contains(&erasure) {
            let keys = store.keys_of_subject(&erasure.subject).await?;
            let carts = keys.iter().map(|key| EntityId::new(&key.entity)).collect();
            for id in orders_of(store, &erasure.subject, &carts).await? {
                let unreadable = |why: String| store::Error::Refused(format!("{id}: {why}"));
                let folded = fold::load::<Order>(&*journal, &id, i64::MAX).await;
                let folded = folded.map_err(|error| unreadable(error.to_string()))?;
                if folded.map_err(unreadable)?.state.legal_hold().is_some() {
                    held.push(id.to_string());
                }
            }
        }
        let Erasure { subject, erased_at, by } = erasure;
        list.push(ListedErasure { subject, erased_at, by, held });
    }
    Ok(list)
}

fn made_at(key: &StoredKey) -> Timestamp {
    key.id.parse().map_or(Timestamp::default(), |id: KeyId| id.made_at())
}
