//! Handlers that read one order: for the buyer; for an operator, in its current or an earlier state,
//! and its events. `list` has the lists, `change` the handlers that change orders.

use std::num::NonZeroU32;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use crate::actors::buyer_data::BuyerData;
use crate::actors::engine::host::{View, decode};
use crate::domain::entity::Noun as _;
use crate::domain::id::OrderId;
use crate::domain::money::Currency;
use crate::domain::order::{self, Event, Order};
use crate::domain::time::Timestamp;
use crate::http::api::order::allocations::allocations_of;
use crate::http::api::order::event::EventShape;
use crate::http::api::order::part::OrderPart;
use crate::http::api::order::replacement::links_of;
use crate::http::api::order::schema;
use crate::http::api::order::shape::{AdminOrder, OrderShape};
use crate::http::api::shape::Page;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, id, versioned};
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;
use crate::http::edge::query::{Query, cursor, cut};
use crate::store::journal::Record;

/// The maximum number of events that are folded to show an earlier state of an order.
const FOLD_MAX: usize = 20_000;
const PAGE: u32 = 500;

/// Returns an order as its buyer sees it.
#[utoipa::path(get, path = "/v1/store/orders/{id}", tag = "orders",
    params(("id" = inline(schemas::OrderId), Path)),
    responses((status = 200, description = "The order", body = OrderShape)))]
pub async fn get_my_order(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let order: OrderId = id(&path, "order")?;
    let (state, version) = read_order(&call, order).await?;
    let links = links_of(&call, order, &state).await;
    let buyer = BuyerData::of_order(call.store(), &state).await?;
    let shape = OrderShape::new(order, (&state, version), buyer, links)?;
    Ok(versioned(StatusCode::OK, version, &shape))
}

/// Returns an order in its current state or in an earlier one.
#[utoipa::path(get, path = "/v1/admin/orders/{id}", tag = "orders",
    params(("id" = inline(schemas::OrderId), Path),
        ("at_seq" = Option<i64>, Query, description = "The order's state after this number of events"),
        ("at" = inline(Option<schemas::Moment>), Query),
        ("expand" = inline(Option<Vec<schema::OrderParts>>), Query, explode = false, description = "`allocations`; the other parts are always there")),
    responses((status = 200, description = "The order", body = AdminOrder)))]
pub async fn get_order(
    call: RequestParts,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let order: OrderId = id(&path, "order")?;
    let mut query = Query::of_list(&request, &["at_seq", "at"], &["expand"])?;
    let located = query.choices("expand").contains(&OrderPart::Allocations);
    let seq: Option<NonZeroU32> = query.read("at_seq", "must be a number of events, at least 1");
    let seq = seq.map(|seq| i64::from(seq.get()));
    let at = query.moment("at");
    if seq.is_some() && at.is_some() {
        query.faults.invalid("at", "cannot be combined with at_seq");
    }
    if located && (seq.is_some() || at.is_some()) {
        query
            .faults
            .invalid("expand", "cannot be combined with at or at_seq: allocations are of now");
    }
    query.check()?;
    let (state, version) = match (seq, at) {
        (None, None) => read_order(&call, order).await?,
        (seq, at) => as_it_was(&call, order, seq, at).await?,
    };
    let buyer = BuyerData::of_order(call.store(), &state).await?;
    let mut shape = AdminOrder::new(order, (&state, version), buyer)?;
    if located {
        let mut allocations = allocations_of(&call, std::iter::once((order, &state))).await?;
        shape = shape.with_allocations(allocations.remove(&order).unwrap_or_default());
    }
    Ok(versioned(StatusCode::OK, version, &shape))
}

/// Lists the events of an order.
#[utoipa::path(get, path = "/v1/admin/orders/{id}/events", tag = "orders",
    params(("id" = inline(schemas::OrderId), Path),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of events, oldest first", body = Page<EventShape>)))]
pub async fn list_order_events(
    call: RequestParts,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let order: OrderId = id(&path, "order")?;
    let mut query = Query::of(&request, &["limit", "after"])?;
    let (limit, after) = (query.limit(), query.after::<i64>("events").unwrap_or(0));
    query.check()?;
    let journal = call.store().journal();
    let mut records = journal.read_entity(&order::entity_id(order), after, limit + 1).await?;
    if records.is_empty() && after == 0 {
        return Err(Error::not_found("order"));
    }
    let more = cut(&mut records, limit);
    let last = records.last().map(|record| cursor("events", &record.seq.to_string()));
    let first = match after {
        0 => Vec::new(),
        _ => journal.read_entity(&order::entity_id(order), 0, 1).await?,
    };
    let first = placed(first.first().or(records.first()));
    let buyer = match &first {
        Some(order) => BuyerData::of_order(call.store(), order).await?,
        None => BuyerData::default(),
    };
    let currency = first.as_ref().and_then(Order::placed).map(|placed| placed.currency);
    let data = records.iter().map(|record| event(record, currency, &buyer)).collect();
    Ok(HttpResponse::Ok().json(Page::<EventShape> { data, next_cursor: last.filter(|_| more) }))
}

/// The current state of an order, and its version.
///
/// # Errors
/// 404 if there is no such order; the errors of its host.
pub async fn read_order(call: &RequestParts, order: OrderId) -> Result<(Order, i64), Error> {
    let read = |view: View<'_, Order>| (view.state.clone(), view.seq);
    Ok(call.node().orders.read(&order::entity_id(order), read).await?)
}

/// The state of an order, and its version, after the event `seq` or at the time `at`: folded from
/// its events.
async fn as_it_was(
    call: &RequestParts,
    id: OrderId,
    seq: Option<i64>,
    at: Option<Timestamp>,
) -> Result<(Order, i64), Error> {
    let journal = call.store().journal();
    let (entity, mut order, mut version) = (order::entity_id(id), Order::default(), 0);
    let mut folded = 0;
    loop {
        let page = journal.read_entity(&entity, version, PAGE).await?;
        let over = page.len() < PAGE as usize;
        for record in &page {
            let beyond =
                seq.is_some_and(|seq| record.seq > seq) || at.is_some_and(|at| record.at > at);
            if beyond {
                return Ok((order, version));
            }
            let event = decode::<Event>(record).map_err(Error::internal)?;
            order.evolve(&event, record.at);
            version = record.seq;
        }
        folded += page.len();
        if over {
            break;
        }
        if folded >= FOLD_MAX {
            return Err(Error::new(Code::BadRequest, "the order has too many events for this"));
        }
    }
    match seq {
        Some(seq) if seq > version => {
            Err(Error::field("at_seq", format!("must be at most {version}")))
        }
        _ => Ok((order, version)),
    }
}

/// An event as the API shows it; `currency` is the order's, which is unknown if the order's first event
/// cannot be read.
fn event(record: &Record, currency: Option<Currency>, buyer: &BuyerData) -> EventShape {
    let read = decode::<Event>(record).map_err(|error| error.to_string());
    let unknown =
        || "the first event of the order, which has its currency, is unreadable".to_owned();
    let event = currency.ok_or_else(unknown).and(read);
    EventShape::new(record, event, currency.unwrap_or(Currency::GBP), buyer)
}

/// An order as it was placed, from its first event.
fn placed(first: Option<&Record>) -> Option<Order> {
    let mut order = Order::default();
    let first = first?;
    order.evolve(&decode::<Event>(first).ok()?, first.at);
    order.placed().is_some().then_some(order)
}
