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
/// The maximum number of clients whose held units are counted; those of others are not bounded.
const HOLDERS_MAX: usize = 200_000;
/// How often clients that hold nothing are dropped, once there are as many.
const DROP_EVERY_MICROS: i64 = 1_000_000;
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
    holders: Mutex<Holders>,
    locks: Mutex<HashMap<String, (String, Instant)>>,
    revoked: Mutex<HashMap<String, Instant>>,
}

/// When each client's allowance of several calls at once is full again.
#[derive(Default)]
struct Holders {
    known: HashMap<String, Holder>,
    dropped_at: i64,
}

/// What one client has taken.
#[derive(Clone, Copy, Default)]
struct Holder {
    /// By the count of this node.
    own: i64,
    /// By the count of all nodes, as far as this node knows it.
    shared: i64,
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
            holders: Mutex::default(),
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

    /// Takes `cost` calls from each allowance, or none of them: the first allowance that refuses them,
    /// and when it would allow them.
    pub(super) fn take_all(
        &self,
        all: &[(String, Limit)],
        cost: i64,
    ) -> Result<(), (usize, Duration)> {
        let (now, mut holders) = (self.micros(), locked(&self.holders));
        holders.make_room(all.len(), now);
        for (nth, (key, limit)) in all.iter().enumerate() {
            let Holder { own, shared } = holders.known.get(key).copied().unwrap_or_default();
            if let Some(wait) = rate::wait(own.max(shared), now, *limit, cost) {
                return Err((nth, wait));
            }
        }
        for (key, limit) in all {
            holders.count(key, now, *limit, cost);
        }
        Ok(())
    }

    /// Puts `cost` calls back into each allowance.
    pub(super) fn put_back(&self, all: &[(String, Limit)], cost: i64) {
        let (now, mut holders) = (self.micros(), locked(&self.holders));
        for (key, limit) in all {
            holders.count(key, now, *limit, -cost);
        }
    }

    /// Notes what all nodes together have counted: the time until the allowance is full.
    pub(super) fn learn(&self, key: &str, full_in: Duration) {
        let full_in = i64::try_from(full_in.as_micros()).unwrap_or(i64::MAX / 8);
        let full_at = self.micros() + full_in;
        if let Some(holder) = locked(&self.holders).known.get_mut(key) {
            holder.shared = full_at;
        }
    }

    /// Counts a call, and returns whether more calls came than the limit allows.
    pub(super) fn is_flood(&self, key: &str, limit: Limit) -> bool {
        let (now, mut holders) = (self.micros(), locked(&self.holders));
        holders.make_room(1, now);
        let Some(holder) = holders.of(key) else { return false };
        let (next, flooded) = rate::flood(holder.own, now, limit);
        holder.own = next;
        flooded
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

impl Holders {
    /// Drops the clients that have taken nothing, if there is no room for so many more.
    fn make_room(&mut self, more: usize, now: i64) {
        let full = self.known.len() + more > HOLDERS_MAX;
        if full && now - self.dropped_at >= DROP_EVERY_MICROS {
            self.dropped_at = now;
            self.known.retain(|_, holder| holder.own.max(holder.shared) > now);
        }
    }

    /// What a client has taken; `None` if there is no room for one more.
    fn of(&mut self, key: &str) -> Option<&mut Holder> {
        if !self.known.contains_key(key) {
            if self.known.len() >= HOLDERS_MAX {
                return None;
            }
            self.known.insert(key.to_owned(), Holder::default());
        }
        self.known.get_mut(key)
    }

    fn count(&mut self, key: &str, now: i64, limit: Limit, cost: i64) {
        let Some(holder) = self.of(key) else { return };
        for full_at in [&mut holder.own, &mut holder.shared] {
            *full_at = rate::count(*full_at, now, limit, cost).0;
        }
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

    #[test]
    fn units_are_taken_from_all_allowances_or_from_none() {
        let local = Local::new(0);
        let limit = |count| Limit { count, per: Duration::from_secs(3_600) };
        let all = [("one".to_owned(), limit(10)), ("both".to_owned(), limit(15))];
        let other = [("other".to_owned(), limit(10)), ("both".to_owned(), limit(15))];
        assert_eq!(local.take_all(&all, 10), Ok(()));
        assert!(matches!(local.take_all(&all, 1), Err((0, _))));
        assert!(matches!(local.take_all(&other, 6), Err((1, _))));
        assert_eq!(local.take_all(&other, 5), Ok(()));
        local.put_back(&all, 10);
        assert_eq!(local.take_all(&other, 5), Ok(()));
        assert!(matches!(local.take_all(&other, 1), Err((0, _))));
    }

    #[test]
    fn what_other_nodes_have_counted_is_refused_here() {
        let local = Local::new(0);
        let all = [("one".to_owned(), Limit { count: 10, per: Duration::from_secs(1_000) })];
        assert_eq!(local.take_all(&all, 1), Ok(()));
        local.learn("one", Duration::from_secs(900));
        assert!(local.take_all(&all, 2).is_err());
        local.learn("one", Duration::from_secs(100));
        assert_eq!(local.take_all(&all, 8), Ok(()));
    }

    #[test]
    fn clients_that_hold_units_are_bounded() {
        let local = Local::new(0);
        let limit = Limit { count: 1, per: Duration::from_secs(3_600) };
        assert!(local.take_all(&[("one".to_owned(), limit)], 1).is_ok());
        for n in 0..HOLDERS_MAX + 10 {
            assert!(local.take_all(&[(n.to_string(), limit)], 1).is_ok());
        }
        assert!(locked(&local.holders).known.len() <= HOLDERS_MAX);
        assert!(local.take_all(&[("one".to_owned(), limit)], 1).is_err(), "it is still known");
    }
}
