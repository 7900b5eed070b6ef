//! The stream of one order for its buyer, as server-sent events: its current state, and each newer
//! state until the order is final or the stream reaches its maximum duration.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Live;
use super::outbox::{self, BodyGate, GOING, GOING_AT_STOP};
use super::owner_slots::{OwnerSlot, SlotsFull};
use crate::actors::buyer_data::BuyerData;
use crate::actors::engine::host::{Until, View};
use crate::domain::entity::Noun as _;
use crate::domain::id::{CartId, OrderId};
use crate::domain::order::{self, Order, OrderStatus};
use crate::http::api::order::read;
use crate::http::api::order::replacement::{links, replacement_id};
use crate::http::api::order::schema;
use crate::http::api::order::shape::OrderShape;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, id};
use crate::http::edge::connection::{self, ConnectionHandle};
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;
use crate::store::history::HistoryId;

/// How long the stream sends nothing before it sends a comment.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The maximum number of concurrent streams of one order.
pub const ORDER_MAX: usize = 8;
/// The minimum time between two events; states in between are left out.
const PAUSE: Duration = Duration::from_millis(100);

/// Streams the states of an order to its buyer, as server-sent events.
#[utoipa::path(get, path = "/v1/store/orders/{id}/live", tag = "live",
    params(("id" = inline(schemas::OrderId), Path),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that the client received")),
    responses((status = 200, description = "Events `order`, each with the order as its data and an opaque id", content_type = "text/event-stream", body = inline(schema::OrderEvents)),
        (status = 204, description = "Nothing more will come: the client has the last version"),
        (status = 429, description = "The limit of streams of this order (8) or of this server is reached")))]
pub async fn watch_my_order(
    call: RequestParts,
    path: web::Path<String>,
    request: HttpRequest,
    live: web::Data<Live>,
) -> Result<HttpResponse, Error> {
    let order: OrderId = id(&path, "order")?;
    let (state, version) = read::read_order(&call, order).await?;
    let cart = replacement_id(call.secret(), order);
    let links = links(&live.node, cart, order, &state).await;
    let buyer = BuyerData::of_order(&live.store, &state).await?;
    let shape = OrderShape::new(order, (&state, version), buyer, links)?;
    let seen = request.headers().get("last-event-id").and_then(|seen| seen.to_str().ok());
    let seen = seen == Some(&event_id(live.history, version));
    if seen && over(&state) {
        return Ok(HttpResponse::NoContent().finish());
    }
    let full = |full| match full {
        SlotsFull::All => Error::new(Code::TooManyRequests, "there are too many streams"),
        SlotsFull::Owner => Error::new(Code::TooManyRequests, "this order has too many streams"),
    };
    let place = live.streams.take(&order.to_string()).map_err(full)?;
    live.metrics.streams.inc();
    let first = if seen {
        Bytes::from_static(b": up to date\n\n")
    } else {
        event(&shape, (live.history, version))
    };
    let until = Instant::now() + Duration::from_secs(live.options.stream_secs);
    let stop = live.stop.clone();
    let watch =
        OrderWatch { live, order, cart, state, version, next: Some(first), until, _place: place };
    let events = futures_util::stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    let response = HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(events);
    let handle = connection::of(&request);
    if let Some(handle) = &handle {
        handle.stream();
    }
    Ok(response.map_body(|_, body| {
        let (body, gate) = outbox::watch(body);
        actix_web::rt::spawn(see_off(gate, handle, until, stop));
        body
    }))
}

/// Closes the connection of a stream that has not ended in time, at its deadline or when the server
/// stops. The stream itself cannot do this if the client does not read: then actix does not poll
/// its body.
async fn see_off(
    gate: Rc<BodyGate>,
    handle: Option<Rc<ConnectionHandle>>,
    until: Instant,
    stop: CancellationToken,
) {
    let going = tokio::select! {
        () = gate.gone() => {
            if let Some(handle) = handle {
                handle.end_stream();
            }
            return;
        }
        () = tokio::time::sleep_until(until) => GOING,
        () = stop.cancelled() => GOING_AT_STOP,
    };
    if timeout(going, gate.gone()).await.is_err()
        && let Some(handle) = handle
    {
        handle.cut();
    }
}

/// Whether an order is final: cancelled, with no step left to do.
fn over(order: &Order) -> bool {
    order.status() == OrderStatus::Cancelled
        && order.effects().is_empty()
        && order.stuck().is_empty()
}

fn event(shape: &OrderShape, (history, version): (HistoryId, i64)) -> Bytes {
    let data = serde_json::to_string(shape).unwrap_or_default();
    let id = event_id(history, version);
    format!("event: order\nid: {id}\ndata: {data}\n\n").into()
}

/// The id of an event. After a restore the order may have the same version with other content, so
/// the version alone does not tell what the client has.
fn event_id(history: HistoryId, version: i64) -> String {
    format!("{version}-{history}")
}

/// A buyer's subscription to an order.
struct OrderWatch {
    live: web::Data<Live>,
    order: OrderId,
    /// The cart in the place of the order, if its buyer gives it up.
    cart: CartId,
    state: Order,
    version: i64,
    next: Option<Bytes>,
    until: Instant,
    _place: OwnerSlot,
}

impl OrderWatch {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.next.take() {
            return Some(first);
        }
        let stop = self.live.stop.clone();
        if over(&self.state) || Instant::now() >= self.until {
            return None;
        }
        let stopped = async {
            stop.cancelled().await;
            None
        };
        tokio::select! {
            biased;
            end = stopped => end,
            next = self.newer() => next,
        }
    }

    async fn newer(&mut self) -> Option<Bytes> {
        tokio::time::sleep(PAUSE).await;
        let read = |view: View<'_, Order>| (view.state.clone(), view.seq);
        let entity = order::entity_id(self.order);
        let patience = KEEP_ALIVE.min(self.until.saturating_duration_since(Instant::now()));
        let (state, version) = self
            .live
            .node
            .orders
            .wait(&entity, patience, Until::Past(self.version), read)
            .await
            .ok()?;
        if version == self.version {
            return Some(Bytes::from_static(b": keep-alive\n\n"));
        }
        let links = links(&self.live.node, self.cart, self.order, &state).await;
        let buyer = BuyerData::of_order(&self.live.store, &state).await.ok()?;
        let shape = OrderShape::new(self.order, (&state, version), buyer, links).ok()?;
        (self.state, self.version) = (state, version);
        Some(event(&shape, (self.live.history, version)))
    }
}

impl Drop for OrderWatch {
    fn drop(&mut self) {
        self.live.metrics.streams.dec();
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::BoxBody;
    use actix_web::rt::net::TcpStream;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A stream whose body is not polled; returns the client's end.
    async fn deaf(until: Instant, stop: &CancellationToken) -> (BoxBody, TcpStream) {
        let (line, client) = connection::tests::pair().await;
        let (body, gate) = outbox::watch(BoxBody::new(()));
        let handle = line.handle();
        handle.stream();
        actix_web::rt::spawn(connection::tests::drive(line));
        actix_web::rt::spawn(see_off(gate, Some(handle), until, stop.clone()));
        (body, client)
    }

    async fn is_cut(mut client: TcpStream) -> bool {
        client.read(&mut [0]).await.unwrap() == 0
    }

    #[actix_web::test]
    async fn unread_stream_is_closed_at_its_end_and_at_a_stop() {
        let far = Instant::now() + Duration::from_secs(3_600);
        let stop = CancellationToken::new();
        let (_body, over) = deaf(Instant::now(), &stop).await;
        assert!(is_cut(over).await);
        let (_other, stopped) = deaf(far, &stop).await;
        stop.cancel();
        assert!(is_cut(stopped).await);
    }
}
