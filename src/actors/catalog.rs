//! Products for those who sell and those who edit them: read from memory, written as rows with
//! their change event in one append, by the node that has their shard (`away`).
//!
//! What other nodes change comes by the feed, and is taken over from there. The feed may lose
//! something: where other nodes write to the same store, a product is believed for a while only,
//! unless this node has its shard, so that nobody else can write it.

mod away;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::clock::Clock;
use super::engine::host::{Away, Tenure};
use crate::cache::Cache;
use crate::domain::entity::{Cause, Event as _, Record};
use crate::domain::id::Sku;
use crate::domain::product::{self, Product};
use crate::store::journal::lanes::Lanes;
use crate::store::journal::{Append, AppendError, NewEvent};
use crate::store::product::Row;
use crate::store::{self, Tables};

/// The space of the cache that holds what was answered of many products.
pub const SPACE: &str = "products";

/// The most products that are kept in memory.
const CACHE_MAX: usize = 100_000;

/// How often a write that expects nothing is tried again when another one was faster.
const TRIES_MAX: usize = 32;

/// What must be true of the row before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// It is not there.
    Absent,
    /// It has this version.
    Version(i64),
    /// Nothing.
    Any,
}

/// What a write has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The product is new.
    Created,
    /// The product is different.
    Updated,
    /// The product was so already.
    Unchanged,
}

/// Why a product was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is there already.
    #[error("the product exists")]
    Exists,
    /// It is not there.
    #[error("there is no such product")]
    NotFound,
    /// Somebody else has changed it.
    #[error("the product has version {version}")]
    VersionMismatch {
        /// The version that it has.
        version: i64,
    },
    /// It may or may not have been written: the same again is safe.
    #[error("the outcome is not known: try again")]
    TryAgain,
    /// The store cannot write.
    #[error("the store cannot write: {0}")]
    Storage(String),
    /// The store cannot read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// All products of a store.
pub struct Catalog {
    store: Arc<dyn Tables>,
    lanes: Lanes,
    clock: Clock,
    cache: Cache,
    believed: Option<Duration>,
    kept: RwLock<HashMap<Sku, Kept>>,
    lookups: Lookups,
    away: RwLock<Option<Arc<dyn Away>>>,
    /// Shards that this node has, since when, and for how long.
    had: RwLock<HashMap<u16, (Instant, Tenure)>>,
}

pub(super) use away::NOUN;

/// A product in memory, and the moment before it was read or written.
#[derive(Clone)]
struct Kept {
    row: Arc<Row>,
    at: Instant,
}

/// How often products were asked for by their SKU, since the start.
#[derive(Debug, Default)]
pub struct Lookups {
    /// They were in memory.
    pub hits: AtomicU64,
    /// The store was asked.
    pub misses: AtomicU64,
}

impl Catalog {
    /// The products of a store, written through its lanes. If other nodes write to it, too, a
    /// product is `believed` for so long without asking the store.
    #[must_use]
    pub fn new(
        store: Arc<dyn Tables>,
        lanes: Lanes,
        clock: Clock,
        cache: Cache,
        believed: Option<Duration>,
    ) -> Self {
        let (kept, lookups) = (RwLock::default(), Lookups::default());
        let (away, had) = (RwLock::default(), RwLock::default());
        Self { store, lanes, clock, cache, believed, kept, lookups, away, had }
    }

    /// Writes products of a shard from now on; nobody else does while the tenure lasts.
    pub(super) fn open(&self, shard: u16, tenure: Tenure) {
        let mut had = self.had.write().unwrap_or_else(PoisonError::into_inner);
        had.insert(shard, (Instant::now(), tenure));
    }

    /// Writes products of a shard no longer.
    pub(super) fn close(&self, shard: u16) {
        self.had.write().unwrap_or_else(PoisonError::into_inner).remove(&shard);
    }

    /// Whether what was read then is what there is: nobody else can have written it since, or
    /// has lately.
    fn believes(&self, sku: &Sku, read_at: Instant) -> bool {
        self.believed.is_none_or(|believed| read_at.elapsed() < believed)
            || self.knows(sku, read_at)
    }

    /// Whether what was read then is what there is: nobody else can have written it since.
    fn knows(&self, sku: &Sku, read_at: Instant) -> bool {
        if self.believed.is_none() {
            return true;
        }
        let shard = product::entity_id(sku).shard(self.lanes.shards());
        let had = self.had.read().unwrap_or_else(PoisonError::into_inner);
        had.get(&shard).is_some_and(|(since, tenure)| *since <= read_at && tenure.stands())
    }

    /// How often products were asked for by their SKU.
    #[must_use]
    pub const fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Sku, Kept>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, HashMap<Sku, Kept>> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A product by its SKU.
    ///
    /// # Errors
    /// The store's, when it cannot be read.
    pub async fn product(&self, sku: &Sku) -> Result<Option<Arc<Row>>, store::Error> {
        self.find(sku, Self::believes).await
    }

    /// A product, from memory if that `is_good`.
    async fn find(
        &self,
        sku: &Sku,
        is_good: impl FnOnce(&Self, &Sku, Instant) -> bool,
    ) -> Result<Option<Arc<Row>>, store::Error> {
        let kept = self.read().get(sku).cloned();
        if let Some(kept) = kept
            && is_good(self, sku, kept.at)
        {
            self.lookups.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(kept.row));
        }
        self.lookups.misses.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        let row = self.store.product(sku).await?.map(Arc::new);
        if let Some(row) = &row {
            self.keep(row.clone(), asked);
        }
        Ok(row)
    }

    /// Writes a product. The same idempotency key again finds what it wrote. With [`Expect::Any`]
    /// a write that another one overtook is made again on top of it.
    ///
    /// # Errors
    /// [`Error`]: what was expected does not hold, or the store cannot write.
    pub async fn put(
        &self,
        product: Product,
        expect: Expect,
        cause: Cause,
    ) -> Result<(Row, Change), Error> {
        let away = self.away.read().unwrap_or_else(PoisonError::into_inner).clone();
        match away {
            Some(away) => self.put_where_it_is(away.as_ref(), product, expect, cause).await,
            None => self.put_here(product, expect, cause).await,
        }
    }

    async fn put_here(
        &self,
        product: Product,
        expect: Expect,
        cause: Cause,
    ) -> Result<(Row, Change), Error> {
        let any = expect == Expect::Any;
        for _ in 1..if any { TRIES_MAX } else { 1 } {
            match self.try_put(product.clone(), expect, cause.clone()).await {
                Err(Error::VersionMismatch { .. }) => {}
                other => return other,
            }
        }
        match self.try_put(product, expect, cause).await {
            Err(Error::VersionMismatch { .. }) if any => Err(Error::TryAgain),
            other => other,
        }
    }

    async fn try_put(
        &self,
        product: Product,
        expect: Expect,
        cause: Cause,
    ) -> Result<(Row, Change), Error> {
        // What is decided on is what there is.
        let there = self.find(&product.sku, Self::knows).await?;
        match (expect, &there) {
            (Expect::Absent, Some(row)) => {
                return if self.created_by(&product.sku, &cause).await? {
                    Ok(((**row).clone(), Change::Created))
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
            && row.product == product
        {
            return Ok(((**row).clone(), Change::Unchanged));
        }
        let version = there.as_ref().map_or(0, |row| row.version) + 1;
        let row = Row { product, version };
        let asked = Instant::now();
        self.write(&row, cause).await?;
        self.keep(Arc::new(row.clone()), asked);
        // Whoever asks after the answer finds what was written, on any node.
        self.cache.drop_space(SPACE).await;
        Ok((row, if version == 1 { Change::Created } else { Change::Updated }))
    }

    async fn write(&self, row: &Row, mut cause: Cause) -> Result<(), Error> {
        let storage = |error: serde_json::Error| Error::Storage(error.to_string());
        let event = if row.version == 1 {
            product::Event::Created(row.product.clone())
        } else {
            product::Event::Updated(row.product.clone())
        };
        cause.command = "put_product".into();
        let entity = product::entity_id(&row.product.sku);
        let lane = self.lanes.of_entity(&entity);
        let append = Append {
            entity: entity.clone(),
            after_seq: row.version - 1,
            events: vec![NewEvent {
                kind: event.kind(),
                version: event.version(),
                data: serde_json::to_string(&event).map_err(storage)?.into(),
            }],
            at: self.clock.now(),
            cause: serde_json::to_string(&cause).map_err(storage)?.into(),
            timer: None,
            row: Some(row.clone()),
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
        self.change().remove(&row.product.sku);
        match error {
            AppendError::Failed(why) => Err(Error::Storage(why)),
            AppendError::Conflict => match self.product(&row.product.sku).await? {
                Some(now) => Err(Error::VersionMismatch { version: now.version }),
                None => Err(Error::TryAgain),
            },
            _ => Err(Error::TryAgain),
        }
    }

    /// Whether the product was made by a request with this idempotency key.
    async fn created_by(&self, sku: &Sku, cause: &Cause) -> Result<bool, Error> {
        if cause.idempotency.is_none() {
            return Ok(false);
        }
        let first = self.store.journal().read_entity(&product::entity_id(sku), 0, 1).await;
        let first = first.map_err(|error| Error::Storage(error.to_string()))?;
        Ok(first.first().is_some_and(|record| record.cause().idempotency == cause.idempotency))
    }

    /// Keeps what a product was at a moment or later.
    fn keep(&self, row: Arc<Row>, at: Instant) {
        let mut all = self.change();
        if all.len() >= CACHE_MAX {
            all.clear();
        }
        match all.get_mut(&row.product.sku) {
            Some(kept) if kept.row.version > row.version => {}
            Some(kept) => *kept = Kept { row, at },
            None => drop(all.insert(row.product.sku.clone(), Kept { row, at })),
        }
    }

    /// Takes over what the journal has committed of products; whether there was any. That may be
    /// long ago: since when a product is believed says only who has read its row, or written it.
    fn take(&self, records: &[Record]) -> bool {
        let mut any = false;
        for record in records.iter().filter(|record| record.entity.prefix() == product::PREFIX) {
            any = true;
            match serde_json::from_str(&record.data) {
                Ok(product::Event::Created(product) | product::Event::Updated(product)) => {
                    if let Some(kept) = self.change().get_mut(&product.sku)
                        && kept.row.version < record.seq
                    {
                        kept.row = Arc::new(Row { product, version: record.seq });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, entity = %record.entity, "a product is read again");
                    self.change().clear();
                }
            }
        }
        any
    }

    /// Follows the feed until told to stop, and drops what was answered of products that have
    /// changed.
    pub(super) async fn follow(&self, mut feed: Receiver<Arc<[Record]>>, stop: CancellationToken) {
        loop {
            let mut changed = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                received = feed.recv() => match received {
                    Ok(records) => self.take(&records),
                    Err(RecvError::Lagged(_)) => self.lost_some(),
                    Err(RecvError::Closed) => return,
                },
            };
            loop {
                changed |= match feed.try_recv() {
                    Ok(records) => self.take(&records),
                    Err(TryRecvError::Lagged(_)) => self.lost_some(),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                };
            }
            if changed {
                self.cache.drop_space(SPACE).await;
            }
        }
    }

    /// Forgets all: what was lost of the feed may have been about any product.
    fn lost_some(&self) -> bool {
        self.change().clear();
        true
    }
}
