//! What nodes share and may lose: one suite for Redis and for its twin in the process, and what
//! becomes of it all when a real server is killed, hangs or is emptied.

mod forged;
pub mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kontor::cache::{Cache, CacheLookup, CacheSlot, CacheState, Limit, Lock, LockGuard};
use tokio::sync::Notify;

use self::server::Redis;

pub const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(1);
/// How long a condition may take to come true before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub async fn there(cache: &Cache) {
    until("redis is there", async || cache.state() == CacheState::Ok).await;
}

async fn away(cache: &Cache) {
    until("redis is away", async || matches!(cache.state(), CacheState::Away(_))).await;
}

pub async fn place(cache: &Cache, space: &'static str, key: &str) -> CacheSlot {
    match cache.get(space, key).await {
        CacheLookup::Miss(place) => place,
        other => panic!("{other:?}"),
    }
}

pub async fn keep(cache: &Cache, space: &'static str, key: &str, value: &[u8]) {
    let place = place(cache, space, key).await;
    cache.put(place, value.to_vec(), LONG).await;
}

/// Both implementations, the server's seen by two nodes.
async fn on_both<F: Future<Output = ()>>(test: impl Fn(Cache, Cache) -> F) {
    let local = Cache::in_process();
    test(local.clone(), local).await;
    let redis = Redis::start();
    let (one, two) = (redis.client().await, redis.client().await);
    there(&one).await;
    there(&two).await;
    test(one, two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_another_node_has_taken_are_refused_soon() {
    on_both(async |one, two| {
        let all: Arc<[(String, Limit)]> =
            [("all".to_owned(), Limit { count: 1_000, per: LONG })].into();
        assert_eq!(one.take_all(&all, 1_000), Ok(()));
        // An answer of the server tells the other node, which refuses from then on. A count may be
        // lost on its way, so it is repeated.
        let taken = AtomicU32::new(0);
        let refused = async || {
            let refused = two.take_all(&all, 1).is_err();
            if !refused {
                taken.fetch_add(1, Ordering::Relaxed);
                one.put_back(&all, 1_000);
                let _refused = one.take_all(&all, 1_000);
            }
            refused
        };
        until("it is refused", refused).await;
        assert!(taken.into_inner() < 500);
        let free = async || {
            one.put_back(&all, 1_000);
            two.take_all(&all, 300).is_ok()
        };
        until("it is free again", free).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_value_is_found_until_dropped_or_expired() {
    on_both(async |one, two| {
        keep(&one, "a", "1", b"\0bytes\xff").await;
        keep(&one, "a", "2", b"two").await;
        keep(&one, "b", "1", b"other").await;
        assert_eq!(two.get("a", "1").await, CacheLookup::Hit(b"\0bytes\xff".to_vec()));
        assert_eq!(two.get("b", "1").await, CacheLookup::Hit(b"other".to_vec()));
        two.drop_key("a", "1").await;
        assert!(matches!(one.get("a", "1").await, CacheLookup::Miss(_)));
        assert_eq!(one.get("a", "2").await, CacheLookup::Hit(b"two".to_vec()));
        two.drop_space("a").await;
        assert!(matches!(one.get("a", "2").await, CacheLookup::Miss(_)));
        assert_eq!(one.get("b", "1").await, CacheLookup::Hit(b"other".to_vec()));
        let brief = place(&one, "a", "brief").await;
        one.put(brief, b"x".to_vec(), SHORT).await;
        let gone = async || matches!(one.get("a", "brief").await, CacheLookup::Miss(_));
        until("it is too old", gone).await;
        assert!(one.counts().hits > 0 && one.counts().misses > 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn value_read_before_a_drop_is_never_cached() {
    on_both(async |one, two| {
        let early = place(&one, "a", "1").await;
        two.drop_space("a").await;
        one.put(early, b"old".to_vec(), LONG).await;
        assert!(matches!(two.get("a", "1").await, CacheLookup::Miss(_)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_is_shared() {
    on_both(async |one, two| {
        let limit = Limit { count: 10, per: LONG };
        let mut left = Vec::new();
        for n in 0..10 {
            let taken = if n % 2 == 0 { &one } else { &two }.consume_limit("x", limit).await;
            assert!(taken.allowed);
            left.push(taken.left);
        }
        assert_eq!(left, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
        let refused = two.consume_limit("x", limit).await;
        assert_eq!((refused.allowed, refused.left), (false, 0));
        let tenth = LONG / 10;
        assert!(refused.retry_in > tenth / 2 && refused.retry_in <= tenth, "{refused:?}");
        assert!(refused.full_in > LONG / 2 && refused.full_in <= LONG, "{refused:?}");
        assert!(one.consume_limit("y", limit).await.allowed, "another caller");
        one.give_back("x", limit).await;
        assert!(two.consume_limit("x", limit).await.allowed);
        assert!(!one.consume_limit("x", limit).await.allowed);
        let fast = Limit { count: 1, per: SHORT };
        assert!(one.consume_limit("z", fast).await.allowed);
        until("it comes back", async || two.consume_limit("z", fast).await.allowed).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_callers_get_exactly_the_limit() {
    on_both(async |one, two| {
        let limit = Limit { count: 7, per: LONG };
        let all = (0..40).map(|n| {
            let cache = if n % 2 == 0 { one.clone() } else { two.clone() };
            tokio::spawn(async move { cache.consume_limit("x", limit).await.allowed })
        });
        let mut allowed = 0;
        for one in all.collect::<Vec<_>>() {
            allowed += u32::from(one.await.unwrap());
        }
        assert_eq!(allowed, 7);
    })
    .await;
}

async fn held(cache: &Cache, name: &str, lasts: Duration) -> Option<LockGuard> {
    match cache.lock(name, lasts).await {
        Lock::Held(held) => Some(held),
        Lock::Taken => None,
        Lock::Unknown => panic!("it is not known who has {name}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_has_one_holder() {
    on_both(async |one, two| {
        let first = held(&one, "l", LONG).await.unwrap();
        assert!(held(&two, "l", LONG).await.is_none());
        assert!(held(&two, "other", LONG).await.is_some());
        assert!(first.prolong(LONG).await);
        first.release().await;
        let brief = held(&two, "l", SHORT).await.unwrap();
        until("its time is over", async || held(&one, "l", LONG).await.is_some()).await;
        assert!(!brief.prolong(LONG).await, "another one has it");
        brief.release().await;
        assert!(held(&two, "l", LONG).await.is_none(), "it was not theirs to release");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_work_is_left_to_its_holder() {
    on_both(async |one, two| {
        let (at_it, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let work = {
            let (at_it, finish) = (at_it.clone(), finish.clone());
            async move {
                at_it.notify_one();
                finish.notified().await;
                7
            }
        };
        let first = {
            let one = one.clone();
            tokio::spawn(async move { one.unless_taken("w", LONG, work).await })
        };
        at_it.notified().await;
        assert_eq!(two.unless_taken("w", LONG, async { 8 }).await, None);
        finish.notify_one();
        assert_eq!(first.await.unwrap(), Some(7));
        assert_eq!(two.unless_taken("w", LONG, async { 8 }).await, Some(8));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_reaches_all_nodes_for_its_ttl() {
    on_both(async |one, two| {
        assert!(one.revoke("key:1", LONG).await);
        until("the other node hears it", async || two.revoked("key:1")).await;
        assert!(one.revoked("key:1") && !two.revoked("key:2"));
        assert!(two.revoke("key:3", Duration::from_secs(2)).await);
        until("the other node hears it", async || one.revoked("key:3")).await;
        until("it is over", async || !one.revoked("key:3") && !two.revoked("key:3")).await;
        assert!(two.revoked("key:1"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_outage_is_tolerated_and_ends() {
    let mut redis = Redis::start();
    let cache = redis.client().await;
    there(&cache).await;
    keep(&cache, "a", "1", b"kept").await;
    let limit = Limit { count: 2, per: LONG };
    assert!(cache.consume_limit("x", limit).await.allowed);
    redis.kill();
    away(&cache).await;
    assert_eq!(cache.get("a", "1").await, CacheLookup::Away);
    let alone = cache.consume_limit("x", limit).await;
    assert!(alone.allowed, "each node counts for itself, as it did before");
    assert!(!cache.consume_limit("x", limit).await.allowed);
    assert!(matches!(cache.lock("l", LONG).await, Lock::Unknown));
    assert_eq!(
        cache.unless_taken("l", LONG, async { 7 }).await,
        Some(7),
        "it is done all the same"
    );
    assert!(!cache.revoke("key:1", LONG).await && cache.revoked("key:1"));
    assert_eq!(cache.counts().outages, 1);
    redis.start_again();
    there(&cache).await;
    keep(&cache, "a", "1", b"again").await;
    assert!(held(&cache, "l", LONG).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_start_after_the_node() {
    let mut redis = Redis::start();
    redis.kill();
    let cache = redis.client().await;
    assert!(matches!(cache.state(), CacheState::Away(_)));
    redis.start_again();
    there(&cache).await;
    keep(&cache, "a", "1", b"kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_redis_delays_only_a_few_calls() {
    let redis = Redis::start();
    let cache = redis.client().await;
    there(&cache).await;
    redis.signal("-STOP");
    away(&cache).await;
    let failed = cache.counts().failed;
    for _ in 0..1_000 {
        assert_eq!(cache.get("a", "1").await, CacheLookup::Away);
    }
    assert_eq!(cache.counts().failed, failed, "nobody waited");
    redis.signal("-CONT");
    there(&cache).await;
    keep(&cache, "a", "1", b"kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_dropped_during_an_outage_stays_dropped() {
    let redis = Redis::start();
    let (one, two) = (redis.client().await, redis.client().await);
    there(&one).await;
    there(&two).await;
    keep(&one, "a", "1", b"old").await;
    keep(&one, "b", "1", b"good").await;
    redis.signal("-STOP");
    away(&one).await;
    one.drop_space("a").await;
    redis.signal("-CONT");
    there(&one).await;
    assert!(matches!(one.get("a", "1").await, CacheLookup::Miss(_)));
    there(&two).await;
    assert!(matches!(two.get("a", "1").await, CacheLookup::Miss(_)));
    assert_eq!(two.get("b", "1").await, CacheLookup::Hit(b"good".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_redis_revives_no_old_value() {
    let redis = Redis::start();
    let cache = redis.client().await;
    there(&cache).await;
    let mut early = vec![place(&cache, "a", "1").await];
    cache.drop_space("a").await;
    early.push(place(&cache, "a", "1").await);
    let limit = Limit { count: 1, per: LONG };
    assert!(cache.consume_limit("x", limit).await.allowed);
    redis.flush().await;
    let other = redis.client().await;
    there(&other).await;
    assert!(other.consume_limit("x", limit).await.allowed, "Redis counts anew");
    assert!(!other.consume_limit("x", limit).await.allowed);
    for place in early {
        cache.put(place, b"old".to_vec(), LONG).await;
        cache.drop_space("a").await;
        assert!(matches!(cache.get("a", "1").await, CacheLookup::Miss(_)));
    }
    assert_eq!(cache.state(), CacheState::Ok);
}
