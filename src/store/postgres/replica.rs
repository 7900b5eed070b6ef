//! The replica that lists, searches and reports are read from, and how far it is behind.
//!
//! Several times a second the primary is asked where its log ends, and the replica how far it has
//! replayed: it is as far behind as the newest such end that it has come to is old. So no two
//! clocks are compared, and a quiet primary does not look like a replica that hangs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinHandle;

use super::pool::Pool;
use crate::store::DatabaseUrl;

/// How often it is looked how far the replica is.
const EVERY: Duration = Duration::from_millis(100);
/// What was seen longer ago is not believed.
const BELIEVED: Duration = Duration::from_secs(3);
/// So many of the primary's ends are remembered, five minutes' worth.
const ENDS_MAX: usize = 3_000;

/// How far the replica is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// By so much, or more; `None` while it is not known, since one of both does not answer.
    pub behind: Option<Duration>,
    /// Whether lists are read from it.
    pub is_read: bool,
}

pub(in crate::store) struct Replica {
    pool: Pool,
    lag_max: Duration,
    seen: Arc<Mutex<Option<Seen>>>,
    watch: JoinHandle<()>,
}

/// What was seen last.
#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    behind: Duration,
}

impl Replica {
    /// Begins to watch a replica of the primary that `primary` reads.
    pub(super) fn watch(
        address: &DatabaseUrl,
        options: PgConnectOptions,
        size: u32,
        primary: Pool,
        lag_max: Duration,
    ) -> Self {
        let pool = Pool::replica(size, options);
        let seen = Arc::new(Mutex::new(None));
        let watch =
            ReplicaWatch { address: address.clone(), primary, replica: pool.clone(), lag_max };
        let watch = tokio::spawn(watch.run(Arc::clone(&seen)));
        Self { pool, lag_max, seen, watch }
    }

    /// Its connections, while it is not too far behind.
    pub(super) fn pool(&self) -> Option<&Pool> {
        self.lag().is_read.then_some(&self.pool)
    }

    /// How far it is behind.
    pub(in crate::store) fn lag(&self) -> Lag {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.filter(|seen| seen.at.elapsed() < BELIEVED);
        let behind = seen.map(|seen| seen.behind);
        Lag { behind, is_read: behind.is_some_and(|behind| behind <= self.lag_max) }
    }

    pub(super) async fn close(&self) {
        self.watch.abort();
        self.pool.close().await;
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

struct ReplicaWatch {
    address: DatabaseUrl,
    primary: Pool,
    replica: Pool,
    lag_max: Duration,
}

impl ReplicaWatch {
    async fn run(self, seen: Arc<Mutex<Option<Seen>>>) {
        let mut ends = Ends::default();
        let mut was_read = None;
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let behind = self.look(&mut ends).await;
            if let Ok(behind) = behind {
                let now = Seen { at: Instant::now(), behind };
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            }
            let is_read = behind.as_ref().is_ok_and(|behind| *behind <= self.lag_max);
            if was_read != Some(is_read) {
                let address = &self.address;
                match behind {
                    Ok(_) if is_read => tracing::info!(%address, "lists are read from the replica"),
                    Ok(behind) => tracing::warn!(
                        %address,
                        behind_ms = behind.as_millis(),
                        "the lag of the replica is too high: lists are read from the primary"
                    ),
                    Err(error) => tracing::warn!(
                        %address,
                        %error,
                        "the lag of the replica is unknown: lists are read from the primary"
                    ),
                }
                was_read = Some(is_read);
            }
        }
    }

    /// How far the replica is behind now.
    async fn look(&self, ends: &mut Ends) -> Result<Duration, sqlx::Error> {
        let asked = Instant::now();
        let end = number(&self.primary, "SELECT (pg_current_wal_lsn() - '0/0')::BIGINT").await?;
        ends.add(end.unwrap_or(0), asked);
        // A primary that is given as the replica has replayed everything, so to speak.
        let replayed = number(
            &self.replica,
            "SELECT CASE WHEN pg_is_in_recovery() \
             THEN (pg_last_wal_replay_lsn() - '0/0')::BIGINT END",
        );
        Ok(match replayed.await? {
            None => Duration::ZERO,
            Some(replayed) => ends.behind(replayed, Instant::now()),
        })
    }
}

async fn number(pool: &Pool, text: &'static str) -> Result<Option<i64>, sqlx::Error> {
    let row = pool.fetch_optional(sqlx::query(text)).await?;
    row.map_or(Ok(None), |row| row.try_get(0))
}

/// Where the primary's log ended, and when it was asked.
#[derive(Default)]
struct Ends {
    /// The newest last.
    seen: VecDeque<(i64, Instant)>,
    /// The newest one that was forgotten.
    before: Option<Instant>,
}

impl Ends {
    fn add(&mut self, end: i64, at: Instant) {
        // While nothing is written, to have come to this end is to be up to date.
        if let Some(newest) = self.seen.back_mut()
            && newest.0 >= end
        {
            newest.1 = at;
            return;
        }
        if self.seen.len() >= ENDS_MAX {
            self.before = self.seen.pop_front().map(|(_, at)| at);
        }
        self.seen.push_back((end, at));
    }

    fn behind(&mut self, replayed: i64, now: Instant) -> Duration {
        let come_to = self.seen.iter().rposition(|(end, _)| *end <= replayed);
        match come_to {
            Some(newest) if newest + 1 == self.seen.len() => Duration::ZERO,
            Some(newest) => {
                self.seen.drain(..newest);
                self.seen.front().map_or(Duration::ZERO, |(_, at)| now - *at)
            }
            // Not even to the first: how long it has hung before that, nobody has seen.
            None => self.before.map_or(Duration::MAX, |before| now - before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_as_far_behind_as_the_newest_end_that_it_has_come_to() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let secs = Duration::from_secs;
        let mut ends = Ends::default();
        ends.add(10, at(0));
        assert_eq!(ends.behind(9, at(0)), Duration::MAX, "nobody knows since when");
        assert_eq!(ends.behind(10, at(0)), secs(0));
        ends.add(10, at(5));
        assert_eq!(ends.behind(10, at(5)), secs(0), "nothing was written");
        ends.add(20, at(6));
        ends.add(30, at(7));
        assert_eq!(ends.behind(19, at(8)), secs(3), "behind since it was seen at 10");
        assert_eq!(ends.behind(29, at(9)), secs(3));
        ends.add(30, at(50));
        assert_eq!(ends.behind(30, at(50)), secs(0));
    }
}
