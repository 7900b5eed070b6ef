//! The journal on a failing disk: appends fail, are slow or have unknown outcomes, reads fail, and
//! processes die before and after a commit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::plan::{CallFault, PlannedFault};
use super::process::SimulatedProcess;
use super::watch::BooksWatch;
use super::world::World;
use crate::domain::entity::EntityId;
use crate::domain::time::{Span, Timestamp};
use crate::store::journal::memory::MemoryJournal;
use crate::store::journal::{
    Append, AppendError, Chained, Fence, Journal, ReadError, Record, StateSnapshot, Timer,
};

/// The journal as a process sees it: on a disk with faults. Clones share the state.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
    process: SimulatedProcess,
}

struct Shared {
    world: World,
    journal: MemoryJournal,
    faults: Vec<PlannedFault>,
    watch: Arc<Mutex<BooksWatch>>,
    appends: AtomicU64,
    /// The number of events of each kind in the appends so far, and under `any` the number of
    /// appends.
    seen: Mutex<BTreeMap<&'static str, u64>>,
    unreadable: AtomicU32,
    stale_snapshots: AtomicBool,
}

impl Disk {
    /// A disk in front of a journal, with the faults of a plan.
    pub fn new(
        world: World,
        journal: MemoryJournal,
        faults: Vec<PlannedFault>,
        watch: Arc<Mutex<BooksWatch>>,
    ) -> Self {
        let process = SimulatedProcess::alone(&world);
        let shared = Shared {
            world,
            journal,
            faults,
            watch,
            appends: AtomicU64::new(0),
            seen: Mutex::default(),
            unreadable: AtomicU32::new(0),
            stale_snapshots: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), process }
    }

    /// The same disk, as `process` uses it.
    #[must_use]
    pub fn of(&self, process: SimulatedProcess) -> Self {
        Self { shared: self.shared.clone(), process }
    }

    /// Makes the next `count` reads fail.
    pub fn fail_reads(&self, count: u32) {
        self.shared.unreadable.store(count, Ordering::Relaxed);
    }

    /// Makes every snapshot that is read from now on look like one of another state version.
    pub fn age_snapshots(&self) {
        self.shared.stale_snapshots.store(true, Ordering::Relaxed);
    }

    /// Appends so far.
    pub fn appends(&self) -> u64 {
        self.shared.appends.load(Ordering::Relaxed)
    }

    async fn reading(&self) -> Result<(), ReadError> {
        self.process.reach_store().await;
        if self.shared.world.chance(4) == 0 {
            tokio::time::sleep(Duration::from_millis(self.shared.world.chance(4))).await;
        }
        let left = self.shared.unreadable.load(Ordering::Relaxed);
        if left > 0 {
            self.shared.unreadable.store(left - 1, Ordering::Relaxed);
            self.shared.world.tell("disk", |line| write!(line, "a read fails"));
            return Err(ReadError("a disk error".to_owned()));
        }
        Ok(())
    }

    /// The fault of an append, which is counted here.
    fn fault(&self, batch: &[Append]) -> Option<CallFault> {
        let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut met = None;
        for fault in &self.shared.faults {
            let PlannedFault::Append { point, what } = fault else { continue };
            let of_kind = |append: &Append| {
                append.events.iter().filter(|event| point.kind == Some(event.kind)).count()
            };
            let now = point.kind.map_or(1, |_| batch.iter().map(of_kind).sum());
            let before = seen.get(point.kind.unwrap_or("any")).copied().unwrap_or(0);
            if now > 0 && point.meets(before, now as u64) {
                met = Some(*what);
            }
        }
        *seen.entry("any").or_insert(0) += 1;
        for event in batch.iter().flat_map(|append| &append.events) {
            *seen.entry(event.kind).or_insert(0) += 1;
        }
        met
    }

    async fn write(&self, fences: &[Fence], batch: &[Append]) -> Result<Vec<Record>, AppendError> {
        let records = self.shared.journal.append(fences, batch).await?;
        self.by_the_owner(fences, &records);
        for record in &records {
            self.shared.world.trace(record.data.as_bytes());
            self.shared.world.trace(record.cause.as_bytes());
            let data = if record.data.len() > 160 { "{..}" } else { &*record.data };
            self.shared.world.tell("journal", |line| {
                write!(line, "{} {} #{} {data}", record.entity, record.kind, record.seq)
            });
        }
        let mut watch = self.shared.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.check_events(&self.shared.world, &records);
        Ok(records)
    }

    /// Checks that the events were written under the shard's current epoch.
    fn by_the_owner(&self, fences: &[Fence], records: &[Record]) {
        let Shared { world, journal, .. } = &*self.shared;
        for fence in fences {
            let (epoch, _) = journal.epoch_and_head(fence.shard);
            let there = records.iter().find(|record| record.shard == fence.shard);
            if let Some(record) = there.filter(|_| epoch != fence.epoch.0) {
                let what = format!(
                    "{} #{}: {} writes with epoch {} to shard {}, whose epoch is {epoch}",
                    record.entity,
                    record.seq,
                    self.process.name(),
                    fence.epoch.0,
                    fence.shard
                );
                world.violate("only the owner of a shard writes", what);
            }
        }
    }
}

#[async_trait]
impl Journal for Disk {
    fn shards(&self) -> u16 {
        self.shared.journal.shards()
    }

    async fn claim(
        &self,
        shards: &[u16],
        owner: &str,
        lease: Span,
    ) -> Result<Vec<Fence>, ReadError> {
        self.process.reach_store().await;
        let claimed = self.shared.journal.claim(shards, owner, lease).await?;
        let fences = claimed.iter().map(|fence| (fence.shard, fence.epoch.0));
        let fences: Vec<_> = fences.collect();
        self.shared.world.tell(owner, |line| write!(line, "takes {fences:?}"));
        Ok(claimed)
    }

    async fn renew(&self, fences: &[Fence], lease: Span) -> Result<Vec<Fence>, ReadError> {
        self.process.reach_store().await;
        self.shared.journal.renew(fences, lease).await
    }

    async fn release(&self, fences: &[Fence]) -> Result<(), ReadError> {
        self.process.reach_store().await;
        self.shared.journal.release(fences).await
    }

    async fn append(&self, fences: &[Fence], batch: &[Append]) -> Result<Vec<Record>, AppendError> {
        self.process.reach_store().await;
        let number = self.shared.appends.fetch_add(1, Ordering::Relaxed) + 1;
        let fault = self.fault(batch);
        let told = |what: &str| {
            self.shared.world.tell("disk", |line| write!(line, "append {number} {what}"));
        };
        tokio::time::sleep(Duration::from_millis(self.shared.world.chance(6))).await;
        self.process.reach_store().await;
        match fault {
            Some(CallFault::CrashBefore) => {
                self.process.die(&format!("before append {number}"));
                self.process.reach_store().await;
            }
            Some(CallFault::CrashAfter) => {
                let _written = self.write(fences, batch).await;
                self.process.die(&format!("after append {number}"));
                self.process.reach_store().await;
            }
            Some(CallFault::Refused) => {
                told("is refused");
                return Err(AppendError::Failed("the disk is full".to_owned()));
            }
            Some(CallFault::Unanswered) => {
                told("is written, without an answer");
                self.write(fences, batch).await?;
                return Err(AppendError::Unknown("the connection broke".to_owned()));
            }
            Some(CallFault::Lost) => {
                told("is not written, without an answer");
                return Err(AppendError::Unknown("the connection broke".to_owned()));
            }
            Some(CallFault::Slow(ms) | CallFault::Late(ms)) => {
                told("is slow");
                tokio::time::sleep(Duration::from_millis(ms)).await;
                if self.process.is_dead() {
                    // The append was in flight when its process died.
                    drop(self.write(fences, batch).await);
                }
                self.process.reach_store().await;
            }
            Some(CallFault::CutOff(ms)) => {
                told("is in flight while its sender is cut off");
                self.process.cut_off(ms);
                self.process.reach_store().await;
            }
            None => {}
        }
        let outcome = self.write(fences, batch).await;
        if self.shared.world.chance(2) == 0 {
            tokio::time::sleep(Duration::from_millis(self.shared.world.chance(6))).await;
        }
        self.process.reach_store().await;
        outcome
    }

    async fn read_entity(
        &self,
        entity: &EntityId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError> {
        self.reading().await?;
        self.shared.journal.read_entity(entity, after_seq, limit).await
    }

    async fn read_entities(&self, upto: &[(EntityId, i64)]) -> Result<Vec<Record>, ReadError> {
        self.reading().await?;
        self.shared.journal.read_entities(upto).await
    }

    async fn read_shard(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError> {
        self.reading().await?;
        self.shared.journal.read_shard(shard, after_pos, limit).await
    }

    async fn read_chain(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Chained>, ReadError> {
        self.reading().await?;
        self.shared.journal.read_chain(shard, after_pos, limit).await
    }

    async fn last_pos(&self, shard: u16) -> Result<i64, ReadError> {
        self.reading().await?;
        self.shared.journal.last_pos(shard).await
    }

    async fn due_timers(
        &self,
        shard: u16,
        until: Timestamp,
        after: Option<&Timer>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError> {
        self.reading().await?;
        self.shared.journal.due_timers(shard, until, after, limit).await
    }

    async fn timers_of(
        &self,
        shard: u16,
        prefix: &str,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError> {
        self.reading().await?;
        self.shared.journal.timers_of(shard, prefix, after, limit).await
    }

    async fn snapshot(&self, entity: &EntityId) -> Result<Option<StateSnapshot>, ReadError> {
        self.reading().await?;
        let mut found = self.shared.journal.snapshot(entity).await?;
        if let Some(snapshot) = &mut found
            && self.shared.stale_snapshots.load(Ordering::Relaxed)
        {
            // Simulates a snapshot of another state version, which can be decoded but has wrong
            // values.
            snapshot.state_version += 1;
            snapshot.data = snapshot.data.replace("\"on_hand\":", "\"on_hand\":9");
        }
        Ok(found)
    }

    async fn snapshots(
        &self,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<StateSnapshot>, ReadError> {
        self.reading().await?;
        self.shared.journal.snapshots(after, limit).await
    }

    async fn put_snapshot(&self, snapshot: StateSnapshot) -> Result<(), ReadError> {
        self.process.reach_store().await;
        self.shared.journal.put_snapshot(snapshot).await
    }
}
