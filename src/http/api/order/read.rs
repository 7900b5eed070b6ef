//! Handlers that read orders: for the buyer, one order; for an operator, lists, an order in its
//! current or an earlier state, and its events. `change` has the handlers that change orders.

use std::fmt;
use std::str::FromStr;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::Value;
use strum::VariantArray;
use utoipa::ToSchema;

use crate::actors::engine::host::{View, decode};
use crate::domain::entity::Noun as _;
use crate::domain::id::OrderId;
use crate::domain::order::{self, Event, FulfillmentStatus, Order, OrderStatus, PaymentStatus};
use crate::domain::time::Timestamp;
use crate::http::api::order::schema;
use crate::http::api::order::shape::{AdminOrder, OrderShape, OrderSummary};
use crate::http::api::shape::Page;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, id, versioned};
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;
use crate::http::edge::query::{Query, cursor, cut};
use crate::http::edge::read_your_writes;
use crate::store::journal::Record;
use crate::store::order::Filter;

/// The maximum number of events that are folded to show an earlier state of an order.
const FOLD_MAX: usize = 20_000;
const PAGE: u32 = 500;
/// The maximum length of a search text, in characters: that of an email address.
const WORDS_MAX: usize = 254;

/// An event of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventShape {
    /// The number of the event in its order, from 1.
    seq: i64,
    /// The position of the event in its shard of the journal.
    pos: i64,
    #[schema(example = "confirmed")]
    kind: String,
    at: String,
    /// The cause: the principal, the command and the request.
    #[schema(value_type = Object)]
    cause: Value,
    /// The event's data; payment tokens are masked.
    #[schema(value_type = Object)]
    data: Value,
}

/// Returns an order as its buyer sees it.
#[utoipa::path(get, path = "/v1/store/orders/{id}", tag = "orders",
    params(("id" = inline(schemas::OrderId), Path),
        ("token" = Option<String>, Query, description = "The order's token, if it is not in Authorization")),
    responses((status = 200, description = "The order", body = OrderShape)))]
pub async fn get_my_order(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let order: OrderId = id(&path, "order")?;
    let (state, version) = read_order(&call, order).await?;
    Ok(versioned(StatusCode::OK, version, &OrderShape::new(order, &state, version)?))
}

/// Lists orders, newest first.
#[utoipa::path(get, path = "/v1/admin/orders", tag = "orders",
    params(("status" = inline(Option<schema::Statuses>), Query),
        ("payment_status" = inline(Option<schema::PaymentStatus>), Query),
        ("fulfillment_status" = inline(Option<schema::FulfillmentStatus>), Query),
        ("email" = Option<String>, Query), ("number" = Option<i64>, Query),
        ("q" = Option<String>, Query, max_length = 254, description = "An id, a number, a whole reference, or the beginning of an email address"),
        ("reference" = Option<String>, Query), ("stuck" = Option<bool>, Query),
        ("placed_from" = inline(Option<schemas::Moment>), Query),
        ("placed_to" = inline(Option<schemas::Moment>), Query),
        ("Kontor-After" = Option<String>, Header, description = "`Kontor-Position` values of writes that the list must include"),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of orders", body = Page<OrderSummary>)))]
pub async fn list_orders(call: RequestParts, request: HttpRequest) -> Result<HttpResponse, Error> {
    let known = [
        "q",
        "status",
        "payment_status",
        "fulfillment_status",
        "email",
        "number",
        "reference",
        "stuck",
        "placed_from",
        "placed_to",
        "limit",
        "after",
    ];
    let query = Query::of(&request, &known)?;
    let limit = query.limit()?;
    let number = "must be an order number";
    let filter = Filter {
        status: statuses::<OrderStatus>(&query, "status")?,
        payment_status: status::<PaymentStatus>(&query, "payment_status")?,
        fulfillment_status: status::<FulfillmentStatus>(&query, "fulfillment_status")?,
        email: query.text("email").map(str::to_owned),
        number: query.read("number", number)?,
        reference: query.text("reference").map(str::to_owned),
        search: words(&query)?,
        placed_from: moment(&query, "placed_from")?,
        placed_to: moment(&query, "placed_to")?,
        stuck: query.flag("stuck")?,
        unfinished: false,
        id: None,
        after: after(&query)?,
        limit: limit + 1,
    };
    let seen = read_your_writes::wait(&call, &request).await?;
    page(&call, filter, limit).await.map(|response| seen.mark(response))
}

/// The search text in `q`, trimmed; `None` if it is empty.
fn words(query: &Query) -> Result<Option<String>, Error> {
    let words = query.text("q").map(str::trim).filter(|words| !words.is_empty());
    if words.is_some_and(|words| words.chars().count() > WORDS_MAX) {
        return Err(Error::field("q", format!("must have at most {WORDS_MAX} characters")));
    }
    Ok(words.map(str::to_owned))
}

/// The position of the page cursor `after` in the list of orders: when the order before the page
/// was placed, and its id.
///
/// # Errors
/// 400 `invalid_cursor` if it is not a page cursor of this list.
pub fn after(query: &Query) -> Result<Option<(Timestamp, String)>, Error> {
    Ok(query.after("orders")?.map(|ListPosition(at, id)| (at, id)))
}

/// The position of an order in lists: when it was placed, and its id.
#[derive(Debug, PartialEq, Eq)]
struct ListPosition(Timestamp, String);

impl fmt::Display for ListPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.millis(), self.1)
    }
}

impl FromStr for ListPosition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('/').ok_or(())?;
        let at = Timestamp::from_millis(at.parse().map_err(|_| ())?);
        let id: OrderId = id.parse().map_err(|_| ())?;
        Ok(Self(at, id.to_string()))
    }
}

/// Answers a page of orders.
///
/// # Errors
/// The errors of the store.
pub async fn page(call: &RequestParts, filter: Filter, limit: u32) -> Result<HttpResponse, Error> {
    let mut rows = call.store().orders(&filter).await?;
    let more = cut(&mut rows, limit);
    let last = rows.last().map(|row| ListPosition(row.placed_at, row.id.clone()));
    let last = last.map(|place| cursor("orders", &place.to_string()));
    let data = rows.into_iter().map(OrderSummary::new).collect::<Result<_, _>>()?;
    Ok(HttpResponse::Ok().json(Page::<OrderSummary> { data, next_cursor: last.filter(|_| more) }))
}

/// Returns an order in its current state or in an earlier one.
#[utoipa::path(get, path = "/v1/admin/orders/{id}", tag = "orders",
    params(("id" = inline(schemas::OrderId), Path),
        ("at_seq" = Option<i64>, Query, description = "The order's state after this number of events"),
        ("at" = inline(Option<schemas::Moment>), Query)),
    responses((status = 200, description = "The order", body = AdminOrder)))]
pub async fn get_order(
    call: RequestParts,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let order: OrderId = id(&path, "order")?;
    let query = Query::of(&request, &["at_seq", "at"])?;
    let seq: Option<i64> = query.read("at_seq", "must be a number of events")?;
    let at = moment(&query, "at")?;
    let (state, version) = match (seq, at) {
        (None, None) => read_order(&call, order).await?,
        (Some(_), Some(_)) => return Err(Error::field("at", "cannot be combined with at_seq")),
        (seq, at) => as_it_was(&call, order, seq, at).await?,
    };
    Ok(versioned(StatusCode::OK, version, &AdminOrder::new(order, &state, version)?))
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
    let query = Query::of(&request, &["limit", "after"])?;
    let (limit, after) = (query.limit()?, query.after::<i64>("events")?.unwrap_or(0));
    let journal = call.store().journal();
    let mut records = journal.read_entity(&order::entity_id(order), after, limit + 1).await?;
    if records.is_empty() && after == 0 {
        return Err(Error::not_found("order"));
    }
    let more = cut(&mut records, limit);
    let last = records.last().map(|record| cursor("events", &record.seq.to_string()));
    let data = records.iter().map(event).collect();
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

/// The statuses in a query parameter, separated by commas.
///
/// # Errors
/// 422 with the field.
pub fn statuses<S: VariantArray + FromStr + Into<&'static str> + Copy>(
    query: &Query,
    name: &str,
) -> Result<Vec<String>, Error> {
    let Some(text) = query.text(name) else {
        return Ok(Vec::new());
    };
    text.split(',').map(|one| named::<S>(one.trim(), name, "must be a list of")).collect()
}

/// The status in a query parameter that allows only one.
fn status<S: VariantArray + FromStr + Into<&'static str> + Copy>(
    query: &Query,
    name: &str,
) -> Result<Option<String>, Error> {
    query.text(name).map(|text| named::<S>(text, name, "must be one of")).transpose()
}

fn named<S: VariantArray + FromStr + Into<&'static str> + Copy>(
    text: &str,
    name: &str,
    rule: &str,
) -> Result<String, Error> {
    let status = S::from_str(text).map(Into::<&str>::into);
    status.map(str::to_owned).map_err(|_| {
        let known: Vec<&str> = S::VARIANTS.iter().map(|one| (*one).into()).collect();
        Error::field(name, format!("{rule} {}", known.join(", ")))
    })
}

/// The time in a query parameter.
///
/// # Errors
/// 422 with the field.
pub fn moment(query: &Query, name: &str) -> Result<Option<Timestamp>, Error> {
    let Some(text) = query.text(name) else {
        return Ok(None);
    };
    let wrong = || Error::field(name, "must be an RFC 3339 time, for example 2026-01-31T12:00:00Z");
    Timestamp::parse(text).ok_or_else(wrong).map(Some)
}

fn event(record: &Record) -> EventShape {
    let mut data: Value = serde_json::from_str(&record.data).unwrap_or_default();
    if let Some(inner) = data.get_mut(&*record.kind) {
        data = inner.take();
    }
    mask(&mut data);
    EventShape {
        seq: record.seq,
        pos: record.pos,
        kind: record.kind.to_string(),
        at: record.at.to_string(),
        cause: serde_json::from_str(&record.cause).unwrap_or_default(),
        data,
    }
}

/// Hides the payment tokens in an event.
fn mask(data: &mut Value) {
    match data {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "token" && value.is_string() {
                    *value = "***".into();
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_place_in_the_list_is_a_time_and_an_id() {
        let id = "ord_01k8x4m5n6p7q8r9s0t1v2w3x4";
        for at in [0, -5, 1_700_000_000_123] {
            let place = ListPosition(Timestamp::from_millis(at), id.to_owned());
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for bad in [id, "", "/", &format!("/{id}"), &format!("x/{id}"), "1/", "1/ord_1"] {
            assert_eq!(bad.parse::<ListPosition>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn tokens_are_masked_wherever_they_are() {
        let mut data =
            json!({"method": {"provider": "p", "token": "tok_1"}, "list": [{"token": "t"}]});
        mask(&mut data);
        let expected =
            json!({"method": {"provider": "p", "token": "***"}, "list": [{"token": "***"}]});
        assert_eq!(data, expected);
    }
}
