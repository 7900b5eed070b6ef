//! Several nodes on one journal, all on one tokio runtime. To its environment, each is a process of
//! its own: it dies, restarts under the same name, and is disconnected from the store or from other
//! nodes.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::faulty_stream::{FaultyStream, SharedStream};
use super::feed_checker;
use super::fleet::{Fleet, One};
use super::intruder::Intruder;
use super::plan::{BUSY_MS, Intrusion, NodeFault, PlannedFault, SimulationPlan, StreamFault};
use super::process::SimulatedProcess;
use super::run::Environment;
use super::world::World;
use crate::actors::engine::cluster;
use crate::actors::engine::host;
use crate::actors::engine::runtime::{Defaults, Runtime};
use crate::actors::flows::payment::{self, Payments};
use crate::actors::node::{Node, NodeStart, ShopSettings};
use crate::bus::local::Board;
use crate::bus::stream::LocalStream;
use crate::bus::{self, Calls, NatsProblems, Notices, Now, cluster_key};
use crate::cache::Cache;
use crate::domain::cluster_key::{ClusterKey, KeyGeneration};
use crate::domain::order::CapturePolicy;
use crate::domain::pricing::Rules;
use crate::domain::time::Timestamp;
use crate::store::journal::lane;

/// The payment deadline of orders, in seconds of simulated time.
const DEADLINE_SECS: i64 = 300;
/// The time until which each node's feed of changes is checked, in simulated milliseconds.
const LISTEN_UNTIL: i64 = BUSY_MS + 120_000;
/// The longest downtime of a node that died, in milliseconds, in addition to half a second.
const AWAY_MAX: u64 = 20_000;

/// The connections between nodes: the bus and the stream; and the cluster's key, as the store has it.
pub struct ClusterNetwork {
    board: Board,
    stream: SharedStream,
    generations: Arc<Mutex<Vec<KeyGeneration>>>,
    intruder: Intruder,
}

impl ClusterNetwork {
    /// The connections of the nodes of a plan.
    #[must_use]
    pub fn new(world: &World, plan: &SimulationPlan) -> Self {
        let first = KeyGeneration { since: Timestamp::default(), secret: [1; 32] };
        let this = Self {
            board: Board::default(),
            stream: SharedStream::default(),
            generations: Arc::new(Mutex::new(vec![first])),
            intruder: Intruder::new(world, plan.seed, plan.shop.units.len()),
        };
        if plan.faults.iter().any(|fault| matches!(fault, PlannedFault::Intruder { .. })) {
            this.board.overheard_by(Arc::new(this.intruder.clone()));
        }
        this
    }

    fn generations(&self) -> MutexGuard<'_, Vec<KeyGeneration>> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of all nodes' commits.
    #[must_use]
    pub const fn stream(&self) -> &LocalStream {
        &self.stream.local
    }

    /// Removes all nodes from the bus, and makes the stream reachable.
    pub fn clear(&self) {
        for place in 0..NAMES.len() {
            self.forget(name(place));
        }
        self.stream.reach(true);
    }

    fn forget(&self, name: &str) {
        self.board.remove(name);
        self.board.cut(name, false);
        self.board.mute(name, false);
    }
}

/// The history of the store, to which the cluster's key is bound.
const HISTORY: &str = "simulated";

const NAMES: [&str; 4] = ["node-a", "node-b", "node-c", "node-d"];

/// The name of the node in a slot.
fn name(place: usize) -> &'static str {
    NAMES.get(place).copied().unwrap_or("node")
}

impl PlannedFault {
    /// Whether the fault may happen at any await point of any task. For plans with such faults, the
    /// runtime looks for timed events after every poll of a task.
    #[must_use]
    pub const fn needs_every_poll(&self) -> bool {
        matches!(self, Self::Crash { .. } | Self::Node { what: NodeFault::Killed { .. }, .. })
    }
}

impl Environment {
    /// The arguments to start a node in a process.
    pub(super) fn start(&self, process: &SimulatedProcess) -> NodeStart {
        self.lives.fetch_add(1, Ordering::Relaxed);
        let shop = &self.plan.shop;
        let defaults = (host::Options::default(), lane::Options::default());
        let (mut host, mut lane) = defaults;
        host.idle_secs = shop.idle_secs;
        host.snapshot_every = shop.snapshot_every;
        if shop.small {
            host = host::Options {
                commands_max: 12,
                entity_commands_max: 4,
                undurable_max: 3,
                ..host
            };
            lane = lane::Options { queue_appends: 6, batch_appends: 3, ..lane };
        }
        let settings = ShopSettings {
            hold_secs: 60,
            payment_deadline_secs: DEADLINE_SECS,
            capture: match shop.capture {
                0 => CapturePolicy::AtOnce,
                1 => CapturePolicy::AtDispatch,
                _ => CapturePolicy::ByHand,
            },
            timer_poll_ms: shop.timer_poll_ms,
            ..ShopSettings::default()
        };
        let patience =
            payment::Options { sweep_secs: 90, stuck_after: 4, ..payment::Options::default() };
        let disk = Arc::new(self.disk.of(process.clone()));
        let several = self.plan.nodes > 1;
        NodeStart {
            challenge_hook: None,
            nouns: (self.setup.nouns)(),
            store: Arc::new(self.tables.clone().behind(disk, Arc::new(process.clone()))),
            clock: self.world.clock(),
            rules: Rules::default(),
            rows: (self.setup.rows)(),
            projections: (self.setup.projections)(),
            settings,
            host,
            lane,
            lanes: if several { 2 } else { 1 },
            cluster: several.then(|| self.cluster(process)),
            payments: Payments::new(vec![Arc::new(self.bank.of(process.clone()))], patience),
            cache: Cache::in_process(),
            runtime: Runtime::new(&Defaults { sweep_secs: 90, ..Defaults::default() }),
        }
    }

    fn cluster(&self, process: &SimulatedProcess) -> cluster::ClusterStart {
        let (options, name) = (bus::Options::default(), process.name());
        let board = self.network.board.over(Arc::new(process.clone()));
        let clock = self.world.clock();
        let now: Now = Arc::new(move || clock.now());
        let key = self.cluster_key(process, &now);
        let stream = FaultyStream::new(
            self.network.stream.with_key(key.clone()),
            process.clone(),
            self.world.clone(),
        );
        cluster::ClusterStart {
            options: cluster::Options::default(),
            node: name.to_owned(),
            calls: Calls::local(&board, &options, key.clone(), name, now.clone()),
            notices: Notices::local(&board, key, name, now, process.stop()),
            stream: Some(Arc::new(stream)),
            bus: options,
            nats: None,
            nats_problems: NatsProblems::default(),
        }
    }

    /// The cluster's key, as a process knows it.
    fn cluster_key(&self, process: &SimulatedProcess, now: &Now) -> ClusterKey {
        let key = ClusterKey::alone();
        key.set(&self.network.generations(), HISTORY, now());
        let (generations, stored) = (self.network.generations.clone(), process.clone());
        let read = move || {
            let (generations, stored) = (generations.clone(), stored.clone());
            async move {
                stored.reach_store().await;
                Some(generations.lock().unwrap_or_else(PoisonError::into_inner).clone())
            }
        };
        let until = (now.clone(), process.stop());
        tokio::spawn(cluster_key::follow(key.clone(), read, HISTORY.to_owned(), until));
        key
    }

    /// Adds a generation to the cluster's key, as an operator does while nodes serve.
    pub(super) fn rotate_cluster_key(&self) {
        let since = self.world.clock().now();
        let mut generations = self.network.generations();
        let secret = [u8::try_from(generations.len() + 1).unwrap_or(u8::MAX); 32];
        generations.push(KeyGeneration { since, secret });
        self.world.tell("operator", |line| write!(line, "the cluster gets a new key"));
    }

    /// Lets the intruder act.
    pub(super) fn apply_intrusion(&self, what: Intrusion) {
        let wires = (self.network.board.clone(), self.network.stream.local.clone());
        let (nodes, shards) = (&NAMES[..self.plan.nodes], self.plan.shop.shards);
        tokio::spawn(self.network.intruder.clone().act(what, wires, (nodes, shards)));
    }

    /// Runs a node in every slot, and restarts it whenever it dies.
    pub(super) fn start_all(self: &Arc<Self>, fleet: &Fleet) {
        for place in 0..self.plan.nodes {
            tokio::spawn(self.clone().keep(place, fleet.clone()));
        }
    }

    async fn keep(self: Arc<Self>, place: usize, fleet: Fleet) {
        loop {
            let process = SimulatedProcess::among(&self.world, name(place), self.plan.bus);
            let living = async {
                let Ok(node) = Node::start(self.start(&process)).await else {
                    return process.die("because it could not start");
                };
                let listening = feed_checker::listen(&self.world, name(place), &node.changes);
                node.join(process.name()).await;
                fleet.put(place, Some(One { process: process.clone(), node }));
                tokio::select! {
                    biased;
                    () = listening => {}
                    () = self.world.until(LISTEN_UNTIL) => {}
                }
                std::future::pending().await
            };
            tokio::select! {
                biased;
                () = process.ended() => {}
                () = living => {}
            }
            fleet.put(place, None);
            self.network.forget(process.name());
            let pause = 500 + self.world.chance(AWAY_MAX);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Applies a fault to one of several nodes, if that node is running.
    pub(super) async fn apply_node_fault(
        self: &Arc<Self>,
        fleet: &Fleet,
        place: usize,
        what: NodeFault,
    ) {
        let Some(One { process, node }) = fleet.at(place) else { return };
        if self.plan.nodes == 1 {
            return;
        }
        let board = self.network.board.clone();
        match what {
            NodeFault::Killed { steps } => {
                for _ in 0..steps {
                    tokio::task::yield_now().await;
                }
                process.die("at any moment");
            }
            NodeFault::Leaves => {
                let fleet = fleet.clone();
                tokio::spawn(async move {
                    node.leave().await;
                    process.alive().await;
                    fleet.put(place, None);
                    node.stop().await;
                    process.die("after an orderly stop");
                });
            }
            NodeFault::NoStore { ms } => process.cut_off(ms),
            NodeFault::NoBus { ms } => {
                self.for_a_while(place, ms, "is cut off from the other nodes", move |on| {
                    board.cut(name(place), on);
                });
            }
            NodeFault::Mute { ms } => {
                self.for_a_while(place, ms, "sends no answers", move |on| {
                    board.mute(name(place), on);
                });
            }
        }
    }

    /// Calls `set` with `true`, and after `ms` milliseconds with `false`.
    fn for_a_while(
        &self,
        place: usize,
        ms: u64,
        what: &'static str,
        set: impl Fn(bool) + Send + 'static,
    ) {
        let world = self.world.clone();
        world.tell(name(place), |line| write!(line, "{what} for {ms} ms"));
        set(true);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            world.tell(name(place), |line| write!(line, "{what}: ended"));
            set(false);
        });
    }

    /// Applies a fault to the stream.
    pub(super) fn apply_stream_fault(&self, what: StreamFault) {
        let stream = self.network.stream.clone();
        self.world.tell("stream", |line| write!(line, "{what:?}"));
        match what {
            StreamFault::Deleted => stream.local.delete(),
            StreamFault::Tail { count } => stream.local.lose(count),
            StreamFault::Away { ms } => {
                stream.reach(false);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    stream.reach(true);
                });
            }
        }
    }
}
