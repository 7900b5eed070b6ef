//! How long a shard may be served without asking the store: until its lease, as far as this
//! node has heard, cannot have ended yet. Who prolongs it is not known here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::seeded_fault::{self, SeededFault};

/// The time that a node has for a shard. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct ShardLease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    since: Instant,
    /// Milliseconds after `since`.
    until: AtomicU64,
}

impl ShardLease {
    /// One that does not end: nobody else can have the shard.
    #[must_use]
    pub fn for_good() -> Self {
        Self(Arc::new(Inner { since: Instant::now(), until: AtomicU64::new(u64::MAX) }))
    }

    /// One that ends then, unless it is prolonged.
    #[must_use]
    pub fn until(at: Instant) -> Self {
        let lease = Self::for_good();
        lease.extend(at);
        lease
    }

    /// Lets it end then.
    pub fn extend(&self, at: Instant) {
        let after = at.saturating_duration_since(self.0.since).as_millis();
        self.0.until.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Ends it now.
    pub fn end(&self) {
        self.0.until.store(0, Ordering::Release);
    }

    /// Whether it goes on.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let until = self.0.until.load(Ordering::Acquire);
        if until == u64::MAX || seeded_fault::active(SeededFault::ZombieReplies) {
            return true;
        }
        u128::from(until) > self.0.since.elapsed().as_millis()
    }
}
