//! The connection of one node to the stream. At random, sent messages are lost, acknowledged late
//! or never, or duplicated, and requests fail.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::watch;

use super::process::SimulatedProcess;
use super::world::World;
use crate::bus::stream::wire::{DecodedMessage, StreamMessage};
use crate::bus::stream::{LocalStream, PublishFuture, Stream, StreamError};
use crate::domain::cluster_key::ClusterKey;
use crate::domain::time::Timestamp;

/// Timeout of an acknowledgment.
const PATIENCE: Duration = Duration::from_secs(2);

/// The stream that all processes use, with a switch that makes it unreachable. Clones share both.
#[derive(Clone, Default)]
pub struct SharedStream {
    /// The stream.
    pub local: LocalStream,
    /// One per watcher: they are notified in the order in which they started to watch.
    watchers: Arc<Mutex<Vec<watch::Sender<bool>>>>,
}

impl SharedStream {
    /// The same stream, as a process with this key uses it.
    #[must_use]
    pub fn with_key(&self, key: ClusterKey) -> Self {
        Self { local: self.local.with_key(key), watchers: self.watchers.clone() }
    }

    /// Makes the stream unreachable, or reachable again.
    pub fn reach(&self, is: bool) {
        self.local.reach(is);
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|one| one.send(is).is_ok());
    }

    fn reachable(&self) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(*self.local.reachable().borrow());
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }
}

/// The connection of one process to the stream.
pub struct FaultyStream {
    shared: SharedStream,
    process: SimulatedProcess,
    world: World,
}

impl FaultyStream {
    /// The connection of a process to a stream.
    #[must_use]
    pub const fn new(shared: SharedStream, process: SimulatedProcess, world: World) -> Self {
        Self { shared, process, world }
    }

    /// Simulates the transport of a request, which may time out.
    async fn ask(&self) -> Result<(), StreamError> {
        self.process.alive().await;
        tokio::time::sleep(Duration::from_millis(self.world.chance(5))).await;
        self.process.alive().await;
        if self.world.happens(self.process.bus().lost) {
            tokio::time::sleep(PATIENCE).await;
            self.process.alive().await;
            return Err(no_answer());
        }
        Ok(())
    }
}

fn no_answer() -> StreamError {
    StreamError::Failed("no answer in time".to_owned())
}

/// An acknowledgment that never arrives: fails when its timeout is over.
fn never() -> PublishFuture {
    tokio::time::sleep(PATIENCE).map(|()| Err(no_answer())).boxed()
}

#[async_trait]
impl Stream for FaultyStream {
    fn key(&self) -> &ClusterKey {
        self.shared.local.key()
    }

    fn reachable(&self) -> watch::Receiver<bool> {
        self.shared.reachable()
    }

    async fn ready(&self) -> Result<(), StreamError> {
        self.ask().await?;
        self.shared.local.ready().await
    }

    async fn incarnation(&self) -> Result<u64, StreamError> {
        self.ask().await?;
        self.shared.local.incarnation().await
    }

    async fn last(&self, shard: u16) -> Result<Option<(i64, String)>, StreamError> {
        self.ask().await?;
        self.shared.local.last(shard).await
    }

    async fn missing(&self, shard: u16, from: i64) -> Result<i64, StreamError> {
        self.ask().await?;
        self.shared.local.missing(shard, from).await
    }

    async fn horizon(&self) -> Result<Option<Timestamp>, StreamError> {
        self.ask().await?;
        self.shared.local.horizon().await
    }

    async fn purge(&self, shard: u16) -> Result<(), StreamError> {
        self.ask().await?;
        self.shared.local.purge(shard).await
    }

    async fn send(&self, message: StreamMessage) -> Result<PublishFuture, StreamError> {
        self.process.alive().await;
        let bus = self.process.bus();
        if self.world.happens(bus.lost) {
            return Ok(never());
        }
        if self.world.happens(bus.doubled) {
            drop(self.shared.local.send(message.clone()).await?);
        }
        let sent = self.shared.local.send(message).await?;
        if self.world.happens(bus.unanswered) {
            return Ok(never());
        }
        let late = if self.world.happens(bus.late) { 1_500 } else { 5 };
        let (ms, process) = (self.world.chance(late), self.process.clone());
        let acknowledged = async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            process.alive().await;
            sent.await
        };
        Ok(acknowledged.boxed())
    }

    async fn follow(
        &self,
    ) -> Result<BoxStream<'static, Result<DecodedMessage, StreamError>>, StreamError> {
        self.ask().await?;
        self.shared.local.follow().await
    }
}
