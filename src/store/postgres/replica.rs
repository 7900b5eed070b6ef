//! The replica for lists, searches and reports, and its lag.
//!
//! Ten times a second, the store asks the primary for the end of its write-ahead log, and the
//! replica for the position up to which it has replayed that log. The lag is 0 if the replica has
//! replayed the last known end; otherwise it is the age of the newest end that the replica has
//! replayed. So clocks of two machines are never compared, and with an idle primary the lag does
//! not grow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinHandle;

use super::pool::Pool;
use crate::store::DatabaseUrl;

/// How often the lag is measured.
const EVERY: Duration = Duration::from_millis(100);
/// A measurement that is older than this is ignored.
const BELIEVED: Duration = Duration::from_secs(3);
/// The number of remembered ends of the primary's log: five minutes of measurements.
const ENDS_MAX: usize = 3_000;

/// The lag of the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The lag, at least; `None` while it is unknown because one of the servers does not answer.
    pub behind: Option<Duration>,
    /// Whether lists are read from the replica.
    pub is_read: bool,
}

pub(in crate::store) struct Replica {
    pool: Pool,
    lag_max: Duration,
    seen: Arc<Mutex<Option<Seen>>>,
    watch: JoinHandle<()>,
}

/// The last measurement.
#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    behind: Duration,
}

impl Replica {
    /// Connects to a replica, and starts to measure its lag behind the server of the pool
    /// `primary`.
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

    /// The replica's connections; `None` while it lags too much.
    pub(super) fn pool(&self) -> Option<&Pool> {
        self.lag().is_read.then_some(&self.pool)
    }

    /// The lag by the last measurement.
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

    /// Measures the lag.
    async fn look(&self, ends: &mut Ends) -> Result<Duration, sqlx::Error> {
        let asked = Instant::now();
        let end = number(&self.primary, "SELECT (pg_current_wal_lsn() - '0/0')::BIGINT").await?;
        ends.add(end.unwrap_or(0), asked);
        // If the URL of the replica leads to a primary, the query returns NULL, and the lag is 0.
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

/// Ends of the primary's log, with the times at which they were read.
#[derive(Default)]
struct Ends {
    /// The position of each end in the log, and when it was last measured; the newest is last.
    seen: VecDeque<(i64, Instant)>,
    /// The time of the newest end that was dropped because there were too many.
    before: Option<Instant>,
}

impl Ends {
    fn add(&mut self, end: i64, at: Instant) {
        // Nothing was written since, so a replica that has replayed this end is up to date as of
        // now.
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
            // The replica has not even replayed the oldest remembered end, so its lag is at least
            // the age of the last dropped one, or unknown.
            None => self.before.map_or(Duration::MAX, |before| now - before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_lag_is_the_age_of_its_newest_replayed_end() {
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
