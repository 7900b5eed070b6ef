//! Reads the stream of committed events and publishes the events of other nodes in this node's
//! feed. Events may come twice, out of order or not at all: receivers go by positions, and read the
//! journal where there is a gap. This node's own events come from its lanes, so a node that owns
//! all shards does not read the stream.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Feed;
use super::stream::Stream;
use super::stream::wire::DecodedMessage;
use crate::domain::entity::Record;
use crate::seeded_fault::{self, SeededFault};

/// The most messages of the stream that are published together.
const CHUNK: usize = 256;
/// The pause after a failure, before the stream is read again.
const AGAIN: Duration = Duration::from_millis(500);

/// The shards that this node owns.
type Owned = watch::Receiver<BTreeSet<u16>>;

/// Starts to follow the stream, until stopped. At the start, and after every interruption, the
/// stream first delivers the last event of each kind and shard: from the positions of these events,
/// receivers detect that they have missed some. `shards` is the number of shards of the store.
pub fn start(
    stream: Arc<dyn Stream>,
    feed: Feed,
    (owned, shards): (Owned, u16),
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut reachable = stream.reachable();
        loop {
            let followed = async {
                let mut mine = owned.clone();
                if mine.wait_for(|owned| owned.len() < usize::from(shards)).await.is_err() {
                    return;
                }
                if reachable.wait_for(|up| *up).await.is_err() {
                    return;
                }
                tokio::select! {
                    biased;
                    _ = mine.wait_for(|owned| owned.len() >= usize::from(shards)) => {}
                    () = follow(&*stream, &feed, (&owned, shards)) => {}
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = followed => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    })
}

/// Follows the stream until it fails. An event counts only in the shard of its entity.
async fn follow(stream: &dyn Stream, feed: &Feed, (owned, shards): (&Owned, u16)) {
    let mut reachable = stream.reachable();
    reachable.mark_unchanged();
    let heard = match stream.follow().await {
        Ok(heard) => heard,
        Err(trouble) => {
            tracing::debug!(error = %trouble, "the stream cannot be followed");
            return;
        }
    };
    let mut chunks = heard.ready_chunks(CHUNK);
    loop {
        let chunk = tokio::select! {
            biased;
            _ = reachable.changed() => return,
            chunk = chunks.next() => chunk,
        };
        let Some(chunk) = chunk else {
            return;
        };
        let mut batch = Vec::with_capacity(chunk.len());
        let foreign = |record: &Record| {
            let is_of_shard = record.entity.shard(shards) == record.shard
                || seeded_fault::active(SeededFault::ForeignEventBelieved);
            is_of_shard && !owned.borrow().contains(&record.shard)
        };
        for heard in chunk {
            match heard {
                Ok(DecodedMessage { record: Some(record), .. }) if foreign(&record) => {
                    batch.push(record);
                }
                Ok(_) => {}
                Err(trouble) => {
                    tracing::debug!(error = %trouble, "the stream broke off");
                    publish(feed, batch);
                    return;
                }
            }
        }
        publish(feed, batch);
    }
}

/// Publishes records, grouped by shard; those of one shard in the order in which they arrived.
fn publish(feed: &Feed, mut batch: Vec<Record>) {
    batch.sort_by_key(|record| record.shard);
    for of_shard in batch.chunk_by(|one, next| one.shard == next.shard) {
        feed.publish(of_shard);
    }
}
