//! Floor 1: state that nodes share and may lose at any time: cached answers, counters of rate
//! limits, short locks and revocations. This state is in Redis if a server is configured, else in
//! this process.
//!
//! What nodes keep in Redis is signed (`seal`), because others may be able to write there. Counters of
//! rate limits are not, so each node counts for itself, too, and the stricter count decides.
//!
//! Nothing here is authoritative. Redis may be unreachable, hang or be emptied; kontor then reads
//! answers from the store, each node counts rate limits for itself, and work runs without a lock.
//! `redis` is the connection to Redis, `local` the implementation in this process, `rate` the
//! algorithm of rate limits, `lock` the locks. The callers decide what is cached, and for how long.

mod local;
mod lock;
mod rate;
mod redis;
mod seal;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use garde::Validate;
use serde::{Deserialize, Serialize};

use self::local::Local;
pub use self::lock::{Lock, LockGuard};
pub use self::rate::{Limit, RateDecision};
use self::redis::Remote;
pub use self::seal::{CacheSeal, SealClock};
use crate::domain::limits::{holds, within};
use crate::domain::tls_files::TlsFiles;
use crate::tls::TlsFileFault;

/// Options of the cache.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The Redis server, such as `redis://:password@127.0.0.1:6379/0`; if empty, the cache is in
    /// this process.
    #[garde(custom(redis_address))]
    pub url: String,
    /// The files for TLS, which is used with an address that begins with `rediss://`.
    #[garde(dive)]
    pub tls: TlsFiles,
    /// Prefix of all keys in Redis, so that several shops can share one server.
    #[garde(custom(key_prefix))]
    pub prefix: String,
    /// Timeout of one call, in milliseconds.
    #[garde(custom(within(1..=10_000)))]
    pub timeout_ms: u64,
    /// The pause between two attempts to connect, in milliseconds.
    #[garde(custom(within(10..=60_000)))]
    pub retry_ms: u64,
    /// The interval at which the connection is checked and revocations are read, in milliseconds.
    #[garde(custom(within(10..=1_000)))]
    pub poll_ms: u64,
    /// The most bytes of cached answers in this process.
    #[garde(custom(within(0..=1 << 36)))]
    pub bytes_max: usize,
}

fn redis_address(url: &str, (): &()) -> garde::Result {
    holds(
        url.is_empty() || redis::client(url, &TlsFiles::default()).is_ok(),
        || "must be empty, or a URL such as redis://127.0.0.1:6379 or rediss://:password@host:6379",
    )
}

fn key_prefix(prefix: &str, (): &()) -> garde::Result {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    holds(
        (1..=64).contains(&prefix.len()) && prefix.bytes().all(letter),
        || "must have 1 to 64 letters, digits, dots, dashes and underscores",
    )
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: String::new(),
            tls: TlsFiles::default(),
            prefix: "kontor".to_owned(),
            timeout_ms: 50,
            retry_ms: 500,
            poll_ms: 200,
            bytes_max: 64 << 20,
        }
    }
}

impl Options {
    /// Whether nodes prove to the server who they are: with a password or a certificate.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        self.tls.own().is_some() || redis::has_password(&self.url)
    }
}

impl fmt::Debug for Options {
    /// Without the address, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = if self.url.is_empty() { "" } else { "***" };
        f.debug_struct("Options")
            .field("url", &url)
            .field("tls", &self.tls)
            .field("prefix", &self.prefix)
            .field("timeout_ms", &self.timeout_ms)
            .field("retry_ms", &self.retry_ms)
            .field("poll_ms", &self.poll_ms)
            .field("bytes_max", &self.bytes_max)
            .finish()
    }
}

/// Why the cache could not be opened. The messages omit the address, which may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum CacheOpenError {
    /// The address is invalid.
    #[error("cache.url must be the URL of a Redis server, such as redis://127.0.0.1:6379")]
    Url,
    /// A file for TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileFault),
}

/// The status of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheState {
    /// The cache is in this process.
    Local,
    /// The server answers.
    Ok,
    /// The server has not answered for this long.
    Away(Duration),
}

/// The outcome of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub enum CacheLookup {
    /// The cached value.
    Hit(Vec<u8>),
    /// Not cached: a value that is read from the store now may be stored at this slot.
    Miss(CacheSlot),
    /// The server is unreachable: the value must be read from the store and cannot be cached.
    Away,
}

/// The permission to store a value that is read from the store after the slot was issued. If the
/// space is dropped in between, the stored value is never found.
#[derive(Debug, PartialEq, Eq)]
pub struct CacheSlot {
    space: &'static str,
    generation: u64,
    key: String,
}

/// Counts of the cache's calls since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Lookups that found a value.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Calls while the server was unreachable.
    pub away: u64,
    /// Calls that failed or timed out.
    pub failed: u64,
    /// Connection losses.
    pub outages: u64,
    /// Values and revocations that no node of the cluster has signed; they count as missing.
    pub unsigned: u64,
}

#[derive(Default)]
struct CacheTally {
    hits: AtomicU64,
    misses: AtomicU64,
    away: AtomicU64,
    failed: AtomicU64,
    outages: AtomicU64,
    unsigned: AtomicU64,
}

/// The cache. Clones share one connection.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    local: Local,
    remote: Option<Arc<Remote>>,
    tally: Arc<CacheTally>,
}

impl Cache {
    /// Opens the configured cache. An unreachable server does not fail the start: the connection is
    /// retried.
    ///
    /// # Errors
    /// [`CacheOpenError`]: the address is invalid.
    pub async fn open(options: &Options, seal: CacheSeal) -> Result<Self, CacheOpenError> {
        let tally = Arc::new(CacheTally::default());
        let remote = if options.url.is_empty() {
            None
        } else {
            Some(Remote::open(options, seal, tally.clone()).await?)
        };
        let inner = Inner { local: Local::new(options.bytes_max), remote, tally };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Creates a cache in this process.
    #[must_use]
    pub fn in_process() -> Self {
        let local = Local::new(Options::default().bytes_max);
        Self { inner: Arc::new(Inner { local, remote: None, tally: Arc::default() }) }
    }

    /// Its status.
    #[must_use]
    pub fn state(&self) -> CacheState {
        self.inner.remote.as_ref().map_or(CacheState::Local, |remote| remote.state())
    }

    /// Counts since the start.
    #[must_use]
    pub fn counts(&self) -> CacheCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let tally = &self.inner.tally;
        CacheCounts {
            hits: read(&tally.hits),
            misses: read(&tally.misses),
            away: read(&tally.away),
            failed: read(&tally.failed),
            outages: read(&tally.outages),
            unsigned: read(&tally.unsigned),
        }
    }

    /// Looks up a key of a space.
    pub async fn get(&self, space: &'static str, key: &str) -> CacheLookup {
        let found = match &self.inner.remote {
            None => {
                let (generation, kept) = self.inner.local.get(space, key);
                Some((generation, kept))
            }
            Some(remote) => remote.get(space, key).await,
        };
        let tally = &self.inner.tally;
        match found {
            None => CacheLookup::Away,
            Some((_, Some(kept))) => {
                tally.hits.fetch_add(1, Ordering::Relaxed);
                CacheLookup::Hit(kept)
            }
            Some((generation, None)) => {
                tally.misses.fetch_add(1, Ordering::Relaxed);
                CacheLookup::Miss(CacheSlot { space, generation, key: key.to_owned() })
            }
        }
    }

    /// Stores a value with a TTL. It may be evicted earlier.
    pub async fn put(&self, place: CacheSlot, value: Vec<u8>, lasts: Duration) {
        match &self.inner.remote {
            None => self.inner.local.put(place, value, lasts),
            Some(remote) => remote.put(&place, &value, lasts).await,
        }
    }

    /// Drops a key of a space. A caller that has already read the old value from the store may
    /// still cache it: where that matters, the whole space must be dropped.
    pub async fn drop_key(&self, space: &'static str, key: &str) {
        match &self.inner.remote {
            None => self.inner.local.drop_key(space, key),
            Some(remote) => remote.drop_key(space, key).await,
        }
    }

    /// Drops all keys of a space; a value that was read before and is stored later is never found.
    /// If the server is unreachable, this node uses no cached values until it has reconnected and
    /// dropped the space.
    pub async fn drop_space(&self, space: &'static str) {
        match &self.inner.remote {
            None => self.inner.local.drop_space(space),
            Some(remote) => remote.drop_space(space).await,
        }
    }

    /// Counts a call against a rate limit, for all nodes together by the clock of Redis, and for this
    /// node alone: both must allow it. So a Redis that was emptied, or that somebody else writes to,
    /// allows no more than the limit on each node. While Redis is unreachable, each node counts for
    /// itself.
    pub async fn consume_limit(&self, key: &str, limit: Limit) -> RateDecision {
        let Inner { local, remote, .. } = &*self.inner;
        let Some(remote) = remote else {
            return local.count(key, limit, 1);
        };
        let own = local.count_known(key, limit, 1);
        if let Some(refused) = own.filter(|own| !own.allowed) {
            return refused;
        }
        match (remote.count(key, limit, 1).await, own) {
            (Some(shared), Some(own)) if shared.allowed => own.stricter(shared),
            (Some(shared), _) => {
                local.count_known(key, limit, -1);
                shared
            }
            (None, Some(own)) => own,
            (None, None) => local.count(key, limit, 1),
        }
    }

    /// Takes back a call that was counted against a rate limit.
    pub async fn give_back(&self, key: &str, limit: Limit) {
        let _shared = match &self.inner.remote {
            Some(remote) => remote.count(key, limit, -1).await,
            None => None,
        };
        self.inner.local.count(key, limit, -1);
    }

    /// Takes `cost` calls from several allowances, or from none of them; at once, by the count of this
    /// node and by what it knows of the count of all nodes, which is corrected in the background. So
    /// nodes may together allow somewhat more, but no request waits for Redis.
    ///
    /// # Errors
    /// The first allowance that refuses them, and when it would allow them.
    pub fn take_all(
        &self,
        all: &Arc<[(String, Limit)]>,
        cost: u32,
    ) -> Result<(), (usize, Duration)> {
        let taken = self.inner.local.take_all(all, cost.into());
        self.count_shared(all, if taken.is_ok() { cost.into() } else { 0 });
        taken
    }

    /// Puts `cost` calls back that [`Cache::take_all`] has taken.
    pub fn put_back(&self, all: &Arc<[(String, Limit)]>, cost: u32) {
        self.inner.local.put_back(all, cost.into());
        self.count_shared(all, -i64::from(cost));
    }

    /// Counts for all nodes, in the background, and learns what they have counted.
    fn count_shared(&self, all: &Arc<[(String, Limit)]>, cost: i64) {
        let Some(remote) = self.inner.remote.clone() else { return };
        let (inner, all) = (self.inner.clone(), all.clone());
        tokio::spawn(async move {
            let each = all.iter().map(|(key, limit)| remote.count(key, *limit, cost));
            for ((key, _), counted) in all.iter().zip(join_all(each).await) {
                if let Some(counted) = counted {
                    inner.local.learn(key, counted.full_in);
                }
            }
        });
    }

    /// Counts a call, and returns whether more calls came to this node than the limit allows. No call
    /// is refused, and Redis is not asked.
    #[must_use]
    pub fn is_flood(&self, key: &str, limit: Limit) -> bool {
        self.inner.local.is_flood(key, limit)
    }

    /// Announces to all nodes that something is revoked, such as a session. The TTL of the
    /// revocation must be at least as long as any node may use what it has cached. `false` if the
    /// other nodes could not be informed.
    pub async fn revoke(&self, what: &str, lasts: Duration) -> bool {
        self.inner.local.revoke(what, lasts);
        match &self.inner.remote {
            None => true,
            Some(remote) => remote.revoke(what, lasts).await,
        }
    }

    /// Whether something is revoked, as far as this node knows. Makes no call to Redis.
    #[must_use]
    pub fn revoked(&self, what: &str) -> bool {
        self.inner.local.revoked(what)
            || self.inner.remote.as_ref().is_some_and(|remote| remote.revoked(what))
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("state", &self.state()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_address_is_hidden_in_debug_output() {
        let url = "redis://:geheim@127.0.0.1:1/0".to_owned();
        let options = Options { url, ..Options::default() };
        assert!(!format!("{options:?}").contains("geheim"));
        assert!(redis_address(&options.url, &()).is_ok());
        for bad in ["redis", "http://127.0.0.1", "rediss://127.0.0.1/#insecure"] {
            assert!(redis_address(bad, &()).is_err(), "{bad}");
        }
    }
}
