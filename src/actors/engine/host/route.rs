//! The messages to a shard's supervisor, from callers, from its entities, and from its own timers.
//!
//! `shard` handles them.

use tokio::sync::oneshot;

use super::message::EntityMessage;
use crate::domain::entity::{EntityId, Noun};

/// A message to a shard's supervisor.
pub(super) enum ShardMessage<N: Noun> {
    /// A message for one of its entities.
    To { entity: EntityId, fresh: bool, message: EntityMessage<N> },
    /// The entity was asked to stop but has work, so it is not passivated.
    StillBusy(EntityId),
    /// The entity is finished: no more commands are expected, so it may be passivated early.
    AtRest(EntityId),
    /// The entity has no events. It is passivated soon, so that reads of entities that do not exist
    /// occupy no memory for long.
    Absent(EntityId),
    /// An entity that was reported as `Absent` now has events.
    Present(EntityId),
    /// The pause after a failure is over.
    Restart(EntityId),
    /// An operator releases an entity from quarantine.
    Release(EntityId),
    /// Time to look for idle entities.
    Tick,
    /// The shard is handed over: it is empty when this is answered.
    Close(oneshot::Sender<()>),
}
