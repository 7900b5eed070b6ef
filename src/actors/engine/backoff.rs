//! Retry delays: each is twice as long as the one before, with jitter, up to a maximum.

use std::time::Duration;

use backon::BackoffBuilder as _;

use super::clock::Clock;

/// The usual first delay.
pub(in crate::actors) const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(10);

/// An endless series of growing delays.
pub(in crate::actors) struct Backoff {
    pauses: backon::ExponentialBackoff,
}

impl Backoff {
    /// Delays that start at about `shortest`; their jitter is drawn from the clock.
    pub(in crate::actors) fn new(shortest: Duration, clock: &Clock) -> Self {
        let pauses = backon::ExponentialBuilder::default()
            .with_min_delay(shortest)
            .with_max_delay(LONGEST)
            .with_jitter()
            .with_jitter_seed(clock.jitter())
            .without_max_times()
            .build();
        Self { pauses }
    }

    /// Waits until the next attempt.
    pub(in crate::actors) async fn pause(&mut self) {
        tokio::time::sleep(self.pauses.next().unwrap_or(LONGEST)).await;
    }
}
