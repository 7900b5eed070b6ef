//! The topics of orders: all orders, and those whose saga is unfinished or stuck.

use std::str::FromStr;

use async_trait::async_trait;
use serde_json::Value;
use strum::VariantArray;

use super::filter_values::FilterValues;
use super::message::{ChangeShape, FilterInput, HappenedShape, LiveRow, OrderChangeShape, Topic};
use super::refusal::{Wrong, read_filter};
use super::topic::{ListTopic, Merged};
use crate::actors::engine::changes::Change;
use crate::actors::engine::projections::Projection as _;
use crate::actors::order_rows::{Facets, OpenedOrderRow, OrderRows};
use crate::domain::case_folding::fold_case;
use crate::domain::id::OrderId;
use crate::domain::order::{FulfillmentStatus, OrderStatus, PaymentStatus};
use crate::http::api::order::list::{EMAIL_RULE, ID_RULE, NUMBER_RULE, REFERENCE_RULE};
use crate::http::api::order::shape::OrderSummary;
use crate::http::docs::schemas::names;
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::principal::Scope;
use crate::store::Store;
use crate::store::order;

/// The approximate size of a change without its events, in bytes.
const CHANGE_BYTES: usize = 700;
/// The approximate size of an event, in bytes.
const EVENT_BYTES: usize = 100;

/// The filters.
const FILTERS: [&str; 7] =
    ["id", "status", "payment_status", "fulfillment_status", "email", "number", "reference"];

/// A topic of orders.
pub(super) struct OrdersTopic {
    /// Only orders whose saga is unfinished or stuck.
    pub(super) unfinished: bool,
}

/// The values of an order that filters use and that can change.
struct Seen<'a> {
    status: &'a str,
    payment_status: &'a str,
    fulfillment_status: &'a str,
    unfinished: bool,
}

impl OrdersTopic {
    fn sees(&self, filter: &OrdersAsked, seen: &Seen<'_>) -> bool {
        one_of(&filter.status, seen.status)
            && one_of(&filter.payment_status, seen.payment_status)
            && one_of(&filter.fulfillment_status, seen.fulfillment_status)
            && (!self.unfinished || seen.unfinished)
    }
}

/// The orders that a subscription is about: each field has the values of which one must be met, none
/// for all.
#[derive(Clone)]
pub(super) struct OrdersAsked {
    id: Vec<String>,
    status: Vec<String>,
    payment_status: Vec<String>,
    fulfillment_status: Vec<String>,
    /// Case-folded.
    email: Vec<String>,
    number: Vec<i64>,
    reference: Vec<String>,
}

fn one_of(asked: &[String], there: &str) -> bool {
    asked.is_empty() || asked.iter().any(|one| one == there)
}

/// Whether an order matches the part of a filter that is about values that do not change once they
/// are known.
fn is_about(filter: &OrdersAsked, order: &OpenedOrderRow) -> bool {
    let OrdersAsked { number, reference, .. } = filter;
    let OpenedOrderRow { row, email, reference: own, .. } = order;
    let email = email.as_deref().map(fold_case).unwrap_or_default();
    one_of(&filter.id, &row.id)
        && one_of(&filter.email, &email)
        && (number.is_empty() || row.number.is_some_and(|there| number.contains(&there)))
        && (reference.is_empty() || own.as_ref().is_some_and(|there| reference.contains(there)))
}

/// The names of statuses in a filter.
fn statuses<S>(values: &FilterValues, field: &str, faults: &mut RequestFaults) -> Vec<String>
where
    S: VariantArray + FromStr + Into<&'static str> + Copy,
{
    let rule = format!("must be one of {}", names::<S>().join(", "));
    let read: Vec<S> = values.read(&format!("filter.{field}"), &rule, faults);
    read.into_iter().map(|one| one.into().to_owned()).collect()
}

#[async_trait]
impl ListTopic for OrdersTopic {
    type List = OrderRows;
    type Filter = OrdersAsked;
    type Row = LiveRow;
    type Change<'a> = ChangeShape<'a>;

    fn name(&self) -> &'static str {
        if self.unfinished { Topic::Sagas } else { Topic::Orders }.into()
    }

    fn scope(&self) -> Scope {
        if self.unfinished { Scope::Ops } else { Scope::OrdersRead }
    }

    fn filter(&self, input: Value) -> Result<OrdersAsked, Wrong> {
        let (filter, mut faults) = read_filter(&input, &FILTERS)?;
        let FilterInput { status, payment_status, fulfillment_status, .. } = &filter;
        let of = &mut faults;
        let status = statuses::<OrderStatus>(status, "status", of);
        let payment_status = statuses::<PaymentStatus>(payment_status, "payment_status", of);
        let fulfillment_status =
            statuses::<FulfillmentStatus>(fulfillment_status, "fulfillment_status", of);
        let id = if input.get("order").is_some() { "filter.order" } else { "filter.id" };
        let ids: Vec<OrderId> = filter.id.read(id, ID_RULE, of);
        let emails: Vec<String> = filter.email.read("filter.email", EMAIL_RULE, of);
        let number = filter.number.read_numbers("filter.number", NUMBER_RULE, of);
        let reference = filter.reference.read("filter.reference", REFERENCE_RULE, of);
        faults.check()?;
        Ok(OrdersAsked {
            id: ids.iter().map(ToString::to_string).collect(),
            status,
            payment_status,
            fulfillment_status,
            email: emails.iter().map(|email| fold_case(email)).collect(),
            number,
            reference,
        })
    }

    fn matches_after(&self, filter: &OrdersAsked, change: &Change<OrderRows>) -> bool {
        let row = &change.shown.row;
        let seen = Seen {
            status: &row.status,
            payment_status: &row.payment_status,
            fulfillment_status: &row.fulfillment_status,
            unfinished: row.saga_step.is_some(),
        };
        is_about(filter, &change.shown) && self.sees(filter, &seen)
    }

    fn matches_before(&self, filter: &OrdersAsked, change: &Change<OrderRows>) -> bool {
        change.before.as_ref().is_some_and(|before| {
            let Facets { status, payment_status, fulfillment_status, unfinished } = *before;
            let seen = Seen { status, payment_status, fulfillment_status, unfinished };
            is_about(filter, &change.shown) && self.sees(filter, &seen)
        })
    }

    fn bytes(&self, change: &Change<OrderRows>, known: bool) -> usize {
        let row = if known { 0 } else { CHANGE_BYTES };
        row + EVENT_BYTES * change.events.len()
    }

    fn change<'a>(
        &self,
        _: &OrdersAsked,
        merged: &Merged<'a, OrderRows>,
    ) -> Option<ChangeShape<'a>> {
        let row = &merged.last.shown.row;
        let shown = OrderSummary::new(merged.last.shown.clone());
        let shown =
            shown.inspect_err(|error| tracing::error!(%error, "cannot show an order")).ok()?;
        Some(ChangeShape::Order(OrderChangeShape {
            order: &row.id,
            after: merged.first.after,
            version: row.version,
            matches: merged.matches,
            events: HappenedShape::all(&merged.events),
            row: shown,
        }))
    }

    async fn snapshot(
        &self,
        store: &Store,
        filter: &OrdersAsked,
        limit: u32,
    ) -> Result<(Vec<LiveRow>, Vec<(u16, i64)>), Error> {
        let OrdersAsked { id, status, payment_status, fulfillment_status, .. } = filter.clone();
        let OrdersAsked { email, number, reference, .. } = filter.clone();
        let lookups = store.lookups().await?;
        let filter = order::Filter {
            id,
            status,
            payment_status,
            fulfillment_status,
            email_hash: email.iter().map(|email| lookups.email(email)).collect(),
            number,
            reference_hash: reference.iter().map(|one| lookups.reference(one)).collect(),
            unfinished: self.unfinished,
            limit,
            ..order::Filter::default()
        };
        let (rows, cursors) = store.orders_at(&filter, OrderRows::NAME).await?;
        let keys = store.personal_keys(&OpenedOrderRow::key_ids(&rows)).await?;
        let open = |row| OpenedOrderRow::open(row, Some(&keys));
        let shape = |row| OrderSummary::new(open(row)).map(LiveRow::Order);
        Ok((rows.into_iter().map(shape).collect::<Result<_, _>>()?, cursors))
    }
}
