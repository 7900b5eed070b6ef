//! Hand-over of shards: those that placement assigns to other nodes, or all when the node leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::timeout;

use super::ClusterMember;
use crate::actors::engine::shards::Shards;
use crate::bus::Notice;
use crate::store::journal::Fence;

/// Time limit of a hand-over; the shard is dropped after it.
const HAND_OVER: Duration = Duration::from_secs(8);
/// Shards that are handed over at once when the node stops.
const LEAVE_AT_ONCE: usize = 16;

impl ClusterMember {
    /// Marks shards as being handed over; returns those that were not marked before.
    pub(super) fn begin_to_give(&self, shards: Vec<u16>) -> Vec<Fence> {
        let mut held = self.held();
        let begin = |shard: u16| {
            let held = held.get_mut(&shard)?;
            (!std::mem::replace(&mut held.leaving, true)).then_some(held.fence)
        };
        shards.into_iter().filter_map(begin).collect()
    }

    /// Hands over shards, `at_once` at a time, and waits until their claims are released.
    pub(super) async fn give(&self, running: &Arc<Shards>, shards: Vec<Fence>, at_once: usize) {
        tracing::info!(shards = shards.len(), "handing over shards");
        let given = stream::iter(shards).map(|fence| self.hand_over(running, fence));
        given.buffer_unordered(at_once.max(1)).collect::<Vec<()>>().await;
        self.notices.tell(Notice::Shards);
    }

    /// Accepts no more commands for a shard, finishes those that it has, and releases its claim.
    async fn hand_over(&self, running: &Shards, fence: Fence) {
        let shard = fence.shard;
        let held = self.held().get(&shard).filter(|held| held.fence == fence).cloned();
        if let Some(held) = held {
            let finish = async {
                let _mine = held.turn.lock().await;
                running.finish(shard).await;
            };
            tokio::select! {
                biased;
                // The shard was lost. This node may have claimed it again by now, and the shard
                // must not be closed under the new claim.
                () = held.lost.cancelled() => {}
                finished = timeout(HAND_OVER, finish) => {
                    self.disown(running, fence, finished.is_ok());
                }
            }
        }
        if self.close(fence) {
            if let Err(error) = running.store.journal().release(&[fence]).await {
                tracing::warn!(%error, shard, "cannot release a shard; it is free when its lease \
                                               expires");
            }
            self.end(fence);
        }
        self.changed.notify_waiters();
    }

    /// Stops running a shard, unless it was lost or claimed again meanwhile.
    fn disown(&self, running: &Shards, fence: Fence, finished: bool) {
        let held = self.held();
        if held.get(&fence.shard).is_none_or(|held| held.fence != fence) {
            return;
        }
        if finished {
            running.disown(fence.shard);
        } else {
            tracing::warn!(
                shard = fence.shard,
                "the hand-over of a shard timed out; it is closed without it"
            );
            running.abandon(fence.shard);
        }
    }

    pub(super) async fn say_that_it_leaves(&self, running: &Shards) {
        if !self.listed.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = running.store.set_draining(&self.me, true).await {
            tracing::warn!(%error, "cannot notify the other nodes that this node is leaving");
        }
    }

    /// Hands over all shards. New commands for them are forwarded. This node goes on renewing its
    /// membership, marked as draining: other nodes consider a node dead that does not renew its
    /// membership.
    pub(in crate::actors) async fn leave(&self, running: &Arc<Shards>) {
        self.leaving.cancel();
        self.say_that_it_leaves(running).await;
        self.look_again();
        let all: Vec<u16> = self.held().keys().copied().collect();
        let all = self.begin_to_give(all);
        self.give(running, all, LEAVE_AT_ONCE).await;
        // Waits for shards that were already being handed over before this call.
        let rest = async {
            loop {
                let changed = self.changed.notified();
                if self.shards_held() == 0 {
                    return;
                }
                changed.await;
            }
        };
        let _late = timeout(HAND_OVER, rest).await;
        self.look_again();
    }

    /// Removes this node from the list of nodes. The task that renews its membership must have
    /// stopped; otherwise it would list this node again.
    pub(in crate::actors) async fn gone(&self, running: &Shards) {
        if let Some(row) = self.row.get()
            && let Err(error) = running.store.remove_node(row).await
        {
            tracing::debug!(%error, "cannot remove this node from the list; it is removed when \
                                     its lease expires");
        }
        self.look_again();
    }
}
