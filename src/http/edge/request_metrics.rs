//! Metrics of requests.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use actix_web::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::load_shedding::Class;

/// Upper bounds of the latencies, in seconds.
const BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    operation: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

type Latency = Family<Operation, Histogram, fn() -> Histogram>;

/// Counts a request as in progress until it is dropped.
pub struct UnderWay(Gauge<i64, AtomicI64>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Metrics of requests.
pub struct RequestMetrics {
    requests: Family<Request, Counter<u64, AtomicU64>>,
    latency: Latency,
    under_way: Gauge<i64, AtomicI64>,
    refusals: Family<OfClass, Counter<u64, AtomicU64>>,
    limited: Family<OfClass, Counter<u64, AtomicU64>>,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            under_way: Gauge::default(),
            refusals: Family::default(),
            limited: Family::default(),
        }
    }
}

impl RequestMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, to: &mut Registry) {
        to.register("http_requests", "Requests by operation and status", self.requests.clone());
        let help = "Seconds until the answer, by operation";
        to.register("http_request_duration_seconds", help, self.latency.clone());
        to.register("http_requests_under_way", "Requests in progress", self.under_way.clone());
        let help = "Requests refused by load shedding, by class";
        to.register("http_refused", help, self.refusals.clone());
        let help = "Requests refused by a rate limit, by class";
        to.register("http_rate_limited", help, self.limited.clone());
    }

    /// Counts a request as in progress until the guard is dropped.
    pub fn begin(&self) -> UnderWay {
        self.under_way.inc();
        UnderWay(self.under_way.clone())
    }

    /// Counts an answered request.
    pub fn end(&self, operation: &'static str, status: StatusCode, took: Duration) {
        self.requests.get_or_create(&Request { operation, status: status.as_u16() }).inc();
        self.latency.get_or_create(&Operation { operation }).observe(took.as_secs_f64());
    }

    /// Counts a request that load shedding has refused.
    pub fn refuse(&self, class: Class) {
        self.refusals.get_or_create(&OfClass { class: class.as_str() }).inc();
    }

    /// Counts a request that was refused by a rate limit.
    pub fn limit(&self, class: Class) {
        self.limited.get_or_create(&OfClass { class: class.as_str() }).inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn a_request_is_counted_once_and_is_over() {
        let metrics = RequestMetrics::default();
        let mut registry = Registry::with_prefix("kontor");
        metrics.register(&mut registry);
        metrics.begin();
        metrics.end("get_cart", StatusCode::OK, Duration::from_millis(3));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let line = "kontor_http_requests_total{operation=\"get_cart\",status=\"200\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("kontor_http_requests_under_way 0"), "{text}");
    }
}
