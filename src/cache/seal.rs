//! What a node keeps in Redis is signed with the key of the cluster: whoever can write to Redis, and
//! has no access to the store, cannot make a node believe anything. A signature covers the prefix of
//! the store, the place and the content, and for a value also the time until which it is good.

use std::sync::Arc;
use std::time::Duration;

use super::CacheSlot;
use crate::domain::cluster_key::{ClusterKey, MessageKind};
use crate::domain::time::Timestamp;

/// The lengths of a signature and of a time, in hexadecimal.
const MAC_BYTES: usize = 64;
const TIME_BYTES: usize = 16;

/// Returns the time.
pub type SealClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The key with which nodes sign what they keep in the cache, and their clock.
#[derive(Clone)]
pub struct CacheSeal {
    key: ClusterKey,
    now: SealClock,
}

impl CacheSeal {
    /// A seal with a key and a clock.
    #[must_use]
    pub const fn new(key: ClusterKey, now: SealClock) -> Self {
        Self { key, now }
    }

    fn until(&self, lasts: Duration) -> String {
        let lasts = i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX / 2);
        format!("{:016x}", (self.now)().millis().saturating_add(lasts).max(0))
    }

    /// The time that is left until a time; zero if it has passed.
    fn left(&self, until: &str) -> Option<Duration> {
        let until = i64::from_str_radix(until, 16).ok()?;
        let left = until.saturating_sub((self.now)().millis());
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    /// A value as it is kept at a place of a store.
    pub(super) fn close(
        &self,
        prefix: &str,
        place: &CacheSlot,
        value: &[u8],
        lasts: Duration,
    ) -> Vec<u8> {
        let until = self.until(lasts);
        let generation = place.generation.to_string();
        let texts = [prefix, place.space, &generation, &place.key, &until];
        let mut sealed = self.key.sign(MessageKind::CachedValue, &texts, value).into_bytes();
        sealed.extend_from_slice(until.as_bytes());
        sealed.extend_from_slice(value);
        sealed
    }

    /// The value that was kept at a place: `Ok(None)` if it is too old.
    ///
    /// # Errors
    /// No node of the cluster has signed it for this place.
    pub(super) fn open(
        &self,
        prefix: &str,
        (space, generation, key): (&str, u64, &str),
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>, Unsigned> {
        let (mac, rest) = sealed.split_at_checked(MAC_BYTES).ok_or(Unsigned)?;
        let (until, value) = rest.split_at_checked(TIME_BYTES).ok_or(Unsigned)?;
        let (mac, until) = (std::str::from_utf8(mac), std::str::from_utf8(until));
        let (mac, until) = (mac.map_err(|_| Unsigned)?, until.map_err(|_| Unsigned)?);
        let generation = generation.to_string();
        let texts = [prefix, space, &generation, key, until];
        if !self.key.is_signed(mac, MessageKind::CachedValue, &texts, value) {
            return Err(Unsigned);
        }
        let left = self.left(until).ok_or(Unsigned)?;
        Ok((!left.is_zero()).then(|| value.to_vec()))
    }

    /// A revocation as it is kept.
    pub(super) fn close_revocation(&self, prefix: &str, what: &str, lasts: Duration) -> String {
        let until = self.until(lasts);
        let mac = self.key.sign(MessageKind::Revocation, &[prefix, what, &until], b"");
        format!("{mac}{until}{what}")
    }

    /// What is revoked, and how long it remains so by this node's clock.
    ///
    /// # Errors
    /// No node of the cluster has signed it.
    pub(super) fn open_revocation(
        &self,
        prefix: &str,
        kept: &str,
    ) -> Result<(String, Duration), Unsigned> {
        let (mac, rest) = kept.split_at_checked(MAC_BYTES).ok_or(Unsigned)?;
        let (until, what) = rest.split_at_checked(TIME_BYTES).ok_or(Unsigned)?;
        if !self.key.is_signed(mac, MessageKind::Revocation, &[prefix, what, until], b"") {
            return Err(Unsigned);
        }
        Ok((what.to_owned(), self.left(until).ok_or(Unsigned)?))
    }
}

/// What no node of the cluster has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsigned;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[test]
    fn a_value_is_good_only_at_its_place_and_in_its_time() {
        let clock = Arc::new(AtomicI64::new(1_000));
        let now: SealClock = {
            let clock = Arc::clone(&clock);
            Arc::new(move || Timestamp::from_millis(clock.load(Ordering::SeqCst)))
        };
        let seal = CacheSeal::new(ClusterKey::new([1; 32]), now.clone());
        let place = CacheSlot { space: "s", generation: 7, key: "k".into() };
        let sealed = seal.close("p", &place, b"value", Duration::from_millis(500));
        let open = |seal: &CacheSeal, prefix, at, bytes: &[u8]| seal.open(prefix, at, bytes);
        assert_eq!(open(&seal, "p", ("s", 7, "k"), &sealed), Ok(Some(b"value".to_vec())));
        for (prefix, at) in
            [("q", ("s", 7, "k")), ("p", ("t", 7, "k")), ("p", ("s", 8, "k")), ("p", ("s", 7, "l"))]
        {
            assert_eq!(open(&seal, prefix, at, &sealed), Err(Unsigned), "{prefix} {at:?}");
        }
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert_eq!(open(&seal, "p", ("s", 7, "k"), &other), Err(Unsigned), "{at}");
            assert!(open(&seal, "p", ("s", 7, "k"), &sealed[..at]).is_err(), "{at}");
        }
        let stranger = CacheSeal::new(ClusterKey::new([2; 32]), now);
        assert_eq!(open(&stranger, "p", ("s", 7, "k"), &sealed), Err(Unsigned));
        let revoked = seal.close_revocation("p", "x", Duration::from_millis(500));
        let left = Duration::from_millis(500);
        assert_eq!(seal.open_revocation("p", &revoked), Ok(("x".to_owned(), left)));
        assert_eq!(seal.open_revocation("q", &revoked), Err(Unsigned));
        assert_eq!(seal.open_revocation("p", &revoked.replace('x', "y")), Err(Unsigned));
        assert_eq!(stranger.open_revocation("p", &revoked), Err(Unsigned));
        clock.store(1_500, Ordering::SeqCst);
        assert_eq!(open(&seal, "p", ("s", 7, "k"), &sealed), Ok(None), "too old");
    }
}
