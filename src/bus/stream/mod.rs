//! The stream of committed events, as a relay writes it and followers read it: a trait with two
//! implementations, JetStream and a twin in process. It is a copy of the end of the journals and
//! never the truth: a server may lose its tail, or all of it, and what it lost is relayed again.

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

/// Why the stream cannot be used now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There is no such stream, at least no longer.
    #[error("the stream does not exist")]
    Missing,
    /// It cannot be reached, or says no.
    #[error("{0}")]
    Failed(String),
}

/// What becomes of a message that was sent: it is in the stream, or it may not be.
pub type PublishFuture = BoxFuture<'static, Result<(), Trouble>>;

/// A stream of committed events.
#[async_trait]
pub trait Stream: Send + Sync + 'static {
    /// Whether it can be reached; tells whenever that changes.
    fn reachable(&self) -> watch::Receiver<bool>;

    /// Makes it where it is missing, as it should be.
    async fn ready(&self) -> Result<(), Trouble>;

    /// A number that is another one once the stream has lost something: it was made again, or
    /// emptied, or its end is not what was kept.
    async fn life(&self) -> Result<u64, Trouble>;

    /// The last message of a shard: its position and the checksum of its record.
    async fn last(&self, shard: u16) -> Result<Option<(i64, String)>, Trouble>;

    /// The first position of a shard, from one on, that is not there, whatever is there behind it.
    async fn missing(&self, shard: u16, from: i64) -> Result<i64, Trouble>;

    /// What is older than this has left the stream because it was old, or because there was too
    /// much of it.
    async fn horizon(&self) -> Result<Option<Timestamp>, Trouble>;

    /// Forgets all messages of a shard.
    async fn purge(&self, shard: u16) -> Result<(), Trouble>;

    /// Sends a message after those that were sent before; it is kept when what this answers says
    /// so. One that is in the stream already counts as kept.
    async fn send(&self, message: StreamMessage) -> Result<PublishFuture, Trouble>;

    /// The last message of each kind and shard, and then all that come.
    async fn follow(&self) -> Result<BoxStream<'static, Result<Heard, Trouble>>, Trouble>;
}

/// The first position, from one on, that is not among some.
fn missing_of(positions: &BTreeSet<i64>, from: i64) -> i64 {
    let in_order = positions.range(from..).zip(from..).take_while(|(pos, next)| *pos == next);
    in_order.last().map_or(from, |(pos, _)| pos + 1)
}
