//! The kinds of rows that a node has, behind one face: what is done with each of them, or with the one
//! that an id's prefix names. Which kinds those are is not known here.

use std::any::Any;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{RowBase, RowHost};
use crate::actors::engine::host::{RemoteEntities, ShardLease};
use crate::domain::entity::Record;
use crate::store::row::Table;
use crate::store::versioned::VersionedRow;

/// The kinds of rows that a node is started with.
#[derive(Clone, Default)]
pub struct RowKinds(Vec<fn(RowBase) -> Arc<dyn ErasedRows>>);

impl RowKinds {
    /// The same, and one more.
    #[must_use]
    pub fn with<T: VersionedRow>(mut self) -> Self {
        self.0.push(|base| Arc::new(RowHost::<T>::new(base)));
        self
    }

    /// The rows of each kind.
    #[must_use]
    pub fn host(&self, base: &RowBase) -> RowHosts {
        RowHosts(self.0.iter().map(|make| make(base.clone())).collect())
    }
}

/// The row hosts of all kinds that a node has. Cheap to clone.
#[derive(Clone)]
pub struct RowHosts(Arc<[Arc<dyn ErasedRows>]>);

impl RowHosts {
    /// All kinds.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn ErasedRows>> {
        self.0.iter()
    }

    /// Those of a kind; nothing if this node does not have it.
    #[must_use]
    pub fn of<T: VersionedRow>(&self) -> Option<Arc<RowHost<T>>> {
        self.iter().find_map(|rows| (rows.clone() as Arc<dyn Any + Send + Sync>).downcast().ok())
    }

    /// Those whose ids have this prefix.
    #[must_use]
    pub fn named(&self, prefix: &str) -> Option<&Arc<dyn ErasedRows>> {
        self.iter().find(|rows| rows.prefix() == prefix)
    }
}

/// The rows of a kind, whatever it is.
#[async_trait]
pub trait ErasedRows: Any + Send + Sync {
    /// The prefix of their ids, which is also what they are called between nodes.
    fn prefix(&self) -> &'static str;

    /// What one of them is called outside.
    fn name(&self) -> &'static str;

    /// The table that they are in.
    fn table(&self) -> &'static Table;

    /// Writes those of a shard from now on; nobody else does while the lease lasts.
    fn open(&self, shard: u16, lease: ShardLease);

    /// Writes those of a shard no longer.
    fn close(&self, shard: u16);

    /// Says how those of other nodes are written. Until then there are none.
    fn set_remote(&self, remote: Arc<dyn RemoteEntities>);

    /// Writes what another node asks for, and answers as it reads it.
    async fn serve(&self, body: &[u8]) -> Vec<u8>;

    /// Follows the feed until told to stop, and drops what was answered of rows that have changed.
    async fn follow(&self, feed: Receiver<Arc<[Record]>>, stop: CancellationToken);
}

#[async_trait]
impl<T: VersionedRow> ErasedRows for RowHost<T> {
    fn prefix(&self) -> &'static str {
        T::PREFIX
    }

    fn name(&self) -> &'static str {
        T::NAME
    }

    fn table(&self) -> &'static Table {
        T::table()
    }

    fn open(&self, shard: u16, lease: ShardLease) {
        let mut had = self.had.write().unwrap_or_else(PoisonError::into_inner);
        had.insert(shard, (Instant::now(), lease));
    }

    fn close(&self, shard: u16) {
        self.had.write().unwrap_or_else(PoisonError::into_inner).remove(&shard);
    }

    fn set_remote(&self, remote: Arc<dyn RemoteEntities>) {
        *self.remote.write().unwrap_or_else(PoisonError::into_inner) = Some(remote);
    }

    async fn serve(&self, body: &[u8]) -> Vec<u8> {
        self.answer(body).await
    }

    async fn follow(&self, mut feed: Receiver<Arc<[Record]>>, stop: CancellationToken) {
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
                self.base.cache.drop_space(T::PLURAL).await;
            }
        }
    }
}
