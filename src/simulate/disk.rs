//! The journal as a disk that fails: appends that are refused, slow or of unknown outcome, reads
//! that fail, and processes that die before and after a commit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::plan::{Fault, Mishap};
use super::watch::Watch;
use super::world::World;
use crate::domain::entity::EntityId;
use crate::domain::time::Timestamp;
use crate::store::journal::memory::Memory;
use crate::store::journal::{
    Append, AppendError, Epoch, Journal, ReadError, Record, Snapshot, Timer,
};

/// The journal that a node sees.
pub struct Disk {
    world: World,
    journal: Memory,
    faults: Vec<Fault>,
    watch: Arc<Mutex<Watch>>,
    appends: AtomicU64,
    /// Events of each kind, and appends in all, that were tried so far.
    seen: Mutex<BTreeMap<&'static str, u64>>,
    unreadable: AtomicU32,
    stale_snapshots: AtomicBool,
}

impl Disk {
    /// A disk in front of a journal, with the faults of a plan.
    pub fn new(
        world: World,
        journal: Memory,
        faults: Vec<Fault>,
        watch: Arc<Mutex<Watch>>,
    ) -> Self {
        Self {
            world,
            journal,
            faults,
            watch,
            appends: AtomicU64::new(0),
            seen: Mutex::default(),
            unreadable: AtomicU32::new(0),
            stale_snapshots: AtomicBool::new(false),
        }
    }

    /// Lets the next readings fail.
    pub fn fail_reads(&self, count: u32) {
        self.unreadable.store(count, Ordering::Relaxed);
    }

    /// Gives every snapshot another version from now on.
    pub fn age_snapshots(&self) {
        self.stale_snapshots.store(true, Ordering::Relaxed);
    }

    /// Appends so far.
    pub fn appends(&self) -> u64 {
        self.appends.load(Ordering::Relaxed)
    }

    async fn reading(&self) -> Result<(), ReadError> {
        self.world.alive().await;
        if self.world.chance(4) == 0 {
            tokio::time::sleep(Duration::from_millis(self.world.chance(4))).await;
        }
        let left = self.unreadable.load(Ordering::Relaxed);
        if left > 0 {
            self.unreadable.store(left - 1, Ordering::Relaxed);
            self.world.tell("disk", |line| write!(line, "a reading fails"));
            return Err(ReadError("the disk hiccuped".to_owned()));
        }
        Ok(())
    }

    /// What happens to an append; it is counted here.
    fn mishap(&self, batch: &[Append]) -> Option<Mishap> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut met = None;
        for fault in &self.faults {
            let Fault::Append { point, what } = fault else { continue };
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

    async fn write(
        &self,
        shard: u16,
        epoch: Epoch,
        batch: &[Append],
    ) -> Result<Vec<Record>, AppendError> {
        let records = self.journal.append(shard, epoch, batch).await?;
        for record in &records {
            self.world.trace(record.data.as_bytes());
            self.world.trace(record.cause.as_bytes());
            let data = if record.data.len() > 160 { "{..}" } else { &*record.data };
            self.world.tell("journal", |line| {
                write!(line, "{} {} #{} {data}", record.entity, record.kind, record.seq)
            });
        }
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.take(&self.world, &records);
        Ok(records)
    }
}

#[async_trait]
impl Journal for Disk {
    fn shards(&self) -> u16 {
        self.journal.shards()
    }

    async fn claim(
        &self,
        shard: u16,
        owner: &str,
        lease_until: Timestamp,
    ) -> Result<Epoch, ReadError> {
        self.world.alive().await;
        self.journal.claim(shard, owner, lease_until).await
    }

    async fn append(
        &self,
        shard: u16,
        epoch: Epoch,
        batch: &[Append],
    ) -> Result<Vec<Record>, AppendError> {
        self.world.alive().await;
        let number = self.appends.fetch_add(1, Ordering::Relaxed) + 1;
        let mishap = self.mishap(batch);
        let told = |what: &str| {
            self.world.tell("disk", |line| write!(line, "append {number} {what}"));
        };
        tokio::time::sleep(Duration::from_millis(self.world.chance(6))).await;
        self.world.alive().await;
        match mishap {
            Some(Mishap::CrashBefore) => {
                self.world.die(&format!("before append {number}"));
                self.world.alive().await;
            }
            Some(Mishap::CrashAfter) => {
                let _written = self.write(shard, epoch, batch).await;
                self.world.die(&format!("after append {number}"));
                self.world.alive().await;
            }
            Some(Mishap::Refused) => {
                told("is refused");
                return Err(AppendError::Failed("the disk is full".to_owned()));
            }
            Some(Mishap::Unanswered) => {
                told("is written and not answered");
                self.write(shard, epoch, batch).await?;
                return Err(AppendError::Unknown("the connection broke".to_owned()));
            }
            Some(Mishap::Lost) => {
                told("is neither written nor answered");
                return Err(AppendError::Unknown("the connection broke".to_owned()));
            }
            Some(Mishap::Slow(ms) | Mishap::Late(ms)) => {
                told("is slow");
                tokio::time::sleep(Duration::from_millis(ms)).await;
                self.world.alive().await;
            }
            None => {}
        }
        let outcome = self.write(shard, epoch, batch).await;
        if self.world.chance(2) == 0 {
            tokio::time::sleep(Duration::from_millis(self.world.chance(6))).await;
        }
        self.world.alive().await;
        outcome
    }

    async fn read_entity(
        &self,
        entity: &EntityId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError> {
        self.reading().await?;
        self.journal.read_entity(entity, after_seq, limit).await
    }

    async fn read_shard(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError> {
        self.reading().await?;
        self.journal.read_shard(shard, after_pos, limit).await
    }

    async fn last_pos(&self, shard: u16) -> Result<i64, ReadError> {
        self.reading().await?;
        self.journal.last_pos(shard).await
    }

    async fn due_timers(
        &self,
        shard: u16,
        until: Timestamp,
        after: Option<&Timer>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError> {
        self.reading().await?;
        self.journal.due_timers(shard, until, after, limit).await
    }

    async fn timers_of(
        &self,
        shard: u16,
        prefix: &str,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError> {
        self.reading().await?;
        self.journal.timers_of(shard, prefix, after, limit).await
    }

    async fn snapshot(&self, entity: &EntityId) -> Result<Option<Snapshot>, ReadError> {
        self.reading().await?;
        let mut found = self.journal.snapshot(entity).await?;
        if let Some(snapshot) = &mut found
            && self.stale_snapshots.load(Ordering::Relaxed)
        {
            // Another version wrote it: it reads well, and means something else.
            snapshot.state_version += 1;
            snapshot.data = snapshot.data.replace("\"on_hand\":", "\"on_hand\":9");
        }
        Ok(found)
    }

    async fn put_snapshot(&self, snapshot: Snapshot) -> Result<(), ReadError> {
        self.world.alive().await;
        self.journal.put_snapshot(snapshot).await
    }
}
