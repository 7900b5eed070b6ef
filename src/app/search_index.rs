//! Fills the index of the texts by which orders are found, in a data folder, beside everything else.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// The number of texts that are indexed at once, while all other writers wait.
const AT_ONCE: u32 = 32;
/// The pause after each time, as a multiple of its duration, so that checkouts hardly notice it.
const REST: u32 = 9;
/// The pause when nothing was left to be indexed.
const IDLE: Duration = Duration::from_secs(1);

/// Fills the index until stopped.
pub(super) async fn fill(store: Store, stop: CancellationToken) {
    if store.is_shared() {
        return;
    }
    loop {
        let began = Instant::now();
        let pause = match store.index_order_texts(AT_ONCE).await {
            Ok(0) => IDLE,
            Ok(_) => began.elapsed() * REST,
            Err(error) => {
                tracing::warn!(%error, "cannot fill the index of the texts of orders; retrying");
                IDLE
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
