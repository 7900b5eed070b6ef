//! What crosses nodes: one suite for each part, on the twin in process and on NATS.

mod calls;
mod forged;
mod hostile_nats;
pub mod nats;
mod notices;
mod queue;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use kontor::actors::engine::clock::Clock;
use kontor::bus::Now;

/// How long a condition may take to come true before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub fn now() -> Now {
    Arc::new(|| Clock::system().now())
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}
