//! Statistics of this server, sampled once a second as long as it runs; the last 300 samples are
//! kept.
//!
//! Most numbers are differences of counters that other modules keep; only the durations of requests
//! are counted here. `/metrics` has the numbers for monitoring systems.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Live;
use crate::actors::node::Node;
use crate::http::operator::metrics::rss_bytes;

/// The number of samples kept.
pub const KEPT: usize = 300;
/// The sampling period.
pub const EVERY: Duration = Duration::from_secs(1);
/// The operation whose durations are also shown separately.
const CHECKOUT: &str = "check_out";

/// Durations within one second, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct Took {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The maximum.
    pub max: f64,
    /// The number of measurements.
    pub count: u64,
}

/// Entities in memory.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct Awake {
    /// Carts.
    pub carts: usize,
    /// Orders.
    pub orders: usize,
    /// Stock items.
    pub stock: usize,
}

/// The statistics of one second.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Sample {
    /// The number of the sample, from 1; not sent to clients.
    #[serde(skip)]
    pub number: u64,
    /// The end of the second.
    pub at: String,
    /// Orders placed in this second.
    pub orders_placed: u64,
    /// Orders confirmed in this second.
    pub orders_confirmed: u64,
    /// Orders cancelled in this second.
    pub orders_cancelled: u64,
    /// Payments declined in this second.
    pub payments_declined: u64,
    /// Events written in this second.
    pub events: u64,
    /// Transactions of the journal in this second.
    pub commits: u64,
    /// Requests answered in this second.
    pub requests: u64,
    /// Requests answered in this second with a status of 500 or more.
    pub errors_5xx: u64,
    /// Durations of checkouts, including the wait for the outcome.
    pub checkout_ms: Took,
    /// Durations of all requests.
    pub request_ms: Took,
    /// Appends that are queued or in flight, at the end of the second.
    pub lane_queued: usize,
    /// The number of events by which projected rows are behind the journal.
    pub projection_lag: i64,
    /// Entities in memory.
    pub awake: Awake,
    /// Open live sockets.
    pub sockets: usize,
    /// The resident memory of the process, in bytes; 0 if the system does not tell.
    pub rss_bytes: u64,
}

/// The number of buckets, from 16 µs to 4.5 minutes; each bound is 2^(1/4) times the previous one.
const STEPS: usize = 96;
const LAST_STEP: f64 = 95.0;

/// A histogram of durations.
#[derive(Debug)]
struct Window {
    steps: [AtomicU64; STEPS],
    longest_micros: AtomicU64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            steps: std::array::from_fn(|_| AtomicU64::new(0)),
            longest_micros: AtomicU64::new(0),
        }
    }
}

/// The upper bound of a bucket, in milliseconds.
fn bound_ms(step: usize) -> f64 {
    let power = f64::from(u32::try_from(step + 1).unwrap_or(u32::MAX)) / 4.0;
    0.016 * power.exp2()
}

impl Window {
    fn take(&self, took: Duration) {
        let ms = took.as_secs_f64() * 1_000.0;
        let step = (ms / 0.016).log2().mul_add(4.0, -1.0).ceil().clamp(0.0, LAST_STEP);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was clamped to the steps"
        )]
        let step = step as usize;
        if let Some(counter) = self.steps.get(step) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.longest_micros.fetch_max(micros, Ordering::Relaxed);
    }

    /// Returns the durations since the last call, and resets the histogram.
    fn cut(&self) -> Took {
        let counts: Vec<u64> =
            self.steps.iter().map(|step| step.swap(0, Ordering::Relaxed)).collect();
        let longest = Duration::from_micros(self.longest_micros.swap(0, Ordering::Relaxed));
        let (count, max) = (counts.iter().sum::<u64>(), longest.as_secs_f64() * 1_000.0);
        let share = |percent: u64| {
            let rank = (count * percent).div_ceil(100).max(1);
            let mut below: u64 = 0;
            let step = counts.iter().position(|step| {
                below += step;
                below >= rank
            });
            let ms = step.map_or(0.0, |step| bound_ms(step).min(max));
            (ms * 1_000.0).round() / 1_000.0
        };
        Took { p50: share(50), p90: share(90), p99: share(99), max, count }
    }
}

/// Counters of requests since the last sample.
#[derive(Debug, Default)]
pub struct RequestCounts {
    requests: Window,
    checkouts: Window,
    errors: AtomicU64,
}

impl RequestCounts {
    /// Counts an answered request.
    pub fn request(&self, operation: &str, status: StatusCode, took: Duration) {
        self.requests.take(took);
        // What is refused at once, while checkout is off or the server is overloaded, is no duration
        // of a checkout.
        if operation == CHECKOUT && status != StatusCode::SERVICE_UNAVAILABLE {
            self.checkouts.take(took);
        }
        if status.is_server_error() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The samples of this server.
#[derive(Debug, Default)]
pub struct Samples(Mutex<VecDeque<Arc<Sample>>>);

impl Samples {
    /// The samples after a number, newest last.
    #[must_use]
    pub fn after(&self, number: u64) -> Vec<Arc<Sample>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|sample| sample.number > number).cloned().collect()
    }

    fn keep(&self, sample: Sample) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::new(sample));
    }
}

/// The values of monotonic counters at the time of a sample.
#[derive(Clone, Copy, Default)]
struct Totals {
    placed: u64,
    confirmed: u64,
    cancelled: u64,
    declined: u64,
    events: u64,
    commits: u64,
}

impl Totals {
    fn of(node: &Node) -> Self {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let lanes = || node.lanes.iter().map(crate::store::journal::lane::Lane::counters);
        Self {
            placed: count(&node.tally.placed),
            confirmed: count(&node.tally.confirmed),
            cancelled: count(&node.tally.cancelled),
            declined: count(&node.tally.declined),
            events: lanes().map(|counters| counters.records).sum(),
            commits: lanes().map(|counters| counters.commits).sum(),
        }
    }
}

/// Takes samples until the server stops.
pub async fn sample(live: Arc<Live>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = Totals::of(&live.node);
    for number in 1.. {
        tokio::select! {
            () = live.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = Totals::of(&live.node);
        let mut last = 0;
        for shard in live.node.owned.all() {
            last += live.node.store.journal().last_pos(shard).await.unwrap_or(0);
        }
        live.samples.keep(one(&live, number, (before, now), last));
        before = now;
    }
}

fn one(live: &Live, number: u64, (before, now): (Totals, Totals), last_pos: i64) -> Sample {
    let node = &live.node;
    let request_ms = live.counts.requests.cut();
    Sample {
        number,
        at: node.clock.now().to_string(),
        orders_placed: now.placed - before.placed,
        orders_confirmed: now.confirmed - before.confirmed,
        orders_cancelled: now.cancelled - before.cancelled,
        payments_declined: now.declined - before.declined,
        events: now.events - before.events,
        commits: now.commits - before.commits,
        checkout_ms: live.counts.checkouts.cut(),
        requests: request_ms.count,
        request_ms,
        errors_5xx: live.counts.errors.swap(0, Ordering::Relaxed),
        lane_queued: node.lanes.iter().map(crate::store::journal::lane::Lane::depth).sum(),
        projection_lag: (last_pos - node.projected()).max(0),
        awake: Awake {
            carts: node.carts.gauge().awake,
            orders: node.orders.gauge().awake,
            stock: node.stock.gauge().awake,
        },
        sockets: live.sockets.taken(),
        rss_bytes: rss_bytes(),
    }
}
