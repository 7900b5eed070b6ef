//! All lanes of a node, and the assignment of shards to them.

use std::sync::Arc;

use futures_util::future::join_all;

use super::lane::{Committed, Lane, Options};
use super::{Fence, Journal};
use crate::domain::entity::EntityId;

/// The lanes of a node. A shard always has the same lane. Clones share the lanes.
#[derive(Clone)]
pub struct Lanes {
    lanes: Arc<[Lane]>,
    shards: u16,
}

impl Lanes {
    /// Starts `count` lanes, but at least one and at most one per shard, as tasks of the current
    /// runtime. They own no shard yet.
    #[must_use]
    pub fn start(
        journal: &Arc<dyn Journal>,
        count: u16,
        options: &Options,
        committed: &Committed,
    ) -> Self {
        let shards = journal.shards();
        let lane = |_| Lane::start(journal.clone(), options.clone(), committed.clone());
        Self { lanes: (0..count.clamp(1, shards)).map(lane).collect(), shards }
    }

    /// The lane of a shard.
    #[must_use]
    pub fn of(&self, shard: u16) -> &Lane {
        &self.lanes[usize::from(shard) % self.lanes.len()]
    }

    /// The lane of an entity's shard.
    #[must_use]
    pub fn of_entity(&self, entity: &EntityId) -> &Lane {
        self.of(entity.shard(self.shards))
    }

    /// Whether a lane owns an entity's shard.
    #[must_use]
    pub fn own(&self, entity: &EntityId) -> bool {
        let shard = entity.shard(self.shards);
        self.of(shard).owns(shard)
    }

    /// The number of shards.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// All lanes.
    pub fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    /// The fences of all owned shards, in no particular order.
    #[must_use]
    pub fn owned(&self) -> Vec<Fence> {
        self.iter().flat_map(Lane::owned).collect()
    }

    /// Waits until every append that is queued now has an outcome.
    pub async fn flush(&self) {
        join_all(self.iter().map(Lane::flush)).await;
    }
}
