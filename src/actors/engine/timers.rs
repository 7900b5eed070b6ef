//! Fires due timers: each wakes its entity, which decides what to do.
//!
//! A timer whose entity cannot answer, because it is in quarantine, stays due. It fires again after
//! 10 seconds or more, and never delays other timers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::shards::Shards;
use crate::domain::entity::EntityId;
use crate::domain::time::{Span, Timestamp};
use crate::store::journal::{Journal, ReadError, Timer};

/// The most timers that one query reads (a page). Once this many timers of a shard have fired in a
/// period, its next page is not read before the next period.
const AT_ONCE: u32 = 500;
/// The most pages of a shard's timers that are read in one period.
const PAGES_MAX: u32 = 20;
/// A timer that is still due this long after it fired is fired again.
const PATIENCE: Span = Span::from_secs(10);

/// How far a shard's due timers have been read, and which timers fired lately, and when.
#[derive(Default)]
struct Round {
    after: Option<Timer>,
    fired: HashMap<EntityId, Timestamp>,
}

/// Looks for due timers every `period` until stopped.
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

/// Fires a shard's due timers, beginning after `round.after`. When all have been read, the next
/// call begins with the first one again.
async fn fire(
    shards: &Shards,
    now: Timestamp,
    journal: &dyn Journal,
    shard: u16,
    round: &mut Round,
) -> Result<(), ReadError> {
    // Entries in the future are removed, too: the clock was set back after those timers fired.
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
                    entity = timer.entity.as_str(),
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
