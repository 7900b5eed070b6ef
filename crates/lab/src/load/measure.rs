//! Measurements: latencies by step, rates, refusals by code, and requests without an answer.
//!
//! Deliberately not here: when requests are sent (`pace`), and the output (`report`). A latency is
//! measured from the time at which the step was due. Refused and unanswered requests have latencies
//! like the others, so slow failures cannot improve the results.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use strum::{EnumCount, EnumIter, IntoEnumIterator as _, IntoStaticStr};
use tokio::time::Instant;

/// The longest latency that is distinguished, in microseconds: 5 minutes.
const LATENCY_MAX_US: u64 = 300_000_000;
/// Significant digits of a latency.
const FIGURES: u8 = 3;
/// The most codes that are counted separately; more are `other`.
const CODES_MAX: usize = 100;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumCount, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RequestStep {
    /// Creates a cart.
    CreateCart,
    /// Adds lines to the cart.
    AddLines,
    /// Sets address and delivery option.
    SetDetails,
    /// Checks the cart out, and waits for the outcome.
    Checkout,
    /// Reads a page of products.
    ListProducts,
    /// Reads a product.
    ReadProduct,
    /// Reads a cart.
    ReadCart,
    /// Posts a document to an echo server.
    Echo,
    /// All requests of one checkout, from the time at which it was due.
    WholeCheckout,
    /// From the time at which a flow was due until its first request was sent.
    StartDelay,
}

impl RequestStep {
    /// Whether the step is a single request.
    #[must_use]
    pub const fn is_request(self) -> bool {
        !matches!(self, Self::WholeCheckout | Self::StartDelay)
    }
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// Success.
    Good,
    /// The server refused, with this code.
    Refused(&'a str),
    /// There was no answer.
    Unanswered(&'static str),
}

/// The measurements of one step.
#[derive(Clone, Debug)]
pub struct StepTally {
    /// The number of requests.
    pub count: u64,
    /// The number of failed ones.
    pub failed: u64,
    latencies: Option<Histogram<u64>>,
}

impl StepTally {
    const fn new() -> Self {
        Self { count: 0, failed: 0, latencies: None }
    }

    fn add(&mut self, latency: Duration, good: bool) {
        self.count += 1;
        self.failed += u64::from(!good);
        if self.latencies.is_none() {
            self.latencies = histogram();
        }
        if let Some(all) = &mut self.latencies {
            all.saturating_record(micros(latency));
        }
    }

    /// The latency percentile for a share from 0 to 1, in milliseconds.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> f64 {
        self.latencies.as_ref().map_or(0.0, |all| millis(all.value_at_quantile(share)))
    }

    /// The longest latency in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> f64 {
        self.latencies.as_ref().map_or(0.0, |all| millis(all.max()))
    }

    fn clear(&mut self) {
        (self.count, self.failed) = (0, 0);
        if let Some(all) = &mut self.latencies {
            all.reset();
        }
    }
}

fn histogram() -> Option<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, FIGURES).ok()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 microseconds")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// The measurements of a run.
#[derive(Debug)]
pub struct Recorder {
    from: Instant,
    until: Option<Instant>,
    last: Instant,
    steps: [StepTally; RequestStep::COUNT],
    second: StepTally,
    /// Completed requests, including the warm-up.
    pub sent: u64,
    /// Requests answered during the measurement.
    pub answered: u64,
    /// Orders confirmed during the measurement.
    pub confirmed: u64,
    /// Shed arrivals.
    pub shed: u64,
    /// Refusals by code.
    pub refusals: BTreeMap<String, u64>,
    /// Requests without an answer by cause.
    pub unanswered: BTreeMap<&'static str, u64>,
}

impl Recorder {
    /// A recorder that counts what is due from `from` on, and computes rates from what ends before
    /// `until`.
    #[must_use]
    pub fn new(from: Instant, until: Option<Instant>) -> Self {
        Self {
            from,
            until,
            last: from,
            steps: [const { StepTally::new() }; RequestStep::COUNT],
            second: StepTally::new(),
            sent: 0,
            answered: 0,
            confirmed: 0,
            shed: 0,
            refusals: BTreeMap::new(),
            unanswered: BTreeMap::new(),
        }
    }

    fn measured(&self, now: Instant) -> bool {
        now >= self.from && self.until.is_none_or(|until| now <= until)
    }

    /// Counts a request that was due at `due` and ended at `now`.
    pub fn request(&mut self, step: RequestStep, due: Instant, now: Instant, end: End<'_>) {
        let latency = now.saturating_duration_since(due);
        let good = matches!(end, End::Good);
        self.second.add(latency, good);
        self.sent += 1;
        if self.measured(now) {
            self.answered += u64::from(!matches!(end, End::Unanswered(_)));
        }
        if due < self.from {
            return;
        }
        self.last = self.last.max(now);
        self.steps[step as usize].add(latency, good);
        match end {
            End::Good => {}
            End::Refused(code) => match self.refusals.get_mut(code) {
                Some(count) => *count += 1,
                None => {
                    let code = if self.refusals.len() < CODES_MAX { code } else { "other" };
                    *self.refusals.entry(code.to_owned()).or_default() += 1;
                }
            },
            End::Unanswered(why) => *self.unanswered.entry(why).or_default() += 1,
        }
    }

    /// Counts a confirmed order.
    pub fn confirmed(&mut self, now: Instant) {
        self.confirmed += u64::from(self.measured(now));
    }

    /// Counts a whole checkout.
    pub fn whole(&mut self, due: Instant, now: Instant, confirmed: bool) {
        if due >= self.from {
            self.steps[RequestStep::WholeCheckout as usize]
                .add(now.saturating_duration_since(due), confirmed);
        }
    }

    /// Counts the start delay of a flow.
    pub fn start(&mut self, due: Instant, now: Instant) {
        if due >= self.from {
            self.steps[RequestStep::StartDelay as usize]
                .add(now.saturating_duration_since(due), true);
        }
    }

    /// Counts a shed arrival.
    pub fn shed(&mut self, due: Instant) {
        self.shed += u64::from(due >= self.from);
    }

    /// Whether the warm-up is over.
    #[must_use]
    pub fn warm(&self, now: Instant) -> bool {
        now >= self.from
    }

    /// The duration of the measurement: to the planned end if the run reached it, else to the last
    /// answer.
    #[must_use]
    pub fn time(&self, to_its_end: bool) -> Duration {
        let end = self.until.filter(|_| to_its_end).unwrap_or(self.last);
        end.saturating_duration_since(self.from)
    }

    /// The measurements since the last call: requests, failed ones, the median and the 99th
    /// percentile in milliseconds.
    pub fn drain(&mut self) -> (u64, u64, f64, f64) {
        let second = &mut self.second;
        let seen = (second.count, second.failed, second.quantile_ms(0.5), second.quantile_ms(0.99));
        second.clear();
        seen
    }

    /// The steps that happened.
    pub fn steps(&self) -> impl Iterator<Item = (RequestStep, &StepTally)> {
        RequestStep::iter()
            .map(|step| (step, &self.steps[step as usize]))
            .filter(|(_, t)| t.count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_and_late_answers_are_not_measured() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut all = Recorder::new(at(100), Some(at(200)));
        all.request(RequestStep::Echo, at(0), at(50), End::Good);
        all.request(RequestStep::Echo, at(90), at(110), End::Refused("warm"));
        all.request(RequestStep::Echo, at(110), at(130), End::Good);
        all.request(RequestStep::Echo, at(190), at(290), End::Refused("late"));
        all.request(RequestStep::Echo, at(150), at(160), End::Unanswered("closed"));
        let (step, tally) = all.steps().next().unwrap();
        assert_eq!((step, tally.count, tally.failed), (RequestStep::Echo, 3, 2));
        assert_eq!(all.answered, 2, "one that began in the warm-up, one that is in time");
        assert_eq!(all.refusals, [("late".to_owned(), 1)].into());
        assert_eq!(all.unanswered, [("closed", 1)].into());
        assert!((99.0..101.0).contains(&tally.max_ms()), "{}", tally.max_ms());
        assert_eq!(all.time(true), Duration::from_millis(100));
        assert_eq!(all.time(false), Duration::from_millis(190));
        assert_eq!(all.drain().0, 5);
        assert_eq!(all.drain().0, 0);
    }
}
