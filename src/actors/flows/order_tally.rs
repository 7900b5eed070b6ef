//! Counts of order events that the journal has committed, since the start.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of order events.
#[derive(Debug, Default)]
pub struct OrderTally {
    /// Orders placed.
    pub placed: AtomicU64,
    /// Orders confirmed.
    pub confirmed: AtomicU64,
    /// Orders cancelled.
    pub cancelled: AtomicU64,
    /// Payments that the provider declined.
    pub declined: AtomicU64,
}

impl OrderTally {
    /// Counts an event of an order by its kind.
    pub(super) fn count(&self, kind: &str) {
        let counter = match kind {
            "placed" => &self.placed,
            "confirmed" => &self.confirmed,
            "cancelled" => &self.cancelled,
            "payment_declined" => &self.declined,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
