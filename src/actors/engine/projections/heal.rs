//! Trying a dead letter again: the rows of its one entity are made from all its events, and its
//! letters go in the same transaction. Any node may do so: the cursor of the shard, which has to
//! stand still meanwhile, keeps it apart from the projector.

use super::Error;
use super::projection::{ProjectionEntry, Projections};
use crate::actors::engine::fold::{Upto, each};
use crate::domain::entity::EntityId;
use crate::store::Tables;
use crate::store::projection::{Cursor, ProjectionStep};

/// How often the projector may be faster.
const TRIES_MAX: u32 = 20;

/// What came of trying an entity again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healed {
    /// Its rows show all its events again, and its dead letters are gone.
    Well,
    /// It cannot be read still, and why.
    Again(String),
    /// Its shard has too much going on just now.
    Busy,
}

/// Makes the rows of one entity, of each projection, from all its events that its shard's cursor
/// has passed, and takes its dead letters away.
///
/// # Errors
/// [`Error`]: the journal cannot be read, or the rows not be written.
pub async fn replay_entity(
    store: &dyn Tables,
    projections: &Projections,
    entity: &EntityId,
) -> Result<Healed, Error> {
    // Those that listen to it no more have letters of it still, perhaps.
    for entry in projections.entries() {
        let healed = heal(store, entry, entity).await?;
        if healed != Healed::Well {
            return Ok(healed);
        }
    }
    tracing::info!(entity = entity.for_log(), "the rows of an entity are correct again");
    Ok(Healed::Well)
}

/// Why the rows of an event are not there; what the database says of it may show personal data.
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
            run.gather();
        }
        let step = ProjectionStep {
            projection: entry.name,
            cursors: &[Cursor { shard, after: pos, pos }],
            rows: Some(run.batch()),
            healed: std::slice::from_ref(entity),
            ..ProjectionStep::default()
        };
        match store.commit_projections(&[step]).await {
            Ok(true) => return Ok(Healed::Well),
            Ok(false) => {}
            Err(error) if error.refuses_a_row() => {
                tracing::error!(projection = entry.name, entity = entity.for_log(), %error,
                    "the rows of an event are refused");
                return Ok(Healed::Again(REFUSED.to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Healed::Busy)
}
