//! Reads the master key again, continues erasures that are open, because an order must keep its data for
//! now or a node was stopped, and destroys the keys of payment tokens that no attempt to pay needs any more, also in SQLite's log.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::actors::node::Node;
use crate::store::Store;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(600);

/// The pause while a long read needs the write-ahead log, which has destroyed keys.
const LOG_PAUSE: Duration = Duration::from_secs(30);

/// Continues erasures until stopped.
pub(super) async fn go_on(node: Arc<Node>, store: Store, stop: CancellationToken) {
    loop {
        if let Err(error) = Box::pin(node.flows.erasure.go_on_with_all()).await {
            tracing::warn!(%error, "an erasure cannot be continued; retrying");
        }
        store.people().read_master_again();
        if let Err(error) = store.destroy_old_token_keys(node.clock.now()).await {
            tracing::warn!(%error, "the keys of old payment tokens cannot be destroyed; retrying");
        }
        let pause = match store.empty_log_of_destroyed().await {
            Ok(true) => PAUSE,
            Ok(false) => LOG_PAUSE,
            Err(error) => {
                tracing::warn!(%error, "destroyed keys are still in the write-ahead log; retrying");
                LOG_PAUSE
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
