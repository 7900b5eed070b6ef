//! A node: the hosts of all nouns over one store, their supervisor, and the work that runs beside
//! them (timers, projections, parked webhooks, the sweep).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::catalog::Catalog;
use super::changes::Changes;
use super::checkout::Numbers;
use super::clock::Clock;
use super::host::{self, Host, NoFlow};
use super::order::Orders;
use super::payments::Payments;
use super::projections::Projector;
use super::timers;
use crate::bus::Feed;
use crate::domain::cart::Cart;
use crate::domain::counter::{self, Counter};
use crate::domain::entity::{EntityId, Noun as _, Record};
use crate::domain::money::Currency;
use crate::domain::order::{self, CapturePolicy, Order};
use crate::domain::pricing;
use crate::domain::stock::{Location, Stock};
use crate::domain::time::Span;
use crate::store::journal::lane::{Committed, Lane};
use crate::store::journal::{Journal, ReadError};
use crate::store::{self, Tables};

/// How long a shard is owned without being claimed again. On one node nobody else claims it.
const LEASE: Span = Span::from_secs(10);
/// How often parked webhooks are looked for.
const PARKED_EVERY: Duration = Duration::from_secs(5);

/// How a shop is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The currency of a cart that names none.
    pub currency: Currency,
    /// The locations that goods are taken from, the first first; others follow by name.
    pub locations: Arc<[Location]>,
    /// How long stock is held for an order that is not paid yet, in seconds.
    pub hold_secs: i64,
    /// How long an order can be paid, in seconds.
    pub payment_deadline_secs: i64,
    /// When the money of a confirmed order is taken.
    pub capture: CapturePolicy,
    /// How often due timers are looked for, in milliseconds.
    pub timer_poll_ms: u64,
    /// How far apart the steps of a projection are at least, in milliseconds.
    pub projection_pause_ms: u64,
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
    /// The limits of the hosts.
    pub host: host::Options,
    /// The limits of the lanes.
    pub lane: store::journal::lane::Options,
    /// Who moves money.
    pub payments: Payments,
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
    pub catalog: Catalog,
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
    /// The writers of the journal, one a shard.
    pub lanes: Vec<Lane>,
    pub(super) numbers: Arc<Numbers>,
    projected: watch::Receiver<i64>,
    replay: Arc<Notify>,
    stop: CancellationToken,
    supervisor: ActorRef<Weak<Node>>,
    work: tokio::sync::Mutex<JoinSet<()>>,
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
        let Start { store, clock, rules, settings, host, lane, payments } = start;
        let journal = store.journal();
        let (feed, numbers) = (Feed::default(), Arc::new(Numbers::default()));
        let tally = Arc::new(Tally::default());
        let committed = committed(feed.clone(), numbers.clone(), tally.clone());
        let mut lanes = Vec::new();
        for shard in 0..journal.shards() {
            let epoch = journal.claim(shard, "single", clock.now() + LEASE).await?;
            let options = lane.clone();
            lanes.push(Lane::start(journal.clone(), shard, epoch, options, committed.clone()));
        }
        let (supervisor, _) = Actor::spawn(None, Supervisor, ()).await?;
        let over = (journal.clone(), lanes.clone(), clock.clone(), host);
        let (reached, projected) = watch::channel(0);
        let node = Arc::new(Self {
            carts: start_host(&over, &supervisor).await?,
            orders: start_host(&over, &supervisor).await?,
            stock: start_host(&over, &supervisor).await?,
            counters: start_host(&over, &supervisor).await?,
            catalog: Catalog::new(store.clone(), lanes.clone(), clock.clone()),
            rules: Arc::new(rules),
            settings,
            store,
            clock,
            feed,
            changes: Changes::default(),
            tally,
            payments,
            lanes,
            numbers,
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
        let projector = Projector::new(node.store.clone(), node.clock.clone(), 0).await?;
        node.begin_work(projector, reached).await;
        node.resume(journal.as_ref()).await?;
        Ok(node)
    }

    async fn begin_work(self: &Arc<Self>, projector: Projector, reached: watch::Sender<i64>) {
        let mut work = self.work.lock().await;
        let pause = Duration::from_millis(self.settings.projection_pause_ms);
        let projector = projector.again_on(self.replay.clone()).tell(self.changes.clone());
        work.spawn(projector.run(self.feed.listen(), pause, reached, self.stop.clone()));
        work.spawn(timers::run(self.clone(), self.stop.clone()));
        let node = self.clone();
        work.spawn(every(PARKED_EVERY, self.stop.clone(), move || {
            let node = node.clone();
            async move {
                if let Err(error) = node.retry_parked().await {
                    tracing::warn!(%error, "parked webhooks were not tried again");
                }
            }
        }));
        let sweep_secs = self.payments.options().sweep_secs;
        if sweep_secs > 0 {
            let node = self.clone();
            let period = Duration::from_secs(sweep_secs);
            work.spawn(every(period, self.stop.clone(), move || {
                let node = node.clone();
                async move { node.sweep_all().await }
            }));
        }
    }

    /// Compares the lists of all providers with the journal.
    pub async fn sweep_all(&self) {
        for provider in self.payments.all() {
            if let Err(error) = self.sweep(provider.as_ref()).await {
                tracing::warn!(%error, provider = provider.name(), "the sweep broke off");
            }
        }
    }

    /// Wakes every order that has something under way, and tells the counter what has arrived.
    async fn resume(&self, journal: &dyn Journal) -> Result<(), Error> {
        let mut woken = 0;
        for shard in 0..journal.shards() {
            let mut after: Option<EntityId> = None;
            loop {
                let prefix = format!("{}_", Order::PREFIX);
                let page = journal.timers_of(shard, &prefix, after.as_ref(), 500).await?;
                let Some(last) = page.last() else {
                    break;
                };
                after = Some(last.entity.clone());
                for timer in &page {
                    self.orders.wake(&timer.entity, false);
                }
                woken += page.len();
            }
        }
        if woken > 0 {
            tracing::info!(orders = woken, "orders that were under way go on");
        }
        let open = self
            .counters
            .look(&counter::order_numbers(), |view| view.state.open().clone())
            .await
            .unwrap_or_default();
        for (order, number) in open {
            let arrived = self
                .orders
                .look(&order::entity_id(order), move |view| view.state.number() == Some(number))
                .await;
            if arrived == Ok(true) {
                self.numbers.arrived(order);
            }
        }
        Ok(())
    }

    /// Lets the rows of orders and stock be made again from the first event, so that what was a
    /// dead letter is tried again. It begins at once and goes on beside all else.
    pub fn replay_rows(&self) {
        self.replay.notify_one();
    }

    /// How far the rows of orders and stock have followed the journal.
    #[must_use]
    pub fn projected(&self) -> i64 {
        *self.projected.borrow()
    }

    /// Waits until the rows show everything up to `pos`, at most `patience`; `false` if they do
    /// not by then.
    pub async fn caught_up(&self, pos: i64, patience: Duration) -> bool {
        let mut projected = self.projected.clone();
        let there = projected.wait_for(|reached| *reached >= pos);
        matches!(tokio::time::timeout(patience, there).await, Ok(Ok(_)))
    }

    /// Stops: what is queued for the journal is written, rows catch up, the store is closed. What
    /// is under way goes on at the next start.
    pub async fn stop(&self) {
        for lane in &self.lanes {
            lane.flush().await;
        }
        self.stop.cancel();
        let mut work = self.work.lock().await;
        while work.join_next().await.is_some() {}
        match Projector::new(self.store.clone(), self.clock.clone(), 0).await {
            Ok(mut projector) => {
                if let Err(error) = projector.finish().await {
                    tracing::warn!(%error, "rows catch up at the next start");
                }
            }
            Err(error) => tracing::warn!(%error, "rows catch up at the next start"),
        }
        self.supervisor.stop(None);
        for lane in &self.lanes {
            lane.flush().await;
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

type Over = (Arc<dyn Journal>, Vec<Lane>, Clock, host::Options);

async fn start_host<N: crate::domain::entity::Noun>(
    over: &Over,
    supervisor: &ActorRef<Weak<Node>>,
) -> Result<Host<N>, ractor::SpawnErr> {
    let (journal, lanes, clock, options) = over.clone();
    Host::start(journal, lanes, clock, options, supervisor.get_cell()).await
}

/// Does something again and again until told to stop.
async fn every<F, W>(period: Duration, stop: CancellationToken, work: F)
where
    F: Fn() -> W,
    W: Future<Output = ()>,
{
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => work().await,
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
        myself: ActorRef<Weak<Node>>,
        event: SupervisionEvent,
        node: &mut Weak<Node>,
    ) -> Result<(), ActorProcessingErr> {
        let SupervisionEvent::ActorFailed(shard, why) = event else {
            return Ok(());
        };
        tracing::error!(%why, "a shard failed and is started again");
        if let Some(node) = node.upgrade() {
            let me = myself.get_cell();
            let _ = node.carts.restart(&shard, me.clone()).await
                || node.orders.restart(&shard, me.clone()).await
                || node.stock.restart(&shard, me.clone()).await
                || node.counters.restart(&shard, me).await;
        }
        Ok(())
    }
}
