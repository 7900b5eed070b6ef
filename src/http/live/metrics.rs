//! Metrics of live feeds.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Metrics of live feeds.
#[derive(Default)]
pub struct LiveMetrics {
    /// The number of open sockets.
    pub sockets: Gauge<i64, AtomicI64>,
    /// The number of subscriptions of all sockets.
    pub subscriptions: Gauge<i64, AtomicI64>,
    /// The number of open streams of single orders.
    pub streams: Gauge<i64, AtomicI64>,
    /// The number of frames queued for sockets.
    pub frames: Counter<u64, AtomicU64>,
    /// The bytes of these frames.
    pub bytes: Counter<u64, AtomicU64>,
    /// The number of snapshots that were sent instead of changes.
    pub resyncs: Counter<u64, AtomicU64>,
    /// How often a socket got nothing in a round because its last frames had not been sent.
    pub skipped: Counter<u64, AtomicU64>,
}

impl LiveMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, to: &mut Registry) {
        to.register("live_sockets", "Live sockets", self.sockets.clone());
        let help = "Subscriptions of live sockets";
        to.register("live_subscriptions", help, self.subscriptions.clone());
        to.register("live_streams", "Open streams of single orders", self.streams.clone());
        to.register("live_frames", "Frames passed to live sockets", self.frames.clone());
        to.register("live_bytes", "Bytes passed to live sockets", self.bytes.clone());
        let help = "Snapshots sent to live subscriptions instead of changes";
        to.register("live_resyncs", help, self.resyncs.clone());
        let help = "Rounds in which a live socket got nothing because it had not yet taken its \
                    last frame";
        to.register("live_skipped", help, self.skipped.clone());
    }
}
