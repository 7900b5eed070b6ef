//! The journal in memory, for tests and the simulator, with fault injection.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{
    Append, AppendError, Chained, Digest, Epoch, Fence, Head, Journal, ReadError, Record,
    StateSnapshot, Timer, TimerChange, fence_of,
};
use crate::domain::entity::EntityId;
use crate::domain::time::{Span, Timestamp};
use crate::seeded_fault::{self, SeededFault};
use crate::store::FoundRow;
use crate::store::row::{RowChange, Table, Value};

/// A fault to be injected into a future append.
#[derive(Debug)]
pub enum AppendFault {
    /// The append fails with this error, and nothing is written.
    Refuse(AppendError),
    /// The append is written, and its outcome is reported as unknown.
    UnknownWritten,
    /// The append is not written, and its outcome is reported as unknown.
    UnknownUnwritten,
    /// The append waits until [`AppendGate::open`], or until the gate is dropped.
    Slow(BlockedAppend),
}

/// The other end of an [`AppendGate`], on which the append waits.
#[derive(Debug)]
pub struct BlockedAppend {
    reached: oneshot::Sender<()>,
    opened: oneshot::Receiver<()>,
}

/// Blocks one append until the test opens the gate.
#[derive(Debug)]
pub struct AppendGate {
    reached: oneshot::Receiver<()>,
    open: oneshot::Sender<()>,
}

impl AppendGate {
    /// Waits until the append has reached the gate.
    pub async fn reached(&mut self) {
        // An error means that the append was dropped, which counts as reached.
        let _gone = (&mut self.reached).await;
    }

    /// Lets the append continue.
    pub fn open(self) {
        // An error means that the append was dropped.
        let _gone = self.open.send(());
    }
}

/// The clock by which a journal in memory measures leases.
pub type LeaseClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A journal in memory. Clones share its contents.
#[derive(Clone)]
pub struct MemoryJournal {
    state: Arc<Mutex<State>>,
    shards: u16,
    now: LeaseClock,
}

impl std::fmt::Debug for MemoryJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// The key of a row.
type Key = Vec<Value<'static>>;

#[derive(Debug, Default)]
struct State {
    shards: Vec<Shard>,
    /// The places of the events of each entity: shard, and index in its records.
    entities: HashMap<EntityId, Vec<(u16, usize)>>,
    timers: BTreeMap<EntityId, (u16, Timestamp)>,
    snapshots: HashMap<EntityId, StateSnapshot>,
    /// The versioned rows, by table name and key.
    rows: BTreeMap<&'static str, BTreeMap<Key, RowChange>>,
    faults: VecDeque<AppendFault>,
    unreadable: u32,
}

#[derive(Clone, Debug, Default)]
struct Shard {
    owner: String,
    epoch: i64,
    lease_until: Timestamp,
    records: Vec<Record>,
    /// The digests of the records.
    digests: Vec<Digest>,
}

impl Shard {
    fn head(&self) -> Head {
        let digest = self.digests.last().copied().unwrap_or(Digest::FIRST);
        Head { pos: count(self.records.len()), digest }
    }
}

impl MemoryJournal {
    /// An empty journal with this many shards. Its clock stands still, so no lease ends by itself.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self::with_time(shards, Arc::new(Timestamp::default))
    }

    /// An empty journal with this many shards, which measures leases by the clock `now`.
    #[must_use]
    pub fn with_time(shards: u16, now: LeaseClock) -> Self {
        let shards = shards.max(1);
        let state =
            State { shards: vec![Shard::default(); usize::from(shards)], ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), shards, now }
    }

    /// A copy of what is stored now, which does not change with this journal, and has no faults.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state();
        let copy = State {
            shards: state.shards.clone(),
            entities: state.entities.clone(),
            timers: state.timers.clone(),
            snapshots: state.snapshots.clone(),
            rows: state.rows.clone(),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(copy)), shards: self.shards, now: self.now.clone() }
    }

    /// Queues a fault. Each append takes the oldest queued fault, so each fault affects one append.
    pub fn inject(&self, fault: AppendFault) {
        self.state().faults.push_back(fault);
    }

    /// Makes the next `count` reads of an entity fail.
    pub fn fail_reads(&self, count: u32) {
        self.state().unreadable = count;
    }

    /// Ends the lease of a shard.
    pub fn expire(&self, shard: u16) {
        if let Some(shard) = self.state().shards.get_mut(usize::from(shard)) {
            shard.lease_until = Timestamp::default();
        }
    }

    /// Queues a fault that blocks one append until the gate is opened.
    #[must_use]
    pub fn block_append(&self) -> AppendGate {
        let (reached_tx, reached) = oneshot::channel();
        let (open, opened) = oneshot::channel();
        self.inject(AppendFault::Slow(BlockedAppend { reached: reached_tx, opened }));
        AppendGate { reached, open }
    }

    /// The row of a table with this key, if there is one.
    #[must_use]
    pub fn find_row(&self, table: &Table, key: &[Value<'_>]) -> Option<FoundRow> {
        let key: Key = key.iter().cloned().map(Value::into_owned).collect();
        self.state().row(table, &key).map(found)
    }

    /// At most `limit` rows of a table whose keys are greater than `after`, in order of their keys.
    #[must_use]
    pub fn rows_behind(
        &self,
        table: &Table,
        after: Option<&[Value<'_>]>,
        limit: u32,
    ) -> Vec<FoundRow> {
        let after: Option<Key> =
            after.map(|after| after.iter().cloned().map(Value::into_owned).collect());
        let state = self.state();
        let rows = state.rows.get(table.name()).into_iter().flatten();
        let behind = rows.filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
        behind.take(index(limit)).map(|(_, row)| found(row)).collect()
    }

    /// A shard's epoch and the end of its chain.
    #[must_use]
    pub fn epoch_and_head(&self, shard: u16) -> (i64, Head) {
        let state = self.state();
        let found = state.shard(shard);
        found.map_or((0, Head::FIRST), |found| (found.epoch, found.head()))
    }

    /// A shard's owner, and the end of its lease.
    #[must_use]
    pub fn lease_of(&self, shard: u16) -> (String, Timestamp) {
        let state = self.state();
        let found = state.shard(shard);
        found.map_or_else(|_| Default::default(), |it| (it.owner.clone(), it.lease_until))
    }

    /// The time now, by the clock that measures leases.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn found(row: &RowChange) -> FoundRow {
    FoundRow::Memory(row.values().to_vec())
}

impl State {
    fn row(&self, table: &Table, key: &Key) -> Option<&RowChange> {
        self.rows.get(table.name())?.get(key)
    }

    fn shard(&self, shard: u16) -> Result<&Shard, ReadError> {
        self.shards
            .get(usize::from(shard))
            .ok_or_else(|| ReadError(format!("there is no shard {shard}")))
    }

    fn shard_count(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    fn last_seq(&self, entity: &EntityId) -> i64 {
        self.entities.get(entity).map_or(0, |places| count(places.len()))
    }

    /// Refuses the batch if a database would have rolled back its transaction.
    fn check(&self, fences: &[Fence], batch: &[Append]) -> Result<(), AppendError> {
        for append in batch {
            let shard = append.entity.shard(self.shard_count());
            let fence = fence_of(fences, shard)?;
            let stands = self.shard(shard).map_or(0, |found| found.epoch) == fence.epoch.0;
            if !stands && !seeded_fault::active(SeededFault::FenceNotChecked) {
                return Err(AppendError::StaleEpoch { shard });
            }
        }
        let mut seqs: HashMap<&EntityId, i64> = HashMap::new();
        let mut versions: HashMap<(&str, &[Value<'_>]), i64> = HashMap::new();
        for append in batch {
            let seq = seqs.entry(&append.entity).or_insert_with(|| self.last_seq(&append.entity));
            if *seq != append.after_seq {
                return Err(AppendError::Conflict);
            }
            *seq += count(append.events.len());
            for row in &append.rows {
                let (table, key) = (row.table(), row.key());
                let there = || self.row(table, &key.to_vec()).map_or(0, RowChange::version);
                let version = versions.entry((table.name(), key)).or_insert_with(there);
                if row.version() != *version + 1 {
                    return Err(AppendError::Conflict);
                }
                *version += 1;
            }
        }
        Ok(())
    }

    fn write(&mut self, fences: &[Fence], batch: &[Append]) -> Result<Vec<Record>, AppendError> {
        self.check(fences, batch)?;
        let shards = self.shard_count();
        let mut ends: Vec<i64> =
            self.shards.iter().map(|shard| count(shard.records.len())).collect();
        let records = super::records(shards, batch, |shard| {
            let end = &mut ends[usize::from(shard)];
            *end += 1;
            *end
        });
        for record in &records {
            let found = &mut self.shards[usize::from(record.shard)];
            let places = self.entities.entry(record.entity.clone()).or_default();
            places.push((record.shard, found.records.len()));
            let digest = found.head().digest.next(record);
            found.digests.push(digest);
            found.records.push(record.clone());
        }
        for append in batch {
            let shard = append.entity.shard(shards);
            match append.timer {
                Some(TimerChange::Set(due_at)) => {
                    self.timers.insert(append.entity.clone(), (shard, due_at));
                }
                Some(TimerChange::Clear) => {
                    self.timers.remove(&append.entity);
                }
                None => {}
            }
            for row in &append.rows {
                let table = self.rows.entry(row.table().name()).or_default();
                table.insert(row.key().to_vec(), row.clone());
            }
        }
        Ok(records)
    }
}

fn count(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

fn index(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(0)
}

#[async_trait]
impl Journal for MemoryJournal {
    fn shards(&self) -> u16 {
        self.shards
    }

    async fn claim(
        &self,
        shards: &[u16],
        owner: &str,
        lease: Span,
    ) -> Result<Vec<Fence>, ReadError> {
        let (mut state, now) = (self.state(), (self.now)());
        let mut taken = Vec::new();
        for shard in shards {
            state.shard(*shard)?;
            let found = &mut state.shards[usize::from(*shard)];
            if found.owner.is_empty() || found.owner == owner || found.lease_until <= now {
                owner.clone_into(&mut found.owner);
                found.epoch += 1;
                found.lease_until = now + lease;
                taken.push(Fence { shard: *shard, epoch: Epoch(found.epoch) });
            }
        }
        Ok(taken)
    }

    async fn renew(&self, fences: &[Fence], lease: Span) -> Result<Vec<Fence>, ReadError> {
        let (mut state, now) = (self.state(), (self.now)());
        let mut standing = Vec::new();
        for fence in fences {
            state.shard(fence.shard)?;
            let found = &mut state.shards[usize::from(fence.shard)];
            if found.epoch == fence.epoch.0 && found.lease_until > now {
                found.lease_until = now + lease;
                standing.push(*fence);
            }
        }
        Ok(standing)
    }

    async fn release(&self, fences: &[Fence]) -> Result<(), ReadError> {
        let mut state = self.state();
        for fence in fences {
            state.shard(fence.shard)?;
            let found = &mut state.shards[usize::from(fence.shard)];
            if found.epoch == fence.epoch.0 {
                found.owner.clear();
                found.lease_until = Timestamp::default();
            }
        }
        Ok(())
    }

    async fn append(&self, fences: &[Fence], batch: &[Append]) -> Result<Vec<Record>, AppendError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let fault = self.state().faults.pop_front();
        let unknown = || Err(AppendError::Unknown("the connection broke".to_owned()));
        match fault {
            Some(AppendFault::Refuse(error)) => return Err(error),
            Some(AppendFault::UnknownUnwritten) => return unknown(),
            Some(AppendFault::UnknownWritten) => {
                self.state().write(fences, batch)?;
                return unknown();
            }
            Some(AppendFault::Slow(hold)) => {
                // Errors mean that the test has dropped the gate, which opens it.
                let _gone = hold.reached.send(());
                let _gone = hold.opened.await;
            }
            None => {}
        }
        self.state().write(fences, batch)
    }

    async fn read_entity(
        &self,
        entity: &EntityId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError> {
        let mut state = self.state();
        if let Some(left) = state.unreadable.checked_sub(1) {
            state.unreadable = left;
            return Err(ReadError("a disk error".to_owned()));
        }
        let places = state.entities.get(entity).map_or(&[][..], Vec::as_slice);
        let wanted = places.iter().skip(index(after_seq)).take(index(limit));
        Ok(wanted
            .map(|(shard, at)| state.shards[usize::from(*shard)].records[*at].clone())
            .collect())
    }

    async fn read_entities(&self, upto: &[(EntityId, i64)]) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        for (entity, seq) in upto {
            records.extend(self.read_entity(entity, 0, u32::try_from(*seq).unwrap_or(0)).await?);
        }
        records.sort_by(|one, other| (&one.entity, one.seq).cmp(&(&other.entity, other.seq)));
        Ok(records)
    }

    async fn read_shard(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError> {
        let state = self.state();
        let records = &state.shard(shard)?.records;
        Ok(records.iter().skip(index(after_pos)).take(index(limit)).cloned().collect())
    }

    async fn read_chain(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Chained>, ReadError> {
        let state = self.state();
        let found = state.shard(shard)?;
        let all = found.records.iter().cloned().zip(found.digests.iter().copied().map(Some));
        let wanted = all.skip(index(after_pos)).take(index(limit));
        Ok(wanted.map(|(record, digest)| Chained { record, digest }).collect())
    }

    async fn last_pos(&self, shard: u16) -> Result<i64, ReadError> {
        Ok(count(self.state().shard(shard)?.records.len()))
    }

    async fn due_timers(
        &self,
        shard: u16,
        until: Timestamp,
        after: Option<&Timer>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError> {
        let state = self.state();
        let mut due: Vec<Timer> = state
            .timers
            .iter()
            .filter(|(_, (on, due_at))| *on == shard && *due_at <= until)
            .map(|(entity, (_, due_at))| Timer { entity: entity.clone(), due_at: *due_at })
            .collect();
        let place = |timer: &Timer| (timer.due_at, timer.entity.clone());
        due.sort_by_key(place);
        due.retain(|timer| after.is_none_or(|after| place(timer) > place(after)));
        due.truncate(index(limit));
        Ok(due)
    }

    async fn timers_of(
        &self,
        shard: u16,
        prefix: &str,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError> {
        let state = self.state();
        let found = state.timers.iter().filter(|(entity, (on, _))| {
            *on == shard
                && entity.as_str().starts_with(prefix)
                && after.is_none_or(|after| *entity > after)
        });
        Ok(found
            .take(index(limit))
            .map(|(entity, (_, due_at))| Timer { entity: entity.clone(), due_at: *due_at })
            .collect())
    }

    async fn snapshot(&self, entity: &EntityId) -> Result<Option<StateSnapshot>, ReadError> {
        Ok(self.state().snapshots.get(entity).cloned())
    }

    async fn snapshots(
        &self,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<StateSnapshot>, ReadError> {
        let mut all: Vec<StateSnapshot> = self.state().snapshots.values().cloned().collect();
        all.sort_by(|one, other| one.entity.cmp(&other.entity));
        let behind = |one: &StateSnapshot| after.is_none_or(|after| one.entity > *after);
        Ok(all.into_iter().filter(behind).take(usize::try_from(limit).unwrap_or(0)).collect())
    }

    async fn put_snapshot(&self, snapshot: StateSnapshot) -> Result<(), ReadError> {
        let mut state = self.state();
        let newer = state.snapshots.get(&snapshot.entity).is_some_and(|old| old.seq > snapshot.seq);
        if !newer {
            state.snapshots.insert(snapshot.entity.clone(), snapshot);
        }
        Ok(())
    }
}
