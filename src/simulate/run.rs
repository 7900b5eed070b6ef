//! One run: lives of a node, one after the other, until all is quiet; then the last checks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::bank::Bank;
use super::check::{self, Checks};
use super::clients::Clients;
use super::disk::Disk;
use super::operators::Operators;
use super::plan::{BUSY_MS, Fault, Plan};
use super::watch::Watch;
use super::world::{Violation, World};
use crate::actors::host;
use crate::actors::node::{Node, Settings, Start};
use crate::actors::payments::{self, Payments};
use crate::domain::order::CapturePolicy;
use crate::domain::pricing::Rules;
use crate::store::journal::lane;
use crate::store::journal::memory::Memory as Journal;
use crate::store::memory::Memory;

/// How long an order can be paid, in seconds of simulated time.
const DEADLINE_SECS: i64 = 300;
/// When operators begin to look after what is stuck, in simulated milliseconds.
const KEEP_FROM: i64 = BUSY_MS + 120_000;
/// When everything has to be at rest, in simulated milliseconds of a clock that never jumped.
const END: i64 = 1_500_000;
/// How far apart whole checks are while something goes on and after it, in simulated milliseconds.
const CHECK_EVERY: (i64, i64) = (20_000, 300_000);
/// The most lives of one run.
const LIVES_MAX: u32 = 40;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// A digest of all that has happened: the same for the same plan.
    pub trace: u64,
    /// What does not hold.
    pub violation: Option<Violation>,
    /// What has happened, line by line, if it was asked for.
    pub story: Vec<String>,
    /// Simulated milliseconds.
    pub simulated_ms: i64,
    /// What there was of everything.
    pub counts: Counts,
}

/// What there was of everything.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
#[expect(missing_docs, reason = "each counts what its name says")]
pub struct Counts {
    pub lives: u64,
    pub events: u64,
    pub appends: u64,
    pub calls: u64,
    pub orders: u64,
    pub confirmed: u64,
    pub stuck: u64,
    pub checks: u64,
}

impl Counts {
    /// Adds those of another run.
    pub const fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.events += other.events;
        self.appends += other.appends;
        self.calls += other.calls;
        self.orders += other.orders;
        self.confirmed += other.confirmed;
        self.stuck += other.stuck;
        self.checks += other.checks;
    }
}

/// What outlives a node.
struct Outside {
    world: World,
    journal: Journal,
    tables: Memory,
    disk: Arc<Disk>,
    bank: Bank,
    clients: Clients,
    operators: Operators,
    watch: Arc<Mutex<Watch>>,
    checks: Checks,
    /// How many things that have their time have come.
    came: AtomicUsize,
}

/// How a life ended.
enum End {
    Killed,
    Stopped,
    Quiet,
    Wrong,
}

/// Runs a plan; `telling` keeps the story.
#[must_use]
pub fn run(plan: &Plan, telling: bool) -> Outcome {
    let outside = Outside::new(plan, telling);
    let mut lives = 0;
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), || {
        loop {
            lives += 1;
            if matches!(outside.live(plan), End::Quiet | End::Wrong) {
                break;
            }
            if lives >= LIVES_MAX {
                outside.world.violate("a node comes to life", format!("{lives} lives"));
                break;
            }
        }
    });
    outside.outcome(lives)
}

impl Outside {
    fn new(plan: &Plan, telling: bool) -> Self {
        let world = World::new(plan.seed, telling);
        let journal = Journal::new(1);
        let watch = Arc::new(Mutex::new(Watch::default()));
        let disk = Disk::new(world.clone(), journal.clone(), plan.faults.clone(), watch.clone());
        let disk = Arc::new(disk);
        let tables = Memory::new(journal.clone());
        let clients = Clients::new(world.clone(), plan.net, journal.clone(), plan.buyers.len());
        Self {
            bank: Bank::new(world.clone(), &plan.faults, plan.net, watch.clone()),
            operators: Operators::new(clients.clone()),
            checks: Checks::default(),
            came: AtomicUsize::new(0),
            world,
            journal,
            tables,
            disk,
            clients,
            watch,
        }
    }

    fn live(&self, plan: &Plan) -> End {
        let fine = plan.faults.iter().any(|fault| matches!(fault, Fault::Crash { .. }));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .event_interval(if fine { 1 } else { 61 })
            .build();
        let Ok(runtime) = runtime else {
            self.world.violate("a node comes to life", "no runtime");
            return End::Wrong;
        };
        runtime.block_on(async {
            self.world.begin_life();
            let end = self.one_life(plan).await;
            // Time stands from here on: what is dropped now is dropped at one moment.
            let pause = 100 + i64::try_from(self.world.chance(3_000)).unwrap_or(0);
            self.world.end_life(pause);
            end
        })
    }

    async fn one_life(&self, plan: &Plan) -> End {
        let started = tokio::select! {
            biased;
            () = self.world.ended() => return self.how_ended(),
            started = Node::start(self.start(plan)) => started,
        };
        let Ok(node) = started else {
            return End::Killed;
        };
        self.populate(plan, &node);
        let ends = end(plan);
        let mut next_check = after(self.world.elapsed());
        loop {
            let now = self.world.elapsed();
            let event = next_event(plan, self.came.load(Ordering::Relaxed));
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
                check::shelves(&self.world, &node, &self.watch, plan.shop.units.len()).await;
                self.checks.verify(&self.world, &self.tables, &self.bank, false).await;
            }
            if let Some((_, fault)) = event.filter(|(at, _)| *at <= now) {
                self.came.fetch_add(1, Ordering::Relaxed);
                if let Some(end) = self.befall(&node, fault).await {
                    return end;
                }
            }
            if now >= ends {
                let ending = self.finish(&node, plan);
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

    fn start(&self, plan: &Plan) -> Start {
        let shop = &plan.shop;
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
        let settings = Settings {
            hold_secs: 60,
            payment_deadline_secs: DEADLINE_SECS,
            capture: match shop.capture {
                0 => CapturePolicy::AtOnce,
                1 => CapturePolicy::AtDispatch,
                _ => CapturePolicy::ByHand,
            },
            timer_poll_ms: shop.timer_poll_ms,
            ..Settings::default()
        };
        let patience =
            payments::Options { sweep_secs: 90, stuck_after: 4, ..payments::Options::default() };
        Start {
            store: Arc::new(self.tables.clone().behind(self.disk.clone())),
            clock: self.world.clock(),
            rules: Rules::default(),
            settings,
            host,
            lane,
            payments: Payments::new(vec![Arc::new(self.bank.clone())], patience),
        }
    }

    /// Sends everybody to the node who has something to do there.
    fn populate(&self, plan: &Plan, node: &Arc<Node>) {
        let (units, history) = (plan.shop.units.clone(), plan.shop.history);
        tokio::spawn(self.operators.clone().open_shop(node.clone(), units, history));
        tokio::spawn(self.clients.clone().bring(node.clone(), self.bank.clone()));
        for (me, buyer) in plan.buyers.iter().enumerate().filter(|(_, buyer)| buyer.comes()) {
            tokio::spawn(self.clients.clone().buy(node.clone(), me, buyer.clone()));
        }
        for (number, (at, deed)) in plan.deeds.iter().enumerate() {
            let operators = self.operators.clone();
            tokio::spawn(operators.act(node.clone(), *at, number, deed.clone()));
        }
        tokio::spawn(self.operators.clone().keep(node.clone(), KEEP_FROM));
    }

    /// Lets something happen that has its time; the end of this life, if it is that.
    async fn befall(&self, node: &Arc<Node>, fault: &Fault) -> Option<End> {
        match fault {
            Fault::Crash { steps, .. } => {
                for _ in 0..*steps {
                    tokio::task::yield_now().await;
                }
                self.world.die("at any moment");
                return Some(End::Killed);
            }
            Fault::Stop { .. } => {
                tokio::select! {
                    biased;
                    () = self.world.ended() => return Some(self.how_ended()),
                    () = node.stop() => {}
                }
                self.world.die("after it was stopped in good order");
                return Some(End::Stopped);
            }
            Fault::ReadsFail { count, .. } => self.disk.fail_reads(*count),
            Fault::TablesFail { count, .. } => self.tables.fail(*count),
            Fault::Clock { by, .. } => self.world.turn_clock(*by),
            Fault::StaleSnapshots { .. } => self.disk.age_snapshots(),
            _ => {}
        }
        None
    }

    /// All is over: everything is at rest, stopped in good order, and proved.
    async fn finish(&self, node: &Arc<Node>, plan: &Plan) {
        check::shelves(&self.world, node, &self.watch, plan.shop.units.len()).await;
        node.stop().await;
        self.checks.verify(&self.world, &self.tables, &self.bank, true).await;
        let known = self.clients.known();
        self.checks.at_rest(&self.world, &self.journal, &self.bank, &known).await;
    }

    fn outcome(&self, lives: u32) -> Outcome {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = Counts {
            lives: u64::from(lives),
            events: watch.events,
            appends: self.disk.appends(),
            calls: self.bank.calls(),
            confirmed: watch.confirmed,
            ..self.checks.counts()
        };
        Outcome {
            trace: self.world.hash(),
            violation: self.world.violation(),
            story: self.world.story(),
            simulated_ms: self.world.elapsed(),
            counts,
        }
    }
}

/// When everything has to be at rest: what was promised while the clock ran ahead is due later.
fn end(plan: &Plan) -> i64 {
    let ahead = plan.faults.iter().map(|fault| match fault {
        Fault::Clock { by, .. } => (*by).max(0),
        _ => 0,
    });
    END + ahead.sum::<i64>()
}

/// When the next whole check is.
const fn after(now: i64) -> i64 {
    now + if now < KEEP_FROM + 60_000 { CHECK_EVERY.0 } else { CHECK_EVERY.1 }
}

/// The next thing that has its time, after so many that came. What was due while no node lived
/// comes as soon as one does.
fn next_event(plan: &Plan, came: usize) -> Option<(i64, &Fault)> {
    let timed = plan.faults.iter().filter_map(|fault| match fault {
        Fault::Crash { at, .. }
        | Fault::Stop { at }
        | Fault::ReadsFail { at, .. }
        | Fault::TablesFail { at, .. }
        | Fault::Clock { at, .. }
        | Fault::StaleSnapshots { at } => Some((*at, fault)),
        _ => None,
    });
    let mut timed: Vec<_> = timed.collect();
    timed.sort_by_key(|(at, _)| *at);
    timed.get(came).copied()
}
