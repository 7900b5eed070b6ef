//! Checks a node's feed of changes: that the changes of an order are consecutive, unless the
//! `after_pos` of a message shows that changes are missing before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::world::World;
use crate::actors::engine::changes::{ChangeFeed, Changed};
use crate::actors::order_rows::OrderRows;

/// The changes received from one node.
#[derive(Default)]
struct FeedChecker {
    /// The position up to which each shard was published.
    heads: BTreeMap<u16, i64>,
    /// The last published event of each order, by shard.
    orders: BTreeMap<u16, BTreeMap<String, i64>>,
}

/// Subscribes to a node's feed of changes, and checks it as long as the node lives.
pub fn listen(
    world: &World,
    name: &'static str,
    changes: &ChangeFeed,
) -> impl Future<Output = ()> + use<> {
    let (world, mut feed) = (world.clone(), changes.listen());
    async move {
        let mut checker = FeedChecker::default();
        while let Some(changed) = next(&mut feed).await {
            match changed {
                Some(changed) => checker.take(&world, name, &changed),
                None => checker = FeedChecker::default(),
            }
        }
    }
}

/// The next changes, or `Some(None)` if some were lost; `None` at the end.
async fn next(feed: &mut Receiver<Arc<Changed>>) -> Option<Option<Arc<Changed>>> {
    match feed.recv().await {
        Ok(changed) => Some(Some(changed)),
        Err(RecvError::Lagged(_)) => Some(None),
        Err(RecvError::Closed) => None,
    }
}

impl FeedChecker {
    fn take(&mut self, world: &World, name: &str, changed: &Changed) {
        let head = self.heads.entry(changed.shard).or_insert(changed.pos);
        let orders = self.orders.entry(changed.shard).or_default();
        if changed.after_pos > *head {
            // There is a gap, which subscribers fill from the journal.
            orders.clear();
        }
        *head = changed.pos.max(*head);
        for order in changed.of::<OrderRows>() {
            let Some(last) = order.events.last().map(|event| event.seq) else { continue };
            let told = orders.entry(order.shown.row.id.clone()).or_insert(order.after);
            let mut seqs = order.events.iter().map(|event| event.seq);
            let whole = (order.after + 1..=last).all(|seq| seqs.next() == Some(seq));
            if order.after > *told || !whole {
                let what = format!(
                    "{name} sends {} from {} to {last}, before up to {told}",
                    order.shown.row.id, order.after
                );
                world.violate("a live feed reports the events that it skips", what);
            }
            *told = last.max(*told);
        }
    }
}
