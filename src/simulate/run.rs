//! One run of a plan: a machine is started, crashes or is stopped, and is started again, until
//! everything has finished; then come the final checks. The time from a start to the next end is a
//! life. In each life the machine runs one node, or several that die and restart independently
//! (`nodes`).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use super::bank::Bank;
use super::check::{self, Checks};
use super::clients::Clients;
use super::copier::Copier;
use super::disk::Disk;
use super::fleet::{Fleet, One};
use super::nodes::ClusterNetwork;
use super::operators::Operators;
use super::plan::{BUSY_MS, PlannedFault, SimulationPlan};
use super::process::SimulatedProcess;
use super::story::{Setup, Story};
use super::watch::BooksWatch;
use super::world::{BrokenPromise, World};
use crate::actors::node::Node;
use crate::store::journal::memory::MemoryJournal as Journal;
use crate::store::memory::MemoryStore;

/// When operators start to handle stuck orders, in simulated milliseconds.
const KEEP_FROM: i64 = BUSY_MS + 120_000;
/// When everything must have finished, in simulated milliseconds of a clock that never jumped.
const END: i64 = 1_500_000;
/// The same with several nodes. It is earlier, because nodes of a cluster are never idle, and
/// simulating them takes much computing time.
const END_OF_SEVERAL: i64 = 900_000;
/// The period of full checks, during and after the activity, in simulated milliseconds.
const CHECK_EVERY: (i64, i64) = (20_000, 300_000);
/// The most lives of one run.
const LIVES_MAX: u32 = 40;
/// The longest time until all nodes run at the end, in simulated milliseconds.
const BACK_MAX: i64 = 120_000;
/// How long after its planned end a run may still go on, in simulated milliseconds.
const LATE_MAX: i64 = 1_800_000;
/// The longest time of an orderly stop.
const STOP_MAX: Duration = Duration::from_secs(60);

/// The result of a run.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// A digest of everything that happened: the same plan gives the same digest.
    pub trace: u64,
    /// The violation, if there was one.
    pub violation: Option<BrokenPromise>,
    /// The log of the run, line by line, if it was requested.
    pub story: Vec<String>,
    /// The simulated duration of the run, in milliseconds.
    pub simulated_ms: i64,
    /// The counts.
    pub counts: RunCounts,
}

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
#[expect(missing_docs, reason = "each counts what its name says")]
pub struct RunCounts {
    pub lives: u64,
    pub clusters: u64,
    pub claims: u64,
    pub events: u64,
    pub appends: u64,
    pub calls: u64,
    pub orders: u64,
    pub confirmed: u64,
    pub stuck: u64,
    pub checks: u64,
}

impl RunCounts {
    /// Adds the counts of another run.
    pub const fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.clusters += other.clusters;
        self.claims += other.claims;
        self.events += other.events;
        self.appends += other.appends;
        self.calls += other.calls;
        self.orders += other.orders;
        self.confirmed += other.confirmed;
        self.stuck += other.stuck;
        self.checks += other.checks;
    }
}

/// The environment of the nodes, which outlives the lives of the machine.
pub(super) struct Environment {
    pub plan: SimulationPlan,
    pub setup: Setup,
    pub world: World,
    pub journal: Journal,
    pub tables: MemoryStore,
    pub disk: Disk,
    pub bank: Bank,
    /// The last backup of the store.
    pub backup: Mutex<Option<MemoryStore>>,
    /// The connections between several nodes.
    pub network: ClusterNetwork,
    /// The number of node starts.
    pub lives: AtomicU64,
    clients: Clients,
    operators: Operators,
    copier: Copier,
    stories: Vec<Arc<dyn Story>>,
    watch: Arc<Mutex<BooksWatch>>,
    pub checks: Checks,
    /// The number of timed faults that have happened.
    faults_applied: AtomicUsize,
}

/// Why a life of the machine has ended.
enum End {
    Killed,
    Stopped,
    Quiet,
    Wrong,
}

/// Runs a plan on a standard shop; `telling` records the log.
#[must_use]
pub fn run(plan: &SimulationPlan, telling: bool) -> RunOutcome {
    run_with(&Setup::standard(), plan, telling)
}

/// Runs a plan on a shop with additional nouns.
#[must_use]
pub fn run_with(setup: &Setup, plan: &SimulationPlan, telling: bool) -> RunOutcome {
    let environment = Arc::new(Environment::new(setup, plan, telling));
    let mut lives = 0;
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), || {
        loop {
            lives += 1;
            if matches!(environment.live(), End::Quiet | End::Wrong) {
                break;
            }
            if lives >= LIVES_MAX {
                environment.world.violate("a node starts", format!("{lives} lives"));
                break;
            }
        }
    });
    environment.outcome()
}

impl Environment {
    fn new(setup: &Setup, plan: &SimulationPlan, telling: bool) -> Self {
        let world = World::new(plan.seed, telling);
        let time = world.clone();
        let journal = Journal::with_time(plan.shop.shards, Arc::new(move || time.store_time()));
        let watch = Arc::new(Mutex::new(BooksWatch::default()));
        let disk = Disk::new(world.clone(), journal.clone(), plan.faults.clone(), watch.clone());
        let bank = Bank::new(world.clone(), &plan.faults, plan.net, watch.clone());
        let tables = MemoryStore::new(journal.clone());
        let clients = Clients::new(
            world.clone(),
            plan.net,
            (journal.clone(), tables.clone()),
            plan.buyers.len(),
        );
        Self {
            operators: Operators::new(clients.clone(), plan.shop.units.len(), bank.clone()),
            bank,
            copier: Copier::new(&world, plan.shop.shards),
            checks: Checks::new(setup.books),
            stories: setup.stories.iter().map(|draw| draw(plan.seed)).collect(),
            setup: setup.clone(),
            faults_applied: AtomicUsize::new(0),
            backup: Mutex::default(),
            network: ClusterNetwork::new(&world, plan),
            lives: AtomicU64::new(0),
            plan: plan.clone(),
            world,
            journal,
            tables,
            disk,
            clients,
            watch,
        }
    }

    fn live(self: &Arc<Self>) -> End {
        let every_poll = self.plan.faults.iter().any(PlannedFault::needs_every_poll);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .event_interval(if every_poll { 1 } else { 61 })
            .build();
        let Ok(runtime) = runtime else {
            self.world.violate("a node starts", "no runtime");
            return End::Wrong;
        };
        let end = runtime.block_on(async {
            self.world.begin_life();
            let latest = end(&self.plan) + LATE_MAX;
            let end = tokio::select! {
                biased;
                end = self.one_life() => end,
                () = self.world.until(latest) => {
                    self.world.violate("every run ends", "a client waits for ever");
                    End::Wrong
                }
            };
            // Simulated time stands still from here on, so everything is dropped at the same
            // moment.
            let pause = 100 + i64::try_from(self.world.chance(3_000)).unwrap_or(0);
            self.world.end_life(pause);
            end
        });
        self.network.clear();
        end
    }

    async fn one_life(self: &Arc<Self>) -> End {
        let fleet = Fleet::new(&self.world, self.plan.nodes);
        if self.plan.nodes > 1 {
            self.start_all(&fleet);
        } else {
            let process = SimulatedProcess::alone(&self.world);
            let started = tokio::select! {
                biased;
                () = self.world.ended() => return self.how_ended(),
                started = Node::start(self.start(&process)) => started,
            };
            let Ok(node) = started else {
                return End::Killed;
            };
            fleet.put(0, Some(One { process, node }));
        }
        self.populate(&fleet);
        let ends = end(&self.plan);
        let mut next_check = after(self.world.elapsed());
        loop {
            let now = self.world.elapsed();
            let event = next_event(&self.plan, self.faults_applied.load(Ordering::Relaxed));
            let until = event.map_or(ends, |(at, _)| at).min(next_check).min(ends);
            let wait = Duration::from_millis(u64::try_from(until - now).unwrap_or(0));
            tokio::select! {
                biased;
                () = self.world.ended() => return self.how_ended(),
                () = tokio::time::sleep(wait) => {}
            }
            let now = self.world.elapsed();
            if now >= KEEP_FROM {
                self.world.right_clock();
            }
            if now >= next_check {
                next_check = after(now);
                self.check_sellable(&fleet).await;
                self.checks.verify(&self.world, &self.tables, &self.bank, false).await;
            }
            if let Some((_, fault)) = event.filter(|(at, _)| *at <= now) {
                self.faults_applied.fetch_add(1, Ordering::Relaxed);
                if let Some(end) = self.apply_timed_fault(&fleet, fault).await {
                    return end;
                }
            }
            if now >= ends {
                let ending = self.finish(&fleet);
                return tokio::select! {
                    biased;
                    () = self.world.ended() => self.how_ended(),
                    () = ending => if self.world.violation().is_some() { End::Wrong } else { End::Quiet },
                };
            }
        }
    }

    fn how_ended(&self) -> End {
        if self.world.violation().is_some() { End::Wrong } else { End::Killed }
    }

    async fn check_sellable(&self, fleet: &Fleet) {
        check::check_sellable(&self.clients, fleet, &self.watch, self.plan.shop.units.len()).await;
    }

    /// Starts all clients and operators that have something to do.
    fn populate(&self, fleet: &Fleet) {
        let plan = &self.plan;
        let (units, history) = (plan.shop.units.clone(), plan.shop.history);
        tokio::spawn(self.operators.clone().open_shop(fleet.clone(), units, history));
        tokio::spawn(self.clients.clone().bring(fleet.clone(), self.bank.clone()));
        for (me, buyer) in plan.buyers.iter().enumerate().filter(|(_, buyer)| buyer.takes_part()) {
            tokio::spawn(self.clients.clone().buy(fleet.clone(), me, buyer.clone()));
        }
        for (number, (at, action)) in plan.actions.iter().enumerate() {
            let operators = self.operators.clone();
            tokio::spawn(operators.act(fleet.clone(), *at, number, action.clone()));
        }
        for story in self.stories.iter() {
            let (story, clients, fleet) = (story.clone(), self.clients.clone(), fleet.clone());
            tokio::spawn(async move { story.act(&clients, &fleet).await });
        }
        tokio::spawn(self.operators.clone().keep(fleet.clone(), KEEP_FROM));
        if plan.nodes > 1 {
            let (clients, skus) = (self.clients.clone(), plan.shop.units.len());
            tokio::spawn(check::look_around(clients, fleet.clone(), skus, KEEP_FROM));
            tokio::spawn(self.copier.clone().follow(fleet.clone(), KEEP_FROM));
        }
    }

    /// Applies a timed fault; if that ends this life of the machine, returns why.
    async fn apply_timed_fault(
        self: &Arc<Self>,
        fleet: &Fleet,
        fault: &PlannedFault,
    ) -> Option<End> {
        match fault {
            PlannedFault::Crash { steps, .. } => {
                for _ in 0..*steps {
                    tokio::task::yield_now().await;
                }
                self.world.die("at any moment");
                return Some(End::Killed);
            }
            PlannedFault::Stop { .. } => {
                let all = fleet.all();
                let stopping =
                    all.iter().map(|one| tokio::time::timeout(STOP_MAX, one.node.stop()));
                tokio::select! {
                    biased;
                    () = self.world.ended() => return Some(self.how_ended()),
                    _ = join_all(stopping) => {}
                }
                self.world.die("after an orderly stop");
                return Some(End::Stopped);
            }
            PlannedFault::ReadsFail { count, .. } => self.disk.fail_reads(*count),
            PlannedFault::TablesFail { count, .. } => self.tables.fail(*count),
            PlannedFault::Clock { by, .. } => self.world.turn_clock(*by),
            PlannedFault::StaleSnapshots { .. } => self.disk.age_snapshots(),
            PlannedFault::Node { node, what, .. } => {
                self.apply_node_fault(fleet, *node, *what).await
            }
            PlannedFault::Stream { what, .. } => self.apply_stream_fault(*what),
            PlannedFault::Intruder { what, .. } => self.apply_intrusion(*what),
            PlannedFault::KeyRotated { .. } => self.rotate_cluster_key(),
            PlannedFault::BackedUp { .. } => self.back_up(),
            PlannedFault::Append { .. } | PlannedFault::Call { .. } => {}
        }
        None
    }

    /// Ends the run: stops all nodes in an orderly way, and makes the final checks.
    async fn finish(&self, fleet: &Fleet) {
        if self.plan.nodes > 1 {
            self.close_down(fleet).await;
        }
        self.check_sellable(fleet).await;
        if self.plan.nodes > 1 {
            self.end_one(fleet, 0).await;
        } else if let Some(One { node, .. }) = fleet.at(0) {
            node.stop().await;
        }
        self.checks.verify(&self.world, &self.tables, &self.bank, true).await;
        check::check_changed_history(&self.world, &self.journal).await;
        let known = self.clients.known();
        self.checks.is_finished(&self.world, &self.journal, &self.bank, &known).await;
        if self.plan.nodes > 1
            && let Err(error) = self.copier.finish(&self.tables).await
        {
            self.world.violate("the store is readable", error.to_string());
        }
        for story in &self.stories {
            story.check(&self.clients).await;
        }
        self.check_restored().await;
    }

    /// Waits until all nodes run, checks them, and makes all but the first leave.
    async fn close_down(&self, fleet: &Fleet) {
        let latest = self.world.elapsed() + BACK_MAX;
        while !fleet.is_whole() {
            if self.world.elapsed() > latest {
                return self.world.violate("a node starts again", "a node is down at the end");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.check_sellable(fleet).await;
        check::check_relayed(&self.world, &self.journal, self.network.stream());
        for place in 1..self.plan.nodes {
            self.end_one(fleet, place).await;
        }
    }

    /// Makes the node of a slot leave for good. If it dies meanwhile, it is restarted and asked
    /// again.
    async fn end_one(&self, fleet: &Fleet, place: usize) {
        let latest = self.world.elapsed() + BACK_MAX;
        while self.world.elapsed() <= latest {
            let Some(One { process, node }) = fleet.at(place) else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let left = async {
                node.leave().await;
                fleet.put(place, None);
                node.stop().await;
            };
            if process.answers(left).await.is_some() {
                return;
            }
            fleet.put(place, None);
        }
        self.world.violate("a node stops on request", "a node is still running at the end");
    }

    fn outcome(&self) -> RunOutcome {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = RunCounts {
            lives: self.lives.load(Ordering::Relaxed),
            clusters: u64::from(self.plan.nodes > 1),
            claims: if self.plan.nodes > 1 { self.claims() } else { 0 },
            events: watch.events,
            appends: self.disk.appends(),
            calls: self.bank.calls(),
            confirmed: watch.confirmed,
            ..self.checks.counts()
        };
        RunOutcome {
            trace: self.world.hash(),
            violation: self.world.violation(),
            story: self.world.story(),
            simulated_ms: self.world.elapsed(),
            counts,
        }
    }
}

impl Environment {
    /// The number of claims, over all shards.
    fn claims(&self) -> u64 {
        let epochs = (0..self.plan.shop.shards).map(|shard| self.journal.epoch_and_head(shard).0);
        u64::try_from(epochs.sum::<i64>()).unwrap_or(0)
    }
}

/// When everything must have finished, in simulated milliseconds. If the plan sets the clock ahead,
/// this is later, because deadlines that are set then are later.
fn end(plan: &SimulationPlan) -> i64 {
    let ahead = plan.faults.iter().map(|fault| match fault {
        PlannedFault::Clock { by, .. } => (*by).max(0),
        _ => 0,
    });
    let end = if plan.nodes > 1 { END_OF_SEVERAL } else { END };
    end + ahead.sum::<i64>()
}

/// The time of the next full check.
const fn after(now: i64) -> i64 {
    now + if now < KEEP_FROM + 60_000 { CHECK_EVERY.0 } else { CHECK_EVERY.1 }
}

/// The next timed fault, after the `faults_applied` faults that have happened. Faults that were due
/// while no node ran happen as soon as one runs.
fn next_event(plan: &SimulationPlan, faults_applied: usize) -> Option<(i64, &PlannedFault)> {
    let timed = plan.faults.iter().filter_map(|fault| match fault {
        PlannedFault::Crash { at, .. }
        | PlannedFault::Stop { at }
        | PlannedFault::ReadsFail { at, .. }
        | PlannedFault::TablesFail { at, .. }
        | PlannedFault::Clock { at, .. }
        | PlannedFault::StaleSnapshots { at }
        | PlannedFault::Node { at, .. }
        | PlannedFault::Stream { at, .. }
        | PlannedFault::Intruder { at, .. }
        | PlannedFault::KeyRotated { at }
        | PlannedFault::BackedUp { at } => Some((*at, fault)),
        PlannedFault::Append { .. } | PlannedFault::Call { .. } => None,
    });
    let mut timed: Vec<_> = timed.collect();
    timed.sort_by_key(|(at, _)| *at);
    timed.get(faults_applied).copied()
}
