//! A node among others: it says that it lives, keeps the leases of its shards, takes those that it
//! should have and gives away those that another should. Which those are is `placement`'s; what
//! running a shard means is `shards`'.
//!
//! A lease is measured twice. The store gives a shard to another only once the lease is over by
//! the store's clock; this node serves it only until a moment before, by a clock of its own that
//! began when it asked. One that hangs, or cannot reach the store, so stops before another begins.

mod leave;
mod options;
mod remote;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

pub use self::options::Options;
use super::host::ShardLease;
use super::placement::{self, Holding, Member};
use super::shards::Shards;
use crate::bus::nats::Connection;
use crate::bus::stream::Stream;
use crate::bus::{self, Calls, Findings, Notice, Notices, Peer};
use crate::domain::time::Timestamp;
use crate::store;
use crate::store::journal::Fence;
use crate::store::node::NodeRow;

/// How often it is looked who is there and who has which shard, if nobody says that it changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a node joins a cluster with.
pub struct ClusterStart {
    /// How it lives there.
    pub options: Options,
    /// Its name.
    pub node: String,
    /// The way to other nodes.
    pub calls: Calls,
    /// Words to other nodes.
    pub notices: Notices,
    /// The stream of what all nodes commit, if there is one.
    pub stream: Option<Arc<dyn Stream>>,
    /// How it is kept.
    pub bus: bus::Options,
    /// NATS, if it is used.
    pub nats: Option<Connection>,
    /// What is not as it should be there.
    pub findings: Findings,
}

/// A shard that this node has.
#[derive(Clone)]
struct HeldShard {
    fence: Fence,
    lease: ShardLease,
    /// It is being given away.
    leaving: bool,
    /// Had by whoever begins to run it, or ends that: one after the other.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// It is no longer run here, and about to be free.
    closed: bool,
    /// Tells that it was lost.
    lost: CancellationToken,
}

/// What this node knows of all nodes.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Nodes that live.
    pub members: Vec<Member>,
    /// All shards.
    pub holdings: Vec<Holding>,
    /// Where each node that lives is reached.
    peers: BTreeMap<String, Peer>,
}

/// This node as a member of a cluster.
pub struct ClusterMember {
    options: Options,
    me: String,
    /// What it says of itself, once it is there.
    row: OnceLock<NodeRow>,
    /// Whether it is listed under its name: no other process that lives is.
    listed: AtomicBool,
    calls: Calls,
    notices: Notices,
    stream: Option<Arc<dyn Stream>>,
    bus: bus::Options,
    nats: Option<Connection>,
    findings: Findings,
    view: RwLock<Arc<ClusterView>>,
    /// Told whenever the view changes, or what is held.
    changed: Notify,
    held: Mutex<BTreeMap<u16, HeldShard>>,
    /// When each node was first seen alive.
    seen: Mutex<BTreeMap<String, Instant>>,
    poke: Notify,
    leaving: CancellationToken,
}

/// This machine since its start, and its part where an address is this process' own.
fn machine() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let network = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    format!("{} {}", boot.trim(), network.display())
}

impl ClusterMember {
    pub(in crate::actors) fn new(start: ClusterStart) -> Self {
        let ClusterStart { options, node, calls, notices, stream, bus, nats, findings } = start;
        Self {
            options,
            me: node,
            row: OnceLock::new(),
            listed: AtomicBool::new(false),
            calls,
            notices,
            stream,
            bus,
            nats,
            findings,
            view: RwLock::default(),
            changed: Notify::new(),
            held: Mutex::default(),
            seen: Mutex::default(),
            poke: Notify::new(),
            leaving: CancellationToken::new(),
        }
    }

    /// This node's name.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }

    /// Says where the other nodes reach this one.
    pub(in crate::actors) fn begin(&self, url: &str, started_at: Timestamp) {
        let (id, url) = (self.me.clone(), url.to_owned());
        let (machine, version) = (machine(), env!("CARGO_PKG_VERSION").to_owned());
        // An error means that it has begun before.
        let _before = self.row.set(NodeRow { id, url, machine, version, started_at });
    }

    /// The stream of what all nodes commit, if there is one, and how it is kept.
    pub(in crate::actors) fn stream(&self) -> Option<(Arc<dyn Stream>, &bus::Options)> {
        Some((self.stream.clone()?, &self.bus))
    }

    /// NATS, if it is used.
    #[must_use]
    pub const fn nats(&self) -> Option<&Connection> {
        self.nats.as_ref()
    }

    /// What is not as it should be with NATS.
    #[must_use]
    pub const fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Words to other nodes.
    #[must_use]
    pub const fn notices(&self) -> &Notices {
        &self.notices
    }

    /// The way to other nodes.
    #[must_use]
    pub const fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Who is there and who has which shard, as this node last saw it.
    #[must_use]
    pub fn view(&self) -> Arc<ClusterView> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The other nodes that live.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let view = self.view();
        view.peers.values().filter(|peer| peer.node != self.me).cloned().collect()
    }

    /// Looks at once again who is there and who has which shard, here and on all other nodes.
    pub fn look_again(&self) {
        self.poke.notify_one();
        self.notices.tell(Notice::Shards);
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u16, HeldShard>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the leases until told to stop; in a task of its own, since nothing may hold it up.
    pub(in crate::actors) async fn keep(
        self: Arc<Self>,
        running: Arc<Shards>,
        stop: CancellationToken,
    ) {
        let period = Duration::from_millis(self.options.renew_ms);
        loop {
            self.renew(&running).await;
            self.drop_ended(&running);
            let mut next = Instant::now() + period;
            // A lease that ends before is noticed when it does.
            next = next.min(Instant::now() + period.min(self.options.lease() / 10));
            let mut waited = Duration::ZERO;
            while waited < period {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep_until(next) => {}
                }
                let step = self.options.lease() / 10;
                waited += step;
                next += step;
                self.drop_ended(&running);
            }
        }
    }

    /// Says that it lives, and prolongs its leases.
    async fn renew(&self, running: &Shards) {
        let asked = Instant::now();
        let run = |held: &&HeldShard| !held.closed;
        let fences: Vec<Fence> = self.held().values().filter(run).map(|held| held.fence).collect();
        let lease = self.options.lease_span();
        let journal = running.store.journal();
        let Some(row) = self.row.get() else {
            return;
        };
        let both = async {
            let standing = journal.renew(&fences, lease).await.map_err(|error| error.to_string());
            let alive = running.store.heartbeat(row, lease).await;
            (standing, alive.map_err(|error| error.to_string()))
        };
        let patience = Duration::from_millis(self.options.renew_ms);
        match timeout(patience, both).await {
            Ok((Ok(standing), alive)) => {
                let until = asked + self.options.lease_trusted_for();
                for fence in &fences {
                    if standing.contains(fence) {
                        // One that has lapsed was over for its entities, and is dropped.
                        if let Some(held) = self.held().get(&fence.shard)
                            && held.lease.is_valid()
                        {
                            held.lease.extend(until);
                        }
                    } else if self.still(*fence) {
                        tracing::warn!(shard = fence.shard, "the lease of a shard was lost");
                        self.lose(running, fence.shard);
                    }
                }
                match alive {
                    Ok(alive) => self.note(running, alive).await,
                    Err(error) => {
                        tracing::warn!(
                            error,
                            "cannot notify the other nodes that this node is \
                                               alive"
                        );
                    }
                }
            }
            Ok((Err(error), _)) => tracing::warn!(error, "cannot renew the leases"),
            Err(_) => tracing::warn!("cannot renew the leases: the store does not respond"),
        }
    }

    /// Notes whether this node is listed, and if so, whether it drains.
    async fn note(&self, running: &Shards, alive: Option<bool>) {
        let before = self.listed.swap(alive.is_some(), Ordering::AcqRel);
        match alive {
            Some(false) if self.leaving.is_cancelled() => self.say_that_it_leaves(running).await,
            Some(_) if !before => self.poke.notify_one(),
            Some(_) => {}
            None => {
                tracing::warn!(
                    node = self.me,
                    "another process that is alive, or died just now, has this node's name: \
                     waiting until it leaves or its lease expires"
                );
                let all: Vec<u16> = self.held().keys().copied().collect();
                all.into_iter().for_each(|shard| self.lose(running, shard));
            }
        }
    }

    /// Whether a shard is still run under this claim.
    fn still(&self, fence: Fence) -> bool {
        self.held().get(&fence.shard).is_some_and(|held| held.fence == fence && !held.closed)
    }

    /// Says that a shard is no longer run; whether it was had under this claim. Nothing of it that
    /// may be left answers anybody. It is had until it is free for others: or else it would seem to
    /// be left from a life before.
    fn close(&self, fence: Fence) -> bool {
        let mut held = self.held();
        let Some(held) = held.get_mut(&fence.shard).filter(|held| held.fence == fence) else {
            return false;
        };
        held.lease.end();
        held.closed = true;
        true
    }

    /// Has a shard no longer.
    fn end(&self, fence: Fence) {
        let mut all = self.held();
        if all.get(&fence.shard).is_some_and(|held| held.fence == fence) {
            all.remove(&fence.shard);
        }
    }

    /// Drops the shards whose time is over, or that the journal says another has.
    fn drop_ended(&self, running: &Shards) {
        let ended: Vec<u16> = {
            let held = self.held();
            let lost = |shard: &u16| running.lanes.of(*shard).lost().borrow().contains(shard);
            let run = held.iter().filter(|(_, held)| !held.closed);
            let over = run.filter(|(shard, held)| !held.lease.is_valid() || lost(shard));
            over.map(|(shard, _)| *shard).collect()
        };
        for shard in ended {
            tracing::warn!(shard, "this node no longer owns a shard");
            self.lose(running, shard);
        }
    }

    fn lose(&self, running: &Shards, shard: u16) {
        if let Some(held) = self.held().remove(&shard) {
            held.lease.end();
            held.lost.cancel();
        }
        running.abandon(shard);
        self.poke.notify_one();
    }

    /// Looks who is there, takes and gives, until told to stop.
    pub(in crate::actors) async fn place(
        self: Arc<Self>,
        running: Arc<Shards>,
        stop: CancellationToken,
    ) {
        let mut heard = self.notices.listen();
        let mut news = true;
        loop {
            // Never given up half way: a shard would be had and run by nobody.
            if let Err(error) = self.look(&running).await {
                tracing::warn!(%error, "cannot read the owners of the shards");
            }
            let look_at = Instant::now() + LOOK_EVERY;
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = self.poke.notified() => break,
                    notice = heard.recv(), if news => match notice {
                        Ok(Notice::Shards | Notice::Missed) | Err(RecvError::Lagged(_)) => break,
                        Ok(_) => {}
                        Err(RecvError::Closed) => news = false,
                    },
                    () = tokio::time::sleep_until(look_at) => break,
                }
            }
        }
    }

    /// One look: the view is renewed, free shards are taken, and others begin to be given away.
    /// Nothing here waits for that, or this node would not hear meanwhile who has which shard.
    async fn look(self: &Arc<Self>, running: &Arc<Shards>) -> Result<(), store::Error> {
        self.refresh(running).await?;
        let view = self.view();
        let wanted = placement::wanted(&view.members, &view.holdings);
        let mine = |shard: u16| wanted.get(&shard) == Some(&self.me);
        let elsewhere = |shard: u16| wanted.get(&shard).is_some_and(|node| *node != self.me);
        let (mut take, mut give) = (Vec::new(), Vec::new());
        {
            let held = self.held();
            for holding in &view.holdings {
                match (&holding.owner, held.get(&holding.shard)) {
                    (_, None) if mine(holding.shard) && self.is_free(holding) => {
                        take.push(holding.shard);
                    }
                    // It was claimed in a life before, or was lost and taken by nobody: no other
                    // takes what a node that lives seems to have. It is given away from here.
                    (Some(owner), None) if *owner == self.me => take.push(holding.shard),
                    (_, Some(held)) if !held.leaving && elsewhere(holding.shard) => {
                        give.push(holding.shard);
                    }
                    _ => {}
                }
            }
        }
        let listed = self.listed.load(Ordering::Acquire);
        if !take.is_empty() && listed && !self.leaving.is_cancelled() {
            self.claim_shards(running, &take).await?;
        }
        let under_way = self.held().values().filter(|held| held.leaving).count();
        give.truncate(self.options.hand_over_max.saturating_sub(under_way));
        let give = self.begin_to_give(give);
        if !give.is_empty() {
            let (cluster, running) = (self.clone(), running.clone());
            tokio::spawn(async move {
                cluster.give(&running, give, cluster.options.hand_over_max).await;
                // There may be more to give.
                cluster.poke.notify_one();
            });
        }
        Ok(())
    }

    fn is_free(&self, holding: &Holding) -> bool {
        holding.owner.as_ref().is_none_or(|owner| *owner == self.me)
    }

    /// Reads who is there and who has which shard.
    async fn refresh(&self, running: &Shards) -> Result<(), store::Error> {
        let (nodes, shards) = (running.store.nodes().await?, running.store.shards().await?);
        if let Some(relay) = running.relay() {
            relay.committed(shards.iter().map(|row| (row.id, row.last_pos)).collect());
        }
        let now = Instant::now();
        let mut view = ClusterView::default();
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let alive = |id: &str| nodes.iter().any(|row| row.lives && row.node.id == id);
            seen.retain(|id, _| alive(id));
            for row in nodes.iter().filter(|row| row.lives) {
                let id = row.node.id.clone();
                let since = *seen.entry(id.clone()).or_insert(now);
                let settled = now - since >= Duration::from_millis(self.options.settle_ms);
                view.members.push(Member { id: id.clone(), draining: row.draining, settled });
                view.peers.insert(id.clone(), Peer { node: id, url: row.node.url.clone() });
            }
        }
        for row in shards {
            // A node prolongs its own lease and those of its shards together.
            let owner = Some(row.owner).filter(|owner| view.peers.contains_key(owner));
            view.holdings.push(Holding { shard: row.id, owner, pinned_to: row.pinned_to });
        }
        let before = std::mem::replace(
            &mut *self.view.write().unwrap_or_else(PoisonError::into_inner),
            Arc::new(view.clone()),
        );
        if before.holdings != view.holdings || before.members != view.members {
            self.changed.notify_waiters();
        }
        Ok(())
    }

    /// Claims shards and runs what it got.
    async fn claim_shards(
        &self,
        running: &Arc<Shards>,
        shards: &[u16],
    ) -> Result<(), store::Error> {
        let asked = Instant::now();
        let claimed =
            running.store.journal().claim(shards, &self.me, self.options.lease_span()).await;
        let claimed = claimed.map_err(|error| store::Error::Refused(error.to_string()))?;
        if claimed.is_empty() {
            return Ok(());
        }
        tracing::info!(shards = claimed.len(), "claimed shards");
        for fence in claimed {
            self.open(running, fence, ShardLease::until(asked + self.options.lease_trusted_for()))
                .await;
        }
        self.changed.notify_waiters();
        self.notices.tell(Notice::Shards);
        // Whoever waits for them here asks the view.
        self.refresh(running).await
    }

    /// Runs a shard that was claimed.
    async fn open(&self, running: &Arc<Shards>, fence: Fence, lease: ShardLease) {
        let turn = Arc::<tokio::sync::Mutex<()>>::default();
        let _mine = turn.lock().await;
        let held = HeldShard {
            fence,
            lease: lease.clone(),
            leaving: false,
            closed: false,
            turn: turn.clone(),
            lost: CancellationToken::new(),
        };
        self.held().insert(fence.shard, held);
        let opened = running.open(fence, lease).await;
        if let Err(error) = &opened {
            tracing::error!(%error, shard = fence.shard, "cannot open a shard");
        }
        // It may have been lost while it was opened.
        if opened.is_err() || !self.still(fence) {
            self.lose(running, fence.shard);
        }
    }

    /// How many shards this node has.
    #[must_use]
    pub fn shards_held(&self) -> usize {
        self.held().len()
    }
}
