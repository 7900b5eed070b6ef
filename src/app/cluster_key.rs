//! The key with which the nodes of a cluster authenticate each other, kept as the store has it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::actors::engine::clock::Clock;
use crate::cache::CacheSeal;
use crate::config::Config;
use crate::domain::cluster_key::ClusterKey;
use crate::store::{self, Store};

/// How often the generations are read.
const READ_EVERY: Duration = Duration::from_secs(1);

/// The key that a store has, bound to its history; one that nobody needs to know if nothing is shared
/// with others.
///
/// # Errors
/// The store cannot be read.
pub(super) async fn open(
    config: &Config,
    store: &Store,
    clock: &Clock,
    stop: &CancellationToken,
) -> Result<ClusterKey, store::Error> {
    if !store.is_shared() && config.cache.url.is_empty() {
        return Ok(ClusterKey::alone());
    }
    let (key, history) = (ClusterKey::alone(), store.history().await?.to_string());
    key.set(&store.cluster_key().await?, &history, clock.now());
    tokio::spawn(follow(key.clone(), store.clone(), history, (clock.clone(), stop.clone())));
    Ok(key)
}

/// The seal of what is kept in the cache that nodes share.
pub(super) fn seal(key: &ClusterKey, clock: &Clock) -> CacheSeal {
    let clock = clock.clone();
    CacheSeal::new(key.clone(), Arc::new(move || clock.now()))
}

/// Takes over new generations, until stopped. While the store cannot be read, the known ones hold.
async fn follow(
    key: ClusterKey,
    store: Store,
    history: String,
    (clock, stop): (Clock, CancellationToken),
) {
    let mut known = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(READ_EVERY) => {}
        }
        match store.cluster_key().await {
            Ok(found) => known = found,
            Err(error) => tracing::debug!(%error, "cannot read the key of the cluster"),
        }
        key.set(&known, &history, clock.now());
    }
}
