//! `/metrics`, in the OpenMetrics text format: gauges of the node, which are read at each scrape,
//! and the metrics that other modules count (requests in `edge`, live feeds in `live`).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, web};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;

use crate::actors::catalog::Lookups;
use crate::actors::node::Node;
use crate::cache::{Cache, CacheState};
use crate::http::edge::access::{Proof, authorize};
use crate::http::edge::authentication::Authenticator;
use crate::http::edge::call::RequestParts;
use crate::http::edge::client_address::is_from_inside;
use crate::http::edge::data::data;
use crate::http::edge::error::Error;
use crate::http::edge::load_shedding::Admission;
use crate::http::edge::principal::{Principal, Scope};
use crate::http::operator::entities::hosts;
use crate::store::Store;

/// TTL of the cached counts of orders.
const COUNT_TTL: Duration = Duration::from_secs(10);
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lookup {
    outcome: &'static str,
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
type PerShard = Family<Shard, Gauge<i64, AtomicI64>>;

/// The state and counters of the cache.
#[derive(Default)]
struct CacheMetrics {
    up: Gauge<i64, AtomicI64>,
    lookups: Family<Lookup, Gauge<i64, AtomicI64>>,
    failed: Gauge<i64, AtomicI64>,
    outages: Gauge<i64, AtomicI64>,
    unsigned: Gauge<i64, AtomicI64>,
    products: Family<Lookup, Gauge<i64, AtomicI64>>,
}

impl CacheMetrics {
    fn register(&self, to: &mut Registry) {
        let help = "1 if the cache is available, 0 while Redis is down";
        to.register("cache_up", help, self.up.clone());
        let help = "Cache lookups since the start, by outcome";
        to.register("cache_lookups", help, self.lookups.clone());
        let help = "Redis calls that failed or timed out, since the start";
        to.register("cache_failed", help, self.failed.clone());
        to.register("cache_outages", "Redis outages since the start", self.outages.clone());
        let help = "Values in Redis that no node of this cluster has signed, since the start";
        to.register("cache_unsigned", help, self.unsigned.clone());
        let help = "Lookups of products by SKU since the start: a hit is from memory, a miss from \
                    the store";
        to.register("product_lookups", help, self.products.clone());
    }

    fn look(&self, cache: &Cache, products: &Lookups) {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (state, counts) = (cache.state(), cache.counts());
        self.up.set(i64::from(!matches!(state, CacheState::Away(_))));
        for (outcome, count) in
            [("hit", counts.hits), ("miss", counts.misses), ("away", counts.away)]
        {
            self.lookups.get_or_create(&Lookup { outcome }).set(signed(count));
        }
        self.failed.set(signed(counts.failed));
        self.outages.set(signed(counts.outages));
        self.unsigned.set(signed(counts.unsigned));
        for (outcome, count) in [("hit", &products.hits), ("miss", &products.misses)] {
            let count = count.load(Ordering::Relaxed);
            self.products.get_or_create(&Lookup { outcome }).set(signed(count));
        }
    }
}

/// All metrics of the node; those that other modules count are only in `registry`.
pub struct NodeMetrics {
    registry: Registry,
    cache: CacheMetrics,
    challenges: Family<Lookup, Gauge<i64, AtomicI64>>,
    limit: Gauge<i64, AtomicI64>,
    delay: Gauge<f64, AtomicU64>,
    resident: Gauge<i64, AtomicI64>,
    replica_lag: Family<Vec<(String, String)>, Gauge<f64, AtomicU64>>,
    replica_read: Family<Vec<(String, String)>, Gauge<i64, AtomicI64>>,
    awake: OfNoun,
    commands: OfNoun,
    woken: OfNoun,
    failures: OfNoun,
    quarantined: OfNoun,
    queued: PerShard,
    commits: PerShard,
    records: PerShard,
    refused: PerShard,
    projected: Gauge<i64, AtomicI64>,
    orders: Family<Status, Gauge<i64, AtomicI64>>,
    counted: Mutex<Option<Instant>>,
}

impl NodeMetrics {
    /// Adds the node's metrics to a registry that may already have others.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        let mut all = Self {
            registry,
            cache: CacheMetrics::default(),
            challenges: Family::default(),
            limit: Gauge::default(),
            delay: Gauge::default(),
            resident: Gauge::default(),
            replica_lag: Family::default(),
            replica_read: Family::default(),
            awake: Family::default(),
            commands: Family::default(),
            woken: Family::default(),
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
        all
    }

    fn register(&mut self) {
        let to = &mut self.registry;
        let help = "Number of requests in progress above which cart requests are refused";
        to.register("http_limit", help, self.limit.clone());
        let help = "Seconds that work waits before it is started";
        to.register("http_delay_seconds", help, self.delay.clone());
        to.register("resident_bytes", "Resident memory of the process", self.resident.clone());
        let help = "Replication lag of the replica in seconds, -1 while unknown";
        to.register("replica_lag_seconds", help, self.replica_lag.clone());
        let help = "1 while lists are read from the replica";
        to.register("replica_read", help, self.replica_read.clone());
        to.register("entities_awake", "Entities in memory", self.awake.clone());
        let help = "Entities read from the journal into memory since the start";
        to.register("entities_woken", help, self.woken.clone());
        let help = "Commands and reads in progress";
        to.register("commands_under_way", help, self.commands.clone());
        let help = "Failures of entities since the start, each followed by a restart";
        to.register("entity_failures", help, self.failures.clone());
        let help = "Entities in quarantine";
        to.register("entities_quarantined", help, self.quarantined.clone());
        to.register("lane_depth", "Appends that are queued or in flight", self.queued.clone());
        to.register(
            "lane_commits",
            "Transactions of the journal since the start",
            self.commits.clone(),
        );
        to.register("lane_records", "Events written since the start", self.records.clone());
        to.register("lane_refused", "Appends refused since the start", self.refused.clone());
        let help =
            "Sum of the positions up to which rows are projected, over all shards of the node";
        to.register("projected_position", help, self.projected.clone());
        to.register("orders", "Orders by status", self.orders.clone());
        let help = "Suspicious checkouts since the start, by the decision of the challenge hook";
        to.register("challenges", help, self.challenges.clone());
        self.cache.register(to);
    }

    fn read_server_gauges(&self, admission: &Admission) {
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.limit.set(signed(admission.limit()));
        self.delay.set(admission.delay().as_secs_f64());
        self.resident.set(i64::try_from(rss_bytes()).unwrap_or(i64::MAX));
    }

    async fn look(&self, node: &Node, store: &Store) -> Result<(), Error> {
        if let Some(lag) = store.replica_lag() {
            let behind = lag.behind.map_or(-1.0, |behind| behind.as_secs_f64());
            self.replica_lag.get_or_create(&Vec::new()).set(behind);
            self.replica_read.get_or_create(&Vec::new()).set(lag.is_read.into());
        }
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (noun, gauge) in hosts(node) {
            let noun = Noun { noun };
            self.awake.get_or_create(&noun).set(signed(gauge.awake));
            self.commands.get_or_create(&noun).set(signed(gauge.under_way));
            self.woken.get_or_create(&noun).set(signed(gauge.woken));
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
        let tally = &node.flows.checkout.guests.tally;
        for (outcome, count) in [
            ("allow", &tally.allowed),
            ("challenge", &tally.challenged),
            ("deny", &tally.denied),
            ("failed", &tally.failed),
        ] {
            let count = i64::try_from(count.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
            self.challenges.get_or_create(&Lookup { outcome }).set(count);
        }
        let mut counted = self.counted.lock().await;
        if counted.is_none_or(|at| at.elapsed() >= COUNT_TTL) {
            for (status, count) in store.count_orders().await? {
                self.orders.get_or_create(&Status { status }).set(count);
            }
            *counted = Some(Instant::now());
        }
        Ok(())
    }
}

/// Admits whoever asks straight from a loopback or private address, such as a Prometheus beside the
/// nodes; others, and all whom a proxy asks for, need the scope `ops`.
pub static INSIDE: Proof = Proof {
    name: "anyone at a private address, or a key with the scope ops",
    find: |request| Box::pin(inside(request)),
    schemes: &["", "api_key", "session"],
    problems: &[],
};

async fn inside(request: &HttpRequest) -> Result<Principal, Error> {
    let principal = data::<Authenticator>(request)?.principal(request.headers()).await?;
    match is_from_inside(request) {
        true => Ok(principal),
        false => authorize(request, principal, Scope::Ops),
    }
}

/// Returns the metrics.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text")))]
pub async fn show_metrics(
    call: RequestParts,
    metrics: web::Data<NodeMetrics>,
    admission: web::Data<Admission>,
) -> Result<HttpResponse, Error> {
    metrics.read_server_gauges(&admission);
    metrics.cache.look(&call.node().cache, call.node().catalog.lookups());
    metrics.look(call.node(), call.store()).await?;
    let mut text = String::new();
    encode(&mut text, &metrics.registry).map_err(Error::internal)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(HttpResponse::Ok().content_type(kind).body(text))
}

/// The resident memory of the process, in bytes; 0 if the system does not tell.
#[must_use]
pub fn rss_bytes() -> u64 {
    memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64)
}
