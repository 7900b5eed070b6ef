//! Fires the timers that are due: the entity is woken and decides what that means.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::node::Node;
use crate::domain::entity::{EntityId, Noun as _};
use crate::domain::order::Order;
use crate::domain::stock::Stock;
use crate::domain::time::{Span, Timestamp};
use crate::store::journal::Journal;

/// How many timers are fired at once.
const AT_ONCE: u32 = 500;
/// How long a timer that was fired is given to be set anew before it is fired again.
const PATIENCE: Span = Span::from_secs(10);

/// Looks for due timers until told to stop.
pub(super) async fn run(node: Arc<Node>, stop: CancellationToken) {
    let period = Duration::from_millis(node.settings.timer_poll_ms.max(1));
    let journal = node.store.journal();
    let mut fired: HashMap<EntityId, Timestamp> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {
                let now = node.clock.now();
                fired.retain(|_, at| *at + PATIENCE > now);
                for shard in 0..journal.shards() {
                    fire(&node, journal.as_ref(), shard, &mut fired).await;
                }
            }
        }
    }
}

async fn fire(
    node: &Node,
    journal: &dyn Journal,
    shard: u16,
    fired: &mut HashMap<EntityId, Timestamp>,
) {
    let now = node.clock.now();
    let due = match journal.due_timers(shard, now, AT_ONCE).await {
        Ok(due) => due,
        Err(error) => {
            tracing::warn!(%error, "timers cannot be read");
            return;
        }
    };
    for timer in due {
        if fired.contains_key(&timer.entity) {
            continue;
        }
        match timer.entity.prefix() {
            Order::PREFIX => node.orders.wake(&timer.entity, true),
            Stock::PREFIX => node.stock.wake(&timer.entity, true),
            other => tracing::error!(noun = other, "a timer for a noun that has none"),
        }
        fired.insert(timer.entity, now);
    }
}
