//! Plain rows with a version, of any kind: read through a cache in memory, and written with their
//! change event in one append, by the node that owns their shard (`remote`). The columns of the
//! rows are defined in `store`.
//!
//! Changes made by other nodes arrive by the feed and update the cache. The feed may lose some of
//! them. So if other nodes write to the same store, a cached row has a TTL, unless this node owns
//! the row's shard: then no other node can write it.

mod kinds;
mod remote;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use quick_cache::sync;
use quick_cache::sync::{EntryAction, EntryResult};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::clock::Clock;
use super::host::{RemoteEntities, ShardLease};
use crate::cache::Cache;
use crate::domain::entity::{Cause, Event as _, Record};
use crate::domain::versioned::Event;
use crate::store::journal::lanes::Lanes;
use crate::store::journal::{Append, AppendError, NewEvent};
use crate::store::versioned::{self, Row, VersionedRow};
use crate::store::{self, Tables};

pub use self::kinds::{ErasedRows, RowHosts, RowKinds};

/// The most rows of a kind in the cache.
const KEPT_MAX: usize = 100_000;

/// The most attempts of an unconditional write, if concurrent writes of the same row keep being
/// first.
const TRIES_MAX: usize = 32;

/// The precondition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// The row does not exist.
    Absent,
    /// The row has this version.
    Version(i64),
    /// There is no precondition.
    Any,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteOutcome {
    /// The row was created.
    Created,
    /// The row was changed.
    Updated,
    /// The row already had these values.
    Unchanged,
}

/// Why a row was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The row exists.
    #[error("the row exists")]
    Exists,
    /// The row does not exist.
    #[error("there is no such row")]
    NotFound,
    /// The row has another version.
    #[error("the row has version {version}")]
    VersionMismatch {
        /// Its version.
        version: i64,
    },
    /// The outcome is unknown: the same write again is safe.
    #[error("the outcome is unknown: try again")]
    TryAgain,
    /// The row violates a constraint of its table: the same write fails again.
    #[error("the row was refused: {0}")]
    Refused(String),
    /// The store cannot write.
    #[error("the store cannot write: {0}")]
    Storage(String),
    /// The store cannot read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Services that all kinds of rows need.
#[derive(Clone)]
pub struct RowBase {
    /// The database.
    pub store: Arc<dyn Tables>,
    /// The writers of the journal.
    pub lanes: Lanes,
    /// The clock.
    pub clock: Clock,
    /// The cache shared by nodes, which may lose its contents.
    pub cache: Cache,
    /// TTL of a cached row if other nodes write to the store; `None` if none do.
    pub cache_ttl: Option<Duration>,
}

/// All rows of a kind.
pub struct RowHost<T: VersionedRow> {
    base: RowBase,
    kept: sync::Cache<T::Key, CachedRow<T>>,
    lookups: Lookups,
    remote: RwLock<Option<Arc<dyn RemoteEntities>>>,
    /// The owned shards: since when this node has owned each, and its lease.
    owned_since: RwLock<HashMap<u16, (Instant, ShardLease)>>,
}

/// A cached row, and the time at which reading or writing it began.
#[derive(Clone)]
struct CachedRow<T> {
    row: Arc<Row<T>>,
    at: Instant,
}

/// Cache hits and misses of reads by key, since the start.
#[derive(Debug, Default)]
pub struct Lookups {
    /// The row was in the cache.
    pub hits: AtomicU64,
    /// The store was read.
    pub misses: AtomicU64,
}

impl<T: VersionedRow> RowHost<T> {
    /// The rows of a kind in a store.
    #[must_use]
    pub fn new(base: RowBase) -> Self {
        let (kept, lookups) = (sync::Cache::new(KEPT_MAX), Lookups::default());
        Self { base, kept, lookups, remote: RwLock::default(), owned_since: RwLock::default() }
    }

    /// Whether a row that was read at this time may be returned to a reader: its TTL has not ended,
    /// or no other node can have written it since.
    fn believes(&self, key: &T::Key, read_at: Instant) -> bool {
        self.base.cache_ttl.is_none_or(|ttl| read_at.elapsed() < ttl) || self.knows(key, read_at)
    }

    /// Whether a row that was read at this time is surely current: no other node can have written
    /// it since.
    fn knows(&self, key: &T::Key, read_at: Instant) -> bool {
        if self.base.cache_ttl.is_none() {
            return true;
        }
        let shard = T::entity_id(key).shard(self.base.lanes.shards());
        let owned_since = self.owned_since.read().unwrap_or_else(PoisonError::into_inner);
        owned_since.get(&shard).is_some_and(|(since, lease)| *since <= read_at && lease.is_valid())
    }

    /// Cache hits and misses of reads by key.
    #[must_use]
    pub const fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// The row of a key.
    ///
    /// # Errors
    /// The store's, when it cannot be read.
    pub async fn get(&self, key: &T::Key) -> Result<Option<Arc<Row<T>>>, store::Error> {
        self.find(key, Self::believes).await
    }

    /// The row of a key, from the cache if `is_good` accepts it.
    async fn find(
        &self,
        key: &T::Key,
        is_good: impl FnOnce(&Self, &T::Key, Instant) -> bool,
    ) -> Result<Option<Arc<Row<T>>>, store::Error> {
        if let Some(kept) = self.kept.get(key)
            && is_good(self, key, kept.at)
        {
            self.lookups.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(kept.row));
        }
        self.lookups.misses.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        let row = versioned::find::<T>(self.base.store.as_ref(), key).await?.map(Arc::new);
        if let Some(row) = &row {
            self.keep(row.clone(), asked);
        }
        Ok(row)
    }

    /// The rows of these keys, as far as there are any, as they surely are now: a decision about money
    /// does not rest on what the feed or a TTL makes likely. Rows that this node cannot know are read
    /// from the store, in one query.
    ///
    /// # Errors
    /// The store's, when it cannot be read.
    pub async fn current(
        &self,
        keys: &BTreeSet<T::Key>,
    ) -> Result<BTreeMap<T::Key, Arc<Row<T>>>, store::Error> {
        let known = |key: &T::Key| {
            let kept = self.kept.get(key).filter(|kept| self.knows(key, kept.at))?;
            Some((key.clone(), kept.row))
        };
        let mut rows: BTreeMap<_, _> = keys.iter().filter_map(known).collect();
        let wanted = keys.iter().filter(|key| !rows.contains_key(key));
        let wanted: Vec<T::Key> = wanted.cloned().collect();
        self.lookups.hits.fetch_add(rows.len() as u64, Ordering::Relaxed);
        if wanted.is_empty() {
            return Ok(rows);
        }
        self.lookups.misses.fetch_add(wanted.len() as u64, Ordering::Relaxed);
        let asked = Instant::now();
        for row in versioned::find_all::<T>(self.base.store.as_ref(), &wanted).await? {
            let row = Arc::new(row);
            self.keep(row.clone(), asked);
            rows.insert(row.value.key().clone(), row);
        }
        Ok(rows)
    }

    /// Writes a row. A repeated creation ([`Expect::Absent`]) with the idempotency key of the first
    /// one returns the row as it is now. With [`Expect::Any`], a write is repeated on the new
    /// version if a concurrent write was first.
    ///
    /// # Errors
    /// [`Error`]: the precondition fails, or the store cannot write.
    pub async fn put(
        &self,
        value: T,
        expect: Expect,
        cause: Cause,
    ) -> Result<(Row<T>, WriteOutcome), Error> {
        let remote = self.remote.read().unwrap_or_else(PoisonError::into_inner).clone();
        match remote {
            Some(remote) => self.put_where_it_is(remote.as_ref(), value, expect, cause).await,
            None => self.put_here(value, expect, cause).await,
        }
    }

    async fn put_here(
        &self,
        value: T,
        expect: Expect,
        cause: Cause,
    ) -> Result<(Row<T>, WriteOutcome), Error> {
        let any = expect == Expect::Any;
        for _ in 1..if any { TRIES_MAX } else { 1 } {
            match self.try_put(value.clone(), expect, cause.clone()).await {
                Err(Error::VersionMismatch { .. }) => {}
                other => return other,
            }
        }
        match self.try_put(value, expect, cause).await {
            Err(Error::VersionMismatch { .. }) if any => Err(Error::TryAgain),
            other => other,
        }
    }

    async fn try_put(
        &self,
        value: T,
        expect: Expect,
        cause: Cause,
    ) -> Result<(Row<T>, WriteOutcome), Error> {
        // A decision needs the current row, not a cached one within its TTL.
        let there = self.find(value.key(), Self::knows).await?;
        match (expect, &there) {
            (Expect::Absent, Some(row)) => {
                return if self.created_by(value.key(), &cause).await? {
                    Ok(((**row).clone(), WriteOutcome::Created))
                } else {
                    Err(Error::Exists)
                };
            }
            (Expect::Version(_), None) => return Err(Error::NotFound),
            (Expect::Version(version), Some(row)) if row.version != version => {
                return Err(Error::VersionMismatch { version: row.version });
            }
            _ => {}
        }
        if let Some(row) = &there
            && row.value == value
        {
            return Ok(((**row).clone(), WriteOutcome::Unchanged));
        }
        let version = there.as_ref().map_or(0, |row| row.version) + 1;
        let row = Row { value, version, updated_at: self.base.clock.now() };
        let asked = Instant::now();
        self.write(there.as_ref().map(|there| &there.value), &row, cause).await?;
        self.keep(Arc::new(row.clone()), asked);
        // Reads after the answer find the new row, on any node.
        self.base.cache.drop_space(T::PLURAL).await;
        Ok((row, if version == 1 { WriteOutcome::Created } else { WriteOutcome::Updated }))
    }

    async fn write(&self, before: Option<&T>, row: &Row<T>, mut cause: Cause) -> Result<(), Error> {
        let storage = |error: serde_json::Error| Error::Storage(error.to_string());
        let event = Event::of(before, row.value.clone());
        cause.command = T::PUT.into();
        let entity = T::entity_id(row.value.key());
        let lane = self.base.lanes.of_entity(&entity);
        let append = Append {
            entity: entity.clone(),
            after_seq: row.version - 1,
            events: vec![NewEvent {
                kind: event.kind(),
                version: event.version(),
                data: serde_json::to_string(&event).map_err(storage)?.into(),
            }],
            at: row.updated_at,
            cause: serde_json::to_string(&cause).map_err(storage)?.into(),
            timer: None,
            rows: vec![row.change()],
        };
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |outcome| drop(sender.send(outcome)));
        lane.enqueue(append, done).map_err(|_full| Error::TryAgain)?;
        let outcome = receiver.await.unwrap_or(Err(AppendError::Unknown("it stopped".into())));
        let Err(error) = outcome else {
            return Ok(());
        };
        lane.flush().await;
        lane.forgive(&entity);
        self.kept.remove(row.value.key());
        match error {
            AppendError::Failed(why) => Err(Error::Storage(why)),
            AppendError::Refused(why) => Err(Error::Refused(why)),
            AppendError::Conflict => match self.get(row.value.key()).await? {
                Some(now) => Err(Error::VersionMismatch { version: now.version }),
                None => Err(Error::TryAgain),
            },
            _ => Err(Error::TryAgain),
        }
    }

    /// Whether the row was created by a request with this idempotency key.
    async fn created_by(&self, key: &T::Key, cause: &Cause) -> Result<bool, Error> {
        if cause.idempotency.is_none() {
            return Ok(false);
        }
        let first = self.base.store.journal().read_entity(&T::entity_id(key), 0, 1).await;
        let first = first.map_err(|error| Error::Storage(error.to_string()))?;
        Ok(first.first().is_some_and(|record| record.cause().idempotency == cause.idempotency))
    }

    /// Caches a row that was read from the store, or written, at the time `at` or later.
    fn keep(&self, row: Arc<Row<T>>, at: Instant) {
        let new = CachedRow { row, at };
        let vacant = self.kept.entry(new.row.value.key(), None, |_, kept| {
            if kept.row.version <= new.row.version {
                *kept = new.clone();
            }
            EntryAction::Retain(())
        });
        if let EntryResult::Vacant(place) = vacant {
            // This fails only if the row was removed from the cache meanwhile: then the next read
            // goes to the store.
            let _removed = place.insert(new);
        }
    }

    /// Updates the cache with committed rows; `true` if there were any. They may be old: only a
    /// read or a write starts a row's TTL.
    fn take(&self, records: &[Record]) -> bool {
        let mut any = false;
        for record in records.iter().filter(|record| record.entity.prefix() == T::PREFIX) {
            any = true;
            match serde_json::from_str::<Event<T>>(&record.data) {
                Ok(event) => {
                    let value = event.into_value();
                    let row = Arc::new(Row { value, version: record.seq, updated_at: record.at });
                    self.kept.entry(row.value.key(), None, |_, kept| {
                        if kept.row.version < row.version {
                            kept.row = row.clone();
                        }
                        EntryAction::Retain(())
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, entity = %record.entity, "cannot decode a row from an \
                        event; clearing the row cache");
                    self.kept.clear();
                }
            }
        }
        any
    }

    /// Clears the cache, because the events that the feed has lost may have changed any row.
    fn lost_some(&self) -> bool {
        self.kept.clear();
        true
    }
}
