//! Keeps the key with which the nodes of a cluster authenticate each other as the store has it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Now;
use crate::domain::cluster_key::{ClusterKey, KeyGeneration};

/// How often the generations are read.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Takes over new generations of the key, until stopped. `read` returns those of the store, whose
/// history this is, or `None` while it cannot be read: then the known ones hold.
pub async fn follow<R>(
    key: ClusterKey,
    read: impl Fn() -> R + Send,
    history: String,
    (now, stop): (Now, CancellationToken),
) where
    R: Future<Output = Option<Vec<KeyGeneration>>> + Send,
{
    let mut known = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(READ_EVERY) => {}
        }
        if let Some(found) = read().await {
            known = found;
        }
        key.set(&known, &history, now());
    }
}
