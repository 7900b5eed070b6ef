//! The stream of committed events, written by relays and read by followers: a trait with two
//! implementations, JetStream and in process. It is a copy of the recent part of the journals and
//! never authoritative: a server may lose the end of it, or all of it, and lost events are relayed
//! again.

mod jet;
mod twin;
pub mod wire;

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::sync::watch;

use crate::domain::time::Timestamp;
use wire::{Heard, StreamMessage};

pub use jet::Jet;
pub use twin::Twin;

/// The stream's name.
pub const NAME: &str = "KONTOR_EVENTS";

/// Why the stream cannot be used at the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There is no such stream, at least no longer.
    #[error("the stream does not exist")]
    Missing,
    /// It is unreachable, or refuses.
    #[error("{0}")]
    Failed(String),
}

/// The acknowledgment of a sent message: it is in the stream, or it may not be.
pub type PublishFuture = BoxFuture<'static, Result<(), Trouble>>;

/// A stream of committed events.
#[async_trait]
pub trait Stream: Send + Sync + 'static {
    /// Watches whether it is reachable.
    fn reachable(&self) -> watch::Receiver<bool>;

    /// Creates it if it is missing, with the right configuration.
    async fn ready(&self) -> Result<(), Trouble>;

    /// A number that changes when the stream has lost messages: it was recreated or emptied, or its
    /// end is not what was acknowledged.
    async fn life(&self) -> Result<u64, Trouble>;

    /// The last message of a shard: its position and the checksum of its record.
    async fn last(&self, shard: u16) -> Result<Option<(i64, String)>, Trouble>;

    /// The first missing position of a shard, from a given one, even if later ones are present.
    async fn missing(&self, shard: u16, from: i64) -> Result<i64, Trouble>;

    /// Events older than this have expired from the stream, by age or by size.
    async fn horizon(&self) -> Result<Option<Timestamp>, Trouble>;

    /// Removes all messages of a shard.
    async fn purge(&self, shard: u16) -> Result<(), Trouble>;

    /// Sends a message after those sent before; the returned future is its acknowledgment. One that
    /// is already in the stream counts as stored.
    async fn send(&self, message: StreamMessage) -> Result<PublishFuture, Trouble>;

    /// The last message of each kind and shard, and then all new ones.
    async fn follow(&self) -> Result<BoxStream<'static, Result<Heard, Trouble>>, Trouble>;
}

/// The first missing position, from a given one.
fn missing_of(positions: &BTreeSet<i64>, from: i64) -> i64 {
    let in_order = positions.range(from..).zip(from..).take_while(|(pos, next)| *pos == next);
    in_order.last().map_or(from, |(pos, _)| pos + 1)
}
