//! Floor 1: what nodes share and may lose at any moment: cached answers, counters of rate limits,
//! short locks and revocations. In Redis where one is named, and in this process otherwise.
//!
//! Nothing here is the truth. Redis may be away, hang or be emptied, and kontor serves on: a
//! cached answer is then read from the store, a limit is counted by each node for itself, and a
//! lock is held by nobody. How Redis is reached is in `redis`, its twin in this process in
//! `local`, how a limit counts in `rate`, how work is done by one node only in `lock`. What is
//! cached and for how long is not decided here.

mod local;
mod lock;
mod rate;
mod redis;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};

use self::local::Local;
pub use self::lock::{Lock, LockGuard};
pub use self::rate::{Limit, RateDecision};
use self::redis::Remote;
use crate::domain::limits::{holds, within};

/// Where what nodes share is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The Redis server, such as `redis://:password@127.0.0.1:6379/0`; empty for this process.
    #[garde(custom(redis_address))]
    pub url: String,
    /// What every key begins with, so that several shops can share one server.
    #[garde(custom(key_prefix))]
    pub prefix: String,
    /// How long one call may take, in milliseconds.
    #[garde(custom(within(1..=10_000)))]
    pub timeout_ms: u64,
    /// How far apart two tries to reach a server that is away are, in milliseconds.
    #[garde(custom(within(10..=60_000)))]
    pub retry_ms: u64,
    /// How often is looked whether the server is there and what was revoked, in milliseconds.
    #[garde(custom(within(10..=1_000)))]
    pub poll_ms: u64,
    /// The most bytes of answers that are kept in this process.
    #[garde(custom(within(0..=1 << 36)))]
    pub bytes_max: usize,
}

fn redis_address(url: &str, (): &()) -> garde::Result {
    holds(
        url.is_empty() || redis::client(url).is_ok(),
        || "must be empty, or a URL such as redis://127.0.0.1:6379",
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
            prefix: "kontor".to_owned(),
            timeout_ms: 50,
            retry_ms: 500,
            poll_ms: 200,
            bytes_max: 64 << 20,
        }
    }
}

impl fmt::Debug for Options {
    /// Without the address, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = if self.url.is_empty() { "" } else { "***" };
        f.debug_struct("Options")
            .field("url", &url)
            .field("prefix", &self.prefix)
            .field("timeout_ms", &self.timeout_ms)
            .field("retry_ms", &self.retry_ms)
            .field("poll_ms", &self.poll_ms)
            .field("bytes_max", &self.bytes_max)
            .finish()
    }
}

/// Why there is no cache. Neither tells the address, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum CacheOpenError {
    /// The address is none.
    #[error("cache.url must be the URL of a Redis server, such as redis://127.0.0.1:6379")]
    Url,
}

/// Whether the cache can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheState {
    /// It is in this process.
    Local,
    /// The server answers.
    Ok,
    /// The server has not answered for so long.
    Away(Duration),
}

/// What was found under a key.
#[derive(Debug, PartialEq, Eq)]
pub enum CacheLookup {
    /// What was kept.
    Hit(Vec<u8>),
    /// Nothing: what is read from the store now may be kept in this place.
    Miss(CacheSlot),
    /// The server is away: the store knows, and nothing can be kept.
    Away,
}

/// Where something can be kept that was read after this was handed out. If the space is dropped
/// meanwhile, nobody finds what is kept here.
#[derive(Debug, PartialEq, Eq)]
pub struct CacheSlot {
    space: &'static str,
    generation: u64,
    key: String,
}

/// What the cache has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Answers that were found.
    pub hits: u64,
    /// Answers that were not.
    pub misses: u64,
    /// Calls for which the server was away.
    pub away: u64,
    /// Calls that failed or took too long.
    pub failed: u64,
    /// How often the server went away.
    pub outages: u64,
}

#[derive(Default)]
struct CacheTally {
    hits: AtomicU64,
    misses: AtomicU64,
    away: AtomicU64,
    failed: AtomicU64,
    outages: AtomicU64,
}

/// What nodes share. Clones are handles on the same.
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
    /// Opens what the options name. A server that is away is no reason not to start: it is looked
    /// for until it is there.
    ///
    /// # Errors
    /// [`CacheOpenError`]: the address is none.
    pub async fn open(options: &Options) -> Result<Self, CacheOpenError> {
        let tally = Arc::new(CacheTally::default());
        let remote = if options.url.is_empty() {
            None
        } else {
            Some(Remote::open(options, tally.clone()).await?)
        };
        let inner = Inner { local: Local::new(options.bytes_max), remote, tally };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// One of this process alone.
    #[must_use]
    pub fn in_process() -> Self {
        let local = Local::new(Options::default().bytes_max);
        Self { inner: Arc::new(Inner { local, remote: None, tally: Arc::default() }) }
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> CacheState {
        self.inner.remote.as_ref().map_or(CacheState::Local, |remote| remote.state())
    }

    /// What was done, since the start.
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
        }
    }

    /// Looks for what is kept under a key of a space.
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

    /// Keeps something, for at most so long. It may be gone sooner.
    pub async fn put(&self, place: CacheSlot, value: Vec<u8>, lasts: Duration) {
        match &self.inner.remote {
            None => self.inner.local.put(place, value, lasts),
            Some(remote) => remote.put(&place, &value, lasts).await,
        }
    }

    /// Drops what is kept under a key of a space. Whoever read it from the store before may still
    /// keep it: where that matters, the whole space is dropped.
    pub async fn drop_key(&self, space: &'static str, key: &str) {
        match &self.inner.remote {
            None => self.inner.local.drop_key(space, key),
            Some(remote) => remote.drop_key(space, key).await,
        }
    }

    /// Drops all that is kept in a space, and what was read for it and is not kept yet. While the
    /// server is away nobody finds anything; this is then done before it is used again.
    pub async fn drop_space(&self, space: &'static str) {
        match &self.inner.remote {
            None => self.inner.local.drop_space(space),
            Some(remote) => remote.drop_space(space).await,
        }
    }

    /// Takes from what a limit allows, by the server's clock. While the server is away each node
    /// counts for itself.
    pub async fn consume_limit(&self, key: &str, limit: Limit) -> RateDecision {
        self.count(key, limit, 1).await
    }

    /// Gives back what was taken.
    pub async fn give_back(&self, key: &str, limit: Limit) {
        self.count(key, limit, -1).await;
    }

    async fn count(&self, key: &str, limit: Limit, cost: i64) -> RateDecision {
        if let Some(remote) = &self.inner.remote
            && let Some(taken) = remote.count(key, limit, cost).await
        {
            return taken;
        }
        self.inner.local.count(key, limit, cost)
    }

    /// Tells all nodes that something does not hold any more, for so long: as long as anybody may
    /// believe otherwise without asking the store. `false` if the others do not hear of it.
    pub async fn revoke(&self, what: &str, lasts: Duration) -> bool {
        self.inner.local.revoke(what, lasts);
        match &self.inner.remote {
            None => true,
            Some(remote) => remote.revoke(what, lasts).await,
        }
    }

    /// Whether something was revoked lately, as far as this node has heard. It asks nobody.
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
    fn the_address_is_told_nobody() {
        let url = "redis://:geheim@127.0.0.1:1/0".to_owned();
        let options = Options { url, ..Options::default() };
        assert!(!format!("{options:?}").contains("geheim"));
        assert!(redis_address(&options.url, &()).is_ok());
        for bad in ["redis", "http://127.0.0.1", "rediss://127.0.0.1"] {
            assert!(redis_address(bad, &()).is_err(), "{bad}");
        }
    }
}
