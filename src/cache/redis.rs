//! The cache in Redis: one shared connection, scripts for atomic operations, and a circuit breaker,
//! so that an unreachable or hanging server costs a few callers one timeout and all others nothing.
//!
//! While the server is unreachable, every call fails at once. A background task reconnects, drops
//! the spaces that could not be dropped during the outage, and only then lets calls through again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, FromRedisValue, RedisError, Script,
    TlsCertificates,
};
use tokio::time::{Instant, sleep, timeout};

use super::rate::{self, Limit, RateDecision};
use super::seal::Unsigned;
use super::{CacheOpenError, CacheSeal, CacheSlot, CacheState, CacheTally, Options};
use crate::domain::tls_files::TlsFiles;
use crate::tls;

/// The number of timeouts in a row that opens the circuit breaker; a broken connection opens it at
/// once.
const TIMEOUTS_MAX: u32 = 3;
/// The maximum number of revocations that are read.
const REVOKED_MAX: usize = 10_000;
/// The longest time for which a node remembers a revocation that it has read.
const REVOKED_FOR_MAX: Duration = Duration::from_secs(3_600);

/// Returns the generation of a space, and the value of a key in it. A space without a generation
/// gets a random one; a counted one could be an earlier generation again after the server was
/// emptied.
static GET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local generation = redis.call('GET', KEYS[1]) \
         if not generation then \
           generation = ARGV[2] \
           redis.call('SET', KEYS[1], generation) \
           return {generation, false} \
         end \
         return {generation, redis.call('GET', KEYS[1] .. ':' .. generation .. ':' .. ARGV[1])}",
    )
});

/// Computes the same as `rate::count`, by the server's clock. A stored time that no count can have
/// reached, because somebody else wrote it, refuses calls for one period at most.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME') \
         local now = time[1] * 1000000 + time[2] \
         local apart, per, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]) \
         local stored = tonumber(redis.call('GET', KEYS[1]) or '0') or 0 \
         local from = math.min(math.max(stored, now), now + per) \
         local next = math.max(from + cost * apart, now) \
         if cost > 0 and next - now > per then \
           return {0, from - now} \
         end \
         if next > now then \
           redis.call('SET', KEYS[1], string.format('%.0f', next), \
             'PX', math.ceil((next - now) / 1000)) \
         else \
           redis.call('DEL', KEYS[1]) \
         end \
         return {1, next - now}",
    )
});

static PROLONG: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then \
           return redis.call('PEXPIRE', KEYS[1], ARGV[2]) \
         end \
         return 0",
    )
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then \
           return redis.call('DEL', KEYS[1]) \
         end \
         return 0",
    )
});

static REVOKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME') \
         local now = time[1] * 1000 + math.floor(time[2] / 1000) \
         redis.call('ZADD', KEYS[1], 'GT', now + ARGV[2], ARGV[1]) \
         redis.call('PEXPIRE', KEYS[1], 3600000) \
         return 1",
    )
});

/// Returns the current revocations. The script also writes, so that it fails if the server accepts
/// no writes.
static REVOKED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME') \
         local now = time[1] * 1000 + math.floor(time[2] / 1000) \
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) \
         return redis.call('ZRANGE', KEYS[1], 0, ARGV[1])",
    )
});

/// A client for a server address.
pub(super) fn client(url: &str, files: &TlsFiles) -> Result<Client, CacheOpenError> {
    let known = ["redis://", "rediss://", "unix://", "redis+unix://"];
    // `#insecure` would accept any certificate.
    if !known.iter().any(|scheme| url.starts_with(scheme)) || url.contains('#') {
        return Err(CacheOpenError::Url);
    }
    if !url.starts_with("rediss://") {
        return Client::open(url).map_err(|_| CacheOpenError::Url);
    }
    // TLS needs a crypto provider. An error means that one is already installed.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    tls::read("cache.tls", files)?;
    let read = |file: &PathBuf| std::fs::read(file).unwrap_or_default();
    let own = files.own();
    let certificates = TlsCertificates {
        client_tls: own
            .map(|(cert, key)| ClientTlsConfig { client_cert: read(cert), client_key: read(key) }),
        root_cert: files.ca().map(read),
    };
    // The files can be used, so only the address can be wrong.
    Client::build_with_tls(url, certificates).map_err(|_| CacheOpenError::Url)
}

/// Whether an address has a password.
pub(super) fn has_password(url: &str) -> bool {
    let known = client(url, &TlsFiles::default());
    known.is_ok_and(|client| client.get_connection_info().redis_settings().password().is_some())
}

pub(super) struct Remote {
    client: Client,
    tls: TlsFiles,
    prefix: String,
    seal: CacheSeal,
    patience: Duration,
    retry: Duration,
    poll: Duration,
    link: Mutex<Link>,
    /// The number of timeouts in a row.
    late: AtomicU32,
    /// What is revoked, and until when at least.
    revoked: Mutex<HashMap<String, Instant>>,
    tally: Arc<CacheTally>,
}

struct Link {
    connection: Option<MultiplexedConnection>,
    /// When the connection was lost.
    since: Instant,
    /// Spaces that must be dropped before the server is used again.
    to_drop: BTreeSet<&'static str>,
}

impl Remote {
    pub(super) async fn open(
        options: &Options,
        seal: CacheSeal,
        tally: Arc<CacheTally>,
    ) -> Result<Arc<Self>, CacheOpenError> {
        let link = Link { connection: None, since: Instant::now(), to_drop: BTreeSet::new() };
        let remote = Arc::new(Self {
            client: client(&options.url, &options.tls)?,
            tls: options.tls.clone(),
            prefix: options.prefix.clone(),
            seal,
            patience: Duration::from_millis(options.timeout_ms),
            retry: Duration::from_millis(options.retry_ms),
            poll: Duration::from_millis(options.poll_ms),
            link: Mutex::new(link),
            late: AtomicU32::new(0),
            revoked: Mutex::default(),
            tally,
        });
        if let Err(error) = remote.connect().await {
            tracing::warn!(error, "Redis is down; each node uses a local cache until it is back");
        }
        tokio::spawn(watch(Arc::downgrade(&remote)));
        Ok(remote)
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> CacheState {
        let link = self.link();
        if link.connection.is_some() {
            CacheState::Ok
        } else {
            CacheState::Away(link.since.elapsed())
        }
    }

    /// Connects, drops the spaces in `to_drop`, and lets calls use the connection. The error omits
    /// the address.
    async fn connect(&self) -> Result<(), String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.patience * 10))
            .set_response_timeout(None);
        let made = self.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = made.await.map_err(|error| {
            // The causes may have parts of the address; what is advised has not.
            let advice = tls::advice("cache.tls", &self.tls, &causes(&error));
            advice.unwrap_or_else(|| describe_error(&error))
        })?;
        self.read_revoked(&mut connection).await?;
        loop {
            let space = {
                let mut link = self.link();
                let Some(space) = link.to_drop.first().copied() else {
                    link.connection = Some(connection);
                    self.late.store(0, Ordering::Relaxed);
                    return Ok(());
                };
                space
            };
            let drop_space = self.drop_command(space);
            self.within(drop_space.query_async::<()>(&mut connection)).await?;
            self.link().to_drop.remove(space);
        }
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, String> {
        match timeout(self.patience * 10, call).await {
            Ok(outcome) => outcome.map_err(|error| describe_error(&error)),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    async fn read_revoked(&self, connection: &mut MultiplexedConnection) -> Result<(), String> {
        let mut call = REVOKED.prepare_invoke();
        call.key(self.key("revoked", "")).arg(REVOKED_MAX);
        let all = self.within(call.invoke_async::<HashSet<String>>(connection)).await?;
        let now = Instant::now();
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        // What a node has read holds for its time, even if somebody removes it from the server.
        revoked.retain(|_, until| *until > now);
        for kept in &all {
            match self.seal.open_revocation(&self.prefix, kept) {
                Ok((what, left)) => {
                    let until = revoked.entry(what).or_insert(now);
                    *until = (*until).max(now + left.min(REVOKED_FOR_MAX));
                }
                Err(Unsigned) => self.count_unsigned(),
            }
        }
        Ok(())
    }

    fn count_unsigned(&self) {
        if self.tally.unsigned.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "Redis has a value that no node of this cluster has signed: somebody else writes to \
                 it, or it is from before the key of the cluster was replaced"
            );
        }
    }

    /// Checks the connection and reads revocations; reconnects if there is no connection.
    async fn check(&self) -> Duration {
        let connection = self.link().connection.clone();
        match connection {
            Some(mut connection) => {
                if let Err(error) = self.read_revoked(&mut connection).await {
                    self.lost(&error);
                    return self.retry;
                }
                self.poll
            }
            None => match self.connect().await {
                Ok(()) => {
                    tracing::info!("Redis is back");
                    self.poll
                }
                Err(error) => {
                    tracing::debug!(error, "Redis is still down");
                    self.retry
                }
            },
        }
    }

    fn lost(&self, error: &str) {
        let mut link = self.link();
        if link.connection.take().is_some() {
            link.since = Instant::now();
            drop(link);
            self.tally.outages.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(error, "Redis is down; each node uses a local cache until it is back");
        }
    }

    /// The connection; `None` while the server is unreachable.
    fn connection(&self) -> Option<MultiplexedConnection> {
        let connection = self.link().connection.clone();
        if connection.is_none() {
            self.tally.away.fetch_add(1, Ordering::Relaxed);
        }
        connection
    }

    /// The result of a call, unless it fails or times out.
    async fn outcome<T>(&self, call: impl Future<Output = Result<T, RedisError>>) -> Option<T> {
        match timeout(self.patience, call).await {
            Ok(Ok(answer)) => {
                self.late.store(0, Ordering::Relaxed);
                return Some(answer);
            }
            Ok(Err(error)) => self.lost(&describe_error(&error)),
            Err(_) => {
                if self.late.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
                    self.lost("no answer in time");
                }
            }
        }
        self.tally.failed.fetch_add(1, Ordering::Relaxed);
        None
    }

    async fn ask<T: FromRedisValue>(&self, command: Cmd) -> Option<T> {
        let mut connection = self.connection()?;
        self.outcome(command.query_async(&mut connection)).await
    }

    fn key(&self, kind: &str, name: &str) -> String {
        format!("{}:{kind}:{name}", self.prefix)
    }

    pub(super) async fn get(
        &self,
        space: &'static str,
        key: &str,
    ) -> Option<(u64, Option<Vec<u8>>)> {
        let mut connection = self.connection()?;
        let mut call = GET.prepare_invoke();
        call.key(self.key("space", space)).arg(key).arg(rand::random::<u64>());
        let (generation, kept): (u64, Option<Vec<u8>>) =
            self.outcome(call.invoke_async(&mut connection)).await?;
        let Some(kept) = kept else {
            return Some((generation, None));
        };
        let opened = self.seal.open(&self.prefix, (space, generation, key), &kept);
        Some((
            generation,
            opened.unwrap_or_else(|Unsigned| {
                self.count_unsigned();
                None
            }),
        ))
    }

    fn full(&self, space: &str, generation: u64, key: &str) -> String {
        format!("{}:{generation}:{key}", self.key("space", space))
    }

    pub(super) async fn put(&self, place: &CacheSlot, value: &[u8], lasts: Duration) {
        let mut command = redis::cmd("SET");
        let sealed = self.seal.close(&self.prefix, place, value, lasts);
        command.arg(self.full(place.space, place.generation, &place.key)).arg(sealed);
        command.arg("PX").arg(millis(lasts));
        // A lost value is only a cache miss.
        let _kept: Option<()> = self.ask(command).await;
    }

    pub(super) async fn drop_key(&self, space: &'static str, key: &str) {
        let generation: Option<Option<u64>> = {
            let mut command = redis::cmd("GET");
            command.arg(self.key("space", space));
            self.ask(command).await
        };
        let gone: Option<u64> = match generation {
            Some(Some(generation)) => {
                let mut command = redis::cmd("DEL");
                command.arg(self.full(space, generation, key));
                self.ask(command).await
            }
            Some(None) => Some(0),
            None => None,
        };
        if gone.is_none() {
            self.owe(space);
        }
    }

    fn drop_command(&self, space: &str) -> Cmd {
        let mut command = redis::cmd("SET");
        command.arg(self.key("space", space)).arg(rand::random::<u64>());
        command
    }

    pub(super) async fn drop_space(&self, space: &'static str) {
        let dropped: Option<()> = self.ask(self.drop_command(space)).await;
        if dropped.is_none() {
            self.owe(space);
        }
    }

    /// Records that a space must be dropped, and disconnects, so that no value is read from the
    /// server before the space is dropped.
    fn owe(&self, space: &'static str) {
        self.link().to_drop.insert(space);
        self.lost("cannot invalidate a space of the cache");
    }

    pub(super) async fn count(&self, key: &str, limit: Limit, cost: i64) -> Option<RateDecision> {
        let mut connection = self.connection()?;
        let mut call = COUNT.prepare_invoke();
        call.key(self.key("rate", key));
        call.arg(limit.apart_micros()).arg(limit.per_micros()).arg(cost);
        let (allowed, debt): (i64, i64) = self.outcome(call.invoke_async(&mut connection)).await?;
        Some(rate::decision(allowed == 1, debt, limit))
    }

    /// Whether the lock was taken; `None` if that is unknown.
    pub(super) async fn lock(&self, name: &str, token: &str, lasts: Duration) -> Option<bool> {
        let mut command = redis::cmd("SET");
        command.arg(self.key("lock", name)).arg(token).arg("NX").arg("PX").arg(millis(lasts));
        let set: Option<String> = self.ask(command).await?;
        Some(set.is_some())
    }

    pub(super) async fn prolong(&self, name: &str, token: &str, lasts: Duration) -> bool {
        let Some(mut connection) = self.connection() else {
            return false;
        };
        let mut call = PROLONG.prepare_invoke();
        call.key(self.key("lock", name)).arg(token).arg(millis(lasts));
        self.outcome(call.invoke_async::<i64>(&mut connection)).await == Some(1)
    }

    pub(super) async fn release(&self, name: &str, token: &str) {
        let Some(mut connection) = self.connection() else {
            return;
        };
        let mut call = RELEASE.prepare_invoke();
        call.key(self.key("lock", name)).arg(token);
        // If the release fails, the lock's TTL ends it.
        let _released = self.outcome(call.invoke_async::<i64>(&mut connection)).await;
    }

    pub(super) async fn revoke(&self, what: &str, lasts: Duration) -> bool {
        let Some(mut connection) = self.connection() else {
            return false;
        };
        let mut call = REVOKE.prepare_invoke();
        let sealed = self.seal.close_revocation(&self.prefix, what, lasts);
        call.key(self.key("revoked", "")).arg(sealed).arg(millis(lasts));
        self.outcome(call.invoke_async::<i64>(&mut connection)).await == Some(1)
    }

    pub(super) fn revoked(&self, what: &str) -> bool {
        let revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        revoked.get(what).is_some_and(|until| *until > Instant::now())
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// An error's description without parts of the address.
fn describe_error(error: &RedisError) -> String {
    match error.detail() {
        Some(detail) if error.code().is_some() => format!("{}: {detail}", error.category()),
        _ => error.category().to_owned(),
    }
}

/// An error with its causes.
fn causes(error: &RedisError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Checks the server periodically, as long as the cache is in use.
async fn watch(remote: Weak<Remote>) {
    loop {
        let Some(pause) = remote.upgrade().map(|remote| remote.poll.min(remote.retry)) else {
            return;
        };
        sleep(pause).await;
        let Some(here) = remote.upgrade() else {
            return;
        };
        let pause = here.check().await.saturating_sub(pause);
        drop(here);
        sleep(pause).await;
    }
}
