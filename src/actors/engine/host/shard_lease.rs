//! The lease of a shard as this node measures it: the node may serve the shard, without asking the
//! store, until the earliest time at which the lease can have ended. Renewal is in `cluster`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::seeded_fault::{self, SeededFault};

/// The time during which a node may serve a shard. Clones share the same time.
#[derive(Clone, Debug)]
pub struct ShardLease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    since: Instant,
    /// Milliseconds after `since`.
    until: AtomicU64,
}

impl ShardLease {
    /// A lease without end, for a store that only one node can use.
    #[must_use]
    pub fn for_good() -> Self {
        Self(Arc::new(Inner { since: Instant::now(), until: AtomicU64::new(u64::MAX) }))
    }

    /// A lease that ends at `at`, unless it is extended.
    #[must_use]
    pub fn until(at: Instant) -> Self {
        let lease = Self::for_good();
        lease.extend(at);
        lease
    }

    /// Sets the time of its end.
    pub fn extend(&self, at: Instant) {
        let after = at.saturating_duration_since(self.0.since).as_millis();
        self.0.until.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Ends it now.
    pub fn end(&self) {
        self.0.until.store(0, Ordering::Release);
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let until = self.0.until.load(Ordering::Acquire);
        if until == u64::MAX || seeded_fault::active(SeededFault::LeaseIgnored) {
            return true;
        }
        u128::from(until) > self.0.since.elapsed().as_millis()
    }
}
