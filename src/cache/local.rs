//! The cache of one process: the twin of Redis for a single node, and what counts limits while
//! Redis is away. All of it is bounded; what is too much is dropped.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Place;
use super::rate::{self, Limit, Taken};

/// The most callers whose limits are counted apart; those beyond share one count.
const CALLERS_MAX: usize = 50_000;
/// The most locks and the most revocations.
const NAMES_MAX: usize = 100_000;
/// What an entry takes beside its key and value, about.
const ENTRY_BYTES: usize = 128;

pub(super) struct Local {
    began: Instant,
    bytes_max: usize,
    kept: Mutex<Kept>,
    /// When each caller's share is whole again, in microseconds since the beginning.
    callers: Mutex<HashMap<String, i64>>,
    locks: Mutex<HashMap<String, (String, Instant)>>,
    revoked: Mutex<HashMap<String, Instant>>,
}

#[derive(Default)]
struct Kept {
    spaces: HashMap<&'static str, Space>,
    bytes: usize,
}

#[derive(Default)]
struct Space {
    generation: u64,
    entries: HashMap<String, (Vec<u8>, Instant)>,
}

fn size(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

impl Space {
    /// Drops entries; answers how many bytes that frees.
    fn drop_if(&mut self, drop: impl Fn(&str, Instant) -> bool) -> usize {
        let mut freed = 0;
        self.entries.retain(|key, (value, until)| {
            let gone = drop(key, *until);
            freed += if gone { size(key, value) } else { 0 };
            !gone
        });
        freed
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Local {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            began: Instant::now(),
            bytes_max,
            kept: Mutex::default(),
            callers: Mutex::default(),
            locks: Mutex::default(),
            revoked: Mutex::default(),
        }
    }

    pub(super) fn get(&self, space: &'static str, key: &str) -> (u64, Option<Vec<u8>>) {
        let mut kept = locked(&self.kept);
        let space = kept.spaces.entry(space).or_default();
        let found = space.entries.get(key).filter(|(_, until)| *until > Instant::now());
        (space.generation, found.map(|(value, _)| value.clone()))
    }

    pub(super) fn put(&self, place: Place, value: Vec<u8>, lasts: Duration) {
        let now = Instant::now();
        let Place { space, generation, key } = place;
        let more = size(&key, &value);
        let mut kept = locked(&self.kept);
        if kept.spaces.get(space).is_none_or(|space| space.generation != generation)
            || more > self.bytes_max
        {
            return;
        }
        if kept.bytes + more > self.bytes_max {
            let freed: usize =
                kept.spaces.values_mut().map(|one| one.drop_if(|_, until| until <= now)).sum();
            kept.bytes -= freed;
        }
        if kept.bytes + more > self.bytes_max {
            kept.spaces.values_mut().for_each(|one| one.entries.clear());
            kept.bytes = 0;
        }
        let before = kept
            .spaces
            .entry(space)
            .or_default()
            .entries
            .insert(key.clone(), (value, now + lasts))
            .map_or(0, |(value, _)| size(&key, &value));
        kept.bytes = kept.bytes + more - before;
    }

    pub(super) fn drop_key(&self, space: &'static str, key: &str) {
        let mut kept = locked(&self.kept);
        let freed = kept.spaces.get_mut(space).map_or(0, |one| one.drop_if(|own, _| own == key));
        kept.bytes -= freed;
    }

    pub(super) fn drop_space(&self, space: &'static str) {
        let mut kept = locked(&self.kept);
        let one = kept.spaces.entry(space).or_default();
        one.generation += 1;
        let freed = one.drop_if(|_, _| true);
        kept.bytes -= freed;
    }

    pub(super) fn count(&self, key: &str, limit: Limit, cost: i64) -> Taken {
        let now = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX / 4);
        let mut callers = locked(&self.callers);
        if callers.len() >= CALLERS_MAX && !callers.contains_key(key) {
            callers.retain(|_, whole_at| *whole_at > now);
        }
        let room = callers.len() < CALLERS_MAX || callers.contains_key(key);
        let key = if room { key } else { "" };
        let (next, taken) = rate::count(callers.get(key).copied().unwrap_or(0), now, limit, cost);
        match callers.get_mut(key) {
            Some(whole_at) => *whole_at = next,
            None => drop(callers.insert(key.to_owned(), next)),
        }
        taken
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
    fn what_is_kept_is_bounded() {
        let local = Local::new(10_000);
        let put = |n: usize, bytes: usize| {
            let key = n.to_string();
            let (generation, _) = local.get("s", &key);
            let place = Place { space: "s", generation, key };
            local.put(place, vec![0; bytes], Duration::from_secs(60));
            locked(&local.kept).bytes
        };
        for n in 0..1_000 {
            assert!(put(n, 100) <= 10_000);
        }
        let before = put(7, 100);
        assert_eq!(put(7, 100), before, "the same again takes no more");
        assert_eq!(put(8, 20_000), before, "what is too large is not kept");
        local.drop_key("s", "7");
        assert!(locked(&local.kept).bytes < before);
        local.drop_space("s");
        assert_eq!(locked(&local.kept).bytes, 0);
    }

    #[test]
    fn callers_are_counted_in_bounded_room() {
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
