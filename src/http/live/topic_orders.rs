//! The topics of orders: all orders, and those whose saga is unfinished or stuck.

use std::str::FromStr as _;

use async_trait::async_trait;
use serde_json::Value;

use super::message::{ChangeShape, FilterInput, HappenedShape, LiveRow, OrderChangeShape, Topic};
use super::refusal::{Wrong, read_filter};
use super::topic::{ListTopic, Merged};
use crate::actors::engine::changes::Change;
use crate::actors::engine::projections::Projection as _;
use crate::actors::order_rows::{Facets, OrderRows};
use crate::domain::case_folding::fold_case;
use crate::domain::id::OrderId;
use crate::domain::order::{FulfillmentStatus, OrderStatus, PaymentStatus};
use crate::http::api::order::shape::OrderSummary;
use crate::http::docs::schemas::names;
use crate::http::edge::error::Error;
use crate::http::edge::principal::Scope;
use crate::http::edge::problem::Code;
use crate::store::Store;
use crate::store::order::{self, Row, STATUSES_MAX};

/// The approximate size of a change without its events, in bytes.
const CHANGE_BYTES: usize = 700;
/// The approximate size of an event, in bytes.
const EVENT_BYTES: usize = 100;
/// The maximum number of characters of an email address.
const EMAIL_MAX: usize = 254;

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
    stuck: bool,
    unfinished: bool,
}

impl OrdersTopic {
    fn sees(&self, filter: &FilterInput, seen: &Seen<'_>) -> bool {
        (filter.status.is_empty() || filter.status.iter().any(|one| one == seen.status))
            && filter.payment_status.as_ref().is_none_or(|one| one == seen.payment_status)
            && filter.fulfillment_status.as_ref().is_none_or(|one| one == seen.fulfillment_status)
            && (!filter.stuck || seen.stuck)
            && (!self.unfinished || seen.unfinished)
    }
}

/// Whether an order matches the part of a filter that is about values that never change: the id and
/// the email address.
fn is_about(filter: &FilterInput, row: &Row) -> bool {
    let FilterInput { order, email, .. } = filter;
    order.as_ref().is_none_or(|order| *order == row.id)
        && email.as_ref().is_none_or(|email| fold_case(email) == row.email_folded)
}

#[async_trait]
impl ListTopic for OrdersTopic {
    type List = OrderRows;
    type Filter = FilterInput;
    type Row = LiveRow;
    type Change<'a> = ChangeShape<'a>;

    fn name(&self) -> &'static str {
        if self.unfinished { Topic::Sagas } else { Topic::Orders }.into()
    }

    fn scope(&self) -> Scope {
        if self.unfinished { Scope::Ops } else { Scope::OrdersRead }
    }

    fn filter(&self, input: Value) -> Result<FilterInput, Wrong> {
        let (filter, mut faults) = read_filter(&input)?;
        let FilterInput { status, payment_status, fulfillment_status, order, email, .. } = &filter;
        let mut wrong = |field: &str, rule: &str| faults.invalid(format!("filter.{field}"), rule);
        if status.len() > STATUSES_MAX
            || status.iter().any(|one| OrderStatus::from_str(one).is_err())
        {
            let rule =
                format!("must be at most {STATUSES_MAX} of {}", names::<OrderStatus>().join(", "));
            wrong("status", &rule);
        }
        if payment_status.as_ref().is_some_and(|one| PaymentStatus::from_str(one).is_err()) {
            wrong(
                "payment_status",
                &format!("must be one of {}", names::<PaymentStatus>().join(", ")),
            );
        }
        if fulfillment_status.as_ref().is_some_and(|one| FulfillmentStatus::from_str(one).is_err())
        {
            wrong(
                "fulfillment_status",
                &format!("must be one of {}", names::<FulfillmentStatus>().join(", ")),
            );
        }
        if order.as_ref().is_some_and(|one| one.parse::<OrderId>().is_err()) {
            wrong("order", "must be the id of an order, such as ord_01k8x4m5n6p7q8r9s0t1v2w3x4");
        }
        if email.as_ref().is_some_and(|one| one.is_empty() || one.chars().count() > EMAIL_MAX) {
            wrong("email", "must have 1 to 254 characters");
        }
        for (name, other) in [("sku", &filter.sku), ("location", &filter.location)] {
            if other.is_some() {
                let rule = "is not a filter of this topic: its filters are status, payment_status, \
                            fulfillment_status, order, email and stuck";
                faults.add(Code::UnknownFilter, format!("filter.{name}"), rule);
            }
        }
        faults.check()?;
        Ok(filter)
    }

    fn matches_after(&self, filter: &FilterInput, change: &Change<OrderRows>) -> bool {
        let row = &change.shown;
        let unfinished = row.saga_step.is_some();
        let seen = Seen {
            status: &row.status,
            payment_status: &row.payment_status,
            fulfillment_status: &row.fulfillment_status,
            stuck: unfinished && row.stuck_reason.is_some(),
            unfinished,
        };
        is_about(filter, row) && self.sees(filter, &seen)
    }

    fn matches_before(&self, filter: &FilterInput, change: &Change<OrderRows>) -> bool {
        change.before.as_ref().is_some_and(|before| {
            let Facets { status, payment_status, fulfillment_status, stuck, unfinished } = *before;
            let seen = Seen { status, payment_status, fulfillment_status, stuck, unfinished };
            is_about(filter, &change.shown) && self.sees(filter, &seen)
        })
    }

    fn bytes(&self, change: &Change<OrderRows>, known: bool) -> usize {
        let row = if known { 0 } else { CHANGE_BYTES };
        row + EVENT_BYTES * change.events.len()
    }

    fn change<'a>(
        &self,
        _: &FilterInput,
        merged: &Merged<'a, OrderRows>,
    ) -> Option<ChangeShape<'a>> {
        let row = &merged.last.shown;
        let shown = OrderSummary::new(row.clone());
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
        filter: &FilterInput,
        limit: u32,
    ) -> Result<(Vec<LiveRow>, Vec<(u16, i64)>), Error> {
        let filter = order::Filter {
            id: filter.order.iter().cloned().collect(),
            status: filter.status.clone(),
            payment_status: filter.payment_status.iter().cloned().collect(),
            fulfillment_status: filter.fulfillment_status.iter().cloned().collect(),
            email: filter.email.iter().cloned().collect(),
            stuck: filter.stuck,
            unfinished: self.unfinished,
            limit,
            ..order::Filter::default()
        };
        let (rows, cursors) = store.orders_at(&filter, OrderRows::NAME).await?;
        let shape = |row| OrderSummary::new(row).map(LiveRow::Order);
        Ok((rows.into_iter().map(shape).collect::<Result<_, _>>()?, cursors))
    }
}
