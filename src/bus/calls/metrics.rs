//! Metrics of calls between nodes.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the buckets of latencies, in seconds.
const BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    way: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWay {
    way: &'static str,
}

/// Counters and latencies of calls between nodes. Clones share them.
#[derive(Clone)]
pub struct CallMetrics {
    calls: Family<Ended, Counter<u64, AtomicU64>>,
    seconds: Family<OfWay, Histogram, fn() -> Histogram>,
    answers: Family<Ended, Counter<u64, AtomicU64>>,
}

impl Default for CallMetrics {
    fn default() -> Self {
        let seconds: Family<OfWay, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        Self { calls: Family::default(), seconds, answers: Family::default() }
    }
}

impl CallMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, to: &mut Registry) {
        let help = "Calls to other nodes, by way and outcome";
        to.register("node_calls", help, self.calls.clone());
        let help = "Duration of calls to other nodes in seconds, by way";
        to.register("node_call_duration_seconds", help, self.seconds.clone());
        let help = "Calls received from other nodes, by way and outcome";
        to.register("node_calls_answered", help, self.answers.clone());
    }

    pub(super) fn called(&self, way: &'static str, outcome: &'static str, took: Duration) {
        self.calls.get_or_create(&Ended { way, outcome }).inc();
        self.seconds.get_or_create(&OfWay { way }).observe(took.as_secs_f64());
    }

    pub(super) fn answered(&self, way: &'static str, outcome: &'static str) {
        self.answers.get_or_create(&Ended { way, outcome }).inc();
    }
}
