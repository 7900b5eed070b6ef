//! Opens and closes shards on a node. When a shard is opened, its lane accepts appends, its
//! entities run, its events are projected, and its pending work is resumed. Placement of shards is
//! in `cluster`.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures_util::future;
use ractor::SpawnErr;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::host::{RemoteEntities, ShardLease};
use super::hosts::{ErasedHost, Hosts};
use super::projections::Owned;
use super::row_host::RowHosts;
use crate::bus::stream::Stream;
use crate::bus::stream::wire::PublicNames;
use crate::bus::{self, EventSource, Feed, Relay, follow};
use crate::domain::entity::{EntityId, Record};
use crate::store::Tables;
use crate::store::journal::lanes::Lanes;
use crate::store::journal::{Fence, Journal, ReadError};

/// Timers that are read at once to wake their entities.
const PAGE: u32 = 500;

/// The shards that a node runs.
pub struct Shards {
    pub(super) store: Arc<dyn Tables>,
    pub(super) lanes: Lanes,
    hosts: Hosts,
    rows: RowHosts,
    owned: Owned,
    relay: OnceLock<Relay>,
}

/// Lets the relay read the events that it has missed.
struct Committed(Arc<dyn Journal>);

#[async_trait]
impl EventSource for Committed {
    async fn read_shard(&self, shard: u16, after: i64, limit: u32) -> Result<Vec<Record>, String> {
        self.0.read_shard(shard, after, limit).await.map_err(|error| error.to_string())
    }

    async fn last_pos(&self, shard: u16) -> Result<i64, String> {
        self.0.last_pos(shard).await.map_err(|error| error.to_string())
    }
}

impl Shards {
    /// A node without shards: [`Shards::open`] adds them.
    #[must_use]
    pub fn new(store: Arc<dyn Tables>, lanes: Lanes, hosts: Hosts, rows: RowHosts) -> Self {
        Self { store, lanes, hosts, rows, owned: Owned::default(), relay: OnceLock::new() }
    }

    /// The shards that this node runs.
    #[must_use]
    pub const fn owned(&self) -> &Owned {
        &self.owned
    }

    /// The writers of the journal.
    #[must_use]
    pub const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The hosts of all nouns.
    #[must_use]
    pub const fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// The rows of all kinds.
    #[must_use]
    pub const fn rows(&self) -> &RowHosts {
        &self.rows
    }

    /// The relay that publishes this node's commits to all nodes, if there is one.
    #[must_use]
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.get()
    }

    /// The public names of its nouns and rows, by the prefix of their ids.
    fn public_names(&self) -> PublicNames {
        let nouns = self.hosts.iter().map(|host| (host.prefix(), host.name()));
        let rows = self.rows.iter().map(|rows| (rows.prefix(), rows.name()));
        nouns.chain(rows).collect()
    }

    /// Sets how entities and rows of other nodes are reached. Until then they cannot be.
    pub fn set_remote(&self, remote: &Arc<dyn RemoteEntities>) {
        self.hosts.iter().for_each(|host| host.set_remote(remote.clone()));
        self.rows.iter().for_each(|rows| rows.set_remote(remote.clone()));
    }

    /// Opens a claimed shard and resumes its pending work.
    ///
    /// # Errors
    /// [`SpawnErr`] when an actor cannot be started.
    pub async fn open(self: &Arc<Self>, fence: Fence, lease: ShardLease) -> Result<(), SpawnErr> {
        let shard = fence.shard;
        self.lanes.of(shard).own(fence);
        self.rows.iter().for_each(|rows| rows.open(shard, lease.clone()));
        // Hosts that receive commands are opened before hosts that send them.
        for host in self.hosts.iter().rev() {
            host.open(shard, lease.clone()).await?;
        }
        self.owned.own(shard);
        if let Some(relay) = self.relay() {
            relay.own(shard, fence.epoch.0);
        }
        let shards = self.clone();
        tokio::spawn(async move {
            if let Err(error) = shards.resume(shard).await {
                tracing::warn!(%error, shard, "cannot resume unfinished work now; it continues \
                                               when its timers are due");
            }
        });
        Ok(())
    }

    /// Finishes the commands of a shard and accepts no more. The caller then calls
    /// [`Shards::disown`].
    pub async fn finish(&self, shard: u16) {
        future::join_all(self.hosts.iter().map(|host| host.close(shard))).await;
        self.lanes.of(shard).flush().await;
    }

    /// Stops the lane and the projections of a shard.
    pub fn disown(&self, shard: u16) {
        self.lanes.of(shard).disown(shard);
        self.rows.iter().for_each(|rows| rows.close(shard));
        self.owned.disown(shard);
        if let Some(relay) = self.relay() {
            relay.disown(shard);
        }
    }

    /// Drops a shard that another node owns, or may own.
    pub fn abandon(&self, shard: u16) {
        self.hosts.iter().for_each(|host| host.abandon(shard));
        self.disown(shard);
    }

    /// Resumes the pending work of a shard.
    async fn resume(&self, shard: u16) -> Result<(), ReadError> {
        for hosted in self.hosts.hosted().filter(|hosted| hosted.resumed) {
            self.wake_those_with_timers(hosted.host.as_ref(), shard).await?;
        }
        for host in self.hosts.iter() {
            host.opened(shard).await;
        }
        Ok(())
    }

    async fn wake_those_with_timers(
        &self,
        host: &dyn ErasedHost,
        shard: u16,
    ) -> Result<(), ReadError> {
        let journal = self.store.journal();
        let (mut woken, mut after): (usize, Option<EntityId>) = (0, None);
        let prefix = format!("{}_", host.prefix());
        loop {
            let page = journal.timers_of(shard, &prefix, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else {
                break;
            };
            after = Some(last.entity.clone());
            page.iter().for_each(|timer| host.wake(&timer.entity, false));
            woken += page.len();
        }
        if woken > 0 {
            tracing::info!(shard, noun = host.name(), woken, "unfinished work continues");
        }
        Ok(())
    }

    /// Starts to relay this node's commits to the stream of all nodes, and to receive theirs;
    /// returns the tasks that do so.
    pub(in crate::actors) fn start_relay(
        &self,
        (stream, options): (Arc<dyn Stream>, &bus::Options),
        feed: &Feed,
        clock: Clock,
        stop: &CancellationToken,
    ) -> [JoinHandle<()>; 2] {
        let (relay, relaying) = Relay::start(
            stream.clone(),
            Arc::new(Committed(self.store.journal())),
            feed,
            (options, self.public_names()),
            Arc::new(move || clock.now()),
            stop.clone(),
        );
        // An error means that there is one already.
        let _before = self.relay.set(relay);
        let owned = (self.owned.watch(), self.lanes.shards());
        [relaying, follow::start(stream, feed.clone(), owned, stop.clone())]
    }

    /// Serves a request of another node for an entity or a row of this one; `None` if no noun or
    /// row has this prefix.
    pub async fn serve(
        &self,
        prefix: &str,
        body: &[u8],
        may_wait: &mut (dyn FnMut() -> bool + Send),
    ) -> Option<Vec<u8>> {
        if let Some(host) = self.hosts.named(prefix) {
            return Some(host.serve(body, may_wait).await);
        }
        let rows = self.rows.named(prefix)?;
        Some(rows.serve(body).await)
    }
}
