//! A hostile hand in Redis: what it writes is not believed, and what it deletes does not reset what
//! protects.

use kontor::cache::{Cache, CacheLookup, Limit};
use kontor::domain::cluster_key::ClusterKey;
use redis::aio::MultiplexedConnection;

use super::server::Redis;
use super::{LONG, keep, place, there, until};

async fn ask<T: redis::FromRedisValue>(
    stranger: &mut MultiplexedConnection,
    command: &[&[u8]],
) -> T {
    let mut all = redis::cmd(std::str::from_utf8(command[0]).unwrap());
    for part in &command[1..] {
        all.arg(*part);
    }
    all.query_async(stranger).await.unwrap()
}

/// The key of a value and the generation of its space.
async fn key_of(stranger: &mut MultiplexedConnection, space: &str, key: &str) -> (String, String) {
    let of_space = format!("kontor:space:{space}");
    let generation: String = ask(stranger, &[b"GET", of_space.as_bytes()]).await;
    (format!("{of_space}:{generation}:{key}"), generation)
}

async fn missed(cache: &Cache, space: &'static str, key: &str) -> bool {
    matches!(cache.get(space, key).await, CacheLookup::Miss(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_or_moved_value_counts_as_missing() {
    let redis = Redis::start();
    let cache = redis.client().await;
    there(&cache).await;
    let mut stranger = redis.stranger().await;
    keep(&cache, "a", "1", b"price 10").await;
    keep(&cache, "a", "2", b"price 20").await;
    let (one, generation) = key_of(&mut stranger, "a", "1").await;
    let (two, _) = key_of(&mut stranger, "a", "2").await;
    let right: Vec<u8> = ask(&mut stranger, &[b"GET", one.as_bytes()]).await;
    let at = right.len() - 2;
    let mut changed = right.clone();
    changed[at] = b'0';
    let other: Vec<u8> = ask(&mut stranger, &[b"GET", two.as_bytes()]).await;
    for forged in [b"price 0".to_vec(), Vec::new(), changed, other] {
        let before = cache.counts().unsigned;
        ask::<()>(&mut stranger, &[b"SET", one.as_bytes(), &forged]).await;
        assert!(missed(&cache, "a", "1").await, "{forged:?}");
        assert_eq!(cache.counts().unsigned, before + 1);
    }
    ask::<()>(&mut stranger, &[b"SET", one.as_bytes(), &right]).await;
    assert_eq!(cache.get("a", "1").await, CacheLookup::Hit(b"price 10".to_vec()));
    // A value of before a space was dropped is not good in its new generation.
    cache.drop_space("a").await;
    assert!(missed(&cache, "a", "1").await);
    let (again, newer) = key_of(&mut stranger, "a", "1").await;
    assert_ne!(generation, newer);
    ask::<()>(&mut stranger, &[b"SET", again.as_bytes(), &right]).await;
    assert!(missed(&cache, "a", "1").await);
    // Neither is what the nodes of another store have signed.
    let foreign = redis.client_with(ClusterKey::new([2; 32])).await;
    there(&foreign).await;
    let slot = place(&foreign, "a", "1").await;
    foreign.put(slot, b"price 1".to_vec(), LONG).await;
    assert!(missed(&cache, "a", "1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_revocation_ends_nothing_and_a_removed_one_holds() {
    let redis = Redis::start();
    let (one, two) = (redis.client().await, redis.client().await);
    there(&one).await;
    there(&two).await;
    let mut stranger = redis.stranger().await;
    ask::<()>(&mut stranger, &[b"ZADD", b"kontor:revoked:", b"9999999999999", b"session:2"]).await;
    until("the forged one is read", async || two.counts().unsigned > 0).await;
    assert!(!two.revoked("session:2"));
    assert!(one.revoke("session:1", LONG).await);
    until("the other node hears it", async || two.revoked("session:1")).await;
    redis.flush().await;
    let forged = two.counts().unsigned;
    ask::<()>(&mut stranger, &[b"ZADD", b"kontor:revoked:", b"9999999999999", b"session:3"]).await;
    until("the node has read again", async || two.counts().unsigned > forged).await;
    assert!(two.revoked("session:1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_or_forged_count_lifts_no_limit_and_locks_nobody_out_for_long() {
    let redis = Redis::start();
    let cache = redis.client().await;
    there(&cache).await;
    let mut stranger = redis.stranger().await;
    let limit = Limit { count: 3, per: LONG };
    for _ in 0..3 {
        assert!(cache.consume_limit("sign_in:x", limit).await.allowed);
        ask::<()>(&mut stranger, &[b"DEL", b"kontor:rate:sign_in:x"]).await;
    }
    assert!(!cache.consume_limit("sign_in:x", limit).await.allowed, "the node has counted, too");
    for forged in ["99999999999999999", "nonsense"] {
        let key = b"kontor:rate:sign_in:y";
        ask::<()>(&mut stranger, &[b"SET", key, forged.as_bytes()]).await;
        let decision = cache.consume_limit("sign_in:y", limit).await;
        assert!(decision.allowed || decision.retry_in <= LONG, "{decision:?}");
    }
    // What Redis has refused is not counted against the node's own limit.
    let short = Limit { count: 1, per: LONG };
    let other = redis.client().await;
    there(&other).await;
    assert!(other.consume_limit("z", short).await.allowed);
    assert!(!cache.consume_limit("z", short).await.allowed);
    other.give_back("z", short).await;
    assert!(cache.consume_limit("z", short).await.allowed);
}
