//! The journal: the one table of events that is the truth, behind one trait.
//!
//! SQLite serves a store on one machine, PostgreSQL one that many nodes share, memory serves the
//! tests. All pass the same suite.
//! What events mean is not known here: they are kinds, versions and JSON text.

mod checksum;
pub mod lane;
pub mod lanes;
pub mod memory;
pub(in crate::store) mod postgres;
pub(in crate::store) mod sqlite;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

pub use crate::domain::entity::Record;

#[cfg(debug_assertions)]
use crate::crash;
use crate::domain::entity::EntityId;
use crate::domain::time::{Span, Timestamp};
use crate::store::Error;
use crate::store::row::RowChange;

/// One event that is to be appended.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event's kind.
    pub kind: &'static str,
    /// The version of the kind's shape.
    pub version: u16,
    /// The event as JSON.
    pub data: Arc<str>,
}

/// What one entity adds to the journal, whole or not at all.
#[derive(Clone, Debug)]
pub struct Append {
    /// The one whose events these are.
    pub entity: EntityId,
    /// The seq of its last event so far; the first new one gets the next.
    pub after_seq: i64,
    /// The events, possibly none when only the timer changes.
    pub events: Vec<NewEvent>,
    /// When they were decided.
    pub at: Timestamp,
    /// A [`Cause`](crate::domain::entity::Cause) as JSON.
    pub cause: Arc<str>,
    /// What becomes of the entity's timer.
    pub timer: Option<TimerChange>,
    /// Plain rows whose change these events tell of, written in the same transaction, one after the
    /// other.
    pub rows: Vec<RowChange>,
}

/// What becomes of an entity's one timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerChange {
    /// It is due then, whatever was set before.
    Set(Timestamp),
    /// It is taken away.
    Clear,
}

/// A timer row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Whom it wakes.
    pub entity: EntityId,
    /// When.
    pub due_at: Timestamp,
}

/// A cached fold of an entity's events up to `seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSnapshot {
    /// Whose state it is.
    pub entity: EntityId,
    /// The last event in it.
    pub seq: i64,
    /// The version of the state's shape.
    pub state_version: u32,
    /// The state as JSON.
    pub data: String,
}

/// Which incarnation of a shard's owner writes; a lower one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub i64);

/// A shard that its owner may write to, as of its last claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The shard.
    pub shard: u16,
    /// The claim's epoch.
    pub epoch: Epoch,
}

/// Why a batch was not written, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Somebody else owns the shard by now. Nothing was written.
    #[error("another owner has taken shard {shard}")]
    StaleEpoch {
        /// The shard.
        shard: u16,
    },
    /// An event stands where one of these should go. Nothing was written.
    #[error("an entity of the batch has newer events")]
    Conflict,
    /// A row of the batch is one that its table does not take: a constraint is in the way. Nothing was
    /// written, and the same row is not taken later either.
    #[error("a row was refused: {0}")]
    Refused(String),
    /// The store said no: a full disk, a broken file. Nothing was written.
    #[error("the journal cannot be written: {0}")]
    Failed(String),
    /// The commit was sent and not answered: it may have been written.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(String),
}

/// Why something could not be read, or a shard not be claimed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the journal cannot be read: {0}")]
pub struct ReadError(pub String);

/// The journal of a store.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// How many shards the store was made with.
    fn shards(&self) -> u16;

    /// Takes shards for an owner, for as long as `lease`: those that nobody has, whose lease is
    /// over by the store's clock, or that it has itself. Each one's epoch grows by one. Answers
    /// those that were taken, in order; the others belong to somebody else.
    async fn claim(
        &self,
        shards: &[u16],
        owner: &str,
        lease: Span,
    ) -> Result<Vec<Fence>, ReadError>;

    /// Prolongs the leases that still stand, to `lease` from now by the store's clock. Answers
    /// those that do, in order: whatever is missing is lost.
    async fn renew(&self, fences: &[Fence], lease: Span) -> Result<Vec<Fence>, ReadError>;

    /// Gives shards back, so that anybody may claim them at once. What was taken by somebody else
    /// meanwhile is left alone.
    async fn release(&self, fences: &[Fence]) -> Result<(), ReadError>;

    /// Appends a batch in one transaction: all of it or nothing. `fences` has every shard that
    /// an entity of the batch lives on. Positions are handed out densely for each shard, in the
    /// order of the batch. Answers the records as they now stand, in that order.
    ///
    /// An append that does not continue exactly where its entity stands, whether it collides or
    /// leaves a gap, is an [`AppendError::Conflict`] of the whole batch; so is a row whose
    /// version is not the one after the stored one. A row that breaks a constraint of its table is
    /// [`AppendError::Refused`], of the whole batch as well. A shard of another epoch, or one without a
    /// fence, is [`AppendError::StaleEpoch`].
    async fn append(&self, fences: &[Fence], batch: &[Append]) -> Result<Vec<Record>, AppendError>;

    /// An entity's events after `after_seq`, in order, at most `limit`.
    async fn read_entity(
        &self,
        entity: &EntityId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError>;

    /// A shard's events after `after_pos`, in order, at most `limit`.
    async fn read_shard(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError>;

    /// The position of a shard's last event, 0 if there is none.
    async fn last_pos(&self, shard: u16) -> Result<i64, ReadError>;

    /// A shard's timers that are due by `until`, the earliest first and of the same moment in
    /// order of entity, after `after`, at most `limit`.
    async fn due_timers(
        &self,
        shard: u16,
        until: Timestamp,
        after: Option<&Timer>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError>;

    /// All timers of entities whose id begins with `prefix`, in order of entity, after
    /// `after`, at most `limit`: who has something under way.
    async fn timers_of(
        &self,
        shard: u16,
        prefix: &str,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError>;

    /// The newest snapshot of an entity.
    async fn snapshot(&self, entity: &EntityId) -> Result<Option<StateSnapshot>, ReadError>;

    /// Keeps a snapshot, unless there is a newer one. It is a cache: losing it costs time only.
    async fn put_snapshot(&self, snapshot: StateSnapshot) -> Result<(), ReadError>;
}

/// The records that a batch becomes. `next_pos` hands out a shard's positions.
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

/// What becomes of the timers of a batch, those that are set and those that are taken away: the last
/// word of each entity, in order of entity.
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

/// Lets a test kill the process here.
#[cfg(debug_assertions)]
fn crash_point(side: crash::Side, batch: &[Append]) {
    for append in batch {
        for event in &append.events {
            crash::reached(side, append.entity.prefix(), event.kind);
        }
    }
}
