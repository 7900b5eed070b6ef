//! The stream of committed events, written by relays and read by followers: a trait with two
//! implementations, JetStream and in process. The stream is a copy of the recent part of the
//! journal and never authoritative. A server may lose its end, or all of it; lost events are
//! relayed again.

mod jet;
mod local_stream;
pub mod wire;

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::sync::watch;

use crate::domain::cluster_key::ClusterKey;
use crate::domain::time::Timestamp;
use wire::{DecodedMessage, StreamMessage};

pub use jet::Jet;
pub use local_stream::LocalStream;

/// The stream's name.
pub const NAME: &str = "KONTOR_EVENTS";

/// Why the stream cannot be used at the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The stream does not exist (any more).
    #[error("the stream does not exist")]
    Missing,
    /// The server is unreachable, or has refused a request.
    #[error("{0}")]
    Failed(String),
}

/// Waits for the acknowledgment of a sent message: `Ok` if the message is in the stream, an error
/// if it may not be.
pub type PublishFuture = BoxFuture<'static, Result<(), StreamError>>;

/// A stream of committed events.
#[async_trait]
pub trait Stream: Send + Sync + 'static {
    /// The key with which its messages are signed.
    fn key(&self) -> &ClusterKey;

    /// Watches whether the stream is reachable.
    fn reachable(&self) -> watch::Receiver<bool>;

    /// Creates the stream if it is missing, and updates its configuration if that is not the
    /// requested one.
    async fn ready(&self) -> Result<(), StreamError>;

    /// A number that changes when the stream has lost messages: it was recreated or emptied, or
    /// lacks acknowledged messages at its end.
    async fn incarnation(&self) -> Result<u64, StreamError>;

    /// The last message of a shard: its position and the signature of its record.
    async fn last(&self, shard: u16) -> Result<Option<(i64, String)>, StreamError>;

    /// The first position of a shard, from `from` on, that is missing in the stream, even if later
    /// ones are present.
    async fn missing(&self, shard: u16, from: i64) -> Result<i64, StreamError>;

    /// The time before which events have expired from the stream, by age or by size; `None` if none
    /// have.
    async fn horizon(&self) -> Result<Option<Timestamp>, StreamError>;

    /// Removes all messages of a shard.
    async fn purge(&self, shard: u16) -> Result<(), StreamError>;

    /// Sends a message, after those that were sent before; the returned future waits for its
    /// acknowledgment. If the message is already in the stream, it is not stored again.
    async fn send(&self, message: StreamMessage) -> Result<PublishFuture, StreamError>;

    /// Reads the stream: first the last message of each kind of event and shard, and then all new
    /// messages.
    async fn follow(
        &self,
    ) -> Result<BoxStream<'static, Result<DecodedMessage, StreamError>>, StreamError>;
}

/// The first position from `from` on that is not in `positions`.
fn missing_of(positions: &BTreeSet<i64>, from: i64) -> i64 {
    let in_order = positions.range(from..).zip(from..).take_while(|(pos, next)| *pos == next);
    in_order.last().map_or(from, |(pos, _)| pos + 1)
}
