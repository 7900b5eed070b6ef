//! A node of a cluster: it renews its membership and its shards' leases, claims the shards that
//! placement assigns to it, and hands over those that placement assigns to others. Placement is in
//! `placement`; running a shard is in `shards`.
//!
//! A lease is measured by two clocks. The store gives a shard to another node only after the lease
//! has ended by the store's clock. This node serves the shard for only nine tenths of the lease, by
//! its own monotonic clock, counted from when it sent the renewal. So a node that hangs, or cannot
//! reach the store, stops before another one starts.

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
use crate::bus::{self, Calls, NatsProblems, Notice, Notices, Peer};
use crate::domain::time::Timestamp;
use crate::store;
use crate::store::journal::Fence;
use crate::store::node::NodeRow;

/// How often the members and the shards' owners are read, unless a notice says that they changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `ClusterMember::new`.
pub struct ClusterStart {
    /// Options of membership and leases.
    pub options: Options,
    /// The node's name.
    pub node: String,
    /// Calls to other nodes.
    pub calls: Calls,
    /// Notices to other nodes.
    pub notices: Notices,
    /// The stream of all nodes' commits, if there is one.
    pub stream: Option<Arc<dyn Stream>>,
    /// Options of the bus.
    pub bus: bus::Options,
    /// NATS, if it is used.
    pub nats: Option<Connection>,
    /// Problems found with NATS.
    pub nats_problems: NatsProblems,
}

/// A shard that this node owns.
#[derive(Clone)]
struct HeldShard {
    fence: Fence,
    lease: ShardLease,
    /// The shard is being handed over to another node.
    leaving: bool,
    /// Locked while the shard is opened or handed over, so that these never overlap.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// This node no longer runs the shard; its claim is about to be released.
    closed: bool,
    /// Cancelled when the shard is lost.
    lost: CancellationToken,
}

/// The cluster as this node last read it.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Live nodes.
    pub members: Vec<Member>,
    /// All shards with their owners.
    pub holdings: Vec<Holding>,
    /// The addresses of live nodes.
    peers: BTreeMap<String, Peer>,
}

/// This node's membership of the cluster, and the shards that it owns.
pub struct ClusterMember {
    options: Options,
    me: String,
    /// This node's row in the list of nodes, once it has joined.
    row: OnceLock<NodeRow>,
    /// Whether this node is listed under its name; `false` while another live process uses this
    /// name.
    listed: AtomicBool,
    calls: Calls,
    notices: Notices,
    stream: Option<Arc<dyn Stream>>,
    bus: bus::Options,
    nats: Option<Connection>,
    nats_problems: NatsProblems,
    view: RwLock<Arc<ClusterView>>,
    /// Notified whenever the view or the owned shards change.
    changed: Notify,
    held: Mutex<BTreeMap<u16, HeldShard>>,
    /// When each node was first seen alive.
    seen: Mutex<BTreeMap<String, Instant>>,
    look_now: Notify,
    leaving: CancellationToken,
}

/// Identifies the boot of this machine and this process's network namespace: two processes with the
/// same value and the same address cannot both be listening.
fn machine() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let network = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    format!("{} {}", boot.trim(), network.display())
}

impl ClusterMember {
    pub(in crate::actors) fn new(start: ClusterStart) -> Self {
        let ClusterStart { options, node, calls, notices, stream, bus, nats, nats_problems } =
            start;
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
            nats_problems,
            view: RwLock::default(),
            changed: Notify::new(),
            held: Mutex::default(),
            seen: Mutex::default(),
            look_now: Notify::new(),
            leaving: CancellationToken::new(),
        }
    }

    /// This node's name.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }

    /// Sets the address at which other nodes reach this one.
    pub(in crate::actors) fn begin(&self, url: &str, started_at: Timestamp) {
        let (id, url) = (self.me.clone(), url.to_owned());
        let (machine, version) = (machine(), env!("CARGO_PKG_VERSION").to_owned());
        // An error means that it was set before.
        let _before = self.row.set(NodeRow { id, url, machine, version, started_at });
    }

    /// The stream of all nodes' commits, if there is one, and the options of the bus.
    pub(in crate::actors) fn stream(&self) -> Option<(Arc<dyn Stream>, &bus::Options)> {
        Some((self.stream.clone()?, &self.bus))
    }

    /// NATS, if it is used.
    #[must_use]
    pub const fn nats(&self) -> Option<&Connection> {
        self.nats.as_ref()
    }

    /// Problems found with NATS.
    #[must_use]
    pub const fn nats_problems(&self) -> &NatsProblems {
        &self.nats_problems
    }

    /// Notices to other nodes.
    #[must_use]
    pub const fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Calls to other nodes.
    #[must_use]
    pub const fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The members and the shards' owners, as this node last read them.
    #[must_use]
    pub fn view(&self) -> Arc<ClusterView> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The other live nodes.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let view = self.view();
        view.peers.values().filter(|peer| peer.node != self.me).cloned().collect()
    }

    /// Makes all nodes, this one included, read the members and the shards' owners at once.
    pub fn look_again(&self) {
        self.look_now.notify_one();
        self.notices.tell(Notice::Shards);
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u16, HeldShard>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews the leases until stopped; in a task of its own, because nothing may delay it.
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
            // Between two renewals the loop wakes every tenth of a lease, to drop shards whose
            // leases have ended.
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

    /// Renews the membership and the leases.
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
                        // If this node's nine tenths of the lease ended before the journal answered
                        // the renewal, the shard's entities have stopped answering: the lease is
                        // not extended, and `drop_ended` drops the shard.
                        if let Some(held) = self.held().get(&fence.shard)
                            && held.lease.is_valid()
                        {
                            held.lease.extend(until);
                        }
                    } else if self.is_current_claim(*fence) {
                        tracing::warn!(shard = fence.shard, "the lease of a shard was lost");
                        self.lose(running, fence.shard);
                    }
                }
                match alive {
                    Ok(alive) => self.on_heartbeat(running, alive).await,
                    Err(error) => {
                        tracing::warn!(error, "cannot renew this node's membership");
                    }
                }
            }
            Ok((Err(error), _)) => tracing::warn!(error, "cannot renew the leases"),
            Err(_) => tracing::warn!("cannot renew the leases: the store does not respond"),
        }
    }

    /// Handles the outcome of a heartbeat. `alive` is `None` if this node is not listed, because
    /// another process has its name; otherwise it says whether this node is marked as draining.
    async fn on_heartbeat(&self, running: &Shards, alive: Option<bool>) {
        let before = self.listed.swap(alive.is_some(), Ordering::AcqRel);
        match alive {
            Some(false) if self.leaving.is_cancelled() => self.say_that_it_leaves(running).await,
            Some(_) if !before => self.look_now.notify_one(),
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

    /// Whether a shard still runs under this claim.
    fn is_current_claim(&self, fence: Fence) -> bool {
        self.held().get(&fence.shard).is_some_and(|held| held.fence == fence && !held.closed)
    }

    /// Marks a shard as closed; `true` if it was owned under this claim. Entities of the shard that
    /// are still in memory give no more answers. The shard stays in the list of owned shards until
    /// its claim is released; otherwise `look` would take it for a shard that an earlier process of
    /// this node had claimed.
    fn close(&self, fence: Fence) -> bool {
        let mut held = self.held();
        let Some(held) = held.get_mut(&fence.shard).filter(|held| held.fence == fence) else {
            return false;
        };
        held.lease.end();
        held.closed = true;
        true
    }

    /// Removes a shard from the list of owned shards.
    fn end(&self, fence: Fence) {
        let mut all = self.held();
        if all.get(&fence.shard).is_some_and(|held| held.fence == fence) {
            all.remove(&fence.shard);
        }
    }

    /// Drops the shards whose lease has ended, and those whose writes the journal has refused
    /// because another node owns them.
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
        self.look_now.notify_one();
    }

    /// Reads the members and the shards' owners, and claims and hands over shards accordingly,
    /// until stopped.
    pub(in crate::actors) async fn place(
        self: Arc<Self>,
        running: Arc<Shards>,
        stop: CancellationToken,
    ) {
        let mut heard = self.notices.listen();
        let mut news = true;
        loop {
            // `look` must not be cancelled half way: a shard could then be claimed without being
            // run.
            if let Err(error) = self.look(&running).await {
                tracing::warn!(%error, "cannot read the owners of the shards");
            }
            let look_at = Instant::now() + LOOK_EVERY;
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = self.look_now.notified() => break,
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

    /// One round: reads the view, claims free shards, and starts hand-overs. It does not wait for
    /// the hand-overs, because the view would become stale meanwhile.
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
                    // An earlier process of this node claimed the shard, or this node lost it and
                    // no node has claimed it since. Other nodes do not claim a shard whose listed
                    // owner is alive, so this node claims it, and hands it over later if placement
                    // assigns it to another node.
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
                // More hand-overs may be due.
                cluster.look_now.notify_one();
            });
        }
        Ok(())
    }

    fn is_free(&self, holding: &Holding) -> bool {
        holding.owner.as_ref().is_none_or(|owner| *owner == self.me)
    }

    /// Reads the members and the shards' owners.
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
            // A node renews its membership together with its shards' leases, so a shard whose owner
            // is not alive is free.
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

    /// Claims shards, and opens those whose claim succeeded.
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
        // Callers on this node that wait for a shard's owner read it from the view.
        self.refresh(running).await
    }

    /// Runs a claimed shard.
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
        // The shard may have been lost while it was opened.
        if opened.is_err() || !self.is_current_claim(fence) {
            self.lose(running, fence.shard);
        }
    }

    /// The number of shards that this node owns.
    #[must_use]
    pub fn shards_held(&self) -> usize {
        self.held().len()
    }
}
