//! How long to wait before the next try: twice as long each time, with jitter, up to a bound.

use std::time::Duration;

use backon::BackoffBuilder as _;

use super::clock::Clock;

/// The first pause where nothing else is said.
pub(in crate::actors) const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(10);

/// A row of growing pauses that never ends.
pub(in crate::actors) struct Backoff {
    pauses: backon::ExponentialBackoff,
}

impl Backoff {
    /// Pauses that begin with about `shortest`; their jitter is drawn from the clock.
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

    /// Waits for the next try.
    pub(in crate::actors) async fn pause(&mut self) {
        tokio::time::sleep(self.pauses.next().unwrap_or(LONGEST)).await;
    }
}
