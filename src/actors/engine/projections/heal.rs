//! Retries a dead letter: makes the rows of its entity from all the entity's events, and deletes
//! the entity's dead letters in the same transaction. Any node may do this: the transaction is
//! refused if the shard's cursor has moved, so it cannot race with the projector.

use super::Error;
use super::projection::{ProjectionEntry, Projections};
use crate::actors::engine::fold::{Upto, each};
use crate::domain::entity::EntityId;
use crate::store::Tables;
use crate::store::projection::{Cursor, ProjectionBatch};

/// The most attempts; one fails if the projector moves the cursor meanwhile.
const TRIES_MAX: u32 = 20;

/// The outcome of retrying an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healed {
    /// The entity's rows contain all its events, and its dead letters are deleted.
    Well,
    /// The entity's rows still cannot be made or written, for this reason.
    Again(String),
    /// In all attempts, the projector moved the cursor of the entity's shard meanwhile.
    Busy,
}

/// Makes the rows of one entity, for each projection, from all its events up to the shard's cursor,
/// and deletes its dead letters.
///
/// # Errors
/// [`Error`]: the journal cannot be read, or the rows cannot be written.
pub async fn replay_entity(
    store: &dyn Tables,
    projections: &Projections,
    entity: &EntityId,
) -> Result<Healed, Error> {
    // Projections that no longer read this prefix may still have dead letters of it.
    for entry in projections.entries() {
        let healed = heal(store, entry, entity).await?;
        if healed != Healed::Well {
            return Ok(healed);
        }
    }
    tracing::info!(entity = entity.as_str(), "the rows of an entity are correct again");
    Ok(Healed::Well)
}

/// Reason in a dead letter; the database's message may contain personal data, so it is only logged.
pub(super) const REFUSED: &str = "the database refuses its rows; the log says why";

async fn heal(
    store: &dyn Tables,
    entry: &ProjectionEntry,
    entity: &EntityId,
) -> Result<Healed, Error> {
    let journal = store.journal();
    let shard = entity.shard(journal.shards());
    for _ in 0..TRIES_MAX {
        let pos = store.cursor(entry.name, shard).await?;
        let mut run = entry.runner();
        if entry.listens_to(entity) {
            let take = |record: &_| run.take(record, false);
            if let Err(reason) = each(journal.as_ref(), entity, 0, Upto::Pos(pos), take).await? {
                return Ok(Healed::Again(reason));
            }
            run.look_up_keys(store).await?;
            run.gather();
        }
        let batch = ProjectionBatch {
            projection: entry.name,
            cursors: &[Cursor { shard, after: pos, pos }],
            rows: Some(run.batch()),
            healed: std::slice::from_ref(entity),
            ..ProjectionBatch::default()
        };
        match store.commit_projections(&[batch]).await {
            Ok(true) => return Ok(Healed::Well),
            Ok(false) => {}
            Err(error) if error.refuses_a_row() => {
                tracing::error!(projection = entry.name, entity = entity.as_str(), %error,
                    "the rows of an event are refused");
                return Ok(Healed::Again(REFUSED.to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Healed::Busy)
}
