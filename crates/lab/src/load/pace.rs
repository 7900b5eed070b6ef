//! The start of flows: as many at a time as there are workers (closed loop), or by the clock (open
//! loop).
//!
//! In the open loop an arrival is due by the schedule, however slow the answers are, and its
//! latency is measured from then, so there is no coordinated omission. Deliberately not here: the
//! flows themselves. All tasks run on one thread, so nothing here is shared between threads.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Like buyers who know nothing of each other (a Poisson process)
    #[default]
    Poisson,
    /// At equal intervals
    Even,
}

/// The conditions under which no further flow is started.
#[derive(Clone, Debug)]
pub struct FlowLimits {
    /// At this time.
    pub until: Option<Instant>,
    /// After this many flows.
    pub count: Option<u64>,
    /// When this becomes true, or is dropped.
    pub stop: watch::Receiver<bool>,
}

impl FlowLimits {
    fn over(&self, begun: u64, now: Instant) -> Option<Ending> {
        if self.count.is_some_and(|count| begun >= count) {
            return Some(Ending::Count);
        }
        if self.until.is_some_and(|until| now >= until) {
            return Some(Ending::Time);
        }
        (*self.stop.borrow() || self.stop.has_changed().is_err()).then_some(Ending::Stopped)
    }
}

/// Why no further flow was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Ending {
    /// The time is over.
    Time,
    /// All flows have been started.
    Count,
    /// Ctrl-C was pressed.
    Stopped,
}

/// Runs flows in a closed loop: each worker runs one flow after the other. Returns when the last
/// flow has ended.
pub async fn closed<W, F>(
    workers: Vec<W>,
    limits: &FlowLimits,
    flow: impl Fn(W, Instant) -> F + Clone + 'static,
) -> Ending
where
    W: 'static,
    F: Future<Output = W> + 'static,
{
    let begun = Rc::new(Cell::new(0_u64));
    let ending = Rc::new(Cell::new(Ending::Time));
    let mut all = JoinSet::new();
    for mut worker in workers {
        let (begun, ending, limits, flow) =
            (begun.clone(), ending.clone(), limits.clone(), flow.clone());
        all.spawn_local(async move {
            loop {
                let now = Instant::now();
                if let Some(why) = limits.over(begun.get(), now) {
                    ending.set(why);
                    return;
                }
                begun.set(begun.get() + 1);
                worker = flow(worker, now).await;
            }
        });
    }
    while let Some(ended) = all.join_next().await {
        passed_on(ended);
    }
    ending.get()
}

/// The schedule of the open loop.
#[derive(Clone, Copy, Debug)]
pub struct ArrivalSchedule {
    /// The time from which arrivals are scheduled; the first is due one interval later.
    pub from: Instant,
    /// Arrivals per second.
    pub rate: f64,
    /// Their distribution.
    pub arrivals: Arrivals,
    /// The most flows in progress; further arrivals are shed.
    pub in_flight_max: usize,
    /// The seed of the distribution.
    pub seed: u64,
}

/// Runs flows in an open loop: starts each when it is due. Returns when the last flow has ended.
pub async fn open<W, F>(
    schedule: ArrivalSchedule,
    limits: &FlowLimits,
    mut worker: impl FnMut() -> W,
    flow: impl Fn(W, Instant) -> F,
    mut shed: impl FnMut(Instant),
) -> Ending
where
    W: 'static,
    F: Future<Output = W> + 'static,
{
    let mut random = SmallRng::seed_from_u64(schedule.seed);
    let mut limits = limits.clone();
    let (mut idle, mut all) = (Vec::new(), JoinSet::new());
    let (mut begun, mut offset) = (0, 0.0);
    let ending = loop {
        offset += gap(&schedule, &mut random);
        let due = schedule.from + Duration::from_secs_f64(offset);
        if let Some(why) = limits.over(begun, due) {
            break why;
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(due) => {}
            _ = limits.stop.wait_for(|stop| *stop) => break Ending::Stopped,
        }
        while let Some(ended) = all.try_join_next() {
            idle.extend(passed_on(ended));
        }
        begun += 1;
        if all.len() >= schedule.in_flight_max {
            shed(due);
        } else {
            let worker = idle.pop().unwrap_or_else(&mut worker);
            all.spawn_local(flow(worker, due));
        }
    };
    while let Some(ended) = all.join_next().await {
        passed_on(ended);
    }
    ending
}

/// The seconds between two arrivals.
fn gap(schedule: &ArrivalSchedule, random: &mut SmallRng) -> f64 {
    match schedule.arrivals {
        Arrivals::Even => 1.0 / schedule.rate,
        Arrivals::Poisson => {
            let luck: f64 = random.random_range(0.0..1.0);
            -(1.0 - luck).ln() / schedule.rate
        }
    }
}

/// The result of a task; its panic is propagated.
fn passed_on<T>(ended: Result<T, tokio::task::JoinError>) -> Option<T> {
    match ended {
        Ok(left) => Some(left),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::task::LocalSet;

    use super::*;

    fn limits(until: Option<Instant>, count: Option<u64>) -> (watch::Sender<bool>, FlowLimits) {
        let (told, stop) = watch::channel(false);
        (told, FlowLimits { until, count, stop })
    }

    /// The latencies in milliseconds, from the due times, of flows that take `took` ms each.
    async fn run_open(arrivals: Arrivals, in_flight_max: usize, took: u64) -> (Vec<u64>, u64) {
        let from = Instant::now();
        let (_told, limits) = limits(Some(from + Duration::from_millis(1_005)), None);
        let latencies = Rc::new(RefCell::new(Vec::new()));
        let schedule = ArrivalSchedule { from, rate: 100.0, arrivals, in_flight_max, seed: 7 };
        let mut shed = 0;
        let of_flow = latencies.clone();
        let flow = move |(), due: Instant| {
            let latencies = of_flow.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(took)).await;
                let millis = u64::try_from(due.elapsed().as_millis()).unwrap();
                latencies.borrow_mut().push(millis);
            }
        };
        let run = open(schedule, &limits, || (), flow, |_| shed += 1);
        assert_eq!(LocalSet::new().run_until(run).await, Ending::Time);
        (latencies.take(), shed)
    }

    #[tokio::test(start_paused = true)]
    async fn slow_answers_delay_no_arrival() {
        let (latencies, shed) = run_open(Arrivals::Even, 1_000, 3_000).await;
        assert_eq!((latencies.len(), shed), (100, 0));
        assert!(latencies.iter().all(|ms| (3_000..=3_002).contains(ms)), "{latencies:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn arrivals_beyond_the_limit_are_shed() {
        let (latencies, shed) = run_open(Arrivals::Even, 10, 3_000).await;
        assert_eq!((latencies.len(), shed), (10, 90));
    }

    #[tokio::test(start_paused = true)]
    async fn poisson_arrivals_have_the_rate_and_are_uneven() {
        let (latencies, shed) = run_open(Arrivals::Poisson, 1_000, 0).await;
        assert!((70..130).contains(&latencies.len()), "{}", latencies.len());
        assert_eq!(shed, 0);
        let schedule = |arrivals| ArrivalSchedule {
            from: Instant::now(),
            rate: 10.0,
            arrivals,
            in_flight_max: 1,
            seed: 1,
        };
        let mut random = SmallRng::seed_from_u64(1);
        let gaps: Vec<f64> =
            (0..2_000).map(|_| gap(&schedule(Arrivals::Poisson), &mut random)).collect();
        let mean = gaps.iter().sum::<f64>() / 2_000.0;
        assert!((0.09..0.11).contains(&mean), "{mean}");
        let short = gaps.iter().filter(|gap| **gap < 0.05).count();
        assert!((700..870).contains(&short), "39 of 100 gaps are below half of the mean: {short}");
    }

    /// A thread that was blocked for half a second: the latencies show it.
    #[tokio::test(start_paused = true)]
    async fn latency_is_measured_from_the_scheduled_arrival() {
        let from = Instant::now();
        let (_told, limits) = limits(None, Some(20));
        let worst = Rc::new(Cell::new(Duration::ZERO));
        let schedule = ArrivalSchedule {
            from,
            rate: 100.0,
            arrivals: Arrivals::Even,
            in_flight_max: 99,
            seed: 1,
        };
        let (first, of_flow) = (Cell::new(true), worst.clone());
        let flow = move |(), due: Instant| {
            let (worst, first) = (of_flow.clone(), first.replace(false));
            async move {
                if first {
                    tokio::time::advance(Duration::from_millis(500)).await;
                }
                worst.set(worst.get().max(due.elapsed()));
            }
        };
        let run = open(schedule, &limits, || (), flow, |_| panic!("nothing is shed"));
        assert_eq!(LocalSet::new().run_until(run).await, Ending::Count);
        assert!(worst.get() >= Duration::from_millis(490), "{:?}", worst.get());
        assert!(from.elapsed() < Duration::from_millis(600), "the late ones did not wait again");
    }

    #[tokio::test(start_paused = true)]
    async fn workers_go_on_until_the_count_is_full() {
        let (told, limits) = limits(None, Some(25));
        let done = Rc::new(Cell::new(0));
        let of_flow = done.clone();
        let flow = move |(), _| {
            let done = of_flow.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                done.set(done.get() + 1);
            }
        };
        let all = LocalSet::new();
        let ending = all.run_until(closed(vec![(); 4], &limits, flow.clone())).await;
        assert_eq!((ending, done.get()), (Ending::Count, 25));
        told.send_replace(true);
        let ending = all.run_until(closed(vec![(); 4], &limits, flow)).await;
        assert_eq!((ending, done.get()), (Ending::Stopped, 25));
    }
}
