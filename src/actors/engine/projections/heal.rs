//! Trying a dead letter again: the rows of its one entity are made from all its events, and its
//! letters go in the same transaction. Any node may do so: the cursor of the shard, which has to
//! stand still meanwhile, keeps it apart from the projector.

use super::{Error, NAME, order_row, stock_rows};
use crate::actors::engine::fold::{Folded, Upto, replay};
use crate::domain::entity::{EntityId, Noun};
use crate::domain::order::Order;
use crate::domain::stock::Stock;
use crate::store::Tables;
use crate::store::projection::{Cursor, Step};

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
        let (journal, upto) = (journal.as_ref(), Upto::Pos(pos));
        let made = match entity.prefix() {
            Order::PREFIX => replay(journal, entity, upto).await?.map(|folded: Folded<Order>| {
                if folded.seq > 0 {
                    orders.push(order_row(entity, &folded.state, folded.seq));
                }
            }),
            Stock::PREFIX => replay(journal, entity, upto).await?.map(|folded: Folded<Stock>| {
                stock.extend(stock_rows(entity, &folded.state, folded.seq, folded.at));
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
