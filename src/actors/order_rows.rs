//! The projection of orders: their rows in lists and the live feed, and the texts that are searched.
//! The projector decides when rows are written and published.

use std::collections::BTreeSet;
use std::sync::Arc;

use quick_cache::sync::Cache;

use super::buyer_data::key_ids;
use super::engine::projections::{Happened, Keyed, LiveList, Projection};
use super::order_search::{PlacedHashes, search_row, searched_hash};
use crate::domain::entity::{EntityId, Noun as _, Record};
use crate::domain::order::{Effect, Order, Placed};
use crate::domain::sealed::{KeyId, Sealed};
use crate::seeded_fault::{self, SeededFault};
use crate::store::list_row::Batch;
use crate::store::order::Row;
use crate::store::personal::{Keys, PersonalField};
use crate::store::row::{Table, TableRow as _};

/// The orders whose [`PlacedHashes`] are kept in memory.
const PLACED_MAX: usize = 4_096;

/// The projection of orders.
#[derive(Clone, Debug)]
pub struct OrderRows {
    placed: Arc<Cache<EntityId, Arc<PlacedHashes>>>,
}

impl Default for OrderRows {
    fn default() -> Self {
        Self { placed: Arc::new(Cache::new(PLACED_MAX)) }
    }
}

impl OrderRows {
    /// What an order is found by for good. It is computed again if something was erased.
    fn placed(&self, entity: &EntityId, folded: &Keyed<'_, Order>) -> Arc<PlacedHashes> {
        let compute = || Arc::new(PlacedHashes::of(entity, &folded.state, folded.keys));
        if folded.state.is_erased() {
            self.placed.remove(entity);
            return compute();
        }
        let known = self.placed.get(entity).filter(|_| folded.keys.is_some());
        known.unwrap_or_else(|| {
            let hashes = compute();
            if !hashes.email.is_empty() {
                self.placed.insert(entity.clone(), Arc::clone(&hashes));
            }
            hashes
        })
    }
}

impl Projection for OrderRows {
    const NAME: &'static str = "orders";
    const PREFIXES: &'static [&'static str] = &[Order::PREFIX];
    type State = Order;

    fn listed(entity: &EntityId) -> Option<(&'static Table, &str)> {
        Some((Row::table(), entity.as_str()))
    }

    fn key_ids(order: &Order, ids: &mut BTreeSet<KeyId>) {
        key_ids(order, ids);
    }

    fn rare_hash(order: &Order) -> u64 {
        searched_hash(order)
    }

    fn rows(&self, entity: &EntityId, folded: &Keyed<'_, Order>, batch: &mut Batch) {
        let hashes = self.placed(entity, folded);
        batch.put(order_row(entity, &folded.state, folded.seq, &hashes));
        let first = folded.state.number().is_none();
        let changed = folded.before != Some(searched_hash(&folded.state));
        if changed && (first || !seeded_fault::active(SeededFault::SearchTextStays)) {
            batch.put(search_row(entity, &folded.state, folded.seq, (folded.keys, &hashes)));
        }
    }

    fn is_finished(order: &Order) -> bool {
        order.timer().is_none()
    }
}

impl LiveList for OrderRows {
    type Shown = OpenedOrderRow;
    type Facets = Facets;
    type Happened = Happened;

    fn shown(&self, entity: &EntityId, folded: &Keyed<'_, Order>) -> Option<OpenedOrderRow> {
        let hashes = self.placed(entity, folded);
        let row = order_row(entity, &folded.state, folded.seq, &hashes);
        Some(OpenedOrderRow::open(row, folded.keys))
    }

    fn facets(&self, order: &Order) -> Facets {
        Facets::of(order)
    }

    fn happened(&self, record: &Record) -> Happened {
        Happened::of(record)
    }
}

/// The values of an order by which lists can be filtered, before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facets {
    /// The status.
    pub status: &'static str,
    /// The payment status.
    pub payment_status: &'static str,
    /// The fulfillment status.
    pub fulfillment_status: &'static str,
    /// Whether its saga had unfinished or stuck steps.
    pub unfinished: bool,
}

impl Facets {
    fn of(order: &Order) -> Self {
        Self {
            status: order.status().into(),
            payment_status: order.payment_status().into(),
            fulfillment_status: order.fulfillment_status().into(),
            unfinished: !order.stuck().is_empty() || !order.effects().is_empty(),
        }
    }
}

/// A row of an order, with its personal values opened: in memory and in answers only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenedOrderRow {
    /// The row as it is stored.
    pub row: Row,
    /// The buyer's email address; `None` if it was erased.
    pub email: Option<String>,
    /// The name in the billing address, else in the shipping address; `None` if it was erased.
    pub buyer_name: Option<String>,
    /// The buyer's own reference; `None` if there is none, or it was erased.
    pub reference: Option<String>,
}

impl OpenedOrderRow {
    /// A row, opened with these keys.
    #[must_use]
    pub fn open(row: Row, keys: Option<&Keys>) -> Self {
        let open = |field, text: &str| {
            let sealed: Sealed<String> = text.parse().ok()?;
            keys?.open(field, &sealed)
        };
        let name = |field| open(field, &row.buyer_name);
        Self {
            email: open(PersonalField::Email, &row.email),
            buyer_name: name(PersonalField::BillingName)
                .or_else(|| name(PersonalField::ShippingName)),
            reference: row
                .reference
                .as_deref()
                .and_then(|text| open(PersonalField::Reference, text)),
            row,
        }
    }

    /// The ids of the keys with which the values of rows are sealed.
    #[must_use]
    pub fn key_ids<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeSet<KeyId> {
        let texts = rows
            .into_iter()
            .flat_map(|row| [Some(&row.email), Some(&row.buyer_name), row.reference.as_ref()]);
        let sealed = texts.flatten().filter_map(|text| text.parse::<Sealed<String>>().ok());
        sealed.map(|sealed| sealed.key()).collect()
    }
}

/// The sealed name of who pays for an order.
fn buyer_name(placed: &Placed) -> &Sealed<String> {
    let address = placed.billing_address.as_ref().unwrap_or(&placed.shipping_address);
    &address.name
}

/// The row of an order.
#[must_use]
pub fn order_row(id: &EntityId, order: &Order, seq: i64, hashes: &PlacedHashes) -> Row {
    let placed = order.placed();
    let personal = placed.filter(|_| !order.is_erased());
    let text = |word: &'static str| word.to_owned();
    let effects = order.effects();
    let reference = personal.and_then(|placed| placed.reference.as_ref());
    Row {
        id: id.to_string(),
        number: order.number(),
        status: text(order.status().into()),
        payment_status: text(order.payment_status().into()),
        fulfillment_status: text(order.fulfillment_status().into()),
        email: personal.map(|placed| placed.email.as_str().to_owned()).unwrap_or_default(),
        email_hash: hashes.email.clone(),
        buyer_name: personal
            .map(|placed| buyer_name(placed).as_str().to_owned())
            .unwrap_or_default(),
        country: placed.map(|placed| placed.shipping_address.country.clone()),
        currency: placed.map(|placed| placed.currency.code().to_owned()).unwrap_or_default(),
        total: order.total(),
        captured: order.captured(),
        refunded: order.refunded(),
        line_count: placed.map_or(0, |placed| i64::try_from(placed.lines.len()).unwrap_or(0)),
        item_count: order.units().values().sum(),
        reference: reference.map(|reference| reference.as_str().to_owned()),
        reference_hash: hashes.reference.clone(),
        saga_step: effects
            .first()
            .map(Effect::step)
            .or_else(|| order.stuck().keys().next().cloned()),
        stuck_reason: order.stuck().values().next().cloned(),
        alert: order.alert().map(str::to_owned),
        placed_at: order.placed_at(),
        updated_at: order.updated_at(),
        version: seq,
    }
}
