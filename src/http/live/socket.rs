//! The handler that opens a live socket: authentication, the check of the origin, and receiving the
//! client's messages. The hub decides what the socket sends.

use std::time::Duration;

use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage as Message, AggregatedMessageStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Live;
use super::client_message::{self, RefusedMessage};
use super::hub::{self, Hub, HubMessage, Opened, Slot};
use super::message::{ClientMessage, Hello, ServerMessage};
use super::outbox::{self, Farewell, SocketWriter, WAITING_MAX};
use super::owner_slots::SlotsFull;
use super::positions;
use crate::domain::time::Timestamp;
use crate::http::edge::access::Proof;
use crate::http::edge::connection;
use crate::http::edge::data::data;
use crate::http::edge::error::Error;
use crate::http::edge::principal::{Principal, unauthorized};
use crate::http::edge::problem::Code;
use crate::http::edge::query::Query;
use crate::http::edge::security_log;
use crate::http::edge::session::origin_is_host;

/// The WebSocket subprotocol of the live feed.
const PROTOCOL: &str = "kontor.live.v1";
/// The prefix of a subprotocol that contains an API key, for browsers, which cannot set other
/// headers.
const BEARER: &str = "bearer.";

/// The maximum number of sockets of one principal: a quarter of all, but at least 16.
#[must_use]
pub const fn each_max(sockets_max: usize) -> usize {
    if sockets_max / 4 > 16 { sockets_max / 4 } else { 16 }
}

/// Admits callers with any API key or session, or with a ticket.
pub static SOCKET: Proof = Proof {
    name: "any key, or a ticket",
    find: |request| Box::pin(principal_of_socket(request)),
    schemes: &["", "api_key"],
    problems: &[],
};

/// The caller who opens a socket: by a ticket, by an API key among the subprotocols, or by the same
/// credentials as for any other request.
///
/// # Errors
/// 401 without a valid ticket, key or session; 403 for a page of another origin.
async fn principal_of_socket(request: &HttpRequest) -> Result<Principal, Error> {
    let live = data::<Live>(request)?;
    own_origin(request.headers(), &live.options.origins)?;
    let mut query = Query::of(request, &["ticket"])?;
    query.check()?;
    if let Some(ticket) = query.text("ticket") {
        let invalid = || {
            let detail = "the ticket is unknown, was used or has expired, or its key or session \
                          has ended";
            unauthorized(detail)
        };
        return live.callers.holder_of_ticket(ticket).await?.ok_or_else(invalid);
    }
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    if let Some(key) = offered.filter_map(|one| one.trim().strip_prefix(BEARER)).next() {
        return live.callers.holder(key).await;
    }
    match live.callers.principal(request.headers()).await? {
        Principal::Anyone => {
            let detail = "a session, a ticket or the subprotocol bearer.sk_… is required";
            Err(Error::new(Code::Unauthorized, detail))
        }
        known => Ok(known),
    }
}

/// Refuses a request from a page of another origin, unless it is one of `others`.
fn own_origin(headers: &HeaderMap, others: &[String]) -> Result<(), Error> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or("");
    let own = origin_is_host(headers) == Some(true);
    if own || others.iter().any(|other| other.eq_ignore_ascii_case(origin)) {
        return Ok(());
    }
    Err(Error::new(Code::ForbiddenOrigin, "the Origin of this socket is not allowed"))
}

/// Opens a live socket.
#[utoipa::path(get, path = "/v1/admin/live", tag = "live",
    params(("ticket" = Option<String>, Query, description = "A ticket, for clients that cannot send a key")),
    responses((status = 101, description = "A WebSocket; /asyncapi.json has its messages")))]
pub async fn open_live(
    request: HttpRequest,
    payload: web::Payload,
    live: web::Data<Live>,
    slot: web::Data<Slot>,
) -> Result<HttpResponse, Error> {
    let principal = request.extensions().get::<Principal>().cloned().unwrap_or_default();
    let handle = connection::of(&request);
    if live.stop.is_cancelled() {
        return Err(Error::new(Code::ShuttingDown, "this server is stopping"));
    }
    let full = |full| match full {
        SlotsFull::All => Error::new(Code::TooManyRequests, "there are too many live sockets"),
        SlotsFull::Owner => Error::new(Code::TooManyRequests, "you have too many live sockets"),
    };
    let place = live.sockets.take(principal.owner()).map_err(full)?;
    let offered = actix_ws::handle_with_protocols(&request, payload, &[PROTOCOL]);
    let (response, session, stream) = offered.map_err(|_| {
        Error::new(Code::BadRequest, "this is a WebSocket endpoint: send Upgrade: websocket")
    })?;
    let mut gate = None;
    let response = response.map_body(|_, body| {
        let (body, watched) = outbox::watch(body);
        gate = Some(watched);
        body
    });
    let Some(gate) = gate else {
        return Err(Error::new(Code::Internal, "the request could not be carried out"));
    };
    let options = &live.options;
    let (frames, waiting) = mpsc::channel(WAITING_MAX);
    let (pong, pings) = mpsc::channel(1);
    let (farewell, end) = oneshot::channel();
    let writer = SocketWriter {
        session,
        gate,
        handle: handle.clone(),
        frames: waiting,
        pings,
        farewell: end,
        ping_every: Duration::from_secs(options.ping_secs),
        patience: Duration::from_secs(options.silence_secs),
    };
    if let Some(handle) = handle {
        handle.stream();
    }
    let node = live.node.name().to_owned();
    let hello = Hello { version: env!("CARGO_PKG_VERSION"), node };
    // This cannot fail: the queue is empty.
    let _room = frames.try_send(ServerMessage::Hello(hello).frame());
    let hub = slot.hub(&live);
    let socket = hub::next_id();
    let (caller, from) = (principal.clone(), security_log::address(&request));
    hub.do_send(HubMessage::Open(Box::new(Opened { socket, principal, from, frames, farewell })));
    actix_web::rt::spawn(async move {
        writer.run().await;
        // Now the connection is closed, and its slot is free.
        drop(place);
        hub.do_send(HubMessage::Gone(socket));
    });
    let most = options.message_bytes_max;
    let stream = stream.max_frame_size(most).aggregate_continuations();
    let stream = stream.max_continuation_size(most);
    actix_web::rt::spawn(listen(live.clone(), slot.hub(&live), (socket, caller), stream, pong));
    Ok(response)
}

/// A message whose `from` is a time gets the token of that time, and one whose filter names what is
/// not there gets its faults.
async fn begun(
    live: &Live,
    principal: &Principal,
    said: Result<ClientMessage, RefusedMessage>,
) -> Result<ClientMessage, RefusedMessage> {
    let Ok(ClientMessage::Subscribe(mut subscribe, mut faults)) = said else { return said };
    let node = &live.node;
    let failed = |id: &str, error: Error| {
        Err(RefusedMessage { id: Some(id.to_owned()), wrong: error.into() })
    };
    let topic = live.topics.find(&subscribe.topic).filter(|topic| principal.may(topic.scope()));
    if let Some(topic) = topic
        && let Err(error) = topic.look_up((node, &live.store), &subscribe.filter, &mut faults).await
    {
        return failed(&subscribe.id, error);
    }
    if let Some(at) = subscribe.from.as_deref().and_then(Timestamp::parse) {
        if let Err(rule) = positions::check_time(at, node.clock.now()) {
            faults.invalid("from", rule);
            return Ok(ClientMessage::Subscribe(subscribe, faults));
        }
        match positions::seen_at(node.store.journal().as_ref(), at).await {
            Ok(seen) => subscribe.from = Some(live.token(seen)),
            Err(error) => return failed(&subscribe.id, error.into()),
        }
    }
    Ok(ClientMessage::Subscribe(subscribe, faults))
}

/// Receives messages, and passes them to the hub, until the client leaves, is silent for too long,
/// or violates the protocol.
async fn listen(
    live: web::Data<Live>,
    hub: actix::Addr<Hub>,
    (socket, principal): (u64, Principal),
    mut stream: AggregatedMessageStream,
    pong: mpsc::Sender<web::Bytes>,
) {
    let options = &live.options;
    let patience = Duration::from_secs(options.silence_secs);
    let mut second = (Instant::now(), 0);
    let why = loop {
        let heard = match timeout_at(Instant::now() + patience, stream.recv()).await {
            Err(_) => break Farewell::Silent,
            Ok(None) => break Farewell::Left,
            Ok(Some(Err(_))) => {
                break Farewell::Policy("a message was too large or not a valid WebSocket message");
            }
            Ok(Some(Ok(message))) => message,
        };
        if second.0.elapsed() >= Duration::from_secs(1) {
            second = (Instant::now(), 0);
        }
        second.1 += 1;
        if second.1 > options.messages_per_sec {
            break Farewell::Policy("too many messages per second");
        }
        match heard {
            Message::Text(text) => {
                let said = begun(&live, &principal, client_message::read(&text)).await;
                hub.do_send(HubMessage::Said(socket, said));
            }
            // If a pong is queued already, this one is dropped.
            Message::Ping(bytes) => drop(pong.try_send(bytes)),
            Message::Pong(_) => {}
            Message::Close(_) => break Farewell::Left,
            Message::Binary(_) => break Farewell::Policy("messages must be text"),
        }
    };
    hub.do_send(HubMessage::End(socket, why));
}
