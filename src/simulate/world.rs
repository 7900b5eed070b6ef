//! The simulated world, which outlives the nodes: time, randomness, the log, and the first
//! violation. Everything runs on one thread.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::actors::engine::clock::{Clock, TimeSource};
use crate::domain::time::Timestamp;

/// The time at which every run starts, in milliseconds since 1970.
const BEGINNING: i64 = 1_750_000_000_000;
/// The most lines of a log.
const LINES_MAX: usize = 20_000;

/// The world. Clones are handles on the same world.
#[derive(Clone)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
    ended: Arc<Notify>,
}

struct Inner {
    /// Simulated milliseconds before this life.
    before: i64,
    /// The start of this life, on its own runtime.
    began: Option<Instant>,
    /// By how many milliseconds the machine's clock is ahead of the store's.
    skew: i64,
    /// When the machine's clock last jumped.
    turned: i64,
    chance: StdRng,
    hash: DefaultHasher,
    story: Option<Vec<String>>,
    line: String,
    dead: bool,
    violation: Option<BrokenPromise>,
}

/// A violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenPromise {
    /// The violated rule; a reduced plan has to violate the same one.
    pub rule: String,
    /// The description.
    pub what: String,
}

impl World {
    /// A world at its start; `telling` records the log.
    #[must_use]
    pub fn new(seed: u64, telling: bool) -> Self {
        let inner = Inner {
            before: 0,
            began: None,
            skew: 0,
            turned: i64::MIN / 2,
            chance: StdRng::seed_from_u64(!seed),
            hash: DefaultHasher::new(),
            story: telling.then(Vec::new),
            line: String::new(),
            dead: false,
            violation: None,
        };
        Self { inner: Arc::new(Mutex::new(inner)), ended: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock of the nodes, which jumps by planned faults.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::of(Arc::new(self.clone()))
    }

    /// Milliseconds since the start, by a clock that never jumps.
    #[must_use]
    pub fn elapsed(&self) -> i64 {
        self.lock().elapsed()
    }

    /// Waits until this many milliseconds after the start.
    pub async fn until(&self, at: i64) {
        let wait = u64::try_from(at - self.elapsed()).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    /// The clock of the store, which never jumps.
    #[must_use]
    pub fn store_time(&self) -> Timestamp {
        Timestamp::from_millis(BEGINNING + self.elapsed())
    }

    /// A process starts, on a runtime of its own.
    pub fn begin_life(&self) {
        let mut inner = self.lock();
        inner.began = Some(Instant::now());
        inner.dead = false;
    }

    /// The process has ended; the next one starts after a pause.
    pub fn end_life(&self, pause_ms: i64) {
        let mut inner = self.lock();
        inner.before = inner.elapsed() + pause_ms;
        inner.began = None;
    }

    /// The process dies: from now on nothing that it does has an effect.
    pub fn die(&self, of: &str) {
        if !std::mem::replace(&mut self.lock().dead, true) {
            self.tell("machine", |line| write!(line, "the process is killed {of}"));
            self.ended.notify_one();
        }
    }

    /// Waits forever in a dead process.
    pub async fn alive(&self) {
        if self.lock().dead {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the process is dead.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Resolves when the process is dead, or there is a violation.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Makes the machine's clock jump by `by` milliseconds.
    pub fn turn_clock(&self, by: i64) {
        let mut inner = self.lock();
        inner.skew += by;
        inner.turned = inner.elapsed();
        drop(inner);
        self.tell("machine", |line| write!(line, "its clock jumps by {} s", by / 1_000));
    }

    /// Whether the clock jumped within the last half minute.
    #[must_use]
    pub fn turned_lately(&self) -> bool {
        let inner = self.lock();
        inner.elapsed() - inner.turned < 30_000
    }

    /// Corrects the machine's clock.
    pub fn right_clock(&self) {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.skew) != 0 {
            inner.turned = inner.elapsed();
            drop(inner);
            self.tell("machine", |line| write!(line, "its clock is correct again"));
        }
    }

    /// A random number below `end`.
    pub fn chance(&self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.lock().chance.random_range(0..end) }
    }

    /// Returns `true` with this probability, in per cent.
    pub fn happens(&self, per_cent: u32) -> bool {
        self.lock().chance.random_range(0..100) < per_cent
    }

    /// Adds a line to the log.
    pub fn tell(&self, who: &str, write: impl FnOnce(&mut String) -> std::fmt::Result) {
        let mut inner = self.lock();
        let elapsed = inner.elapsed();
        let mut line = std::mem::take(&mut inner.line);
        line.clear();
        // Writing to a string does not fail.
        let _infallible = write!(line, "{:>4}.{:03}  {who:<9} ", elapsed / 1_000, elapsed % 1_000);
        let _infallible = write(&mut line);
        inner.hash.write(line.as_bytes());
        let over = inner.violation.is_some();
        let story = inner.story.as_mut().filter(|story| !over && story.len() < LINES_MAX);
        if let Some(story) = story {
            story.push(line.clone());
        }
        inner.line = line;
    }

    /// Adds bytes to the run's digest that are not in its log.
    pub fn trace(&self, bytes: &[u8]) {
        self.lock().hash.write(bytes);
    }

    /// Reports a violation. The first one ends the run.
    pub fn violate(&self, rule: &str, what: impl Into<String>) {
        let what = what.into();
        self.tell("WRONG", |line| write!(line, "{rule}: {what}"));
        let mut inner = self.lock();
        if inner.violation.is_none() {
            inner.violation = Some(BrokenPromise { rule: rule.to_owned(), what });
        }
        drop(inner);
        self.ended.notify_one();
    }

    /// The violation, if there is one.
    #[must_use]
    pub fn violation(&self) -> Option<BrokenPromise> {
        self.lock().violation.clone()
    }

    /// A digest of everything that happened.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.lock().hash.finish()
    }

    /// The log, if it was recorded.
    #[must_use]
    pub fn story(&self) -> Vec<String> {
        self.lock().story.clone().unwrap_or_default()
    }
}

impl Inner {
    fn elapsed(&self) -> i64 {
        let life = self.began.map_or(0, |began| began.elapsed().as_millis());
        self.before + i64::try_from(life).unwrap_or(i64::MAX)
    }
}

impl TimeSource for World {
    fn now(&self) -> Timestamp {
        let inner = self.lock();
        Timestamp::from_millis(BEGINNING + inner.elapsed() + inner.skew)
    }

    fn draw(&self) -> u64 {
        self.lock().chance.next_u64()
    }
}
