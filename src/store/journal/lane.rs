//! The lane: the only writer of some shards. It takes the queued appends, writes them in one
//! transaction, and then takes the appends that were queued in the meantime (group commit). One
//! transaction at a time is in flight, and a batch never waits for a timer.
//!
//! The lane decides which appends form a transaction, and tells each caller the outcome, in the
//! order of the queue; the journal writes.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use garde::Validate;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot, watch};

use crate::domain::entity::EntityId;
use crate::domain::limits::within;
use crate::seeded_fault::{self, SeededFault};

use super::{Append, AppendError, Epoch, Fence, Journal, Record};

/// Called with the outcome of an append.
pub type AppendCallback = Box<dyn FnOnce(Result<(), AppendError>) + Send>;

/// Called with a commit's records, in order, before the callbacks of their appends are called.
pub type Committed = Arc<dyn Fn(&[Record]) + Send + Sync>;

/// The limits of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The most appends that are queued or in flight.
    #[garde(custom(within(1..=10_000_000)))]
    pub queue_appends: usize,
    /// The most bytes of appends that are queued or in flight, unless a single one is larger.
    #[garde(custom(within(1_024..=1 << 36)))]
    pub queue_bytes: usize,
    /// The most appends of one commit.
    #[garde(custom(within(1..=100_000)))]
    pub batch_appends: usize,
    /// The most bytes of appends of one commit, unless a single one is larger.
    #[garde(custom(within(1_024..=1 << 30)))]
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

/// The queue is full; the append is returned.
#[derive(thiserror::Error)]
#[error("the journal's queue is full")]
pub struct LaneFull {
    /// The append that was not enqueued.
    pub append: Box<Append>,
    /// Its callback, which the lane will not call.
    pub done: AppendCallback,
}

impl std::fmt::Debug for LaneFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Full").field("append", &self.append).finish_non_exhaustive()
    }
}

/// Counts since the lane was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounters {
    /// Committed transactions.
    pub commits: u64,
    /// Committed appends.
    pub appends: u64,
    /// Committed events.
    pub records: u64,
    /// Appends that were not written, or whose outcome is unknown.
    pub refused: u64,
}

/// A handle to the writer of some shards. The writer ends when the last handle is dropped and its
/// queue is empty.
#[derive(Clone)]
pub struct Lane {
    shared: Arc<Shared>,
    _handles: Arc<Handles>,
}

struct Shared {
    journal: Arc<dyn Journal>,
    shards: u16,
    options: Options,
    committed: Committed,
    queue: Mutex<Queue>,
    wake: Notify,
    lost: watch::Sender<BTreeSet<u16>>,
    commits: AtomicU64,
    appends: AtomicU64,
    records: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// The owned shards, each with the epoch of its claim.
    owned: BTreeMap<u16, Epoch>,
    /// The number of appends that are queued or in flight; `bytes` is their size.
    appends: usize,
    bytes: usize,
    /// Entities with a refused append. All their further appends are refused until
    /// [`Lane::forgive`].
    poisoned: HashSet<EntityId>,
    closed: bool,
}

enum Job {
    Append(Box<Pending>),
    Flush(oneshot::Sender<()>),
}

struct Pending {
    append: Append,
    /// The fence of the shard when the append was queued; `None` if the shard was not owned.
    fence: Option<Fence>,
    bytes: usize,
    done: AppendCallback,
    /// An earlier append of the same entity was refused, so this one is refused too.
    doomed: bool,
}

/// The contents of one transaction, as parallel lists: the journal takes a slice of appends.
#[derive(Default)]
struct Batch {
    appends: Vec<Append>,
    fences: Vec<Option<Fence>>,
    done: Vec<Option<AppendCallback>>,
    doomed: Vec<bool>,
    bytes: usize,
}

/// Closes the queue when the last handle is dropped.
struct Handles(Arc<Shared>);

impl Drop for Handles {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.wake.notify_one();
    }
}

impl Lane {
    /// Starts a writer as a task of the current runtime. It owns no shard yet. `committed` and the
    /// callbacks run on that task, so they must not block.
    #[must_use]
    pub fn start(journal: Arc<dyn Journal>, options: Options, committed: Committed) -> Self {
        let shared = Arc::new(Shared {
            shards: journal.shards(),
            journal,
            options,
            committed,
            queue: Mutex::default(),
            wake: Notify::new(),
            lost: watch::Sender::default(),
            commits: AtomicU64::new(0),
            appends: AtomicU64::new(0),
            records: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        tokio::spawn(run(Arc::clone(&shared)));
        Self { _handles: Arc::new(Handles(Arc::clone(&shared))), shared }
    }

    /// Accepts appends for a shard from now on, under the epoch of its claim.
    pub fn own(&self, fence: Fence) {
        self.shared.queue().owned.insert(fence.shard, fence.epoch);
        self.shared.lost.send_if_modified(|lost| lost.remove(&fence.shard));
    }

    /// Refuses new and queued appends for a shard from now on, with [`AppendError::StaleEpoch`]. To
    /// have the queued ones written, call [`Lane::flush`] first.
    pub fn disown(&self, shard: u16) {
        self.shared.queue().owned.remove(&shard);
    }

    /// Whether the lane owns a shard.
    #[must_use]
    pub fn owns(&self, shard: u16) -> bool {
        self.shared.queue().owned.contains_key(&shard)
    }

    /// The owned shards, with the epochs of their claims.
    #[must_use]
    pub fn owned(&self) -> Vec<Fence> {
        let fence = |(shard, epoch): (&u16, &Epoch)| Fence { shard: *shard, epoch: *epoch };
        self.shared.queue().owned.iter().map(fence).collect()
    }

    /// Queues an append without waiting. `done` is called with its outcome, in the order of the
    /// queue.
    ///
    /// # Errors
    /// [`LaneFull`], with the append, when too many appends or bytes are queued.
    pub fn enqueue(&self, append: Append, done: AppendCallback) -> Result<(), LaneFull> {
        let bytes = weigh(&append);
        {
            let mut queue = self.shared.queue();
            let options = &self.shared.options;
            // An empty queue accepts an append of any size: otherwise a very large one would never
            // be written.
            let full = queue.appends >= options.queue_appends
                || queue.bytes.saturating_add(bytes) > options.queue_bytes;
            if queue.appends > 0 && full {
                return Err(LaneFull { append: Box::new(append), done });
            }
            queue.appends += 1;
            queue.bytes += bytes;
            let doomed = queue.poisoned.contains(&append.entity);
            let shard = append.entity.shard(self.shared.shards);
            let fence = queue.fence(shard);
            let pending = Pending { append, fence, bytes, done, doomed };
            queue.waiting.push_back(Job::Append(Box::new(pending)));
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Waits until every append that is queued now has an outcome.
    pub async fn flush(&self) {
        let (done, settled) = oneshot::channel();
        self.shared.queue().waiting.push_back(Job::Flush(done));
        self.shared.wake.notify_one();
        // An error means that the writer task has ended with its runtime, so nothing is in flight.
        let _ended = settled.await;
    }

    /// Accepts appends of an entity again, after one of them was refused. The entity's actor calls
    /// this after [`Lane::flush`] and before it replays the entity's events.
    pub fn forgive(&self, entity: &EntityId) {
        self.shared.queue().poisoned.remove(entity);
    }

    /// Whether appends of an entity are refused until [`Lane::forgive`].
    #[must_use]
    pub fn poisoned(&self, entity: &EntityId) -> bool {
        self.shared.queue().poisoned.contains(entity)
    }

    /// The number of appends that are queued or in flight.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shared.queue().appends
    }

    /// The most appends of one commit.
    #[must_use]
    pub fn batch_appends(&self) -> usize {
        self.shared.options.batch_appends
    }

    /// Watches the shards that another owner has taken, which the lane learns when the journal
    /// refuses an append. All further appends of these shards fail.
    #[must_use]
    pub fn lost(&self) -> watch::Receiver<BTreeSet<u16>> {
        self.shared.lost.subscribe()
    }

    /// Returns the current counts.
    #[must_use]
    pub fn counters(&self) -> LaneCounters {
        LaneCounters {
            commits: self.shared.commits.load(Ordering::Relaxed),
            appends: self.shared.appends.load(Ordering::Relaxed),
            records: self.shared.records.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
        }
    }
}

/// The approximate size of an append in the journal, in bytes.
fn weigh(append: &Append) -> usize {
    let rows: usize = append.rows.iter().map(|change| 256 + change.bytes()).sum();
    let each = 64 + append.entity.as_str().len() + append.cause.len();
    append.events.iter().map(|event| each + event.data.len()).sum::<usize>() + each + rows
}

async fn run(shared: Arc<Shared>) {
    loop {
        let woken = shared.wake.notified();
        // Lets other ready tasks queue their appends first: a larger commit costs hardly more.
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

impl Queue {
    /// The current fence of a shard.
    fn fence(&self, shard: u16) -> Option<Fence> {
        self.owned.get(&shard).map(|epoch| Fence { shard, epoch: *epoch })
    }
}

/// The distinct fences of some appends, in order of shard.
fn fences_of(fences: &[Option<Fence>]) -> Vec<Fence> {
    let mut all: Vec<Fence> = Vec::new();
    for fence in fences.iter().flatten() {
        if !all.contains(fence) {
            all.push(*fence);
        }
    }
    all.sort_unstable_by_key(|fence| fence.shard);
    all
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the appends of the next transaction.
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

    /// Writes a batch, and calls back in order. If the journal refuses the batch because of one
    /// append, the batch is halved repeatedly until only that append fails.
    async fn settle(&self, mut batch: Batch) {
        let mut left: Vec<Range<usize>> = std::iter::once(0..batch.appends.len()).collect();
        while let Some(range) = left.pop() {
            if let Some((at, why)) = self.first_refused(&batch, range.clone()) {
                if at > range.start {
                    left.push(at..range.end);
                    left.push(range.start..at);
                } else {
                    left.push(at + 1..range.end);
                    self.tell(&mut batch, at..at + 1, Err(why));
                }
                continue;
            }
            if range.is_empty() {
                continue;
            }
            let appends = &batch.appends[range.clone()];
            let fences = fences_of(&batch.fences[range.clone()]);
            match self.journal.append(&fences, appends).await {
                Ok(records) => {
                    self.commits.fetch_add(1, Ordering::Relaxed);
                    self.appends.fetch_add(range.len() as u64, Ordering::Relaxed);
                    self.records.fetch_add(records.len() as u64, Ordering::Relaxed);
                    guarded(|| (self.committed)(&records));
                    self.tell(&mut batch, range, Ok(()));
                }
                Err(AppendError::Conflict | AppendError::Refused(_)) if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    left.push(middle..range.end);
                    left.push(range.start..middle);
                }
                Err(AppendError::Unknown(_))
                    if seeded_fault::active(SeededFault::UnknownCommitBelieved) =>
                {
                    self.tell(&mut batch, range, Ok(()));
                }
                // Nothing was written. The lane does not own the shard any more, so the next round
                // refuses its appends and writes those of the other shards.
                Err(AppendError::StaleEpoch { shard }) if self.lose(&fences, shard) => {
                    left.push(range);
                }
                Err(error) => {
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

    /// The first append of a range that must not be sent to the journal, and the reason.
    fn first_refused(&self, batch: &Batch, range: Range<usize>) -> Option<(usize, AppendError)> {
        let queue = self.queue();
        for at in range {
            let shard = batch.appends[at].entity.shard(self.shards);
            if batch.fences[at].is_none() || batch.fences[at] != queue.fence(shard) {
                return Some((at, AppendError::StaleEpoch { shard }));
            }
            if batch.doomed[at] {
                return Some((at, AppendError::Conflict));
            }
        }
        None
    }

    /// Records that another owner has taken a shard; `false` if none of these fences is for the
    /// shard. A shard that this node has disowned or claimed anew in the meantime does not count as
    /// lost.
    fn lose(&self, fences: &[Fence], shard: u16) -> bool {
        let mut queue = self.queue();
        if queue.fence(shard).is_some_and(|fence| fences.contains(&fence)) {
            queue.owned.remove(&shard);
            self.lost.send_modify(|lost| _ = lost.insert(shard));
        }
        fences.iter().any(|fence| fence.shard == shard)
    }

    /// Marks the queued and future appends of an entity after a refused one, so that they are
    /// refused too: they were decided from a state that was never stored, even if their seqs happen
    /// to fit.
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

/// Runs a callback. If it panics, the panic is caught, so that the lane continues.
fn guarded(callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!("a callback of the lane panicked");
    }
}

impl Batch {
    fn push(&mut self, pending: Pending) {
        self.appends.push(pending.append);
        self.fences.push(pending.fence);
        self.done.push(Some(pending.done));
        self.doomed.push(pending.doomed);
        self.bytes += pending.bytes;
    }
}
