//! Load shedding: under overload, the least important requests are refused first, before any work
//! is done for them.
//!
//! The measure of load is the delay: how long work waits before it is started. The delay is
//! measured ten times a second wherever work queues: in the event loops of the HTTP workers, for
//! the store's read connections, in the mailboxes of carts and orders, and in the lanes. A limit on
//! the requests in progress is adapted so that the delay stays below a target. Each class of
//! requests is refused from its own multiple of the limit on. While the delay is short, the limit
//! grows, because many requests only wait for a payment provider. Defined elsewhere: the limit per
//! entity (in its host), the class of a route (in the list of routes), and the mailboxes that are
//! measured (in `server`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use crate::actors::node::Node;
use crate::domain::limits::within;
use crate::store::Store;

/// The period of the measurements, and of the changes of the limit.
const EVERY: Duration = Duration::from_millis(100);
/// How long each measurement of an HTTP worker's event loop sleeps. Of [`LOOP_SAMPLES`]
/// measurements, the shortest delay counts.
const LOOP_SAMPLE: Duration = Duration::from_millis(25);
const LOOP_SAMPLES: u32 = 4;
/// The number of consecutive delays above the target that lower the limit: a single one may be a
/// burst.
const DELAYS_MAX: u32 = 2;
/// The lowest value of the limit, unless `under_way_max` is lower.
const LIMIT_MIN: usize = 64;
/// The limit of an idle server: the size of a burst that is admitted. A higher limit has to grow,
/// and shrinks back to this one.
const LIMIT_REST: usize = 1_000;
/// The maximum number of requests of class `Operate` in progress whose caller is not known:
/// sign-ins, webhooks (whose signature the handler verifies), and requests whose API key is being
/// looked up.
const UNIDENTIFIED_MAX: usize = 4_096;
/// The number of operators' requests in progress below which another one is always admitted.
const OPERATE_MIN: usize = 256;
/// The number of full batches of appends, queued in a lane, that count as a delay equal to the
/// target.
const BATCHES_AT_TARGET: usize = 4;

/// Options of load shedding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The target of the delay, in milliseconds. While the delay is longer, the limit of requests
    /// in progress falls.
    #[garde(custom(within(1..=10_000)))]
    pub target_ms: u64,
    /// The highest value of the limit of requests in progress, however short the delay is.
    #[garde(custom(within(1..=1_000_000)))]
    pub under_way_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { target_ms: 50, under_way_max: 100_000 }
    }
}

/// The class of a request; the first variant is shed first.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Class {
    /// Browsing.
    Browse,
    /// Changes of a cart.
    Cart,
    /// Checkouts, and buyers' reads of their orders.
    Checkout,
    /// Requests of operators and of payment providers.
    Operate,
    /// Monitoring: never refused.
    Health,
}

impl Class {
    /// The class's name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The number of requests in progress from which on this class is refused, given the limit. For
    /// the buyers' classes (`Browse`, `Cart`, `Checkout`) the requests of all buyers count, for
    /// `Operate` those of operators. Checkouts are shed last, so that a buyer with a cart can check
    /// out.
    const fn most(self, limit: usize) -> usize {
        match self {
            Self::Browse => limit / 2,
            Self::Cart => limit,
            Self::Checkout => limit * 4,
            Self::Operate if limit < OPERATE_MIN => OPERATE_MIN,
            Self::Operate => limit,
            Self::Health => usize::MAX,
        }
    }
}

/// Admits requests, or refuses them.
pub struct Admission {
    buyers: AtomicUsize,
    operators: AtomicUsize,
    /// Requests of class `Operate` in progress whose caller is not known.
    unidentified: AtomicUsize,
    limit: AtomicUsize,
    /// The longest delay of a worker's event loop since the last measurement, in microseconds.
    loop_delay: AtomicU64,
    /// The last measured delay, in microseconds.
    delay: AtomicU64,
    /// 1 if a request has arrived since the last measurement, or else 0.
    has_requests: AtomicUsize,
}

impl Admission {
    /// Starts with the limit of an idle server.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self {
            buyers: AtomicUsize::new(0),
            operators: AtomicUsize::new(0),
            unidentified: AtomicUsize::new(0),
            limit: AtomicUsize::new(options.under_way_max.min(LIMIT_REST)),
            loop_delay: AtomicU64::new(0),
            delay: AtomicU64::new(0),
            has_requests: AtomicUsize::new(0),
        }
    }
}

/// Counts an admitted request as in progress until it is dropped.
pub struct Admitted<'a>(Option<&'a AtomicUsize>);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if let Some(under_way) = self.0 {
            under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Admission {
    /// Admits a request, or refuses it with `None`.
    pub fn admit(&self, class: Class) -> Option<Admitted<'_>> {
        self.has_requests.store(1, Ordering::Relaxed);
        let under_way = match class {
            Class::Browse | Class::Cart | Class::Checkout => &self.buyers,
            Class::Operate => &self.operators,
            Class::Health => return Some(Admitted(None)),
        };
        Self::enter(under_way, class.most(self.limit.load(Ordering::Relaxed)))
    }

    /// Admits a request of class `Operate` whose caller is not known yet, or refuses it with
    /// `None`. These requests have a limit of their own: many requests with false credentials must
    /// not use up the limit of operators.
    pub fn admit_unidentified(&self) -> Option<Admitted<'_>> {
        Self::enter(&self.unidentified, UNIDENTIFIED_MAX)
    }

    fn enter(under_way: &AtomicUsize, most: usize) -> Option<Admitted<'_>> {
        let before = under_way.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(Some(under_way));
        (before < most).then_some(admitted)
    }

    /// The number of buyers' requests in progress.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.buyers.load(Ordering::Relaxed)
    }

    /// The current limit: the number of buyers' requests in progress from which on changes of carts
    /// are refused.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// The last measured delay.
    #[must_use]
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.delay.load(Ordering::Relaxed))
    }
}

/// The next limit. If the delay is longer than the target, the new limit is the number of requests
/// in progress, divided by the factor by which the delay exceeds the target; but at least half of
/// that number, because the delay still contains the wait of requests that were admitted before. If
/// the delay is short, the limit grows by a fifth while at least half of it is used, and otherwise
/// falls by a tenth, down to [`LIMIT_REST`].
fn next_limit(limit: usize, under_way: usize, delay: Duration, options: &Options) -> usize {
    let target = Duration::from_millis(options.target_ms);
    if delay <= target {
        let more = if under_way * 2 >= limit { limit + limit / 5 + 1 } else { limit - limit / 10 };
        let rest = LIMIT_REST.min(limit + limit / 5 + 1);
        return more.max(rest).min(options.under_way_max);
    }
    let (delay, target) = (delay.as_micros().max(1), target.as_micros());
    let now = limit.min(under_way);
    let share = usize::try_from(now as u128 * target / delay).unwrap_or(now);
    share.max(now / 2).max(LIMIT_MIN.min(options.under_way_max))
}

/// The queues that are measured, other than the event loops of the HTTP workers.
pub struct Queues {
    /// The node, for the lanes of its journal.
    pub node: Arc<Node>,
    /// The store, for its read connections.
    pub store: Store,
    /// Returns the mean wait of commands in mailboxes since the last call.
    pub mailboxes: fn(&Node) -> Duration,
}

/// Measures the delay and adapts the limit, as long as the server runs.
pub async fn watch(admission: Arc<Admission>, queues: Queues, options: Options) {
    let target = Duration::from_millis(options.target_ms);
    let mut too_long = 0;
    loop {
        sleep(EVERY).await;
        let asked =
            admission.has_requests.swap(0, Ordering::Relaxed) > 0 || admission.under_way() > 0;
        let delay =
            if asked { longest_wait(&admission, &queues, target).await } else { Duration::ZERO };
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        admission.delay.store(micros, Ordering::Relaxed);
        too_long = if delay > target { too_long + 1 } else { 0 };
        if too_long == 0 || too_long >= DELAYS_MAX {
            let before = admission.limit.load(Ordering::Relaxed);
            let limit = next_limit(before, admission.under_way(), delay, &options);
            admission.limit.store(limit, Ordering::Relaxed);
        }
    }
}

/// Measures the delay of the event loop of this thread, an HTTP worker, as long as it runs: how
/// much longer than asked a sleep lasts.
pub async fn watch_event_loop(admission: Arc<Admission>) {
    loop {
        let mut shortest = Duration::MAX;
        for _ in 0..LOOP_SAMPLES {
            let due = Instant::now() + LOOP_SAMPLE;
            sleep(LOOP_SAMPLE).await;
            shortest = shortest.min(due.elapsed());
        }
        let micros = u64::try_from(shortest.as_micros()).unwrap_or(u64::MAX);
        admission.loop_delay.fetch_max(micros, Ordering::Relaxed);
    }
}

/// The delay: the longest wait in any of the queues.
async fn longest_wait(admission: &Admission, queues: &Queues, target: Duration) -> Duration {
    let loop_delay = Duration::from_micros(admission.loop_delay.swap(0, Ordering::Relaxed));
    let mailboxes = (queues.mailboxes)(&queues.node);
    let reading = reading(&queues.store, target).await;
    loop_delay.max(mailboxes).max(lanes(&queues.node, target)).max(reading)
}

/// The time of a short query: mostly the wait for a read connection. The result of the query does
/// not matter.
async fn reading(store: &Store, target: Duration) -> Duration {
    let began = Instant::now();
    let _read = timeout(target * 10, store.setting("last_ready_check")).await;
    began.elapsed()
}

/// The delay that the fullest lane counts as: the target if [`BATCHES_AT_TARGET`] full batches of
/// appends are queued, and in proportion otherwise.
fn lanes(node: &Node, target: Duration) -> Duration {
    let whole = node.lanes.iter().map(|lane| {
        let depth = u32::try_from(lane.depth()).unwrap_or(u32::MAX);
        let most = u32::try_from(lane.batch_appends() * BATCHES_AT_TARGET).unwrap_or(u32::MAX);
        f64::from(depth) / f64::from(most.max(1))
    });
    target.mul_f64(whole.fold(0.0, f64::max).min(1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unidentified_requests_keep_no_operator_out() {
        let admission = Admission::new(&Options::default());
        let unidentified: Vec<_> = std::iter::from_fn(|| admission.admit_unidentified()).collect();
        assert_eq!(unidentified.len(), UNIDENTIFIED_MAX);
        let health: Vec<_> =
            (0..2 * UNIDENTIFIED_MAX).map(|_| admission.admit(Class::Health)).collect();
        assert!(health.iter().all(Option::is_some));
        assert!(admission.admit(Class::Operate).is_some());
        drop(unidentified);
        assert!(admission.admit_unidentified().is_some());
    }

    #[test]
    fn least_important_requests_are_shed_first() {
        let admission = Admission::new(&Options::default());
        admission.limit.store(LIMIT_MIN, Ordering::Relaxed);
        let (mut all, mut refused) = (Vec::new(), Vec::new());
        // As many checkouts as are admitted; they end one by one.
        while let Some(admitted) = admission.admit(Class::Checkout) {
            all.push(admitted);
            for class in [Class::Checkout, Class::Cart, Class::Browse] {
                if !refused.contains(&class) && admission.admit(class).is_none() {
                    refused.push(class);
                }
            }
        }
        assert_eq!(refused, [Class::Browse, Class::Cart, Class::Checkout]);
        for class in [Class::Operate, Class::Health] {
            assert!(admission.admit(class).is_some(), "{class:?}: whatever buyers do");
        }
        let operators: Vec<_> =
            std::iter::from_fn(|| admission.admit(Class::Operate)).take(10_000).collect();
        assert_eq!(operators.len(), OPERATE_MIN);
        assert!(admission.admit(Class::Health).is_some());
        drop((all, operators));
        assert_eq!(admission.under_way(), 0, "those refused are not counted");
        assert!(admission.admit(Class::Browse).is_some());
    }

    #[test]
    fn the_limit_follows_the_delay() {
        // A server where ten requests in progress add a millisecond of delay.
        let delay = |under_way: usize| Duration::from_micros(under_way as u64 * 100);
        let options = Options::default();
        let (mut limit, mut under_way) = (options.under_way_max, 5_000);
        for _ in 0..20 {
            limit = next_limit(limit, under_way, delay(under_way), &options);
            under_way = limit;
        }
        assert!((400..=600).contains(&under_way), "{under_way}");
        // Requests that only wait for others add no delay, so the limit grows.
        for _ in 0..40 {
            limit = next_limit(limit, limit, Duration::ZERO, &options);
        }
        assert_eq!(limit, options.under_way_max);
        for _ in 0..100 {
            limit = next_limit(limit, 0, Duration::ZERO, &options);
        }
        assert_eq!(limit, LIMIT_REST, "nobody is there");
        let long = Duration::from_secs(9);
        assert_eq!(next_limit(limit, 0, long, &options), LIMIT_MIN, "some always are let in");
    }
}
