//! Overload: the peak rate of a closed loop, then a multiple of it in an open loop, then half of
//! it.
//!
//! Measured are the remaining goodput, refusals, the answers to operators, the recovery time, and
//! memory. Deliberately not here: flows (`buyer`) and their start (`pace`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use serde::Serialize;
use tokio::time::Instant;

use super::buyer::LoadRun;
use super::report::LoadReport;
use super::wire::HttpLink;

/// Period of the samples of the server.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The share of the offered rate after the overload that counts as recovered.
const WELL: f64 = 0.8;

/// A sample of the server.
#[derive(Clone, Debug, Default)]
struct ServerSample {
    at: Duration,
    confirmed: u64,
    resident: u64,
}

/// Samples the server during the test: lists orders and reads the metrics, as operators do.
pub struct ServerWatch {
    samples: RefCell<Vec<ServerSample>>,
    operators: RefCell<(u64, u64)>,
    health: RefCell<(u64, u64)>,
}

impl ServerWatch {
    /// Creates a watch without samples.
    #[must_use]
    pub fn new() -> Rc<Self> {
        let none = || RefCell::new((0, 0));
        Rc::new(Self { samples: RefCell::default(), operators: none(), health: none() })
    }

    /// Takes samples until the returned future is dropped.
    pub async fn keep_looking(self: Rc<Self>, run: Rc<LoadRun>, key: String) {
        let mut link = HttpLink::new(run.place.clone());
        let begin = Instant::now();
        let mut every = tokio::time::interval(LOOK_EVERY);
        let bearer = HeaderValue::try_from(format!("Bearer {key}")).ok();
        loop {
            every.tick().await;
            let told = ask(&mut link, "/v1/admin/orders?limit=1", bearer.as_ref()).await;
            count(&self.operators, told);
            let told = ask(&mut link, "/metrics", None).await;
            count(&self.health, told);
            let resident = figure(link.body(), "kontor_resident_bytes ").unwrap_or(0);
            let confirmed = run.recorder.borrow().confirmed;
            self.samples.borrow_mut().push(ServerSample {
                at: begin.elapsed(),
                confirmed,
                resident,
            });
        }
    }

    /// Discards the samples, and returns the most memory in them.
    fn begin_again(&self) -> u64 {
        let samples = self.samples.take();
        samples.iter().map(|sample| sample.resident).max().unwrap_or(0)
    }
}

async fn ask(link: &mut HttpLink, path: &str, bearer: Option<&HeaderValue>) -> bool {
    let place = link.place();
    let mut request =
        Request::builder().uri(format!("{}{path}", place.path)).header(HOST, place.host());
    if let Some(bearer) = bearer {
        request = request.header(AUTHORIZATION, bearer);
    }
    let Ok(request) = request.body(Full::new(Bytes::new())) else { return false };
    matches!(link.send(request).await, Ok(200))
}

fn count(tally: &RefCell<(u64, u64)>, good: bool) {
    let mut tally = tally.borrow_mut();
    tally.0 += 1;
    tally.1 += u64::from(!good);
}

/// Finds the value of a metric in the text of `/metrics`.
pub fn figure(metrics: &[u8], name: &str) -> Option<u64> {
    let text = std::str::from_utf8(metrics).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

/// The most memory of the server, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PeakMemory {
    /// At the peak rate.
    pub peak: u64,
    /// During the overload.
    pub flood: u64,
    /// After it.
    pub after: u64,
}

/// The result of an overload test.
#[derive(Clone, Debug, Serialize)]
pub struct OverloadReport {
    /// Confirmed checkouts per second in the closed loop.
    pub peak_per_second: f64,
    /// Flows per second that were started in the overload.
    pub offered_per_second: f64,
    /// Confirmed checkouts per second in the overload.
    pub flood_per_second: f64,
    /// `flood_per_second` divided by `peak_per_second`.
    pub goodput: f64,
    /// The share of each class that was refused in the overload.
    pub refused: BTreeMap<&'static str, f64>,
    /// Whether less important classes were refused before more important ones.
    pub in_order: bool,
    /// Requests of an operator during the overload, and the failed ones.
    pub operators: (u64, u64),
    /// Requests for metrics during the overload, and the failed ones.
    pub health: (u64, u64),
    /// The recovery time after the overload, in seconds; `None` if it did not recover.
    pub recovered_after: Option<f64>,
    /// Memory of the server.
    pub memory: PeakMemory,
    /// The report of the peak rate.
    pub peak: LoadReport,
    /// The report of the time after the overload.
    pub after: LoadReport,
}

/// The phases of an overload test.
pub struct Phases {
    /// The closed loop.
    pub peak: LoadReport,
    /// The overload.
    pub flood: LoadReport,
    /// The time after it.
    pub after: LoadReport,
    /// Flows per second that were started in the overload, and after it.
    pub rates: (f64, f64),
    /// The share of flows that are checkouts.
    pub checkouts: f64,
    /// The most memory until the end of the overload.
    pub memory: (u64, u64),
    /// How long the last flows of the overload took after its end.
    pub tail: Duration,
}

impl ServerWatch {
    /// Ends a phase; returns the most memory in it.
    #[must_use]
    pub fn phase(&self) -> u64 {
        self.begin_again()
    }

    /// The result.
    #[must_use]
    pub fn overload(&self, phases: Phases) -> OverloadReport {
        let Phases { peak, flood, after, rates, checkouts, memory, tail } = phases;
        let recovered_after = recovered(&self.samples.borrow(), rates.1 * checkouts * WELL)
            .map(|secs| secs + tail.as_secs_f64());
        let mut refused = refused(&flood);
        let operators = *self.operators.borrow();
        refused.insert("operate", share(operators.1, operators.0));
        let of = |class: &str| refused.get(class).copied().unwrap_or(0.0);
        let in_order = [("browse", "cart"), ("cart", "checkout"), ("checkout", "operate")]
            .iter()
            .all(|(first, then)| !refused.contains_key(first) || of(first) >= of(then));
        OverloadReport {
            peak_per_second: peak.checkouts_per_second,
            offered_per_second: rates.0,
            flood_per_second: flood.checkouts_per_second,
            goodput: flood.checkouts_per_second / peak.checkouts_per_second.max(1e-9),
            refused,
            in_order,
            operators,
            health: *self.health.borrow(),
            recovered_after,
            memory: PeakMemory { peak: memory.0, flood: memory.1, after: self.begin_again() },
            peak,
            after,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / (whole as f64).max(1.0)
}

/// The share of failed requests, by class.
fn refused(flood: &LoadReport) -> BTreeMap<&'static str, f64> {
    let mut sums: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
    for step in &flood.steps {
        let class = match step.step {
            "list_products" | "read_product" => "browse",
            "create_cart" | "add_lines" | "set_details" | "read_cart" => "cart",
            "checkout" => "checkout",
            _ => continue,
        };
        let sum = sums.entry(class).or_default();
        *sum = (sum.0 + step.count, sum.1 + step.failed);
    }
    sums.into_iter().map(|(class, (count, failed))| (class, share(failed, count))).collect()
}

/// The first time at which at least `wanted` checkouts were confirmed within a second.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn recovered(samples: &[ServerSample], wanted: f64) -> Option<f64> {
    samples.iter().enumerate().find_map(|(place, sample)| {
        let then =
            samples[place..].iter().find(|then| then.at >= sample.at + Duration::from_secs(1))?;
        let confirmed = then.confirmed.checked_sub(sample.confirmed)? as f64;
        let well = confirmed / (then.at - sample.at).as_secs_f64() >= wanted;
        well.then_some((sample.at - samples[0].at).as_secs_f64())
    })
}

impl OverloadReport {
    /// Whether the criteria hold that do not depend on the speed of the machine.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.in_order && self.operators.1 == 0 && self.health.1 == 0 && self.after.good > 0
    }
}

impl fmt::Display for OverloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "overload: peak {:.1} checkouts/s; {:.0} flows/s offered, {:.1} checkouts/s: {:.2} of the peak",
            self.peak_per_second, self.offered_per_second, self.flood_per_second, self.goodput
        )?;
        write!(f, "refused:")?;
        for (class, share) in &self.refused {
            write!(f, " {class} {:.1} %", share * 100.0)?;
        }
        writeln!(f, "; priorities {}", if self.in_order { "respected" } else { "NOT RESPECTED" })?;
        let (operators, health) = (self.operators, self.health);
        writeln!(
            f,
            "meanwhile: operator: {} requests, {} failed; metrics: {} requests, {} failed",
            operators.0, operators.1, health.0, health.1
        )?;
        match self.recovered_after {
            Some(secs) => write!(f, "recovered {secs:.1} s after the flood; ")?,
            None => write!(f, "NOT RECOVERED after the flood; ")?,
        }
        let mib = |bytes: u64| bytes >> 20;
        let PeakMemory { peak, flood, after } = self.memory;
        writeln!(
            f,
            "server memory: {} MiB at the peak, {} in the flood, {} after it",
            mib(peak),
            mib(flood),
            mib(after)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_is_the_first_second_at_the_offered_rate() {
        let sample = |(quarters, confirmed): (u64, u64)| ServerSample {
            at: LOOK_EVERY * u32::try_from(quarters).unwrap(),
            confirmed,
            resident: 0,
        };
        let samples: Vec<ServerSample> = [0, 0, 10, 20, 45, 70, 95, 120, 145]
            .iter()
            .zip(0..)
            .map(|(c, q)| sample((q, *c)))
            .collect();
        assert_eq!(recovered(&samples, 100.0), Some(0.75));
        assert_eq!(recovered(&samples, 1_000.0), None);
        assert_eq!(figure(b"a 1\nkontor_resident_bytes 42\n", "kontor_resident_bytes "), Some(42));
    }
}
