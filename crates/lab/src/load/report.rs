//! The report of a run, as a table or as JSON.
//!
//! Deliberately not here: measuring (`measure`) and checking the server (`check`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::check::LoadFindings;
use super::cost::Cost;
use super::flash::Sale;
use super::measure::{Recorder, RequestStep, StepTally};
use super::overload::OverloadReport;
use super::pace::Ending;

/// The latencies of one step, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// The step.
    pub step: &'static str,
    /// The number of requests.
    pub count: u64,
    /// The number of refused or unanswered ones.
    pub failed: u64,
    /// The median.
    pub p50_ms: f64,
    /// The 90th percentile.
    pub p90_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The 99.9th percentile.
    pub p999_ms: f64,
    /// The maximum.
    pub max_ms: f64,
}

impl StepReport {
    fn new(step: RequestStep, tally: &StepTally) -> Self {
        Self {
            step: step.into(),
            count: tally.count,
            failed: tally.failed,
            p50_ms: tally.quantile_ms(0.5),
            p90_ms: tally.quantile_ms(0.9),
            p99_ms: tally.quantile_ms(0.99),
            p999_ms: tally.quantile_ms(0.999),
            max_ms: tally.max_ms(),
        }
    }
}

/// The generator's own cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generator {
    /// CPU seconds, without set-up and check.
    pub cpu: Cost,
    /// CPU microseconds per request, including the warm-up.
    pub cpu_us_per_request: f64,
    /// CPU seconds per second: 1 is one fully used core.
    pub cores: f64,
}

/// The result of a load test.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// The scenario.
    pub scenario: &'static str,
    /// The pace, in words.
    pub pace: String,
    /// The reference that all carts and orders of this run have.
    pub run: String,
    /// Why it ended.
    pub ended: &'static str,
    /// The duration of the measurement, in seconds.
    pub seconds: f64,
    /// Requests per checkout.
    pub requests_per_checkout: u8,
    /// Answers per second.
    pub requests_per_second: f64,
    /// Confirmed orders per second.
    pub checkouts_per_second: f64,
    /// Successful requests.
    pub good: u64,
    /// Shed arrivals.
    pub shed: u64,
    /// Latencies by step.
    pub steps: Vec<StepReport>,
    /// Refusals by code.
    pub refusals: BTreeMap<String, u64>,
    /// Requests without an answer by cause.
    pub unanswered: BTreeMap<&'static str, u64>,
    /// The generator's own cost.
    pub generator: Generator,
    /// The result of the flash sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sale: Option<Sale>,
    /// The result of the overload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overload: Option<Box<OverloadReport>>,
    /// The result of the check; `None` if it was not made.
    pub check: Option<LoadFindings>,
    /// Whether everything holds.
    pub ok: bool,
}

impl LoadReport {
    /// The report of a recorder.
    #[must_use]
    pub fn new(scenario: &'static str, recorder: &Recorder, ending: Ending) -> Self {
        let time = recorder.time(ending == Ending::Time);
        let requests = recorder.steps().filter(|(step, _)| step.is_request());
        let good = requests.map(|(_, tally)| tally.count - tally.failed).sum();
        Self {
            scenario,
            pace: String::new(),
            run: String::new(),
            ended: ending.into(),
            seconds: time.as_secs_f64(),
            requests_per_checkout: 0,
            requests_per_second: rate(recorder.answered, time),
            checkouts_per_second: rate(recorder.confirmed, time),
            good,
            shed: recorder.shed,
            steps: recorder.steps().map(|(step, tally)| StepReport::new(step, tally)).collect(),
            refusals: recorder.refusals.clone(),
            unanswered: recorder.unanswered.clone(),
            generator: Generator { cpu: Cost::default(), cpu_us_per_request: 0.0, cores: 0.0 },
            sale: None,
            overload: None,
            check: None,
            ok: true,
        }
    }

    /// Adds the generator's cost.
    pub fn cost(&mut self, cpu: Cost, requests: u64, time: Duration) {
        let each = rate(1_000_000, Duration::from_secs(requests.max(1)));
        self.generator = Generator {
            cpu,
            cpu_us_per_request: cpu.seconds() * each,
            cores: cpu.seconds() / time.as_secs_f64().max(1e-9),
        };
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {}, run {}", self.scenario, self.pace, self.run)?;
        writeln!(
            f,
            "{:.1} s measured (ended: {}): {:.1} requests/s, {:.1} checkouts/s, {} shed\n",
            self.seconds,
            self.ended,
            self.requests_per_second,
            self.checkouts_per_second,
            self.shed
        )?;
        writeln!(
            f,
            "{:<16}{:>10}{:>9}{:>10}{:>10}{:>10}{:>10}{:>10}  ms",
            "", "count", "failed", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for step in &self.steps {
            let StepReport { step, count, failed, p50_ms, p90_ms, p99_ms, p999_ms, max_ms } = step;
            writeln!(
                f,
                "{step:<16}{count:>10}{failed:>9}{p50_ms:>10.2}{p90_ms:>10.2}{p99_ms:>10.2}\
                 {p999_ms:>10.2}{max_ms:>10.2}"
            )?;
        }
        let refused = self.refusals.iter().map(|(code, count)| ("refused", code.as_str(), count));
        let lost = self.unanswered.iter().map(|(why, count)| ("no answer", *why, count));
        for (what, why, count) in refused.chain(lost) {
            write!(f, "\n{what}: {why} {count}")?;
        }
        let Generator { cpu, cpu_us_per_request, cores } = &self.generator;
        writeln!(
            f,
            "\ngenerator: {:.2} s user, {:.2} s system, {cpu_us_per_request:.0} us a request, \
             {cores:.2} cores",
            cpu.user, cpu.system
        )?;
        if let Some(sale) = &self.sale {
            let word = if sale.exact() { "exact" } else { "NOT EXACT" };
            writeln!(
                f,
                "sale: {word}: {} units, {} buyers: {} confirmed, {} out of stock, {} otherwise; \
                 last answer after {} ms; sold {}, sellable {}",
                sale.units,
                sale.buyers,
                sale.confirmed,
                sale.refused,
                sale.otherwise,
                sale.last_answer_ms,
                sale.sold,
                sale.sellable
            )?;
        }
        if let Some(overload) = &self.overload {
            write!(f, "{overload}")?;
        }
        match &self.check {
            Some(found) if found.ok() => write!(f, "check: passed: {found}"),
            Some(found) => write!(f, "check: FAILED: {found}"),
            None => write!(f, "check: skipped"),
        }
    }
}
