//! What is counted, in the OpenMetrics text format: requests as they are answered, and the state
//! of the node as it is when it is asked for.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;

use crate::actors::catalog::Lookups;
use crate::bus::calls;
use crate::cache::{Cache, State};
use crate::http::edge::call::Call;
use crate::http::edge::error::Error;
use crate::http::edge::load_shedding::{Admission, Class};
use crate::http::live::rss_bytes;
use crate::http::operator::entities::hosts;
use crate::http::server::Shared;

/// For how long the counts of orders are answered again.
const COUNT_TTL: Duration = Duration::from_secs(10);
/// Upper bounds of the latencies, in seconds.
const BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lookup {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    operation: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Noun {
    noun: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Shard {
    shard: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: String,
}

type OfNoun = Family<Noun, Gauge<i64, AtomicI64>>;
type OfShard = Family<Shard, Gauge<i64, AtomicI64>>;
type Latency = Family<Operation, Histogram, fn() -> Histogram>;

/// A request that is under way, however it ends.
pub struct UnderWay(Gauge<i64, AtomicI64>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is counted of live feeds.
#[derive(Default)]
pub struct LiveMetrics {
    /// Sockets.
    pub sockets: Gauge<i64, AtomicI64>,
    /// Subscriptions of all sockets.
    pub subscriptions: Gauge<i64, AtomicI64>,
    /// Streams of single orders.
    pub streams: Gauge<i64, AtomicI64>,
    /// Frames given to sockets.
    pub frames: Counter<u64, AtomicU64>,
    /// Bytes of them.
    pub bytes: Counter<u64, AtomicU64>,
    /// Snapshots that replaced changes.
    pub resyncs: Counter<u64, AtomicU64>,
    /// Turns that a socket did not get because it had not taken the last one.
    pub skipped: Counter<u64, AtomicU64>,
}

impl LiveMetrics {
    fn register(&self, to: &mut Registry) {
        to.register("live_sockets", "Live sockets", self.sockets.clone());
        let help = "Subscriptions of live sockets";
        to.register("live_subscriptions", help, self.subscriptions.clone());
        to.register("live_streams", "Streams of single orders", self.streams.clone());
        to.register("live_frames", "Frames given to live sockets", self.frames.clone());
        to.register("live_bytes", "Bytes given to live sockets", self.bytes.clone());
        let help = "Snapshots that replaced changes for a live subscription";
        to.register("live_resyncs", help, self.resyncs.clone());
        let help = "Turns that a live socket did not get, not having taken its last";
        to.register("live_skipped", help, self.skipped.clone());
    }
}

/// How the cache is and what it did.
#[derive(Default)]
struct CacheMetrics {
    up: Gauge<i64, AtomicI64>,
    lookups: Family<Lookup, Gauge<i64, AtomicI64>>,
    failed: Gauge<i64, AtomicI64>,
    outages: Gauge<i64, AtomicI64>,
    products: Family<Lookup, Gauge<i64, AtomicI64>>,
}

impl CacheMetrics {
    fn register(&self, to: &mut Registry) {
        let help = "1 if the cache can be used, 0 while its server is away";
        to.register("cache_up", help, self.up.clone());
        let help = "Answers looked for in the cache, since the start, by what came of it";
        to.register("cache_lookups", help, self.lookups.clone());
        let help = "Calls of the cache that failed or took too long, since the start";
        to.register("cache_failed", help, self.failed.clone());
        to.register("cache_outages", "How often its server went away", self.outages.clone());
        let help = "Products asked for by their SKU, since the start: from memory or the store";
        to.register("product_lookups", help, self.products.clone());
    }

    fn look(&self, cache: &Cache, products: &Lookups) {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (state, counts) = (cache.state(), cache.counts());
        self.up.set(i64::from(!matches!(state, State::Away(_))));
        for (outcome, count) in
            [("hit", counts.hits), ("miss", counts.misses), ("away", counts.away)]
        {
            self.lookups.get_or_create(&Lookup { outcome }).set(signed(count));
        }
        self.failed.set(signed(counts.failed));
        self.outages.set(signed(counts.outages));
        for (outcome, count) in [("hit", &products.hits), ("miss", &products.misses)] {
            let count = count.load(Ordering::Relaxed);
            self.products.get_or_create(&Lookup { outcome }).set(signed(count));
        }
    }
}

/// All that is counted.
pub struct Metrics {
    /// What is counted of live feeds.
    pub live: LiveMetrics,
    registry: Registry,
    requests: Family<Request, Counter<u64, AtomicU64>>,
    latency: Latency,
    under_way: Gauge<i64, AtomicI64>,
    refusals: Family<OfClass, Counter<u64, AtomicU64>>,
    limited: Family<OfClass, Counter<u64, AtomicU64>>,
    cache: CacheMetrics,
    limit: Gauge<i64, AtomicI64>,
    delay: Gauge<f64, AtomicU64>,
    resident: Gauge<i64, AtomicI64>,
    replica_lag: Family<Vec<(String, String)>, Gauge<f64, AtomicU64>>,
    replica_read: Family<Vec<(String, String)>, Gauge<i64, AtomicI64>>,
    awake: OfNoun,
    commands: OfNoun,
    failures: OfNoun,
    quarantined: OfNoun,
    queued: OfShard,
    commits: OfShard,
    records: OfShard,
    refused: OfShard,
    projected: Gauge<i64, AtomicI64>,
    orders: Family<Status, Gauge<i64, AtomicI64>>,
    counted: Mutex<Option<Instant>>,
}

impl Metrics {
    /// Counts from nothing; what is counted of calls between nodes is shown beside it.
    #[must_use]
    pub fn new(calls: Option<&calls::Metrics>) -> Self {
        let latency: Latency = Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let mut all = Self {
            live: LiveMetrics::default(),
            registry: Registry::with_prefix("kontor"),
            requests: Family::default(),
            latency,
            under_way: Gauge::default(),
            refusals: Family::default(),
            limited: Family::default(),
            cache: CacheMetrics::default(),
            limit: Gauge::default(),
            delay: Gauge::default(),
            resident: Gauge::default(),
            replica_lag: Family::default(),
            replica_read: Family::default(),
            awake: Family::default(),
            commands: Family::default(),
            failures: Family::default(),
            quarantined: Family::default(),
            queued: Family::default(),
            commits: Family::default(),
            records: Family::default(),
            refused: Family::default(),
            projected: Gauge::default(),
            orders: Family::default(),
            counted: Mutex::default(),
        };
        all.register();
        if let Some(calls) = calls {
            calls.register(&mut all.registry);
        }
        all
    }

    fn register(&mut self) {
        let to = &mut self.registry;
        to.register("http_requests", "Requests by operation and status", self.requests.clone());
        let help = "Seconds to an answer, by operation";
        to.register("http_request_duration_seconds", help, self.latency.clone());
        to.register("http_requests_under_way", "Requests under way", self.under_way.clone());
        let help = "Requests refused because there was too much to do, by class";
        to.register("http_refused", help, self.refusals.clone());
        let help = "Requests refused because their client sent too many, by class";
        to.register("http_rate_limited", help, self.limited.clone());
        let help = "Requests under way from which on carts are refused";
        to.register("http_limit", help, self.limit.clone());
        let help = "Seconds that work waits before anybody begins with it";
        to.register("http_delay_seconds", help, self.delay.clone());
        to.register("resident_bytes", "Memory of the process", self.resident.clone());
        let help = "Seconds that the replica is behind, -1 while that is not known";
        to.register("replica_lag_seconds", help, self.replica_lag.clone());
        let help = "1 while lists are read from the replica";
        to.register("replica_read", help, self.replica_read.clone());
        to.register("entities_awake", "Entities in memory", self.awake.clone());
        let help = "Permits taken: commands and questions under way";
        to.register("commands_under_way", help, self.commands.clone());
        let help = "Entities that failed and were restarted, since the start";
        to.register("entity_failures", help, self.failures.clone());
        let help = "Entities in quarantine";
        to.register("entities_quarantined", help, self.quarantined.clone());
        to.register("lane_depth", "Appends that wait or are in flight", self.queued.clone());
        to.register("lane_commits", "Transactions, since the start", self.commits.clone());
        to.register("lane_records", "Events written, since the start", self.records.clone());
        to.register("lane_refused", "Appends refused, since the start", self.refused.clone());
        let help = "Position up to which rows follow the journal";
        to.register("projected_position", help, self.projected.clone());
        to.register("orders", "Orders by status", self.orders.clone());
        self.live.register(to);
        self.cache.register(to);
    }

    /// Counts a request that came, until what this answers is dropped.
    pub fn begin(&self) -> UnderWay {
        self.under_way.inc();
        UnderWay(self.under_way.clone())
    }

    /// Counts a request that was answered.
    pub fn end(&self, operation: &'static str, status: StatusCode, took: Duration) {
        self.requests.get_or_create(&Request { operation, status: status.as_u16() }).inc();
        self.latency.get_or_create(&Operation { operation }).observe(took.as_secs_f64());
    }

    /// Counts a request that was refused because there was too much to do.
    pub fn refuse(&self, class: Class) {
        self.refusals.get_or_create(&OfClass { class: class.as_str() }).inc();
    }

    /// Counts a request that was refused because its client sent too many.
    pub fn limit(&self, class: Class) {
        self.limited.get_or_create(&OfClass { class: class.as_str() }).inc();
    }

    fn look_at_house(&self, admission: &Admission) {
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.limit.set(signed(admission.limit()));
        self.delay.set(admission.delay().as_secs_f64());
        self.resident.set(i64::try_from(rss_bytes()).unwrap_or(i64::MAX));
    }

    async fn look(&self, shared: &Shared) -> Result<(), Error> {
        if let Some(lag) = shared.store.replica_lag() {
            let behind = lag.behind.map_or(-1.0, |behind| behind.as_secs_f64());
            self.replica_lag.get_or_create(&Vec::new()).set(behind);
            self.replica_read.get_or_create(&Vec::new()).set(lag.is_read.into());
        }
        let node = &shared.node;
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (noun, gauge) in hosts(node) {
            let noun = Noun { noun };
            self.awake.get_or_create(&noun).set(signed(gauge.awake));
            self.commands.get_or_create(&noun).set(signed(gauge.under_way));
            self.failures.get_or_create(&noun).set(signed(gauge.failures));
            self.quarantined.get_or_create(&noun).set(signed(gauge.quarantined));
        }
        for (shard, lane) in (0..).zip(node.lanes.iter()) {
            let (shard, counters) = (Shard { shard }, lane.counters());
            let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            self.queued.get_or_create(&shard).set(signed(lane.depth()));
            self.commits.get_or_create(&shard).set(count(counters.commits));
            self.records.get_or_create(&shard).set(count(counters.records));
            self.refused.get_or_create(&shard).set(count(counters.refused));
        }
        self.projected.set(node.projected());
        let mut counted = self.counted.lock().await;
        if counted.is_none_or(|at| at.elapsed() >= COUNT_TTL) {
            for (status, count) in shared.store.count_orders().await? {
                self.orders.get_or_create(&Status { status }).set(count);
            }
            *counted = Some(Instant::now());
        }
        Ok(())
    }
}

/// Shows what is counted.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text")))]
pub async fn show_metrics(call: Call) -> Result<HttpResponse, Error> {
    let metrics = &call.shared().metrics;
    metrics.look_at_house(&call.shared().admission);
    metrics.cache.look(call.shared().cache(), call.node().catalog.lookups());
    metrics.look(call.shared()).await?;
    let mut text = String::new();
    encode(&mut text, &metrics.registry).map_err(Error::internal)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(HttpResponse::Ok().content_type(kind).body(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_once_and_is_over() {
        let metrics = Metrics::new(None);
        metrics.begin();
        metrics.end("get_cart", StatusCode::OK, Duration::from_millis(3));
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        let line = "kontor_http_requests_total{operation=\"get_cart\",status=\"200\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("kontor_http_requests_under_way 0"), "{text}");
    }
}
