//! Products for those who sell and those who edit them: read from memory, written as rows with
//! their change event in one append.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::oneshot;

use super::clock::Clock;
use crate::domain::entity::{Cause, Event as _};
use crate::domain::id::Sku;
use crate::domain::product::{self, Product};
use crate::store::journal::lane::Lane;
use crate::store::journal::{Append, AppendError, NewEvent};
use crate::store::product::Row;
use crate::store::{self, Tables};

/// The most products that are kept in memory.
const CACHE_MAX: usize = 100_000;

/// How often a write that expects nothing is tried again when another one was faster.
const TRIES_MAX: usize = 32;

/// What must be true of the row before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It is not there.
    Absent,
    /// It has this version.
    Version(i64),
    /// Nothing.
    Any,
}

/// What a write has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    lanes: Vec<Lane>,
    clock: Clock,
    cache: RwLock<HashMap<Sku, Arc<Row>>>,
}

impl Catalog {
    /// The products of a store, written through its lanes.
    #[must_use]
    pub fn new(store: Arc<dyn Tables>, lanes: Vec<Lane>, clock: Clock) -> Self {
        Self { store, lanes, clock, cache: RwLock::default() }
    }

    /// A product by its SKU.
    ///
    /// # Errors
    /// The store's, when it cannot be read.
    pub async fn product(&self, sku: &Sku) -> Result<Option<Arc<Row>>, store::Error> {
        let cached = self.cache.read().unwrap_or_else(PoisonError::into_inner).get(sku).cloned();
        if cached.is_some() {
            return Ok(cached);
        }
        let row = self.store.product(sku).await?.map(Arc::new);
        if let Some(row) = &row {
            self.keep(row.clone());
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
        let there = self.product(&product.sku).await?;
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
        self.write(&row, cause).await?;
        self.keep(Arc::new(row.clone()));
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
        let shards = u16::try_from(self.lanes.len()).unwrap_or(1);
        let lane = &self.lanes[usize::from(entity.shard(shards))];
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
        self.cache.write().unwrap_or_else(PoisonError::into_inner).remove(&row.product.sku);
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

    fn keep(&self, row: Arc<Row>) {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_MAX {
            cache.clear();
        }
        let newer = cache.get(&row.product.sku).is_none_or(|there| there.version < row.version);
        if newer {
            cache.insert(row.product.sku.clone(), row);
        }
    }
}
