//! Whether a request is let in: when there is more to do than can be done, what matters least is
//! refused first, before anything is done for it.
//!
//! One number says how well the house keeps up: its delay, which is how long a piece of work
//! waits before anybody begins with it. Ten times a second it is measured where work queues: at
//! an HTTP worker's turn, at a reading connection, in the mailboxes of carts and orders, in the
//! lane. So many requests may be under way that it stays below the target, and each class has its
//! share of them; while it does, more and more may, because many only wait for a provider. What
//! deliberately is not here: how many may wait for one entity, which is the host's, which class a
//! route has, which the table of routes says, and whose mailboxes are asked, which the server says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use crate::actors::node::Node;
use crate::domain::limits::within;
use crate::store::Store;

/// How far apart two looks are.
const EVERY: Duration = Duration::from_millis(100);
/// How far apart two looks at an HTTP worker's turn are; the shortest delay of a few counts.
const TURN: Duration = Duration::from_millis(25);
const TURNS: u32 = 4;
/// So many looks in a row must find the delay too long: a burst is no overload.
const LOOKS: u32 = 2;
/// Requests under way that are always let in.
const LIMIT_MIN: usize = 64;
/// Requests that may come at once, out of nothing: what is more than that has to grow.
const LIMIT_REST: usize = 1_000;
/// Requests that may be under way at once of those who have not shown who they are: sign-ins,
/// webhooks until their signature is checked, keys until they are looked up.
const UNIDENTIFIED_MAX: usize = 4_096;
/// Requests of operators and providers that are let in whatever buyers do.
const OPERATE_MIN: usize = 256;
/// Appends that wait for the journal, in commits, that count as the target.
const COMMITS: usize = 4;

/// When requests are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How long work may wait before anybody begins with it, in milliseconds; beyond that requests
    /// are refused.
    #[garde(custom(within(1..=10_000)))]
    pub target_ms: u64,
    /// The most requests under way, however short the delay is.
    #[garde(custom(within(1..=1_000_000)))]
    pub under_way_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { target_ms: 50, under_way_max: 100_000 }
    }
}

/// What a request is for: what is refused first comes first.
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
    /// Looking around.
    Browse,
    /// Filling a cart.
    Cart,
    /// Buying it, and what its buyer asks about the order.
    Checkout,
    /// Operators and providers: who sets things right.
    Operate,
    /// Who watches over the node: never refused.
    Health,
}

impl Class {
    /// The class as metrics name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The requests under way at which this one is refused, given the limit: of all buyers for a
    /// buyer, of operators for an operator. Carts are the valve: whoever has one is to get through
    /// with it.
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

/// Who is let in.
pub struct Admission {
    buyers: AtomicUsize,
    operators: AtomicUsize,
    /// Operators and providers of whom it is not known yet who they are.
    unidentified: AtomicUsize,
    limit: AtomicUsize,
    /// The longest turn of a worker since the last look, in microseconds.
    turn: AtomicU64,
    /// What the last look found, in microseconds.
    delay: AtomicU64,
    /// Whether anybody came since the last look.
    came: AtomicUsize,
}

impl Admission {
    /// Lets all in, up to the most that there may be.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self {
            buyers: AtomicUsize::new(0),
            operators: AtomicUsize::new(0),
            unidentified: AtomicUsize::new(0),
            limit: AtomicUsize::new(options.under_way_max.min(LIMIT_REST)),
            turn: AtomicU64::new(0),
            delay: AtomicU64::new(0),
            came: AtomicUsize::new(0),
        }
    }
}

/// A request that was let in, until this is dropped.
pub struct Admitted<'a>(Option<&'a AtomicUsize>);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if let Some(under_way) = self.0 {
            under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Admission {
    /// Lets a request in, or not.
    pub fn admit(&self, class: Class) -> Option<Admitted<'_>> {
        self.came.store(1, Ordering::Relaxed);
        let under_way = match class {
            Class::Browse | Class::Cart | Class::Checkout => &self.buyers,
            Class::Operate => &self.operators,
            Class::Health => return Some(Admitted(None)),
        };
        Self::enter(under_way, class.most(self.limit.load(Ordering::Relaxed)))
    }

    /// Lets a request in of which it is not known yet whether it is an operator's or a provider's,
    /// or not: many who only say so must not keep those out who are.
    pub fn admit_unidentified(&self) -> Option<Admitted<'_>> {
        Self::enter(&self.unidentified, UNIDENTIFIED_MAX)
    }

    fn enter(under_way: &AtomicUsize, most: usize) -> Option<Admitted<'_>> {
        let before = under_way.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(Some(under_way));
        (before < most).then_some(admitted)
    }

    /// Requests of buyers under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.buyers.load(Ordering::Relaxed)
    }

    /// Requests that may be under way before carts are refused.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// How long work waited before anybody began with it, when it was looked last.
    #[must_use]
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.delay.load(Ordering::Relaxed))
    }
}

/// The next limit. The delay grows with what is under way, so what is under way is made smaller
/// by as much as the delay is too long, and at most by half, since work that was let in before is
/// still to come. While the delay is short it grows a fifth at a time if it is made use of, and
/// else falls back to what may come at once.
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

/// Where work queues beside the HTTP workers.
pub struct Queues {
    /// The lanes of its journal.
    pub node: Arc<Node>,
    /// The connections that read.
    pub store: Store,
    /// How long commands wait in mailboxes, since it was last asked.
    pub mailboxes: fn(&Node) -> Duration,
}

/// Looks at the delay for as long as the server runs, and sets the limit.
pub async fn watch(admission: Arc<Admission>, queues: Queues, options: Options) {
    let target = Duration::from_millis(options.target_ms);
    let mut too_long = 0;
    loop {
        sleep(EVERY).await;
        let asked = admission.came.swap(0, Ordering::Relaxed) > 0 || admission.under_way() > 0;
        let delay =
            if asked { longest_wait(&admission, &queues, target).await } else { Duration::ZERO };
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        admission.delay.store(micros, Ordering::Relaxed);
        too_long = if delay > target { too_long + 1 } else { 0 };
        if too_long == 0 || too_long >= LOOKS {
            let before = admission.limit.load(Ordering::Relaxed);
            let limit = next_limit(before, admission.under_way(), delay, &options);
            admission.limit.store(limit, Ordering::Relaxed);
        }
    }
}

/// Looks at the turns of this thread, which is an HTTP worker's, for as long as it runs.
pub async fn watch_turns(admission: Arc<Admission>) {
    loop {
        let mut shortest = Duration::MAX;
        for _ in 0..TURNS {
            let due = Instant::now() + TURN;
            sleep(TURN).await;
            shortest = shortest.min(due.elapsed());
        }
        let micros = u64::try_from(shortest.as_micros()).unwrap_or(u64::MAX);
        admission.turn.fetch_max(micros, Ordering::Relaxed);
    }
}

/// How long work waits before anybody begins with it.
async fn longest_wait(admission: &Admission, queues: &Queues, target: Duration) -> Duration {
    let turn = Duration::from_micros(admission.turn.swap(0, Ordering::Relaxed));
    let mailboxes = (queues.mailboxes)(&queues.node);
    let reading = reading(&queues.store, target).await;
    turn.max(mailboxes).max(lanes(&queues.node, target)).max(reading)
}

/// How long one waits for a connection that reads rows. What it answers does not matter.
async fn reading(store: &Store, target: Duration) -> Duration {
    let began = Instant::now();
    let _read = timeout(target * 10, store.setting("last_ready_check")).await;
    began.elapsed()
}

/// Appends that wait for the journal, as a share of those that may.
fn lanes(node: &Node, target: Duration) -> Duration {
    let whole = node.lanes.iter().map(|lane| {
        let depth = u32::try_from(lane.depth()).unwrap_or(u32::MAX);
        let most = u32::try_from(lane.batch_appends() * COMMITS).unwrap_or(u32::MAX);
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
    fn what_matters_least_is_refused_first() {
        let admission = Admission::new(&Options::default());
        admission.limit.store(LIMIT_MIN, Ordering::Relaxed);
        let (mut all, mut refused) = (Vec::new(), Vec::new());
        // As many checkouts as are let in: the others fall away one by one.
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
        // A house where ten requests under way add a millisecond of delay.
        let delay = |under_way: usize| Duration::from_micros(under_way as u64 * 100);
        let options = Options::default();
        let (mut limit, mut under_way) = (options.under_way_max, 5_000);
        for _ in 0..20 {
            limit = next_limit(limit, under_way, delay(under_way), &options);
            under_way = limit;
        }
        assert!((400..=600).contains(&under_way), "{under_way}");
        // What waits for others makes no delay, and room is made for it.
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
