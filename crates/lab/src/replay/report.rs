//! The report of a replay, as text for 80 columns and as JSON.
//!
//! Deliberately not here: the checks themselves (`ledger`, `reconcile`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::ledger::{Identity, RefusedSum, Worth};
use super::plan::ReplayPlan;
use super::reconcile::Reconciled;
use super::run::{FaultLog, ReplayState};

/// The most countries in the text.
const COUNTRIES_SHOWN: usize = 12;
/// The most faults of a kind in the text.
const FAULTS_SHOWN: usize = 10;

/// The result of a replay.
#[derive(Debug, Serialize)]
pub struct ReplayReport {
    /// Whether the rows add up, every total agrees, the server's data agree, and nothing failed.
    pub ok: bool,
    /// Rows of the file.
    pub rows: usize,
    /// Invoices of the file.
    pub invoices: usize,
    /// Orders that were placed.
    pub orders: usize,
    /// Cancellations of which something was refunded.
    pub refunds: usize,
    /// Units and pence sold.
    pub sold: Worth,
    /// Units and pence refunded, positive.
    pub given_back: Worth,
    /// The orders and the money of each country, highest revenue first.
    pub countries: Vec<CountryReport>,
    /// Why rows were not booked.
    pub refused: Vec<RefusalCount>,
    /// The duration of the run, in seconds.
    pub wall_secs: f64,
    /// Checkouts per second.
    pub checkouts_per_sec: f64,
    /// Latencies of checkouts.
    pub checkout_latency: Latency,
    /// The comparison of booked and refused rows with the file.
    pub identity: Identity,
    /// The value of all order lines minus that of their booked rows, in pence. It differs from 0
    /// because a line that joins several rows is rounded once, but each row is rounded by itself.
    pub rounding_pence: i64,
    /// Totals of the server that differ from those computed here.
    pub mismatches: FaultLog,
    /// Other faults.
    pub faults: FaultLog,
    /// The comparison with the server.
    pub server: Reconciled,
}

/// The orders and the money of one country.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CountryReport {
    /// Its name in the file.
    pub country: String,
    /// Orders.
    pub orders: usize,
    /// Units sold.
    pub units: i64,
    /// Their value, in pence.
    pub revenue_pence: i64,
    /// Refunds, in pence.
    pub refunds_pence: i64,
}

/// What was refused for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct RefusalCount {
    /// The reason's name.
    pub reason: String,
    /// The rows, units and value that were refused.
    #[serde(flatten)]
    pub sum: RefusedSum,
}

/// Latencies of calls, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// The number of calls.
    pub calls: usize,
    /// The median.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The maximum.
    pub max_ms: f64,
}

impl Latency {
    /// The latencies of these calls.
    #[must_use]
    pub fn of(calls: &mut [Duration]) -> Self {
        calls.sort_unstable();
        let at = |per_mille: usize| {
            let place = (calls.len() * per_mille).div_ceil(1_000).saturating_sub(1);
            calls.get(place).map_or(0.0, |call| call.as_secs_f64() * 1e3)
        };
        Self { calls: calls.len(), p50_ms: at(500), p99_ms: at(990), max_ms: at(1_000) }
    }
}

impl ReplayReport {
    /// The report of a run that took `wall`.
    #[must_use]
    pub fn new(
        rows: usize,
        plan: &ReplayPlan,
        mut state: ReplayState,
        server: Reconciled,
        wall: Duration,
    ) -> Self {
        let identity = state.ledger.identity();
        let checkout_latency = Latency::of(&mut state.latencies);
        let faultless = state.mismatches.count == 0 && state.faults.count == 0;
        let countries = countries(plan, &state);
        let mut given_back = Worth::default();
        state
            .refunds
            .values()
            .for_each(|worth| given_back.add(Worth::new(-worth.units, -worth.pence)));
        let mut sold = Worth::default();
        for placed in state.orders.values() {
            sold.add(Worth::new(placed.sold.iter().sum(), placed.total - placed.delivery));
        }
        let refused = state.ledger.by_reason().into_iter();
        let refused =
            refused.map(|(reason, sum)| RefusalCount { reason: reason.name(), sum }).collect();
        let wall_secs = wall.as_secs_f64();
        // Revenue less refunds, computed from the orders, must equal the value of the booked rows,
        // computed from the rows, plus the rounding difference.
        let agrees = sold.pence - given_back.pence == identity.booked.pence + state.rounding;
        Self {
            ok: identity.holds && agrees && faultless && server.holds(),
            rows,
            invoices: plan.invoices,
            orders: state.orders.len(),
            refunds: state.refunds.len(),
            sold,
            given_back,
            countries,
            refused,
            wall_secs,
            #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
            checkouts_per_sec: checkout_latency.calls as f64 / wall_secs.max(1e-9),
            checkout_latency,
            identity,
            rounding_pence: state.rounding,
            mismatches: state.mismatches,
            faults: state.faults,
            server,
        }
    }

    /// The text, for a terminal of 80 columns.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_sums(&mut out);
        let _ = self.write_countries(&mut out);
        let _ = self.write_refused(&mut out);
        let _ = self.write_checks(&mut out);
        out
    }

    fn write_sums(&self, out: &mut String) -> std::fmt::Result {
        let latency = self.checkout_latency;
        writeln!(out, "rows        {:>12}    invoices  {:>12}", self.rows, self.invoices)?;
        writeln!(out, "orders      {:>12}    refunds   {:>12}", self.orders, self.refunds)?;
        writeln!(
            out,
            "units sold  {:>12}    returned  {:>12}",
            self.sold.units, self.given_back.units
        )?;
        writeln!(
            out,
            "revenue     {:>12}    refunded  {:>12}  GBP",
            pounds(self.sold.pence),
            pounds(self.given_back.pence)
        )?;
        writeln!(
            out,
            "took {:.1} s: {:.0} checkouts/s, each p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms\n",
            self.wall_secs, self.checkouts_per_sec, latency.p50_ms, latency.p99_ms, latency.max_ms
        )
    }

    fn write_countries(&self, out: &mut String) -> std::fmt::Result {
        let mut line = |country: &CountryReport| {
            writeln!(
                out,
                "{:<22}{:>9}{:>12}{:>18}{:>18}",
                country.country,
                country.orders,
                country.units,
                pounds(country.revenue_pence),
                pounds(country.refunds_pence)
            )
        };
        let (shown, rest) = self.countries.split_at(self.countries.len().min(COUNTRIES_SHOWN));
        shown.iter().try_for_each(&mut line)?;
        if !rest.is_empty() {
            let mut others = CountryReport {
                country: format!("{} others", rest.len()),
                ..CountryReport::default()
            };
            for country in rest {
                others.orders += country.orders;
                others.units += country.units;
                others.revenue_pence += country.revenue_pence;
                others.refunds_pence += country.refunds_pence;
            }
            line(&others)?;
        }
        if let Some(start) = out.find("\n\n") {
            let head = format!(
                "{:<22}{:>9}{:>12}{:>18}{:>18}\n",
                "country", "orders", "units", "revenue", "refunds"
            );
            out.insert_str(start + 2, &head);
        }
        writeln!(out)
    }

    fn write_refused(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "{:<31}{:>9}{:>9}{:>12}{:>18}",
            "refused", "rows", "in part", "units", "value"
        )?;
        for refusal in &self.refused {
            writeln!(
                out,
                "{:<31}{:>9}{:>9}{:>12}{:>18}",
                refusal.reason,
                refusal.sum.rows,
                refusal.sum.rows_in_part,
                refusal.sum.worth.units,
                pounds(refusal.sum.worth.pence)
            )?;
        }
        writeln!(out)
    }

    fn write_checks(&self, out: &mut String) -> std::fmt::Result {
        let it = &self.identity;
        writeln!(
            out,
            "rows   {} booked + {} booked in part + {} refused = {} of {}",
            it.rows_booked,
            it.rows_booked_partly,
            it.rows_refused,
            it.rows_booked + it.rows_booked_partly + it.rows_refused,
            it.rows
        )?;
        writeln!(
            out,
            "GBP    {} booked + {} refused = {} of {}",
            pounds(it.booked.pence),
            pounds(it.refused.pence),
            pounds(it.booked.pence + it.refused.pence),
            pounds(it.file.pence)
        )?;
        let server = &self.server;
        let sums = format!(
            "{} orders: captured less refunded {}, booked {}",
            server.orders,
            pounds(server.server_pence),
            pounds(server.booked_pence)
        );
        let stock = format!(
            "{} codes, {} units less {} sold: {} left",
            server.skus, server.opening_units, server.sold_units, server.sellable_units
        );
        writeln!(out, "money  {sums}\nstock  {stock}\n")?;
        for (what, holds) in [
            ("booked + refused = the file", it.holds),
            ("every total was as expected", self.mismatches.count == 0),
            ("nothing failed", self.faults.count == 0),
            ("the server has what was booked", server.holds()),
        ] {
            writeln!(out, "{}  {what}", if holds { "yes" } else { "NO " })?;
        }
        for faults in [&self.mismatches, &self.faults, &server.differences] {
            for text in faults.first.iter().take(FAULTS_SHOWN) {
                writeln!(out, "  {text}")?;
            }
            if faults.count > FAULTS_SHOWN {
                writeln!(out, "  and {} more", faults.count - FAULTS_SHOWN)?;
            }
        }
        Ok(())
    }
}

fn countries(plan: &ReplayPlan, state: &ReplayState) -> Vec<CountryReport> {
    let mut sums: BTreeMap<&str, CountryReport> = BTreeMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let (placed, back) = (state.orders.get(&index), state.refunds.get(&index));
        if placed.is_none() && back.is_none() {
            continue;
        }
        let sum = sums.entry(&step.country).or_default();
        sum.country = step.country.to_string();
        if let Some(placed) = placed {
            sum.orders += 1;
            sum.units += placed.sold.iter().sum::<i64>();
            sum.revenue_pence += placed.total - placed.delivery;
        }
        sum.refunds_pence -= back.map_or(0, |back| back.pence);
    }
    let mut countries: Vec<CountryReport> = sums.into_values().collect();
    countries.sort_by_key(|country| std::cmp::Reverse(country.revenue_pence));
    countries
}

/// Pence as pounds.
fn pounds(pence: i64) -> String {
    let sign = if pence < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", pence.unsigned_abs() / 100, pence.unsigned_abs() % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_calls_that_were_made() {
        let mut calls: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let latency = Latency::of(&mut calls);
        assert_eq!((latency.p50_ms, latency.p99_ms, latency.max_ms), (100.0, 198.0, 200.0));
        assert_eq!(Latency::of(&mut []), Latency::default());
    }

    #[test]
    fn pence_are_shown_as_pounds() {
        for (pence, want) in [(0, "0.00"), (-5, "-0.05"), (123_456, "1234.56")] {
            assert_eq!(pounds(pence), want);
        }
    }
}
