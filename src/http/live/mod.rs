//! The live feed: sockets for operators, and a stream of each order for its buyer.
//!
//! Changes come from `actors::engine::changes` in batches
//! ([`Changed`](crate::actors::engine::changes::Changed)): each has the changes of one shard
//! between two positions of the journal. Each HTTP worker has a hub (`hub`) that keeps the latest
//! batches in a ring buffer (`ring`), makes frames from them (`render`) as the topic defines
//! (`topic`), and sends these to its sockets (`socket`), each through an outbox of its own
//! (`outbox`). Equal subscriptions share frames, and a socket whose client does not read does not
//! delay the others. The feed may lose changes, because the journal has them all: a client that has
//! missed changes gets them from the journal, or a snapshot of the rows.

pub mod asyncapi;
pub mod changes;
pub(super) mod client_message;
pub(super) mod filter;
mod filter_values;
mod hub;
pub(super) mod message;
mod metrics;
mod outbox;
mod owner_slots;
mod positions;
mod refusal;
mod render;
mod ring;
mod snapshot;
pub mod socket;
pub mod sse;
mod stats;
mod stats_sender;
mod subscription;
pub mod ticket;
pub(super) mod token;
mod topic;
mod topic_orders;
mod topic_rows;
mod topic_stock;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use garde::Validate;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use self::hub::Slot;
use self::metrics::LiveMetrics;
use self::owner_slots::OwnerSlots;
pub use self::refusal::Wrong;
pub use self::stats::sample;
use self::stats::{RequestCounts, Samples};
use self::token::LiveToken;
pub use self::topic::{ListTopic, Merged, Topics};
use self::topic_orders::OrdersTopic;
use self::topic_rows::{LocationsTopic, ProductsTopic};
use self::topic_stock::StockTopic;
use crate::actors::node::Node;
use crate::domain::limits::{holds, within};
use crate::http::api::order::BUYER;
use crate::http::docs::schemas::beside;
use crate::http::edge::access::Access;
use crate::http::edge::authentication::Authenticator;
use crate::http::edge::route::{OperationLink, RouteList};
use crate::http::operator::health::Serving;
use crate::routes;
use crate::store::Store;
use crate::store::history::HistoryId;

const SOCKET: Access = Access::Proof(&socket::SOCKET);
const ANY_KEY: Access = Access::AnyKey;
const PUBLIC: Access = Access::Public;

impl Topics {
    /// The topics of orders, stock, products and locations.
    #[must_use]
    pub fn standard() -> Self {
        Self::default()
            .with(OrdersTopic { unfinished: false })
            .with(OrdersTopic { unfinished: true })
            .with(StockTopic)
            .with(ProductsTopic)
            .with(LocationsTopic)
    }
}

routes! {
    /// The list of routes, which `ROUTES` completes.
    const TABLE =
    GET  "/v1/store/orders/{id}/live" BUYER   Checkout sse::watch_my_order;
    GET  "/v1/admin/changes"          ANY_KEY Operate  changes::list_changes;
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
    document: || beside((TABLE.document)(), changes::all()),
    ..TABLE
};

/// The limits of live feeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Origins of pages that may open sockets, in addition to this server's own: `https://…`.
    #[garde(custom(web_origins))]
    pub origins: Vec<String>,
    /// The maximum number of sockets of the node.
    #[garde(custom(within(0..=1_000_000)))]
    pub sockets_max: usize,
    /// The maximum number of subscriptions of one socket.
    #[garde(custom(within(1..=1_000)))]
    pub subscriptions_max: usize,
    /// The maximum size of a client's message, in bytes.
    #[garde(custom(within(1_024..=1 << 20)))]
    pub message_bytes_max: usize,
    /// The maximum number of messages of a client per second, including pings and pongs.
    #[garde(custom(within(1..=10_000)))]
    pub messages_per_sec: u32,
    /// The approximate maximum size of a frame, in bytes.
    #[garde(custom(within(256 << 10..=16 << 20)))]
    pub frame_bytes_max: usize,
    /// The minimum time between two rounds of a hub, in milliseconds: in a round each socket gets
    /// its new changes.
    #[garde(custom(within(10..=10_000)))]
    pub pause_ms: u64,
    /// The number of changes that each worker keeps in its ring buffer; a change of a product with a
    /// long description counts as several.
    #[garde(custom(within(1..=10_000_000)))]
    pub ring_changes: usize,
    /// The number of events that a subscription may be behind before it gets a new snapshot.
    #[garde(custom(within(1..=10_000_000)))]
    pub behind_max: i64,
    /// The maximum number of events that are read from the journal for a client that resumes.
    #[garde(custom(within(0..=1_000_000)))]
    pub resume_events_max: usize,
    /// The maximum number of orders and SKUs whose changes are read from the journal for a client
    /// that resumes.
    #[garde(custom(within(0..=100_000)))]
    pub resume_entities_max: usize,
    /// The maximum number of bytes per second that each worker sends to all its sockets together.
    #[garde(custom(within(64 << 10..=1 << 33)))]
    pub bytes_per_sec: usize,
    /// The period of pings to each socket, in seconds.
    #[garde(custom(within(1..=3_600)), custom(before_silence(self.silence_secs)))]
    pub ping_secs: u64,
    /// A socket is closed if nothing was received, or nothing could be sent, for this number of
    /// seconds.
    #[garde(custom(within(2..=3_600)))]
    pub silence_secs: u64,
    /// The maximum number of streams of single orders.
    #[garde(custom(within(0..=1_000_000)))]
    pub streams_max: usize,
    /// The maximum duration of such a stream, in seconds; after it, the browser reconnects.
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

/// State shared by all live feeds of the server.
pub struct Live {
    /// Stops all live feeds.
    pub stop: CancellationToken,
    /// The metrics of all live feeds.
    pub metrics: LiveMetrics,
    node: Arc<Node>,
    store: Store,
    history: HistoryId,
    options: Options,
    callers: Arc<Authenticator>,
    serving: Arc<Serving>,
    topics: Topics,
    sockets: OwnerSlots,
    streams: OwnerSlots,
    counts: RequestCounts,
    samples: Samples,
}

impl Live {
    /// State without subscribers.
    #[must_use]
    pub fn new(
        node: Arc<Node>,
        (store, history): (Store, HistoryId),
        options: Options,
        callers: Arc<Authenticator>,
        serving: Arc<Serving>,
        topics: Topics,
    ) -> Self {
        Self {
            stop: CancellationToken::new(),
            metrics: LiveMetrics::default(),
            sockets: OwnerSlots::new(options.sockets_max, socket::each_max(options.sockets_max)),
            streams: OwnerSlots::new(options.streams_max, sse::ORDER_MAX),
            counts: RequestCounts::default(),
            samples: Samples::default(),
            node,
            store,
            history,
            options,
            callers,
            serving,
            topics,
        }
    }

    /// The token, as text, of a client that has received everything up to these positions.
    fn token(&self, seen: Arc<[i64]>) -> String {
        LiveToken::new(self.history, seen).text()
    }

    /// Counts an answered request.
    pub fn request(&self, operation: &str, status: StatusCode, took: Duration) {
        self.counts.request(operation, status, took);
    }
}
