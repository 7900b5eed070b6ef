//! The hosts of all nouns that a node runs, behind one interface: operations on all of them, or on
//! the host that an id's prefix selects. The list of nouns is in `actors/nouns.rs`.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ractor::{ActorCell, SpawnErr};

use super::host::{Gauge, Host, Quarantined, Released, RemoteEntities, ShardLease};
use crate::domain::entity::{EntityId, Noun, Record};

/// A host of any noun.
#[async_trait]
pub trait ErasedHost: Any + Send + Sync {
    /// The noun's display name.
    fn name(&self) -> &'static str;

    /// The prefix of the noun's ids.
    fn prefix(&self) -> &'static str;

    /// As [`Host::set_remote`].
    fn set_remote(&self, remote: Arc<dyn RemoteEntities>);

    /// As [`Host::forget_flow`].
    fn forget_flow(&self);

    /// As [`Host::open`].
    ///
    /// # Errors
    /// As [`Host::open`].
    async fn open(&self, shard: u16, lease: ShardLease) -> Result<(), SpawnErr>;

    /// Lets the noun's flow resume pending work in a shard.
    async fn opened(&self, shard: u16);

    /// As [`Host::close`].
    async fn close(&self, shard: u16);

    /// As [`Host::abandon`].
    fn abandon(&self, shard: u16);

    /// As `Host::restart`.
    async fn restart(&self, failed: &ActorCell) -> bool;

    /// As [`Host::serve`].
    async fn serve(&self, body: &[u8], may_wait: &mut (dyn FnMut() -> bool + Send)) -> Vec<u8>;

    /// As [`Host::wake`].
    fn wake(&self, entity: &EntityId, due: bool);

    /// Passes a durable event to the noun's flow.
    fn committed(&self, record: &Record);

    /// As [`Host::quarantined`].
    fn quarantined(&self, limit: usize) -> Vec<Quarantined>;

    /// As [`Host::release`].
    async fn release(&self, entity: &EntityId) -> Released;

    /// As [`Host::gauge`].
    fn gauge(&self) -> Gauge;

    /// As [`Host::take_wait`].
    fn take_wait(&self) -> Duration;
}

#[async_trait]
impl<N: Noun> ErasedHost for Host<N> {
    fn name(&self) -> &'static str {
        N::NAME
    }

    fn prefix(&self) -> &'static str {
        N::PREFIX
    }

    fn set_remote(&self, remote: Arc<dyn RemoteEntities>) {
        self.set_remote(remote);
    }

    fn forget_flow(&self) {
        self.forget_flow();
    }

    async fn open(&self, shard: u16, lease: ShardLease) -> Result<(), SpawnErr> {
        self.open(shard, lease).await
    }

    async fn opened(&self, shard: u16) {
        if let Some(flow) = self.flow() {
            flow.opened(self, shard).await;
        }
    }

    async fn close(&self, shard: u16) {
        self.close(shard).await;
    }

    fn abandon(&self, shard: u16) {
        self.abandon(shard);
    }

    async fn restart(&self, failed: &ActorCell) -> bool {
        self.restart(failed).await
    }

    async fn serve(&self, body: &[u8], may_wait: &mut (dyn FnMut() -> bool + Send)) -> Vec<u8> {
        self.serve(body, may_wait).await
    }

    fn wake(&self, entity: &EntityId, due: bool) {
        self.wake(entity, due);
    }

    fn committed(&self, record: &Record) {
        if let Some(flow) = self.flow() {
            flow.committed(record);
        }
    }

    fn quarantined(&self, limit: usize) -> Vec<Quarantined> {
        self.quarantined(limit)
    }

    async fn release(&self, entity: &EntityId) -> Released {
        self.release(entity).await
    }

    fn gauge(&self) -> Gauge {
        self.gauge()
    }

    fn take_wait(&self) -> Duration {
        self.take_wait()
    }
}

/// A host, with the settings of its noun's entry.
#[derive(Clone)]
pub struct Hosted {
    /// The host.
    pub host: Arc<dyn ErasedHost>,
    /// Whether entities that have a timer are woken as soon as their shard is opened, because a
    /// timer means that work was in progress.
    pub resumed: bool,
}

/// The hosts of a node, in an order in which each may send commands to those after it. Cheap to
/// clone.
#[derive(Clone)]
pub struct Hosts(Arc<[Hosted]>);

impl Hosts {
    /// The hosts of all given nouns.
    #[must_use]
    pub fn new(all: Vec<Hosted>) -> Self {
        Self(all.into())
    }

    /// All hosts with the settings of their entries.
    pub fn hosted(&self) -> impl DoubleEndedIterator<Item = &Hosted> {
        self.0.iter()
    }

    /// All hosts.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &dyn ErasedHost> {
        self.0.iter().map(|hosted| &*hosted.host)
    }

    /// The host of a noun; `None` if this node does not run it.
    #[must_use]
    pub fn of<N: Noun>(&self) -> Option<&Host<N>> {
        self.iter().find_map(|host| (host as &dyn Any).downcast_ref())
    }

    /// The host of a noun that this node runs.
    ///
    /// # Panics
    /// If this node does not run it: a node is started with all nouns that are asked for.
    #[must_use]
    pub fn get<N: Noun>(&self) -> &Host<N> {
        self.of().unwrap_or_else(|| panic!("this node was started without {}", N::NAME))
    }

    /// The host of the noun whose ids have this prefix.
    #[must_use]
    pub fn named(&self, prefix: &str) -> Option<&dyn ErasedHost> {
        self.iter().find(|host| host.prefix() == prefix)
    }

    /// Passes the events of a commit to the flows.
    pub fn committed(&self, records: &[Record]) {
        for record in records {
            if let Some(host) = self.named(record.entity.prefix()) {
                host.committed(record);
            }
        }
    }
}
