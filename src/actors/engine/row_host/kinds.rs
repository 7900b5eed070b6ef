//! The kinds of plain rows of a node, behind one interface: operations on all kinds, or on the one
//! that an id's prefix selects. The list of kinds is in `actors/row_kinds.rs`.

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
    /// Adds a kind.
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

/// The rows of all kinds of a node. Cheap to clone.
#[derive(Clone)]
pub struct RowHosts(Arc<[Arc<dyn ErasedRows>]>);

impl RowHosts {
    /// All kinds.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn ErasedRows>> {
        self.0.iter()
    }

    /// The rows of a kind; `None` if this node does not have it.
    #[must_use]
    pub fn of<T: VersionedRow>(&self) -> Option<Arc<RowHost<T>>> {
        self.iter().find_map(|rows| (rows.clone() as Arc<dyn Any + Send + Sync>).downcast().ok())
    }

    /// The rows whose ids have this prefix.
    #[must_use]
    pub fn named(&self, prefix: &str) -> Option<&Arc<dyn ErasedRows>> {
        self.iter().find(|rows| rows.prefix() == prefix)
    }
}

/// The rows of any kind.
#[async_trait]
pub trait ErasedRows: Any + Send + Sync {
    /// The prefix of their ids, which also names the kind in calls between nodes.
    fn prefix(&self) -> &'static str;

    /// The kind's public name, in the singular.
    fn name(&self) -> &'static str;

    /// Their table.
    fn table(&self) -> &'static Table;

    /// Starts to write the rows of a shard. While the lease is valid, no other node writes them.
    fn open(&self, shard: u16, lease: ShardLease);

    /// Stops writing the rows of a shard.
    fn close(&self, shard: u16);

    /// Sets how rows of other nodes are written. Until then they cannot be.
    fn set_remote(&self, remote: Arc<dyn RemoteEntities>);

    /// Performs a write for another node, and returns the answer as JSON.
    async fn serve(&self, body: &[u8]) -> Vec<u8>;

    /// Follows the feed until stopped, and drops cached answers about changed rows.
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
        let mut owned_since = self.owned_since.write().unwrap_or_else(PoisonError::into_inner);
        owned_since.insert(shard, (Instant::now(), lease));
    }

    fn close(&self, shard: u16) {
        self.owned_since.write().unwrap_or_else(PoisonError::into_inner).remove(&shard);
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
