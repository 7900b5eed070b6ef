//! Fires the timers that are due: the entity is woken and decides what that means.
//!
//! A timer whose entity cannot answer, because it is in quarantine, stays due. It is fired now and
//! then, and never keeps the others from their turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::shards::Shards;
use crate::domain::entity::EntityId;
use crate::domain::time::{Span, Timestamp};
use crate::store::journal::{Journal, ReadError, Timer};

/// How many timers are read at once, and about how many are fired at once.
const AT_ONCE: u32 = 500;
/// How many pages are read at once that have nothing to fire.
const PAGES_MAX: u32 = 20;
/// How long a timer that was fired is given to be set anew before it is fired again.
const PATIENCE: Span = Span::from_secs(10);

/// Where a shard's due timers were left, and which were fired of late.
#[derive(Default)]
struct Round {
    after: Option<Timer>,
    fired: HashMap<EntityId, Timestamp>,
}

/// Looks for due timers every `period` until told to stop.
pub(in crate::actors) async fn run(
    shards: Arc<Shards>,
    clock: Clock,
    period: Duration,
    stop: CancellationToken,
) {
    let journal = shards.store.journal();
    let mut rounds: HashMap<u16, Round> = HashMap::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {
                let owned = shards.owned().all();
                rounds.retain(|shard, _| owned.contains(shard));
                for shard in owned {
                    let round = rounds.entry(shard).or_default();
                    let fired = fire(&shards, clock.now(), journal.as_ref(), shard, round).await;
                    if let Err(error) = fired {
                        tracing::warn!(%error, "cannot read the timers");
                    }
                }
            }
        }
    }
}

/// Fires a shard's due timers from where the round was left, and begins it anew at its end.
async fn fire(
    shards: &Shards,
    now: Timestamp,
    journal: &dyn Journal,
    shard: u16,
    round: &mut Round,
) -> Result<(), ReadError> {
    // What was fired later than this moment was so before the clock was set back.
    round.fired.retain(|_, at| *at <= now && *at + PATIENCE > now);
    let mut fired = 0;
    for _ in 0..PAGES_MAX {
        let due = journal.due_timers(shard, now, round.after.as_ref(), AT_ONCE).await?;
        let full = due.len() >= AT_ONCE as usize;
        round.after = due.last().filter(|_| full).cloned();
        for timer in due {
            if round.fired.contains_key(&timer.entity) {
                continue;
            }
            match shards.hosts().named(timer.entity.prefix()) {
                Some(host) => host.wake(&timer.entity, true),
                None => tracing::error!(
                    entity = timer.entity.for_log(),
                    "a timer belongs to an \
                                                                          unknown noun"
                ),
            }
            round.fired.insert(timer.entity, now);
            fired += 1;
        }
        if !full || fired >= AT_ONCE {
            break;
        }
    }
    Ok(())
}
