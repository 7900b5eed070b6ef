//! The cache in this process: for a single node without Redis, and for rate limits while Redis is
//! unreachable. Everything is bounded: values are evicted, callers beyond the bound share one rate
//! limit, locks beyond it are refused, and revocations beyond it are not stored.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::CacheSlot;
use super::rate::{self, Limit, RateDecision};

/// The maximum number of callers with a rate limit of their own; all others share one.
const CALLERS_MAX: usize = 50_000;
/// The maximum number of locks, and of revocations.
const NAMES_MAX: usize = 100_000;
/// The approximate size of an entry without its key and value, in bytes.
const ENTRY_BYTES: usize = 128;
/// The estimated size of a cached answer, in bytes. With a larger estimate the cache has fewer
/// shards, so that a single answer may be larger.
const ANSWER_BYTES: usize = 64 << 10;

pub(super) struct Local {
    began: Instant,
    kept: Cache<Key, CachedValue, Bytes>,
    /// The current generation of each space. An entry is valid only while its space has the
    /// generation that is part of the entry's key.
    generations: Mutex<HashMap<&'static str, u64>>,
    /// The time at which each caller's allowance is full again, in microseconds since the start.
    callers: Mutex<HashMap<String, i64>>,
    locks: Mutex<HashMap<String, (String, Instant)>>,
    revoked: Mutex<HashMap<String, Instant>>,
}

/// A space, its generation, and the cache key within the space.
type Key = (&'static str, u64, String);
/// A value and its expiry.
type CachedValue = (Vec<u8>, Instant);

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, CachedValue> for Bytes {
    fn weight(&self, (_, _, key): &Key, (value, _): &CachedValue) -> u64 {
        (key.len() + value.len() + ENTRY_BYTES) as u64
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Local {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            began: Instant::now(),
            kept: Cache::with_weighter(bytes_max / ANSWER_BYTES, bytes_max as u64, Bytes),
            generations: Mutex::default(),
            callers: Mutex::default(),
            locks: Mutex::default(),
            revoked: Mutex::default(),
        }
    }

    fn generation(&self, space: &'static str) -> u64 {
        locked(&self.generations).get(space).copied().unwrap_or(0)
    }

    pub(super) fn get(&self, space: &'static str, key: &str) -> (u64, Option<Vec<u8>>) {
        let generation = self.generation(space);
        let found = self.kept.get(&(space, generation, key.to_owned()));
        let found = found.filter(|(_, until)| *until > Instant::now());
        (generation, found.map(|(value, _)| value))
    }

    pub(super) fn put(&self, place: CacheSlot, value: Vec<u8>, lasts: Duration) {
        let CacheSlot { space, generation, key } = place;
        // If the space was dropped since the slot was issued, the value could never be found.
        if generation == self.generation(space) {
            self.kept.insert((space, generation, key), (value, Instant::now() + lasts));
        }
    }

    pub(super) fn drop_key(&self, space: &'static str, key: &str) {
        self.kept.remove(&(space, self.generation(space), key.to_owned()));
    }

    pub(super) fn drop_space(&self, space: &'static str) {
        *locked(&self.generations).entry(space).or_default() += 1;
        self.kept.retain(|(own, _, _), _| *own != space);
    }

    /// Counts a call of a caller; of one that has no room here, among all such callers.
    pub(super) fn count(&self, key: &str, limit: Limit, cost: i64) -> RateDecision {
        let known = self.count_known(key, limit, cost);
        known.unwrap_or_else(|| self.count_at("", limit, cost))
    }

    /// Counts a call of a caller; `None` if there is no room for one more caller.
    pub(super) fn count_known(&self, key: &str, limit: Limit, cost: i64) -> Option<RateDecision> {
        let now = self.micros();
        let mut callers = locked(&self.callers);
        if callers.len() >= CALLERS_MAX && !callers.contains_key(key) {
            callers.retain(|_, full_at| *full_at > now);
        }
        let room = callers.len() < CALLERS_MAX || callers.contains_key(key);
        drop(callers);
        room.then(|| self.count_at(key, limit, cost))
    }

    fn micros(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX / 4)
    }

    fn count_at(&self, key: &str, limit: Limit, cost: i64) -> RateDecision {
        let (now, mut callers) = (self.micros(), locked(&self.callers));
        let (next, decision) =
            rate::count(callers.get(key).copied().unwrap_or(0), now, limit, cost);
        match callers.get_mut(key) {
            Some(full_at) => *full_at = next,
            None => drop(callers.insert(key.to_owned(), next)),
        }
        decision
    }

    pub(super) fn lock(&self, name: &str, token: &str, lasts: Duration) -> bool {
        let now = Instant::now();
        let mut locks = locked(&self.locks);
        locks.retain(|_, (_, until)| *until > now);
        if locks.contains_key(name) || locks.len() >= NAMES_MAX {
            return false;
        }
        locks.insert(name.to_owned(), (token.to_owned(), now + lasts));
        true
    }

    pub(super) fn prolong(&self, name: &str, token: &str, lasts: Duration) -> bool {
        let now = Instant::now();
        match locked(&self.locks).get_mut(name) {
            Some((own, until)) if own == token && *until > now => {
                *until = now + lasts;
                true
            }
            _ => false,
        }
    }

    pub(super) fn release(&self, name: &str, token: &str) {
        let mut locks = locked(&self.locks);
        if locks.get(name).is_some_and(|(own, _)| own == token) {
            locks.remove(name);
        }
    }

    pub(super) fn revoke(&self, what: &str, lasts: Duration) {
        let now = Instant::now();
        let mut revoked = locked(&self.revoked);
        revoked.retain(|_, until| *until > now);
        if revoked.len() < NAMES_MAX {
            revoked.insert(what.to_owned(), now + lasts);
        }
    }

    pub(super) fn revoked(&self, what: &str) -> bool {
        locked(&self.revoked).get(what).is_some_and(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_cache_is_bounded_and_evicts_unused_entries() {
        let local = Local::new(10_000);
        let put = |n: usize, bytes: usize| {
            let key = n.to_string();
            let (generation, _) = local.get("s", &key);
            let place = CacheSlot { space: "s", generation, key };
            local.put(place, vec![0; bytes], Duration::from_secs(60));
        };
        put(7, 100);
        for n in 1_000..2_000 {
            put(n, 100);
            assert!(local.get("s", "7").1.is_some(), "after {n}");
            assert!(local.kept.weight() <= 10_000);
        }
        put(8, 20_000);
        assert_eq!(local.get("s", "8").1, None, "what is too large is not kept");
        local.drop_key("s", "7");
        assert_eq!(local.get("s", "7").1, None);
        local.drop_space("s");
        assert_eq!(local.kept.weight(), 0);
    }

    #[test]
    fn rate_limit_callers_are_bounded() {
        let local = Local::new(0);
        let limit = Limit { count: 1, per: Duration::from_secs(3_600) };
        assert!(local.count("one", limit, 1).allowed);
        for n in 0..CALLERS_MAX + 10 {
            local.count(&n.to_string(), limit, 1);
        }
        assert!(locked(&local.callers).len() <= CALLERS_MAX + 1);
        assert!(!local.count("one", limit, 1).allowed, "it is still known");
    }
}
