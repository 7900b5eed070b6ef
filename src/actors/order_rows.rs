//! The projection of orders: their rows in lists and the live feed, and the texts that are searched.
//! The projector decides when rows are written and published.

use super::engine::fold::Folded;
use super::engine::projections::{Happened, LiveList, Projection};
use super::order_search::search_row;
use crate::domain::address::Address;
use crate::domain::case_folding::fold_case;
use crate::domain::entity::{EntityId, Noun as _, Record};
use crate::domain::order::{Effect, Order, Placed};
use crate::seeded_fault::{self, SeededFault};
use crate::store::list_row::Batch;
use crate::store::order::Row;
use crate::store::row::{Table, TableRow as _};

/// The projection of orders.
#[derive(Clone, Copy, Debug)]
pub struct OrderRows;

impl Projection for OrderRows {
    const NAME: &'static str = "orders";
    const PREFIXES: &'static [&'static str] = &[Order::PREFIX];
    type State = Order;

    fn listed(entity: &EntityId) -> Option<(&'static Table, &str)> {
        Some((Row::table(), entity.as_str()))
    }

    fn rows(&self, entity: &EntityId, folded: &Folded<Order>, batch: &mut Batch) {
        batch.put(order_row(entity, &folded.state, folded.seq));
        let first = folded.state.number().is_none();
        if first || !seeded_fault::active(SeededFault::SearchTextStays) {
            batch.put(search_row(entity, &folded.state, folded.seq));
        }
    }

    fn is_finished(order: &Order) -> bool {
        order.timer().is_none()
    }
}

impl LiveList for OrderRows {
    type Shown = Row;
    type Facets = Facets;
    type Happened = Happened;

    fn shown(&self, entity: &EntityId, folded: &Folded<Order>) -> Option<Row> {
        Some(order_row(entity, &folded.state, folded.seq))
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

/// The address of who pays for an order.
fn buyer_address(placed: &Placed) -> &Address {
    placed.billing_address.as_ref().unwrap_or(&placed.shipping_address)
}

/// The row of an order.
#[must_use]
pub fn order_row(id: &EntityId, order: &Order, seq: i64) -> Row {
    let placed = order.placed();
    let text = |word: &'static str| word.to_owned();
    let effects = order.effects();
    Row {
        id: id.to_string(),
        number: order.number(),
        status: text(order.status().into()),
        payment_status: text(order.payment_status().into()),
        fulfillment_status: text(order.fulfillment_status().into()),
        email: placed.map(|placed| placed.email.clone()).unwrap_or_default(),
        email_folded: placed.map(|placed| fold_case(&placed.email)).unwrap_or_default(),
        buyer_name: placed.map(|placed| buyer_address(placed).name.clone()).unwrap_or_default(),
        country: placed.map(|placed| placed.shipping_address.country.clone()),
        currency: placed.map(|placed| placed.currency.code().to_owned()).unwrap_or_default(),
        total: order.total(),
        captured: order.captured(),
        refunded: order.refunded(),
        line_count: placed.map_or(0, |placed| i64::try_from(placed.lines.len()).unwrap_or(0)),
        item_count: order.units().values().sum(),
        reference: placed.and_then(|placed| placed.reference.clone()),
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
