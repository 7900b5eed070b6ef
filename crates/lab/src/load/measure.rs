//! What is measured: latencies by step, rates, refusals by code, and requests without an answer.
//!
//! What deliberately is not here: when anything is sent (`pace`), and how it is shown (`report`).
//! A latency counts from when the step was due. Refused and unanswered requests have latencies
//! like the others, so that a slow failure cannot make the figures look better.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use strum::{EnumCount, EnumIter, IntoEnumIterator as _, IntoStaticStr};
use tokio::time::Instant;

/// The longest latency that is told apart, in microseconds: 5 minutes.
const LATENCY_MAX_US: u64 = 300_000_000;
/// Three figures of each latency are kept.
const FIGURES: u8 = 3;
/// The most codes that are told apart; more are `other`.
const CODES_MAX: usize = 100;

/// The step of a flow that a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumCount, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RequestStep {
    /// Makes a cart.
    CreateCart,
    /// Adds lines to it.
    AddLines,
    /// Gives it an address and a way of delivery.
    SetDetails,
    /// Checks it out, and waits for the outcome.
    Checkout,
    /// Reads a page of products.
    ListProducts,
    /// Reads a product.
    ReadProduct,
    /// Reads a cart.
    ReadCart,
    /// Posts a document to be sent back.
    Echo,
    /// All requests of one checkout, from when it was due.
    WholeCheckout,
    /// From when a flow was due to when its first request left.
    StartDelay,
}

impl RequestStep {
    /// Whether it is one request.
    #[must_use]
    pub const fn is_request(self) -> bool {
        !matches!(self, Self::WholeCheckout | Self::StartDelay)
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// As it should.
    Good,
    /// The server refused, with this code.
    Refused(&'a str),
    /// Nobody answered.
    Unanswered(&'static str),
}

/// The measurements of one step.
#[derive(Clone, Debug)]
pub struct StepTally {
    /// How many.
    pub count: u64,
    /// How many of them did not end well.
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

    /// The latency in milliseconds that this share of them, 0 to 1, did not exceed.
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

/// The figures of a run.
#[derive(Debug)]
pub struct Recorder {
    from: Instant,
    until: Option<Instant>,
    last: Instant,
    steps: [StepTally; RequestStep::COUNT],
    second: StepTally,
    /// Requests that have ended, warm-up included.
    pub sent: u64,
    /// Requests answered within the time that is measured.
    pub answered: u64,
    /// Orders confirmed within the time that is measured.
    pub confirmed: u64,
    /// Arrivals that were not let in.
    pub shed: u64,
    /// Refusals by code.
    pub refusals: BTreeMap<String, u64>,
    /// Requests without an answer by what was wrong.
    pub unanswered: BTreeMap<&'static str, u64>,
}

impl Recorder {
    /// A recorder that counts what is due from `from` on, and rates what ends before `until`.
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

    /// Counts how late a flow began.
    pub fn start(&mut self, due: Instant, now: Instant) {
        if due >= self.from {
            self.steps[RequestStep::StartDelay as usize]
                .add(now.saturating_duration_since(due), true);
        }
    }

    /// Counts an arrival that was not let in.
    pub fn shed(&mut self, due: Instant) {
        self.shed += u64::from(due >= self.from);
    }

    /// Whether what is due now counts.
    #[must_use]
    pub fn warm(&self, now: Instant) -> bool {
        now >= self.from
    }

    /// How long was measured: to the planned end if the run came to it, else to the last answer.
    #[must_use]
    pub fn time(&self, to_its_end: bool) -> Duration {
        let end = self.until.filter(|_| to_its_end).unwrap_or(self.last);
        end.saturating_duration_since(self.from)
    }

    /// The figures since the last look, and forgets them: requests, those that failed, the
    /// median and the 99th percentile in milliseconds.
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
    fn the_warm_up_is_not_counted_and_late_answers_are_in_no_rate() {
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
