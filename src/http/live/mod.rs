//! The live feed: sockets for operators, an order's own stream for its buyer.
//!
//! What changed comes from `actors::engine::changes`, once a step and shard. One hub an HTTP worker
//! (`hub`) keeps the last of it (`ring`), makes frames of it (`render`) as its topic says (`topic`),
//! and shows it to its sockets (`socket`), each behind an outbox of its own (`outbox`): equal
//! subscriptions share their frames, and nobody waits for a socket that does not read. No change is
//! decided here, and nothing here is the truth: whoever fell behind is shown the journal, or the
//! rows as they stand.

pub mod asyncapi;
mod figures;
pub(super) mod filter;
mod hub;
pub(super) mod message;
mod metrics;
mod outbox;
mod places;
mod refusal;
mod render;
mod ring;
mod snapshot;
pub mod socket;
pub mod sse;
mod stats;
mod subscription;
pub mod ticket;
pub(super) mod token;
mod topic;
mod topic_orders;
mod topic_stock;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use garde::Validate;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use self::hub::Slot;
use self::metrics::LiveMetrics;
use self::places::SocketSlots;
pub use self::refusal::Wrong;
pub use self::stats::sample;
use self::stats::{RequestCounts, Samples};
use self::ticket::Tickets;
pub use self::topic::{ListTopic, Merged, Topics};
use self::topic_orders::OrdersTopic;
use self::topic_stock::StockTopic;
use crate::actors::node::Node;
use crate::domain::limits::{holds, within};
use crate::http::api::order::BUYER;
use crate::http::edge::access::Access;
use crate::http::edge::authentication::Authenticator;
use crate::http::edge::route::{OperationLink, RouteList};
use crate::http::operator::health::Serving;
use crate::routes;
use crate::store::Store;

const SOCKET: Access = Access::Proof(&socket::SOCKET);
const ANY_KEY: Access = Access::AnyKey;
const PUBLIC: Access = Access::Public;

impl Topics {
    /// Those of orders and stock.
    #[must_use]
    pub fn standard() -> Self {
        Self::default()
            .with(OrdersTopic { unfinished: false })
            .with(OrdersTopic { unfinished: true })
            .with(StockTopic)
    }
}

routes! {
    /// The routes alone.
    const TABLE =
    GET  "/v1/store/orders/{id}/live" BUYER   Checkout sse::watch_my_order;
    GET  "/v1/admin/live"             SOCKET  Operate  socket::open_live;
    POST "/v1/admin/live/tickets"     ANY_KEY Operate  ticket::create_live_ticket;
    GET  "/asyncapi.json"             PUBLIC  Browse   asyncapi::show_asyncapi;
}

/// The routes of live feeds.
pub const ROUTES: RouteList = RouteList {
    links: &[OperationLink {
        from: "create_live_ticket",
        to: &["open_live"],
        with: &[("ticket", "$response.body#/ticket")],
    }],
    ..TABLE
};

/// How much live feeds may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where pages may come from that open sockets, beside this server's own: `https://…`.
    #[garde(custom(web_origins))]
    pub origins: Vec<String>,
    /// The most sockets of the node.
    #[garde(custom(within(0..=1_000_000)))]
    pub sockets_max: usize,
    /// The most subscriptions of one socket.
    #[garde(custom(within(1..=1_000)))]
    pub subscriptions_max: usize,
    /// The largest message of a client, in bytes.
    #[garde(custom(within(1_024..=1 << 20)))]
    pub message_bytes_max: usize,
    /// The most messages of a client, per second.
    #[garde(custom(within(1..=10_000)))]
    pub messages_per_sec: u32,
    /// About how large a frame may be, in bytes.
    #[garde(custom(within(256 << 10..=16 << 20)))]
    pub frame_bytes_max: usize,
    /// How far apart the frames of a socket are at least, in milliseconds.
    #[garde(custom(within(10..=10_000)))]
    pub pause_ms: u64,
    /// Changes of orders and stock that each worker keeps.
    #[garde(custom(within(1..=10_000_000)))]
    pub ring_changes: usize,
    /// Events that a socket may be behind before it gets a snapshot instead.
    #[garde(custom(within(1..=10_000_000)))]
    pub behind_max: i64,
    /// Events that are read from the journal for one that comes back.
    #[garde(custom(within(0..=1_000_000)))]
    pub resume_events_max: usize,
    /// Orders and SKUs that are read from the journal for one that comes back.
    #[garde(custom(within(0..=100_000)))]
    pub resume_entities_max: usize,
    /// Bytes that each worker writes per second, over all sockets.
    #[garde(custom(within(64 << 10..=1 << 33)))]
    pub bytes_per_sec: usize,
    /// How often a socket is asked whether it is still there, in seconds.
    #[garde(custom(within(1..=3_600)), custom(before_silence(self.silence_secs)))]
    pub ping_secs: u64,
    /// After how many seconds without a word, or in which nothing could be sent, a socket is
    /// closed.
    #[garde(custom(within(2..=3_600)))]
    pub silence_secs: u64,
    /// The most streams of single orders for their buyers.
    #[garde(custom(within(0..=1_000_000)))]
    pub streams_max: usize,
    /// How long such a stream lasts, in seconds; the browser opens it again.
    #[garde(custom(within(1..=86_400)))]
    pub stream_secs: u64,
}

fn web_origins(origins: &[String], (): &()) -> garde::Result {
    holds(origins.len() <= 100, || "must name at most 100 origins")?;
    let good = |origin: &String| {
        reqwest::Url::parse(origin)
            .is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == *origin)
    };
    holds(
        origins.iter().all(good),
        || "must list origins as scheme, host and port, such as https://admin.example.com",
    )
}

fn before_silence(silence_secs: u64) -> impl Fn(&u64, &()) -> garde::Result {
    move |ping_secs, ()| {
        holds(
            *ping_secs < silence_secs,
            || "must be less than http.live.silence_secs, or idle sockets are closed before they are pinged",
        )
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            sockets_max: 2_000,
            subscriptions_max: 16,
            message_bytes_max: 16 << 10,
            messages_per_sec: 20,
            frame_bytes_max: 512 << 10,
            pause_ms: 100,
            ring_changes: 20_000,
            behind_max: 5_000,
            resume_events_max: 20_000,
            resume_entities_max: 1_000,
            bytes_per_sec: 8 << 20,
            ping_secs: 20,
            silence_secs: 60,
            streams_max: 2_000,
            stream_secs: 600,
        }
    }
}

/// What all live feeds of the server share.
pub struct Live {
    /// Ends all of them.
    pub stop: CancellationToken,
    /// What is counted of them.
    pub metrics: LiveMetrics,
    node: Arc<Node>,
    store: Store,
    options: Options,
    callers: Arc<Authenticator>,
    serving: Arc<Serving>,
    topics: Topics,
    tickets: Tickets,
    sockets: SocketSlots,
    streams: SocketSlots,
    counts: RequestCounts,
    samples: Samples,
}

impl Live {
    /// Nobody listens yet.
    #[must_use]
    pub fn new(
        node: Arc<Node>,
        store: Store,
        options: Options,
        callers: Arc<Authenticator>,
        serving: Arc<Serving>,
        topics: Topics,
    ) -> Self {
        Self {
            stop: CancellationToken::new(),
            metrics: LiveMetrics::default(),
            tickets: Tickets::default(),
            sockets: SocketSlots::new(options.sockets_max, socket::each_max(options.sockets_max)),
            streams: SocketSlots::new(options.streams_max, sse::ORDER_MAX),
            counts: RequestCounts::default(),
            samples: Samples::default(),
            node,
            store,
            options,
            callers,
            serving,
            topics,
        }
    }

    /// Counts an answered request.
    pub fn request(&self, operation: &str, status: StatusCode, took: Duration) {
        self.counts.request(operation, status, took);
    }
}
