//! A node: the hosts of all nouns over one store, their supervisor, and the work that runs beside
//! them (timers, projections, parked webhooks, the sweep).

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use garde::Validate;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::catalog::Catalog;
use super::engine::changes::Changes;
use super::engine::clock::Clock;
use super::engine::cluster::{self, Cluster};
use super::engine::host::{self, Away, Host, NoFlow, Tenure};
use super::engine::projections::{Follower, Owned, Projector};
use super::engine::row_host::{RowBase, RowKinds, Rows};
use super::engine::runtime::Runtime;
use super::engine::timers;
use super::flows::order_effects::Orders;
use super::flows::payment::Payments;
use super::order_numbers::Numbers;
use crate::bus::{Feed, Relay};
use crate::cache::Cache;
use crate::domain::cart::Cart;
use crate::domain::counter::Counter;
use crate::domain::entity::{Noun as _, Record};
use crate::domain::limits::{holds, within};
use crate::domain::money::Currency;
use crate::domain::order::{CapturePolicy, Order};
use crate::domain::pricing;
use crate::domain::product::Product;
use crate::domain::stock::{Location, Stock};
use crate::domain::time::Span;
use crate::domain::versioned::Versioned as _;
use crate::store::journal::lane::Committed;
use crate::store::journal::lanes::Lanes;
use crate::store::journal::{Journal, ReadError};
use crate::store::{self, Tables};

/// How long a shard is owned that nobody else can claim.
const LEASE: Span = Span::from_secs(10);
/// The owner of all shards where there is one node.
const SINGLE: &str = "single";
/// How often parked webhooks are looked for.
const PARKED_EVERY: Duration = Duration::from_secs(5);
/// How long a provider's list is left alone after the node that compared it is gone.
const SWEEP_LOCK: Duration = Duration::from_secs(30);

/// A year, in seconds.
const YEAR_SECS: i64 = 365 * 24 * 3600;
/// The most locations that goods are taken from.
const LOCATIONS_MAX: usize = 100;

fn some_locations(locations: &[Location], (): &()) -> garde::Result {
    let names: BTreeSet<&str> = locations.iter().map(Location::as_str).collect();
    holds(!locations.is_empty(), || "must name at least one location")?;
    holds(names.len() == locations.len(), || "must name each location once")?;
    holds(locations.len() <= LOCATIONS_MAX, || {
        format!("must have at most {LOCATIONS_MAX} locations")
    })
}

/// How a shop is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Settings {
    /// The currency of a cart that names none.
    pub currency: Currency,
    /// The locations that goods are taken from, the first first; others follow by name.
    #[garde(custom(some_locations))]
    pub locations: Arc<[Location]>,
    /// How long stock is held for an order that is not paid yet, in seconds.
    #[garde(custom(within(1..=YEAR_SECS)))]
    pub hold_secs: i64,
    /// How long an order can be paid, in seconds.
    #[garde(custom(within(1..=YEAR_SECS)))]
    pub payment_deadline_secs: i64,
    /// When the money of a confirmed order is taken.
    pub capture: CapturePolicy,
    /// How often due timers are looked for, in milliseconds.
    #[garde(custom(within(1..=60_000)))]
    pub timer_poll_ms: u64,
    /// How far apart the steps of a projection are at least, in milliseconds.
    #[garde(custom(within(0..=60_000)))]
    pub projection_pause_ms: u64,
    /// How long a product is believed without asking the store, in milliseconds, where several
    /// nodes write to it.
    #[garde(custom(within(0..=600_000)))]
    pub product_believed_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            currency: Currency::GBP,
            locations: "main".parse().into_iter().collect(),
            hold_secs: 15 * 60,
            payment_deadline_secs: 30 * 60,
            capture: CapturePolicy::default(),
            timer_poll_ms: 1_000,
            projection_pause_ms: 50,
            product_believed_ms: 2_000,
        }
    }
}

/// What a node is started with.
pub struct Start {
    /// The data.
    pub store: Arc<dyn Tables>,
    /// The time.
    pub clock: Clock,
    /// How prices are computed.
    pub rules: pricing::Rules,
    /// How the shop is run.
    pub settings: Settings,
    /// The kinds of plain rows that it has.
    pub rows: RowKinds,
    /// The limits of the hosts.
    pub host: host::Options,
    /// The limits of the lanes.
    pub lane: store::journal::lane::Options,
    /// How many lanes there are at the most.
    pub lanes: u16,
    /// Who moves money.
    pub payments: Payments,
    /// What nodes share and may lose.
    pub cache: Cache,
    /// What may change while it runs.
    pub runtime: Runtime,
    /// The other nodes; nothing if there are none.
    pub cluster: Option<cluster::Start>,
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
    /// The plain rows of all kinds.
    pub rows: Rows,
    /// How prices are computed.
    pub rules: Arc<pricing::Rules>,
    /// How the shop is run.
    pub settings: Settings,
    /// The data.
    pub store: Arc<dyn Tables>,
    /// The time.
    pub clock: Clock,
    /// What the journal commits, as it does.
    pub feed: Feed,
    /// What the rows of orders and stock have become, as they do.
    pub changes: Changes,
    /// What has happened to orders, since the start.
    pub tally: Arc<Tally>,
    /// Who moves money.
    pub payments: Payments,
    /// What nodes share and may lose.
    pub cache: Cache,
    /// What may change while it runs.
    pub runtime: Runtime,
    /// The writers of the journal.
    pub lanes: Lanes,
    /// This node among others; nothing if there are none.
    pub cluster: Option<Arc<Cluster>>,
    pub(super) numbers: Arc<Numbers>,
    pub(super) relay: OnceLock<Relay>,
    /// The shards whose rows this node writes.
    pub owned: Owned,
    projected: watch::Receiver<Vec<i64>>,
    replay: Arc<Notify>,
    pub(super) stop: CancellationToken,
    supervisor: ActorRef<Weak<Node>>,
    pub(super) work: tokio::sync::Mutex<JoinSet<()>>,
}

/// How often what has happened to orders, as the journal commits it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Orders placed.
    pub placed: AtomicU64,
    /// Orders confirmed.
    pub confirmed: AtomicU64,
    /// Orders cancelled.
    pub cancelled: AtomicU64,
    /// Payments that the provider declined.
    pub declined: AtomicU64,
}

impl Tally {
    fn count(&self, records: &[Record]) {
        for record in records.iter().filter(|record| record.entity.prefix() == Order::PREFIX) {
            let counter = match &*record.kind {
                "placed" => &self.placed,
                "confirmed" => &self.confirmed,
                "cancelled" => &self.cancelled,
                "payment_declined" => &self.declined,
                _ => continue,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// It is started without rows that it needs.
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
    /// Claims all shards of the store, starts everything, and goes on with what was under way.
    ///
    /// # Errors
    /// [`Error`]: the store cannot be read, or an actor not be started.
    pub async fn start(start: Start) -> Result<Arc<Self>, Error> {
        let Start { store, clock, rules, settings, host, lane, lanes, payments, cache, .. } = start;
        let (runtime, cluster) = (start.runtime, start.cluster);
        let journal = store.journal();
        let (feed, numbers) = (Feed::default(), Arc::new(Numbers::new(cluster.is_some())));
        let tally = Arc::new(Tally::default());
        let committed = committed(feed.clone(), numbers.clone(), tally.clone());
        let lanes = Lanes::start(&journal, lanes, &lane, &committed);
        let (supervisor, _) = Actor::spawn(None, Supervisor, ()).await?;
        let over = (journal.clone(), lanes.clone(), clock.clone(), host);
        let (reached, projected) = watch::channel(vec![0; usize::from(journal.shards())]);
        let owned = Owned::default();
        // A store of one shard has one node.
        let believed = Duration::from_millis(settings.product_believed_ms);
        let believed = (journal.shards() > 1).then_some(believed);
        let base = RowBase {
            store: store.clone(),
            lanes: lanes.clone(),
            clock: clock.clone(),
            cache: cache.clone(),
            believed,
        };
        let rows = start.rows.host(&base);
        let node = Arc::new(Self {
            carts: host_over(&over, &supervisor),
            orders: host_over(&over, &supervisor),
            stock: host_over(&over, &supervisor),
            counters: host_over(&over, &supervisor),
            catalog: rows.of::<Product>().ok_or(Error::NoRows(Product::PLURAL))?,
            rows,
            rules: Arc::new(rules),
            settings,
            store,
            cluster: cluster.map(|start| Arc::new(Cluster::new(start))),
            clock,
            feed,
            changes: Changes::new(journal.shards()),
            tally,
            payments,
            cache,
            runtime,
            lanes,
            numbers,
            relay: OnceLock::new(),
            owned: owned.clone(),
            projected,
            replay: Arc::default(),
            stop: CancellationToken::new(),
            supervisor: supervisor.clone(),
            work: tokio::sync::Mutex::default(),
        });
        node.carts.set_flow(Arc::new(NoFlow));
        node.stock.set_flow(Arc::new(NoFlow));
        node.counters.set_flow(Arc::new(NoFlow));
        node.orders.set_flow(Arc::new(Orders::new(&node)));
        let _ = supervisor.cast(Arc::downgrade(&node));
        let projector = Projector::new(node.store.clone(), node.clock.clone(), owned).await?;
        node.begin_work(projector, reached).await;
        match node.cluster.clone() {
            Some(cluster) => node.find_others(&cluster),
            None => node.own_all().await?,
        }
        Ok(node)
    }

    /// Runs all shards: there is no other node.
    async fn own_all(self: &Arc<Self>) -> Result<(), Error> {
        let all: Vec<u16> = (0..self.lanes.shards()).collect();
        for fence in self.store.journal().claim(&all, SINGLE, LEASE).await? {
            self.open_shard(fence, Tenure::for_good()).await?;
        }
        Ok(())
    }

    /// Sends what is meant for other nodes there. It has no shard until it joins them.
    fn find_others(&self, cluster: &Arc<Cluster>) {
        let away: Arc<dyn Away> = cluster.clone();
        self.carts.set_away(away.clone());
        self.orders.set_away(away.clone());
        self.stock.set_away(away.clone());
        self.counters.set_away(away.clone());
        self.rows.iter().for_each(|rows| rows.set_away(away.clone()));
    }

    /// Lives among the other nodes from now on, if there are any: takes calls and shards. They
    /// reach it at `url`.
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
        self.relay(&cluster).await;
        let mut work = self.work.lock().await;
        work.spawn(cluster.clone().keep(self.clone(), self.stop.clone()));
        work.spawn(cluster.clone().place(self.clone(), self.stop.clone()));
    }

    async fn begin_work(self: &Arc<Self>, projector: Projector, reached: watch::Sender<Vec<i64>>) {
        let mut work = self.work.lock().await;
        let pause = Duration::from_millis(self.settings.projection_pause_ms);
        let projector = projector
            .again_on(self.replay.clone())
            .tell(self.changes.clone())
            .by_settings(self.runtime.watch());
        work.spawn(projector.run(self.feed.listen(), pause, reached, self.stop.clone()));
        if self.store.journal().shards() > 1 {
            let changes = self.changes.clone();
            let follower = Follower::new(self.store.clone(), self.owned.clone(), changes);
            work.spawn(follower.run(self.feed.listen(), pause, self.stop.clone()));
        }
        work.spawn(timers::run(self.clone(), self.stop.clone()));
        for rows in self.rows.iter().cloned() {
            let (feed, stop) = (self.feed.listen(), self.stop.clone());
            work.spawn(async move { rows.follow(feed, stop).await });
        }
        let node = self.clone();
        work.spawn(every(PARKED_EVERY, self.stop.clone(), move || {
            let node = node.clone();
            async move {
                if node.leads()
                    && let Err(error) = node.retry_parked().await
                {
                    tracing::warn!(%error, "parked webhooks were not tried again");
                }
            }
        }));
        let node = self.clone();
        work.spawn(async move { node.sweep_by_setting().await });
    }

    /// Sweeps again and again, as often as the settings say, until told to stop.
    async fn sweep_by_setting(&self) {
        let mut settings = self.runtime.watch();
        let mut last = Instant::now();
        loop {
            let period = settings.borrow_and_update().sweep;
            let due = async {
                if period.is_zero() { pending().await } else { sleep_until(last + period).await }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                Ok(()) = settings.changed() => {}
                () = due => {
                    if self.leads() {
                        // What is left of it, the next sweep does.
                        let swept = self.stop.run_until_cancelled(self.sweep_all()).await;
                        if let Some(Err(error)) = swept {
                            tracing::warn!(%error, "the sweep broke off");
                        }
                    }
                    last = Instant::now();
                }
            }
        }
    }

    /// Whether this node does what only one node does: the one that has the first shard.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.runs(0)
    }

    /// Compares the lists of all providers with the journal; answers whose. A list that is being
    /// compared already, here or on another node, is left to that.
    ///
    /// # Errors
    /// The store's; what is left, the next sweep does.
    pub async fn sweep_all(&self) -> Result<Vec<&str>, store::Error> {
        let mut swept = Vec::new();
        for provider in self.payments.all() {
            let (name, sweep) = (provider.name(), self.sweep(provider.as_ref()));
            let lock = format!("sweep:{name}");
            match self.cache.unless_taken(&lock, SWEEP_LOCK, sweep).await {
                Some(done) => {
                    done?;
                    swept.push(name);
                }
                None => tracing::debug!(provider = name, "it is being swept already"),
            }
        }
        Ok(swept)
    }

    /// Lets the rows of orders and stock be made again from the first event, so that what was a
    /// dead letter is tried again. It begins at once and goes on beside all else.
    pub fn replay_rows(&self) {
        self.replay.notify_one();
    }

    /// How far the rows of orders and stock have followed the journal: the sum of the positions
    /// of all shards whose rows are written here.
    #[must_use]
    pub fn projected(&self) -> i64 {
        let owned = self.owned.all();
        let projected = self.projected.borrow();
        owned.iter().filter_map(|shard| projected.get(usize::from(*shard))).sum()
    }

    /// Waits until the rows that are written here show everything of a shard up to `pos`, at most
    /// `patience`; `false` if they do not by then.
    pub async fn caught_up(&self, (shard, pos): (u16, i64), patience: Duration) -> bool {
        let mut projected = self.projected.clone();
        let there = projected
            .wait_for(|reached| reached.get(usize::from(shard)).is_some_and(|at| *at >= pos));
        matches!(tokio::time::timeout(patience, there).await, Ok(Ok(_)))
    }

    /// Hears of every step of the rows that are written here.
    #[must_use]
    pub fn steps(&self) -> watch::Receiver<Vec<i64>> {
        self.projected.clone()
    }

    /// Gives all shards to the other nodes, if there are any. What still comes for them is sent
    /// on, until [`Node::stop`].
    pub async fn leave(self: &Arc<Self>) {
        if let Some(cluster) = &self.cluster {
            cluster.leave(self).await;
        }
    }

    /// How many events of a shard that this node owns are committed and not in the stream of all
    /// nodes; nothing if there is none.
    #[must_use]
    pub fn relay_lag(&self, shard: u16) -> Option<i64> {
        self.relay.get().map(|relay| relay.lag(shard))
    }

    /// This node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.cluster.as_ref().map_or(SINGLE, |cluster| cluster.me())
    }

    /// Stops: what is queued for the journal is written, rows catch up, the store is closed. What
    /// is under way goes on at the next start.
    pub async fn stop(&self) {
        self.lanes.flush().await;
        self.stop.cancel();
        let mut work = self.work.lock().await;
        while work.join_next().await.is_some() {}
        match Projector::new(self.store.clone(), self.clock.clone(), self.owned.clone()).await {
            Ok(mut projector) => {
                if let Err(error) = projector.finish().await {
                    tracing::warn!(%error, "rows catch up at the next start");
                }
            }
            Err(error) => tracing::warn!(%error, "rows catch up at the next start"),
        }
        self.supervisor.stop(None);
        self.lanes.flush().await;
        if let Err(error) = self.store.journal().release(&self.lanes.owned()).await {
            tracing::warn!(%error, "the shards were not given back; their leases end by themselves");
        }
        if let Some(cluster) = &self.cluster {
            cluster.gone(self).await;
        }
        self.store.close().await;
    }
}

/// What the lane does with every commit.
fn committed(feed: Feed, numbers: Arc<Numbers>, tally: Arc<Tally>) -> Committed {
    Arc::new(move |records: &[Record]| {
        tally.count(records);
        for record in records.iter().filter(|record| &*record.kind == "confirmed") {
            if let Ok(order) = record.entity.as_str().parse() {
                numbers.arrived(order);
            }
        }
        feed.publish(records);
    })
}

type Over = (Arc<dyn Journal>, Lanes, Clock, host::Options);

fn host_over<N: crate::domain::entity::Noun>(
    over: &Over,
    supervisor: &ActorRef<Weak<Node>>,
) -> Host<N> {
    let (journal, lanes, clock, options) = over.clone();
    Host::new(journal, lanes, clock, options, supervisor.get_cell())
}

/// Does something again and again until told to stop, which may be in the middle of it.
async fn every<F, W>(period: Duration, stop: CancellationToken, work: F)
where
    F: Fn() -> W,
    W: Future<Output = ()>,
{
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {
                let _stopped = stop.run_until_cancelled(work()).await;
            }
        }
    }
}

/// Supervises the shards of all nouns: one that fails is started again.
struct Supervisor;

impl Actor for Supervisor {
    type Msg = Weak<Node>;
    type State = Weak<Node>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Weak<Node>>,
        (): (),
    ) -> Result<Weak<Node>, ActorProcessingErr> {
        Ok(Weak::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Weak<Node>>,
        message: Weak<Node>,
        node: &mut Weak<Node>,
    ) -> Result<(), ActorProcessingErr> {
        *node = message;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Weak<Node>>,
        event: SupervisionEvent,
        node: &mut Weak<Node>,
    ) -> Result<(), ActorProcessingErr> {
        let SupervisionEvent::ActorFailed(shard, why) = event else {
            return Ok(());
        };
        tracing::error!(%why, "a shard failed and is started again");
        if let Some(node) = node.upgrade() {
            let _ = node.carts.restart(&shard).await
                || node.orders.restart(&shard).await
                || node.stock.restart(&shard).await
                || node.counters.restart(&shard).await;
        }
        Ok(())
    }
}
