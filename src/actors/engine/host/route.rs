//! What a shard is told: by callers, by its entities, and by time.
//!
//! What it does then is in `shard`.

use tokio::sync::oneshot;

use super::message::EntityMessage;
use crate::domain::entity::{EntityId, Noun};

/// A message to a shard.
pub(super) enum ShardMessage<N: Noun> {
    /// A message for one of its entities.
    To { entity: EntityId, fresh: bool, message: EntityMessage<N> },
    /// The entity is not idle after all.
    StillBusy(EntityId),
    /// Nothing more is expected to happen to the entity.
    AtRest(EntityId),
    /// Nothing has ever happened to the entity: asking for what is not there takes no memory for
    /// long.
    Absent(EntityId),
    /// Something has happened to it after all.
    Present(EntityId),
    /// The pause after a failure is over.
    Restart(EntityId),
    /// An operator lets an entity out of quarantine.
    Release(EntityId),
    /// Time to look for the idle.
    Tick,
    /// It goes to another node: it is empty when this is answered.
    Close(oneshot::Sender<()>),
}
