//! All lanes of a node, and which one writes for which shard. What a lane does is in `lane`.

use std::sync::Arc;

use futures_util::future::join_all;

use super::lane::{Committed, Lane, Options};
use super::{Fence, Journal};
use crate::domain::entity::EntityId;

/// The lanes of a node: a shard has always the same one. Clones are handles on the same ones.
#[derive(Clone)]
pub struct Lanes {
    lanes: Arc<[Lane]>,
    shards: u16,
}

impl Lanes {
    /// Starts so many lanes, at least one and at most one a shard, as tasks of the current
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

    /// Whether an entity's shard is written for here.
    #[must_use]
    pub fn own(&self, entity: &EntityId) -> bool {
        let shard = entity.shard(self.shards);
        self.of(shard).owns(shard)
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    /// All shards that are written for, in no order.
    #[must_use]
    pub fn owned(&self) -> Vec<Fence> {
        self.iter().flat_map(Lane::owned).collect()
    }

    /// Waits until all that was queued before is settled.
    pub async fn flush(&self) {
        join_all(self.iter().map(Lane::flush)).await;
    }
}
