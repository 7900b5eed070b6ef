//! A node: the hosts of all nouns over one store, their supervisor, the flows, and the background
//! tasks (timers, projections, parked webhooks, the sweep). This file only assembles, starts and
//! stops them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::catalog::Catalog;
use super::engine::changes::ChangeFeed;
use super::engine::clock::Clock;
use super::engine::cluster::{self, ClusterMember};
use super::engine::host::{self, Host, RemoteEntities, ShardLease};
use super::engine::hosts::{ErasedHost, Hosts};
use super::engine::projections::{Follower, Owned, Projections, Projector};
use super::engine::row_host::{RowBase, RowHosts, RowKinds};
use super::engine::runtime::Runtime;
use super::engine::shards::Shards;
use super::engine::supervisor::Supervisor;
use super::engine::timers;
use super::flows::Flows;
use super::flows::order_numbers::ArrivedNumbers;
use super::flows::order_tally::OrderTally;
use super::flows::parts::Parts;
use super::flows::payment::Payments;
use super::locations::Locations;
use super::nouns::{HostStart, Nouns};
use super::pricing::Pricing;
pub use super::settings::ShopSettings;
use crate::bus::Feed;
use crate::cache::Cache;
use crate::domain::cart::Cart;
use crate::domain::counter::Counter;
use crate::domain::entity::{Noun, Record};
use crate::domain::location::StockLocation;
use crate::domain::order::Order;
use crate::domain::pricing;
use crate::domain::product::Product;
use crate::domain::stock::Stock;
use crate::domain::time::Span;
use crate::domain::versioned::Versioned as _;
use crate::providers::challenge::ChallengeHook;
use crate::store::journal::ReadError;
use crate::store::journal::lane::Committed;
use crate::store::journal::lanes::Lanes;
use crate::store::{self, Tables};

/// Lease of the shards of a store that only one node can use.
const LEASE: Span = Span::from_secs(10);
/// The owner of all shards if there is only one node.
const SINGLE: &str = "single";

/// Arguments of [`Node::start`].
pub struct NodeStart {
    /// The nouns.
    pub nouns: Nouns,
    /// The database.
    pub store: Arc<dyn Tables>,
    /// The clock.
    pub clock: Clock,
    /// The rules of price computation.
    pub rules: pricing::Rules,
    /// The shop's settings.
    pub settings: ShopSettings,
    /// The kinds of plain rows.
    pub rows: RowKinds,
    /// The limits of the hosts.
    pub host: host::Options,
    /// The projections.
    pub projections: Projections,
    /// The limits of the lanes.
    pub lane: store::journal::lane::Options,
    /// The most lanes.
    pub lanes: u16,
    /// The payment providers.
    pub payments: Payments,
    /// The hook that decides on suspicious checkouts, if there is one.
    pub challenge_hook: Option<Arc<ChallengeHook>>,
    /// The cache shared by nodes, which may lose its contents.
    pub cache: Cache,
    /// The runtime settings.
    pub runtime: Runtime,
    /// The cluster; `None` if there is only one node.
    pub cluster: Option<cluster::ClusterStart>,
}

/// A running node.
pub struct Node {
    /// All carts.
    pub carts: Host<Cart>,
    /// All orders.
    pub orders: Host<Order>,
    /// The stock of all SKUs.
    pub stock: Host<Stock>,
    /// All counters.
    pub counters: Host<Counter>,
    /// All products.
    pub catalog: Arc<Catalog>,
    /// The locations that have stock.
    pub locations: Arc<Locations>,
    /// The plain rows of all kinds.
    pub rows: RowHosts,
    /// Computes prices, by the shop's rules.
    pub pricing: Pricing,
    /// The flows.
    pub flows: Flows,
    /// The shop's settings.
    pub settings: ShopSettings,
    /// The database.
    pub store: Arc<dyn Tables>,
    /// The clock.
    pub clock: Clock,
    /// The feed of committed events.
    pub feed: Feed,
    /// The projections.
    pub projections: Projections,
    /// The feed of changes to lists.
    pub changes: ChangeFeed,
    /// Counts of order events since the start.
    pub tally: Arc<OrderTally>,
    /// The payment providers.
    pub payments: Payments,
    /// The cache shared by nodes, which may lose its contents.
    pub cache: Cache,
    /// The runtime settings.
    pub runtime: Runtime,
    /// The writers of the journal.
    pub lanes: Lanes,
    /// This node's cluster membership; `None` if there is only one node.
    pub cluster: Option<Arc<ClusterMember>>,
    /// The shards whose rows this node writes.
    pub owned: Owned,
    pub(super) shards: Arc<Shards>,
    projected: watch::Receiver<Vec<i64>>,
    replay: Arc<Notify>,
    stop: CancellationToken,
    supervisor: ActorRef<Hosts>,
    work: tokio::sync::Mutex<JoinSet<()>>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// A kind of rows that the node needs is missing.
    #[error("a node needs {0}")]
    NoRows(&'static str),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An actor cannot be started.
    #[error("an actor cannot be started: {0}")]
    Actor(#[from] ractor::SpawnErr),
}

impl Node {
    /// Claims all shards of a single-node store, starts everything, and resumes pending work.
    ///
    /// # Errors
    /// [`Error`]: the store cannot be read, or an actor cannot be started.
    pub async fn start(start: NodeStart) -> Result<Arc<Self>, Error> {
        let NodeStart { nouns, store, clock, rules, settings, payments, cache, runtime, .. } =
            start;
        let journal = store.journal();
        let (feed, told) = (Feed::default(), Arc::<OnceLock<Hosts>>::default());
        let lanes = Lanes::start(
            &journal,
            start.lanes,
            &start.lane,
            &committed(feed.clone(), told.clone()),
        );
        let supervisor = Supervisor::start().await?;
        let hosts = nouns.hosts(&HostStart {
            journal: journal.clone(),
            lanes: lanes.clone(),
            clock: clock.clone(),
            options: start.host,
            supervisor: supervisor.get_cell(),
        });
        // An error means that the hosts were set before.
        let _before = told.set(hosts.clone());
        let _ = supervisor.cast(hosts.clone());
        // Only one node can use a store with one shard, so its cached rows need no TTL.
        let cache_ttl = Duration::from_millis(settings.product_cache_ttl_ms);
        let cache_ttl = (journal.shards() > 1).then_some(cache_ttl);
        let base = RowBase {
            store: store.clone(),
            lanes: lanes.clone(),
            clock: clock.clone(),
            cache: cache.clone(),
            cache_ttl,
        };
        let rows = start.rows.host(&base);
        let catalog = rows.of::<Product>().ok_or(Error::NoRows(Product::PLURAL))?;
        let stores = rows.of::<StockLocation>().ok_or(Error::NoRows(StockLocation::PLURAL))?;
        let order = settings.locations.clone();
        let locations = Arc::new(Locations::new(stores, store.clone(), order, cache_ttl));
        locations.refresh().await?;
        let parts = Parts {
            locations,
            hosts: hosts.clone(),
            store: store.clone(),
            clock,
            settings,
            runtime,
            cache,
            pricing: Pricing { catalog, rules: Arc::new(rules) },
            payments,
            challenge_hook: start.challenge_hook,
            arrived: Arc::new(ArrivedNumbers::new(start.cluster.is_some())),
            tally: Arc::default(),
        };
        nouns.connect(&parts);
        let shards = Shards::new(store, lanes, hosts, rows);
        let (reached, projected) = watch::channel(vec![0; usize::from(journal.shards())]);
        let others = (feed, start.cluster, start.projections);
        let node = Arc::new(Self::of(parts, shards, supervisor, others, projected));
        let projector = node.projector().await?;
        node.begin_work(projector, reached).await;
        match node.cluster.clone() {
            Some(cluster) => node.shards.set_remote(&(cluster as Arc<dyn RemoteEntities>)),
            None => node.own_all().await?,
        }
        Ok(node)
    }

    /// A node made of these parts that does not run yet.
    fn of(
        parts: Parts,
        shards: Shards,
        supervisor: ActorRef<Hosts>,
        (feed, cluster, projections): (Feed, Option<cluster::ClusterStart>, Projections),
        projected: watch::Receiver<Vec<i64>>,
    ) -> Self {
        Self {
            carts: parts.host(),
            orders: parts.host(),
            stock: parts.host(),
            counters: parts.host(),
            flows: Flows::new(&parts),
            catalog: parts.pricing.catalog.clone(),
            locations: parts.locations,
            pricing: parts.pricing,
            settings: parts.settings,
            store: parts.store,
            clock: parts.clock,
            tally: parts.tally,
            payments: parts.payments,
            cache: parts.cache,
            runtime: parts.runtime,
            feed,
            projections,
            changes: ChangeFeed::new(shards.lanes().shards()),
            lanes: shards.lanes().clone(),
            cluster: cluster.map(|start| Arc::new(ClusterMember::new(start))),
            owned: shards.owned().clone(),
            rows: shards.rows().clone(),
            shards: Arc::new(shards),
            projected,
            replay: Arc::default(),
            stop: CancellationToken::new(),
            supervisor,
            work: tokio::sync::Mutex::default(),
        }
    }

    /// Opens all shards: there is no other node.
    async fn own_all(&self) -> Result<(), Error> {
        let all: Vec<u16> = (0..self.lanes.shards()).collect();
        for fence in self.store.journal().claim(&all, SINGLE, LEASE).await? {
            self.shards.open(fence, ShardLease::for_good()).await?;
        }
        Ok(())
    }

    /// The entities of a noun that this node was started with.
    ///
    /// # Panics
    /// If the node was not started with this noun.
    #[must_use]
    pub fn host<N: Noun>(&self) -> &Host<N> {
        self.hosts().get()
    }

    /// The hosts of all nouns.
    #[must_use]
    pub fn hosts(&self) -> &Hosts {
        self.shards.hosts()
    }

    /// Joins the cluster, if there is one: accepts calls and claims shards. Other nodes reach this
    /// one at `url`.
    pub async fn join(self: &Arc<Self>, url: &str) {
        let Some(cluster) = self.cluster.clone() else {
            return;
        };
        cluster.begin(url, self.clock.now());
        let node = Arc::downgrade(self);
        let handler =
            move |call, place| -> futures_util::future::BoxFuture<'static, bytes::Bytes> {
                let node = node.upgrade();
                Box::pin(async move {
                    match node {
                        Some(node) => node.answer_call(call, place).await,
                        None => bytes::Bytes::new(),
                    }
                })
            };
        drop(cluster.calls().serve(Arc::new(handler), self.stop.clone()));
        let mut work = self.work.lock().await;
        if let Some(stream) = cluster.stream() {
            for task in self.shards.start_relay(stream, &self.feed, self.clock.clone(), &self.stop)
            {
                work.spawn(async move { drop(task.await) });
            }
        }
        work.spawn(cluster.clone().keep(self.shards.clone(), self.stop.clone()));
        work.spawn(cluster.clone().place(self.shards.clone(), self.stop.clone()));
    }

    async fn projector(&self) -> Result<Projector, store::Error> {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Projector::new(store, &self.projections, clock, self.owned.clone()).await
    }

    async fn begin_work(self: &Arc<Self>, projector: Projector, reached: watch::Sender<Vec<i64>>) {
        let mut work = self.work.lock().await;
        let pause = Duration::from_millis(self.settings.projection_pause_ms);
        let projector = projector
            .replay_on(self.replay.clone())
            .publish_to(self.changes.clone())
            .by_settings(self.runtime.watch());
        work.spawn(projector.run(self.feed.listen(), pause, reached, self.stop.clone()));
        if self.store.journal().shards() > 1 {
            let changes = self.changes.clone();
            let (store, lists) = (self.store.clone(), self.projections.clone());
            let follower = Follower::new(store, lists, self.owned.clone(), changes);
            work.spawn(follower.run(self.feed.listen(), pause, self.stop.clone()));
        }
        let period = Duration::from_millis(self.settings.timer_poll_ms.max(1));
        let (shards, clock) = (self.shards.clone(), self.clock.clone());
        work.spawn(timers::run(shards, clock, period, self.stop.clone()));
        for rows in self.rows.iter() {
            let (rows, feed, stop) = (rows.clone(), self.feed.listen(), self.stop.clone());
            work.spawn(async move { rows.follow(feed, stop).await });
        }
        work.spawn(self.locations.clone().follow(self.stop.clone()));
        let Flows { webhooks, reconciliation, .. } = &self.flows;
        work.spawn(webhooks.clone().retry_parked_until(self.owned.clone(), self.stop.clone()));
        work.spawn(reconciliation.clone().sweep_until(self.owned.clone(), self.stop.clone()));
    }

    /// Whether this node runs a shard.
    #[must_use]
    pub fn runs(&self, shard: u16) -> bool {
        self.owned.has(shard)
    }

    /// Whether this node runs the tasks that only one node runs: it owns the first shard.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.runs(0)
    }

    /// Starts a rebuild of all projections from the first event, which also retries dead letters.
    /// It runs in the background.
    ///
    /// # Errors
    /// The store's.
    pub async fn replay_rows(&self) -> Result<(), store::Error> {
        for name in self.projections.names() {
            self.replay(name).await?;
        }
        Ok(())
    }

    /// Starts a rebuild of one projection, as [`Node::replay_rows`] does for all.
    ///
    /// # Errors
    /// The store's.
    pub async fn replay(&self, projection: &str) -> Result<(), store::Error> {
        self.store.reset_projection(projection).await?;
        tracing::info!(projection, "rebuilding the rows of a projection");
        self.replay.notify_one();
        Ok(())
    }

    /// The sum of the positions that all projections have reached, over the owned shards.
    #[must_use]
    pub fn projected(&self) -> i64 {
        let owned = self.owned.all();
        let projected = self.projected.borrow();
        owned.iter().filter_map(|shard| projected.get(usize::from(*shard))).sum()
    }

    /// Waits until the rows of an owned shard contain everything up to `pos`, at most `patience`;
    /// `false` if they do not contain it by then.
    pub async fn caught_up(&self, (shard, pos): (u16, i64), patience: Duration) -> bool {
        let mut projected = self.projected.clone();
        let there = projected
            .wait_for(|reached| reached.get(usize::from(shard)).is_some_and(|at| *at >= pos));
        matches!(tokio::time::timeout(patience, there).await, Ok(Ok(_)))
    }

    /// Watches the positions that the rows of the owned shards have reached.
    #[must_use]
    pub fn steps(&self) -> watch::Receiver<Vec<i64>> {
        self.projected.clone()
    }

    /// Hands over all shards to other nodes, if there are any. New commands for them are forwarded
    /// until [`Node::stop`].
    pub async fn leave(self: &Arc<Self>) {
        if let Some(cluster) = &self.cluster {
            cluster.leave(&self.shards).await;
        }
    }

    /// The number of committed events of an owned shard that are not in the stream of all nodes
    /// yet; `None` without a stream.
    #[must_use]
    pub fn relay_lag(&self, shard: u16) -> Option<i64> {
        self.shards.relay().map(|relay| relay.lag(shard))
    }

    /// This node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.cluster.as_ref().map_or(SINGLE, |cluster| cluster.me())
    }

    /// Stops: queued appends are written, rows catch up, the store is closed. Pending work is
    /// resumed at the next start.
    pub async fn stop(&self) {
        self.lanes.flush().await;
        self.stop.cancel();
        let mut work = self.work.lock().await;
        while work.join_next().await.is_some() {}
        match self.projector().await {
            Ok(mut projector) => {
                if let Err(error) = projector.finish().await {
                    tracing::warn!(%error, "rows were not caught up with the journal; they are at \
                                            the next start");
                }
            }
            Err(error) => tracing::warn!(%error, "rows were not caught up with the journal; they \
                                                  are at the next start"),
        }
        self.supervisor.stop(None);
        self.lanes.flush().await;
        if let Err(error) = self.store.journal().release(&self.lanes.owned()).await {
            tracing::warn!(%error, "cannot release the shards; they are free when their leases \
                                    expire");
        }
        if let Some(cluster) = &self.cluster {
            cluster.gone(&self.shards).await;
        }
        self.store.close().await;
    }
}

/// Hosts and flows refer to each other: dropping a node breaks the cycle.
impl Drop for Node {
    fn drop(&mut self) {
        self.hosts().iter().for_each(ErasedHost::forget_flow);
    }
}

/// The lane's callback after every commit: it informs the flows, and then the feed.
fn committed(feed: Feed, hosts: Arc<OnceLock<Hosts>>) -> Committed {
    Arc::new(move |records: &[Record]| {
        if let Some(hosts) = hosts.get() {
            hosts.committed(records);
        }
        feed.publish(records);
    })
}
