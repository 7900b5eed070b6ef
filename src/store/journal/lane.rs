//! The lane: the one writer of a shard. It takes whatever is queued, writes it in one
//! transaction, and takes what has queued meanwhile; one transaction in flight, no timer.
//!
//! Who is told what, and in which order, is decided here; how it is written is the journal's.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot, watch};

use crate::domain::entity::EntityId;
use crate::domain::flaw::{self, Flaw};

use super::{Append, AppendError, Epoch, Journal, Record};

/// Told of what became of an append, once it is settled.
pub type Done = Box<dyn FnOnce(Result<(), AppendError>) + Send>;

/// Shown a commit's records, in order, before those who appended them are told.
pub type Committed = Arc<dyn Fn(&[Record]) + Send + Sync>;

/// The limits of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How many appends may wait or be in flight.
    pub queue_appends: usize,
    /// How many bytes of events may wait or be in flight.
    pub queue_bytes: usize,
    /// How many appends go into one commit.
    pub batch_appends: usize,
    /// How many bytes of events go into one commit, unless a single append has more.
    pub batch_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_appends: 16_384,
            queue_bytes: 64 << 20,
            batch_appends: 512,
            batch_bytes: 1 << 20,
        }
    }
}

/// The lane has no room; the append is given back.
#[derive(thiserror::Error)]
#[error("the journal's queue is full")]
pub struct Full {
    /// What was not enqueued.
    pub append: Box<Append>,
    /// Whom nobody will tell.
    pub done: Done,
}

impl std::fmt::Debug for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Full").field("append", &self.append).finish_non_exhaustive()
    }
}

/// What a lane has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transactions that were committed.
    pub commits: u64,
    /// Appends in them.
    pub appends: u64,
    /// Events in them.
    pub records: u64,
    /// Appends that were not written, or may not have been.
    pub refused: u64,
}

/// A handle on a shard's writer. The writer ends when the last handle is dropped and its queue
/// is empty.
#[derive(Clone)]
pub struct Lane {
    shared: Arc<Shared>,
    _handles: Arc<Handles>,
}

struct Shared {
    journal: Arc<dyn Journal>,
    shard: u16,
    epoch: Epoch,
    options: Options,
    committed: Committed,
    queue: Mutex<Queue>,
    wake: Notify,
    lost: watch::Sender<bool>,
    commits: AtomicU64,
    appends: AtomicU64,
    records: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// Appends that wait or are in flight, and their bytes.
    appends: usize,
    bytes: usize,
    /// Entities with a refused append: whatever they queue is refused until they have read
    /// their history again.
    poisoned: HashSet<EntityId>,
    closed: bool,
}

enum Job {
    Append(Box<Pending>),
    Flush(oneshot::Sender<()>),
}

struct Pending {
    append: Append,
    bytes: usize,
    done: Done,
    /// An earlier append that it builds on was refused.
    doomed: bool,
}

/// What goes into one transaction, as parallel lists: the journal takes a slice of appends.
#[derive(Default)]
struct Batch {
    appends: Vec<Append>,
    done: Vec<Option<Done>>,
    doomed: Vec<bool>,
    bytes: usize,
}

/// Closes the queue when the last handle goes.
struct Handles(Arc<Shared>);

impl Drop for Handles {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.wake.notify_one();
    }
}

impl Lane {
    /// Starts the writer of a shard as a task of the current runtime. `committed` and the
    /// callbacks run on that task: they hand on, they do not work.
    #[must_use]
    pub fn start(
        journal: Arc<dyn Journal>,
        shard: u16,
        epoch: Epoch,
        options: Options,
        committed: Committed,
    ) -> Self {
        let shared = Arc::new(Shared {
            journal,
            shard,
            epoch,
            options,
            committed,
            queue: Mutex::default(),
            wake: Notify::new(),
            lost: watch::Sender::new(false),
            commits: AtomicU64::new(0),
            appends: AtomicU64::new(0),
            records: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        tokio::spawn(run(Arc::clone(&shared)));
        Self { _handles: Arc::new(Handles(Arc::clone(&shared))), shared }
    }

    /// Queues an append without waiting. `done` is called once it is settled, in the order of
    /// the queue.
    ///
    /// # Errors
    /// [`Full`], with the append, when too many appends or bytes are queued.
    pub fn enqueue(&self, append: Append, done: Done) -> Result<(), Full> {
        let bytes = weigh(&append);
        {
            let mut queue = self.shared.queue();
            let options = &self.shared.options;
            // A queue that is empty takes an append of any size, or it would never be written.
            let full = queue.appends >= options.queue_appends
                || queue.bytes.saturating_add(bytes) > options.queue_bytes;
            if queue.appends > 0 && full {
                return Err(Full { append: Box::new(append), done });
            }
            queue.appends += 1;
            queue.bytes += bytes;
            let doomed = queue.poisoned.contains(&append.entity);
            let pending = Pending { append, bytes, done, doomed };
            queue.waiting.push_back(Job::Append(Box::new(pending)));
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Waits until all that was queued before is settled.
    pub async fn flush(&self) {
        let (done, settled) = oneshot::channel();
        self.shared.queue().waiting.push_back(Job::Flush(done));
        self.shared.wake.notify_one();
        // An error means that the writer has ended with its runtime: nothing is under way.
        let _ended = settled.await;
    }

    /// Takes appends of an entity again, after one of its was refused. Its owner says so once
    /// it has waited for [`Lane::flush`] and before it reads the history again.
    pub fn forgive(&self, entity: &EntityId) {
        self.shared.queue().poisoned.remove(entity);
    }

    /// Whether appends of an entity are refused until it is forgiven.
    #[must_use]
    pub fn poisoned(&self, entity: &EntityId) -> bool {
        self.shared.queue().poisoned.contains(entity)
    }

    /// How many appends wait or are in flight.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shared.queue().appends
    }

    /// How many appends go into one commit.
    #[must_use]
    pub fn batch_appends(&self) -> usize {
        self.shared.options.batch_appends
    }

    /// Resolves once another owner has taken the shard: everything fails from then on.
    pub async fn lost(&self) {
        let mut lost = self.shared.lost.subscribe();
        // No error: the sender lives as long as this handle.
        let _closed = lost.wait_for(|lost| *lost).await;
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            commits: self.shared.commits.load(Ordering::Relaxed),
            appends: self.shared.appends.load(Ordering::Relaxed),
            records: self.shared.records.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
        }
    }
}

/// About how many bytes an append takes in the journal.
fn weigh(append: &Append) -> usize {
    let row = append.row.as_ref().map_or(0, |row| 512 + row.product.description.len());
    let each = 64 + append.entity.as_str().len() + append.cause.len();
    append.events.iter().map(|event| each + event.data.len()).sum::<usize>() + each + row
}

async fn run(shared: Arc<Shared>) {
    loop {
        let woken = shared.wake.notified();
        // Whoever is ready to run may have something to add: a commit costs the same for more.
        tokio::task::yield_now().await;
        match shared.take() {
            Taken::Batch(batch) => shared.settle(batch).await,
            Taken::Flush(done) => {
                // An error means that nobody waits any more.
                let _gone = done.send(());
            }
            Taken::Nothing { closed: true } => return,
            Taken::Nothing { closed: false } => woken.await,
        }
    }
}

enum Taken {
    Batch(Batch),
    Flush(oneshot::Sender<()>),
    Nothing { closed: bool },
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what goes into the next transaction.
    fn take(&self) -> Taken {
        let mut queue = self.queue();
        let mut batch = Batch::default();
        loop {
            let fits = match queue.waiting.front() {
                None => break,
                Some(Job::Flush(_)) => batch.appends.is_empty(),
                Some(Job::Append(next)) => {
                    batch.appends.is_empty()
                        || (batch.appends.len() < self.options.batch_appends
                            && batch.bytes + next.bytes <= self.options.batch_bytes)
                }
            };
            if !fits {
                break;
            }
            match queue.waiting.pop_front() {
                Some(Job::Flush(done)) => return Taken::Flush(done),
                Some(Job::Append(next)) => batch.push(*next),
                None => break,
            }
        }
        if batch.appends.is_empty() {
            Taken::Nothing { closed: queue.closed }
        } else {
            Taken::Batch(batch)
        }
    }

    /// Writes a batch, in halves where one append spoils it, and tells everybody in order.
    async fn settle(&self, mut batch: Batch) {
        let mut left: Vec<Range<usize>> = std::iter::once(0..batch.appends.len()).collect();
        while let Some(range) = left.pop() {
            if *self.lost.borrow() {
                self.tell(&mut batch, range, Err(AppendError::StaleEpoch { shard: self.shard }));
                continue;
            }
            if let Some(at) = range.clone().find(|at| batch.doomed[*at]) {
                if at > range.start {
                    left.push(at..range.end);
                    left.push(range.start..at);
                } else {
                    left.push(at + 1..range.end);
                    self.tell(&mut batch, at..at + 1, Err(AppendError::Conflict));
                }
                continue;
            }
            if range.is_empty() {
                continue;
            }
            let appends = &batch.appends[range.clone()];
            match self.journal.append(self.shard, self.epoch, appends).await {
                Ok(records) => {
                    self.commits.fetch_add(1, Ordering::Relaxed);
                    self.appends.fetch_add(range.len() as u64, Ordering::Relaxed);
                    self.records.fetch_add(records.len() as u64, Ordering::Relaxed);
                    guarded(|| (self.committed)(&records));
                    self.tell(&mut batch, range, Ok(()));
                }
                Err(AppendError::Conflict) if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    left.push(middle..range.end);
                    left.push(range.start..middle);
                }
                Err(AppendError::Unknown(_)) if flaw::on(Flaw::UnknownCommitBelieved) => {
                    self.tell(&mut batch, range, Ok(()));
                }
                Err(error) => {
                    if matches!(error, AppendError::StaleEpoch { .. }) {
                        self.lost.send_replace(true);
                    }
                    for at in range.clone() {
                        self.doom(&mut batch, at);
                    }
                    self.tell(&mut batch, range, Err(error));
                }
            }
        }
        let mut queue = self.queue();
        queue.appends -= batch.appends.len();
        queue.bytes -= batch.bytes;
    }

    /// Marks what is and will be queued after a refused append by the same entity: it was
    /// decided on a state that never came to be, even where its numbers happen to fit.
    fn doom(&self, batch: &mut Batch, refused: usize) {
        let entity = batch.appends[refused].entity.clone();
        for at in refused + 1..batch.appends.len() {
            if batch.appends[at].entity == entity {
                batch.doomed[at] = true;
            }
        }
        let mut queue = self.queue();
        for job in &mut queue.waiting {
            if let Job::Append(pending) = job
                && pending.append.entity == entity
            {
                pending.doomed = true;
            }
        }
        queue.poisoned.insert(entity);
    }

    fn tell(&self, batch: &mut Batch, range: Range<usize>, outcome: Result<(), AppendError>) {
        if outcome.is_err() {
            self.refused.fetch_add(range.len() as u64, Ordering::Relaxed);
        }
        for done in &mut batch.done[range] {
            if let Some(done) = done.take() {
                guarded(|| done(outcome.clone()));
            }
        }
    }
}

/// Calls back. A panic there is not the lane's: it goes on for the others.
fn guarded(callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!("a callback of the lane panicked");
    }
}

impl Batch {
    fn push(&mut self, pending: Pending) {
        self.appends.push(pending.append);
        self.done.push(Some(pending.done));
        self.doomed.push(pending.doomed);
        self.bytes += pending.bytes;
    }
}
