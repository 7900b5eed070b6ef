//! The projection of orders: their rows in lists and the live feed, and the texts that are searched.
//! The projector decides when rows are written and published.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::buyer_data::key_ids;
use super::engine::fold::Fold;
use super::engine::projections::{Happened, Keyed, LiveList, Projection};
use super::order_search::{PlacedHashes, search_row, searched_hash};
use crate::domain::entity::{EntityId, Noun as _, Record};
use crate::domain::order::{Effect, Order, Placed};
use crate::domain::sealed::{KeyId, Sealed};
use crate::domain::time::Timestamp;
use crate::seeded_fault::{self, SeededFault};
use crate::store::journal::StateSnapshot;
use crate::store::list_row::Batch;
use crate::store::order::{PROJECTION, Row};
use crate::store::personal::{Keys, PersonalField};
use crate::store::row::{Table, TableRow as _};

/// The projection of orders.
#[derive(Clone, Copy, Debug, Default)]
pub struct OrderRows;

/// An order, with what it is found by for good, once that was computed.
#[derive(Clone, Debug, Default)]
pub struct OrderToList {
    order: Order,
    found_by: OnceLock<Arc<PlacedHashes>>,
}

impl OrderToList {
    /// What the order is found by for good, if it is known; what was known before something was
    /// erased is not used.
    fn found_by(&self) -> Option<&Arc<PlacedHashes>> {
        self.found_by.get().filter(|_| !self.order.is_erased())
    }

    /// The same, computed with these keys if it is not known.
    fn found_by_with(&self, entity: &EntityId, keys: Option<&Keys>) -> Arc<PlacedHashes> {
        self.found_by().cloned().unwrap_or_else(|| {
            let hashes = Arc::new(PlacedHashes::of(entity, &self.order, keys));
            if hashes.email.is_empty() {
                return hashes;
            }
            Arc::clone(self.found_by.get_or_init(|| hashes))
        })
    }
}

impl Deref for OrderToList {
    type Target = Order;

    fn deref(&self) -> &Order {
        &self.order
    }
}

impl Fold for OrderToList {
    type Event = <Order as Fold>::Event;

    fn read(record: &Record) -> Result<Self::Event, serde_json::Error> {
        Order::read(record)
    }

    fn fold(&mut self, event: &Self::Event, at: Timestamp) {
        self.order.fold(event, at);
    }

    fn of_snapshot(snapshot: &StateSnapshot) -> Option<Self> {
        Order::of_snapshot(snapshot).map(|order| Self { order, ..Self::default() })
    }
}

impl Projection for OrderRows {
    const NAME: &'static str = PROJECTION;
    const PREFIXES: &'static [&'static str] = &[Order::PREFIX];
    type State = OrderToList;
    const KEYED: bool = true;

    fn listed(entity: &EntityId) -> Option<(&'static Table, &str)> {
        Some((Row::table(), entity.as_str()))
    }

    fn key_ids(order: &OrderToList, shown: bool, ids: &mut BTreeSet<KeyId>) {
        if shown || order.found_by().is_none() {
            key_ids(order, ids);
        }
    }

    fn rare_hash(order: &OrderToList) -> u64 {
        searched_hash(order)
    }

    fn rows(&self, entity: &EntityId, folded: &Keyed<'_, OrderToList>, batch: &mut Batch) {
        let is_known = folded.state.found_by().is_some();
        let hashes = folded.state.found_by_with(entity, folded.keys);
        let row = order_row(entity, &folded.state, folded.seq, &hashes);
        // What is known was written with an earlier batch.
        if is_known {
            batch.put_over(row)
        } else {
            batch.put(row)
        }
        let first = folded.state.number().is_none();
        let changed = folded.before != Some(searched_hash(&folded.state));
        if changed && (first || !seeded_fault::active(SeededFault::SearchTextStays)) {
            batch.put(search_row(entity, &folded.state, folded.seq, (folded.keys, &hashes)));
        }
    }

    fn is_finished(order: &OrderToList) -> bool {
        order.timer().is_none()
    }
}

impl LiveList for OrderRows {
    type Shown = OpenedOrderRow;
    type Facets = Facets;
    type Happened = Happened;

    fn shown(&self, entity: &EntityId, folded: &Keyed<'_, OrderToList>) -> Option<OpenedOrderRow> {
        let hashes = folded.state.found_by_with(entity, folded.keys);
        let row = order_row(entity, &folded.state, folded.seq, &hashes);
        Some(OpenedOrderRow::open(row, folded.keys))
    }

    fn facets(&self, order: &OrderToList) -> Facets {
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
        paid_attempt: order.paying_attempt().map(|attempt| i64::from(attempt.number)),
        paid_with: order.paying_attempt().map(|attempt| attempt.provider.to_string()),
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
