//! The journal: the table of events, which is authoritative, behind one trait.
//!
//! There are three implementations: SQLite for a store on one machine, PostgreSQL for a store that
//! nodes share, and memory for tests. All pass the same test suite. The journal does not interpret
//! events: it stores their kind, version and JSON text.

pub mod chain;
pub(in crate::store) mod checksum;
pub mod lane;
pub mod lanes;
pub mod memory;
pub(in crate::store) mod postgres;
pub(in crate::store) mod snapshot_seal;
pub(in crate::store) mod sqlite;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::chain::{Chained, Digest, Head};
pub use crate::domain::entity::Record;

#[cfg(debug_assertions)]
use crate::crash;
use crate::domain::entity::EntityId;
use crate::domain::time::{Span, Timestamp};
use crate::store::Error;
use crate::store::row::RowChange;

/// One event to be appended.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event's kind.
    pub kind: &'static str,
    /// The version of the kind.
    pub version: u16,
    /// The event as JSON.
    pub data: Arc<str>,
}

/// The events, timer change and rows that one entity appends atomically.
#[derive(Clone, Debug)]
pub struct Append {
    /// The entity.
    pub entity: EntityId,
    /// The seq of the entity's last event; the first new event gets the next seq.
    pub after_seq: i64,
    /// The new events; empty if only the timer changes.
    pub events: Vec<NewEvent>,
    /// When the events were decided.
    pub at: Timestamp,
    /// A [`Cause`](crate::domain::entity::Cause) as JSON.
    pub cause: Arc<str>,
    /// The change of the entity's timer.
    pub timer: Option<TimerChange>,
    /// Changes of versioned rows that these events describe, written in order in the same
    /// transaction.
    pub rows: Vec<RowChange>,
}

/// The change of an entity's one timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerChange {
    /// The timer is set to this time, whatever it was before.
    Set(Timestamp),
    /// The timer is removed.
    Clear,
}

/// A timer: at a certain time it wakes its entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The entity that it wakes.
    pub entity: EntityId,
    /// When the timer is due.
    pub due_at: Timestamp,
}

/// A cached fold of an entity's events up to `seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSnapshot {
    /// The entity.
    pub entity: EntityId,
    /// The seq of the last folded event.
    pub seq: i64,
    /// The version of the state's format.
    pub state_version: u32,
    /// The state as JSON.
    pub data: String,
}

/// The epoch of a shard: a number that increases with each claim. The journal refuses appends with
/// a lower epoch (fencing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub i64);

/// The right of an owner to write to a shard: it is valid until the shard is claimed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The shard.
    pub shard: u16,
    /// The epoch of the claim that gave the right.
    pub epoch: Epoch,
}

/// Why a batch was not written, or its outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Another owner has the shard. Nothing was written.
    #[error("another owner has taken shard {shard}")]
    StaleEpoch {
        /// The shard.
        shard: u16,
    },
    /// An append does not continue its entity's events: another one was written before it, or one
    /// is missing. Or the version of a row is not the next one. Nothing was written.
    #[error("an entity of the batch has newer events")]
    Conflict,
    /// A row of the batch violates a constraint of its table. Nothing was written, and the same row
    /// will be refused again.
    #[error("a row was refused: {0}")]
    Refused(String),
    /// The store failed: a full disk, a broken file. Nothing was written.
    #[error("the journal cannot be written: {0}")]
    Failed(String),
    /// The commit was sent and not confirmed, so the batch may have been written.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(String),
}

/// Why a read, or a claim of a shard, failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the journal cannot be read: {0}")]
pub struct ReadError(pub String);

/// The journal of a store.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// The number of shards of the store.
    fn shards(&self) -> u16;

    /// Claims those of the shards that are free, whose lease has ended by the store's clock, or
    /// that `owner` already owns, and gives them a lease. Each claim increments the shard's epoch.
    /// Returns the fences of the claimed shards, in order; the other shards belong to another
    /// owner.
    async fn claim(
        &self,
        shards: &[u16],
        owner: &str,
        lease: Span,
    ) -> Result<Vec<Fence>, ReadError>;

    /// Renews those leases that are still valid, to `lease` from now by the store's clock. Returns
    /// their fences, in order; a shard whose fence is missing is lost.
    async fn renew(&self, fences: &[Fence], lease: Span) -> Result<Vec<Fence>, ReadError>;

    /// Releases shards, so that any owner may claim them at once. Shards that another owner has
    /// claimed meanwhile are left alone.
    async fn release(&self, fences: &[Fence]) -> Result<(), ReadError>;

    /// Appends a batch in one transaction, atomically. `fences` must contain a fence for every
    /// shard of the batch's entities. Positions are assigned without gaps for each shard, in the
    /// order of the batch. Returns the stored records, in that order.
    ///
    /// An append that does not exactly continue its entity's sequence, because of a collision or a
    /// gap, is an [`AppendError::Conflict`] of the whole batch; so is a row whose version is not
    /// the one after the stored one. A row that violates a constraint of its table is an
    /// [`AppendError::Refused`] of the whole batch, and a shard that has another epoch than its
    /// fence, or no fence, an [`AppendError::StaleEpoch`].
    async fn append(&self, fences: &[Fence], batch: &[Append]) -> Result<Vec<Record>, AppendError>;

    /// An entity's events after `after_seq`, in order, at most `limit`.
    async fn read_entity(
        &self,
        entity: &EntityId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError>;

    /// The events of several entities, of each up to a seq, in order of entity and seq; read with one
    /// statement.
    async fn read_entities(&self, upto: &[(EntityId, i64)]) -> Result<Vec<Record>, ReadError>;

    /// A shard's events after `after_pos`, in order, at most `limit`.
    async fn read_shard(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError>;

    /// A shard's events after `after_pos` with their digests, in order, at most `limit`.
    async fn read_chain(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Chained>, ReadError>;

    /// The position of a shard's last event, 0 if there is none.
    async fn last_pos(&self, shard: u16) -> Result<i64, ReadError>;

    /// A shard's timers that are due by `until`, at most `limit`, in order of due time and then of
    /// entity, starting after the timer `after`.
    async fn due_timers(
        &self,
        shard: u16,
        until: Timestamp,
        after: Option<&Timer>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError>;

    /// A shard's timers of entities whose id begins with `prefix`, at most `limit`, in order of
    /// entity, starting after the entity `after`. These are the entities with unfinished work.
    async fn timers_of(
        &self,
        shard: u16,
        prefix: &str,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError>;

    /// The snapshot of an entity, if there is one that a server of this store has sealed.
    async fn snapshot(&self, entity: &EntityId) -> Result<Option<StateSnapshot>, ReadError>;

    /// Snapshots as they are stored, sealed or not, in order of entity, starting after `after`, at
    /// most `limit`.
    async fn snapshots(
        &self,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<StateSnapshot>, ReadError>;

    /// Stores a snapshot, unless a newer one is stored. A snapshot is a cache: if it is lost, the
    /// entity is replayed from its first event.
    async fn put_snapshot(&self, snapshot: StateSnapshot) -> Result<(), ReadError>;
}

/// The records of a batch. `next_pos` returns the next position of a shard.
fn records(shards: u16, batch: &[Append], mut next_pos: impl FnMut(u16) -> i64) -> Vec<Record> {
    let mut records = Vec::with_capacity(batch.iter().map(|append| append.events.len()).sum());
    for append in batch {
        let shard = append.entity.shard(shards);
        for (event, seq) in append.events.iter().zip(append.after_seq + 1..) {
            records.push(Record {
                shard,
                pos: next_pos(shard),
                entity: append.entity.clone(),
                seq,
                kind: event.kind.into(),
                version: event.version,
                at: append.at,
                cause: Arc::clone(&append.cause),
                data: Arc::clone(&event.data),
                intact: true,
            });
        }
    }
    records
}

/// The fence of a shard among those of a batch.
fn fence_of(fences: &[Fence], shard: u16) -> Result<Fence, AppendError> {
    let found = fences.iter().find(|fence| fence.shard == shard).copied();
    found.ok_or(AppendError::StaleEpoch { shard })
}

/// The timers that a batch sets, and the entities whose timers it removes, by the last change of
/// each entity; in order of entity.
fn timer_changes(batch: &[Append]) -> (Vec<(&str, Timestamp)>, Vec<&str>) {
    let mut changes = BTreeMap::new();
    for append in batch {
        if let Some(change) = append.timer {
            changes.insert(append.entity.as_str(), change);
        }
    }
    let (mut set, mut clear) = (Vec::new(), Vec::new());
    for (entity, change) in changes {
        match change {
            TimerChange::Set(due_at) => set.push((entity, due_at)),
            TimerChange::Clear => clear.push(entity),
        }
    }
    (set, clear)
}

fn unreadable(error: impl Into<Error>) -> ReadError {
    let error = error.into();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    ReadError(format!("{error}{}", cause.unwrap_or_default()))
}

/// Kills the process here if a test has asked for that.
#[cfg(debug_assertions)]
fn crash_point(side: crash::Side, batch: &[Append]) {
    for append in batch {
        for event in &append.events {
            crash::reached(side, append.entity.prefix(), event.kind);
        }
    }
}
