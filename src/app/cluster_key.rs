//! The key with which the nodes of a cluster authenticate each other, kept as the store has it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::actors::engine::clock::Clock;
use crate::bus::cluster_key;
use crate::cache::CacheSeal;
use crate::config::Config;
use crate::domain::cluster_key::ClusterKey;
use crate::store::{self, Store};

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
    let (store, clock) = (store.clone(), clock.clone());
    let read = move || {
        let store = store.clone();
        async move {
            let found = store.cluster_key().await;
            let told = found
                .inspect_err(|error| tracing::debug!(%error, "cannot read the key of the cluster"));
            told.ok()
        }
    };
    let now = Arc::new(move || clock.now());
    tokio::spawn(cluster_key::follow(key.clone(), read, history, (now, stop.clone())));
    Ok(key)
}

/// The seal of what is kept in the cache that nodes share.
pub(super) fn seal(key: &ClusterKey, clock: &Clock) -> CacheSeal {
    let clock = clock.clone();
    CacheSeal::new(key.clone(), Arc::new(move || clock.now()))
}
