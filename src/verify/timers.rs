//! Checks that every entity with unfinished work has a timer that wakes it (I5).
//!
//! A timer of an entity without unfinished work fires without effect and is no violation.

use std::collections::HashMap;
use std::time::Duration;

use super::book::{WantedTimer, wants_timer};
use super::books::Books;
use super::report::Invariant;
use crate::actors::engine::clock::Clock;
use crate::domain::entity::{EntityId, Noun as _};
use crate::domain::id::OrderId;
use crate::domain::order::{self, Order};
use crate::domain::stock::Stock;
use crate::domain::time::{Span, Timestamp};
use crate::store::journal::{Journal, ReadError};

/// The number of timers that are read at once.
const PAGE: u32 = 1_000;
/// How much later than required a timer may be due: a timer that fired without effect is set again
/// to a later time.
const LATENESS: Span = Span::from_secs(3_600);
/// How often an entity without a timer is checked, and the pause after each check, in case that it
/// is just changing.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// The entities that need a timer, each with the latest time of the timer, and the position of the
/// entity's last event.
type Wanted = HashMap<EntityId, (Timestamp, i64)>;

impl Books {
    /// Checks the timers of all entities.
    pub(super) async fn check_timers(&mut self, journal: &dyn Journal) -> Result<(), ReadError> {
        let mut wanted = self.wanted();
        // The timer of a stuck order fires without effect, and is then set to a time shortly after
        // now.
        let present = self.newest_at.max(Clock::system().now());
        for shard in 0..self.shards {
            let mut after: Option<EntityId> = None;
            loop {
                let page = journal.timers_of(shard, "", after.as_ref(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.entity.clone());
                for timer in &page {
                    self.checked.timers += 1;
                    let Some((at, pos)) = wanted.remove(&timer.entity) else { continue };
                    if timer.due_at > at.max(present) + LATENESS {
                        let why = format!(
                            "it must wake at {at}, but its timer is due at {}",
                            timer.due_at
                        );
                        self.findings.add(Invariant::I5, &timer.entity, &[pos], why);
                    }
                }
            }
        }
        for (entity, (at, pos)) in wanted {
            if self.misses_timer(journal, &entity).await? {
                let why = format!("it must wake at {at}, but has no timer");
                self.findings.add(Invariant::I5, &entity, &[pos], why);
            }
        }
        Ok(())
    }

    fn wanted(&self) -> Wanted {
        let orders = self.orders.all.iter().filter(|(_, entry)| !entry.broken);
        let orders = orders.filter_map(|(key, entry)| {
            let at = entry.summary()?.timer?;
            Some((order::entity_id(OrderId(*key)), (at, entry.last_pos)))
        });
        let stock = self.stock.all.iter().filter(|(_, entry)| !entry.broken);
        let stock = stock
            .filter_map(|(id, entry)| Some((id.clone(), (entry.state.timer()?, entry.last_pos))));
        let others = self.others.iter().flat_map(|book| book.timers());
        let others =
            others.map(|WantedTimer { entity, due_at, last_pos }| (entity, (due_at, last_pos)));
        orders.chain(stock).chain(others).collect()
    }

    /// Whether an entity needs a timer and has none, at each of several checks.
    async fn misses_timer(
        &self,
        journal: &dyn Journal,
        entity: &EntityId,
    ) -> Result<bool, ReadError> {
        for _ in 0..TRIES {
            let wants = self.wants_timer(journal, entity).await?;
            let shard = entity.shard(journal.shards());
            let there = journal.timers_of(shard, entity.as_str(), None, 1).await?;
            if !wants || there.iter().any(|timer| timer.entity == *entity) {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(true)
    }

    async fn wants_timer(
        &self,
        journal: &dyn Journal,
        entity: &EntityId,
    ) -> Result<bool, ReadError> {
        match entity.prefix() {
            Order::PREFIX => wants_timer::<Order>(journal, entity).await,
            Stock::PREFIX => wants_timer::<Stock>(journal, entity).await,
            prefix => match self.others.iter().find(|book| book.prefix() == prefix) {
                Some(book) => book.wants_timer(journal, entity).await,
                None => Ok(false),
            },
        }
    }
}
