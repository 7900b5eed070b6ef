//! Trying a dead letter again: the rows of its one entity are made from all its events, and its
//! letters go in the same transaction. Any node may do so: the cursor of the shard, which has to
//! stand still meanwhile, keeps it apart from the projector.

use super::{Error, NAME, order_row, stock_rows};
use crate::actors::engine::host::decode;
use crate::domain::entity::{EntityId, Noun};
use crate::domain::order::Order;
use crate::domain::stock::Stock;
use crate::domain::time::Timestamp;
use crate::store::Tables;
use crate::store::journal::{Journal, ReadError};
use crate::store::projection::{Cursor, Step};

/// Events that are read at once.
const PAGE: u32 = 500;
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

/// Makes the rows of one entity from all its events that its shard's cursor has passed, and takes
/// its dead letters away.
///
/// # Errors
/// [`Error`]: the journal cannot be read, or the rows not be written.
pub async fn replay_entity(store: &dyn Tables, entity: &EntityId) -> Result<Healed, Error> {
    let journal = store.journal();
    let shard = entity.shard(journal.shards());
    for _ in 0..TRIES_MAX {
        let pos = store.cursor(NAME, shard).await?;
        let (mut orders, mut stock) = (Vec::new(), Vec::new());
        let made = match entity.prefix() {
            Order::PREFIX => fold::<Order>(journal.as_ref(), entity, pos).await?.map(|folded| {
                orders.extend(folded.map(|(state, seq, _)| order_row(entity, &state, seq)));
            }),
            Stock::PREFIX => fold::<Stock>(journal.as_ref(), entity, pos).await?.map(|folded| {
                let rows = folded.map(|(state, seq, at)| stock_rows(entity, &state, seq, at));
                stock.extend(rows.into_iter().flatten());
            }),
            // No rows are made of it any more.
            _ => Ok(()),
        };
        if let Err(reason) = made {
            return Ok(Healed::Again(reason));
        }
        let healed = std::slice::from_ref(entity);
        let step = Step { orders: &orders, stock: &stock, dead: &[], healed };
        let cursor = Cursor { shard, after: pos, pos };
        if store.commit_projection(NAME, &[cursor], step).await? {
            tracing::info!(entity = entity.for_log(), "its rows show all its events again");
            return Ok(Healed::Well);
        }
    }
    Ok(Healed::Busy)
}

/// A state, the seq of its last event, and when that was decided.
type Folded<N> = (N, i64, Timestamp);

/// Folds an entity's events up to a position of its shard; nothing if there is none. The inner
/// error says which event cannot be read.
async fn fold<N: Noun>(
    journal: &dyn Journal,
    entity: &EntityId,
    until: i64,
) -> Result<Result<Option<Folded<N>>, String>, ReadError> {
    let mut folded: Option<Folded<N>> = None;
    loop {
        let after = folded.as_ref().map_or(0, |(_, seq, _)| *seq);
        let page = journal.read_entity(entity, after, PAGE).await?;
        for record in &page {
            if record.pos > until {
                return Ok(Ok(folded));
            }
            let event = match decode::<N::Event>(record) {
                Ok(event) => event,
                Err(error) => {
                    let reason = format!("event {} ({}): {error}", record.seq, record.kind);
                    return Ok(Err(reason));
                }
            };
            let (state, seq, at) = folded.get_or_insert_with(|| (N::default(), 0, record.at));
            state.evolve(&event, record.at);
            (*seq, *at) = (record.seq, record.at);
        }
        if page.len() < PAGE as usize {
            return Ok(Ok(folded));
        }
    }
}
