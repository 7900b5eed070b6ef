//! The final check: compares the server's orders of this run with its answers.
//!
//! The answers are sorted by id once, and every row of the server's list is looked up in them, page
//! by page, so memory holds only about 40 bytes per order. The list is a projection that lags
//! behind the orders: differences are checked again until the timeout. Deliberately not here:
//! whether the server's data are consistent in themselves; `kontor verify` checks that.

use std::fmt;
use std::time::{Duration, Instant};

use kontor_client::Money;
use kontor_client::api::Page;
use kontor_client::{Client, Error};
use serde::{Deserialize, Serialize};

use super::id::OrderId;
use super::progress::ProgressOutput;

/// The most differences that are described.
const NAMED_MAX: usize = 20;
/// Rows of a page.
const PAGE: &str = "200";
/// If the server lists more orders than this without an answer, the check stops.
const UNTOLD_MAX: u64 = 10_000;
/// The polling interval.
const PAUSE: Duration = Duration::from_millis(200);

/// The server's answer about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportedOutcome {
    /// Status 201.
    Confirmed,
    /// Status 202.
    Undecided,
    /// Status 402.
    Declined,
    /// Status 409, with a cancelled order.
    Cancelled,
    /// No answer that says whether there is an order.
    Nothing,
    /// Status 201 or 202, but with another id, total or number of lines than the cart.
    Otherwise,
}

impl ReportedOutcome {
    /// Whether an order with this answer may have this status at the end of the run.
    fn allows(self, status: &str) -> bool {
        let decided = matches!(status, "confirmed" | "cancelled" | "awaiting_payment");
        match self {
            Self::Confirmed => status == "confirmed",
            Self::Undecided | Self::Nothing => decided,
            Self::Declined => matches!(status, "awaiting_payment" | "cancelled"),
            Self::Cancelled => status == "cancelled",
            Self::Otherwise => false,
        }
    }
}

/// A client's knowledge of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAnswer {
    /// Its id.
    pub order: OrderId,
    /// The total, in minor units.
    pub total: i64,
    /// The number of lines.
    pub lines: u32,
    /// The server's answer.
    pub outcome: ReportedOutcome,
}

/// An order as the server lists it.
#[derive(Clone, Debug, Deserialize)]
pub struct ListedOrder {
    /// Its id.
    pub id: OrderId,
    /// The status.
    pub status: String,
    /// The total.
    pub total: Money,
    /// The number of lines.
    pub line_count: u32,
}

/// Differences of one kind: their number, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// The number.
    pub count: u64,
    /// The first of them.
    pub first: Vec<String>,
}

impl Differences {
    fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(what());
        }
    }
}

/// The result of the check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadFindings {
    /// Orders in the server's answers.
    pub told: u64,
    /// Checkouts without an answer, or with an error that does not say whether there is an order.
    pub open_questions: u64,
    /// Orders that the server lists.
    pub listed: u64,
    /// The confirmed ones of these.
    pub confirmed: u64,
    /// Orders in answers that the server does not list.
    pub missing: Differences,
    /// Listed orders without an answer.
    pub unknown: Differences,
    /// Listed orders with another total, number of lines or status.
    pub different: Differences,
}

impl LoadFindings {
    /// Whether the server's orders equal its answers.
    #[must_use]
    pub const fn ok(&self) -> bool {
        self.missing.count == 0 && self.unknown.count == 0 && self.different.count == 0
    }
}

impl fmt::Display for LoadFindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, open_questions, listed, confirmed, missing, unknown, different } = self;
        write!(
            f,
            "{told} orders reported ({open_questions} more checkouts with unknown outcome); the \
             server has {listed}, of which {confirmed} are confirmed"
        )?;
        for (what, found) in [("missing", missing), ("unknown", unknown), ("different", different)]
        {
            if found.count > 0 {
                write!(f, "\n  {} {what}:", found.count)?;
                found.first.iter().try_for_each(|one| write!(f, "\n    {one}"))?;
            }
        }
        Ok(())
    }
}

/// A comparison in progress: answers with rows in any order.
#[derive(Debug)]
pub struct Comparison<'a> {
    answers: &'a [ServerAnswer],
    /// Which of them had a row.
    seen: Vec<bool>,
    found: LoadFindings,
}

impl<'a> Comparison<'a> {
    /// Starts a comparison with these answers, which must be sorted by order.
    #[must_use]
    pub fn new(answers: &'a [ServerAnswer]) -> Self {
        let open =
            answers.iter().filter(|answer| answer.outcome == ReportedOutcome::Nothing).count();
        let found = LoadFindings {
            told: count(answers.len() - open),
            open_questions: count(open),
            ..LoadFindings::default()
        };
        Self { answers, seen: vec![false; answers.len()], found }
    }

    /// Compares a row with its answer. A second row of the same order counts as unknown.
    pub fn row(&mut self, row: &ListedOrder) {
        self.found.listed += 1;
        self.found.confirmed += u64::from(row.status == "confirmed");
        let place = self.answers.binary_search_by_key(&row.id, |answer| answer.order).ok();
        let place = place.filter(|at| !std::mem::replace(&mut self.seen[*at], true));
        let Some(answer) = place.map(|at| &self.answers[at]) else {
            self.found.unknown.add(|| row.id.to_string());
            return;
        };
        let same = row.total.amount == answer.total && row.line_count == answer.lines;
        if !same || !answer.outcome.allows(&row.status) {
            self.found.different.add(|| {
                format!(
                    "{}: reported {:?}, total {}, {} lines; found {}, total {}, {} lines",
                    row.id,
                    answer.outcome,
                    answer.total,
                    answer.lines,
                    row.status,
                    row.total.amount,
                    row.line_count
                )
            });
        }
    }

    /// Ends the comparison.
    #[must_use]
    pub fn finish(mut self) -> LoadFindings {
        for (answer, seen) in self.answers.iter().zip(&self.seen) {
            if !seen && answer.outcome != ReportedOutcome::Nothing {
                self.found
                    .missing
                    .add(|| format!("{}, reported {:?}", answer.order, answer.outcome));
            }
        }
        self.found
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Compares the answers with the server's orders of this reference, repeatedly, until they agree or
/// `patience` is over.
///
/// # Errors
/// [`Error`] of the client.
pub async fn check(
    client: &Client,
    reference: &str,
    answers: &mut [ServerAnswer],
    patience: Duration,
    progress: ProgressOutput,
) -> Result<LoadFindings, Error> {
    answers.sort_unstable_by_key(|answer| answer.order);
    let started = Instant::now();
    loop {
        let found = pass(client, reference, answers, progress).await?;
        if found.ok() || started.elapsed() >= patience {
            return Ok(found);
        }
        progress.say("the server's list differs; checking again");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn pass(
    client: &Client,
    reference: &str,
    answers: &[ServerAnswer],
    progress: ProgressOutput,
) -> Result<LoadFindings, Error> {
    let mut comparison = Comparison::new(answers);
    let mut after: Option<String> = None;
    let mut shown = Instant::now();
    loop {
        let mut call =
            client.get::<Page<ListedOrder>>("/v1/admin/orders").query("reference", reference);
        call = call.query("limit", PAGE);
        if let Some(after) = &after {
            call = call.query("after", after);
        }
        let page = call.send().await?.body;
        page.data.iter().for_each(|row| comparison.row(row));
        after = page.next_cursor;
        if shown.elapsed() >= Duration::from_secs(1) {
            shown = Instant::now();
            progress.say(&format!(
                "checking: {} of {} orders",
                comparison.found.listed,
                answers.len()
            ));
        }
        let untold = comparison.found.unknown.count > UNTOLD_MAX;
        if after.is_none() || untold {
            return Ok(comparison.finish());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: u128) -> OrderId {
        format!("ord_{number:026}").parse().unwrap()
    }

    fn answer(number: u128, outcome: ReportedOutcome) -> ServerAnswer {
        ServerAnswer { order: order(number), total: 100, lines: 2, outcome }
    }

    fn row(number: u128, status: &str) -> ListedOrder {
        let total = Money::minor(100, "GBP");
        ListedOrder { id: order(number), status: status.to_owned(), total, line_count: 2 }
    }

    fn compare(answers: &[ServerAnswer], rows: &[ListedOrder]) -> LoadFindings {
        let mut sorted = answers.to_vec();
        sorted.sort_by_key(|answer| answer.order);
        let answers = &sorted;
        let mut comparison = Comparison::new(answers);
        rows.iter().for_each(|row| comparison.row(row));
        comparison.finish()
    }

    #[test]
    fn equal_orders_have_no_difference() {
        let all = [
            answer(9, ReportedOutcome::Confirmed),
            answer(8, ReportedOutcome::Undecided),
            answer(7, ReportedOutcome::Declined),
            answer(6, ReportedOutcome::Cancelled),
            answer(5, ReportedOutcome::Nothing),
            answer(4, ReportedOutcome::Nothing),
        ];
        let rows = [
            row(7, "awaiting_payment"),
            row(9, "confirmed"),
            row(8, "cancelled"),
            row(6, "cancelled"),
            row(4, "confirmed"),
        ];
        let found = compare(&all, &rows);
        assert!(found.ok(), "{found}");
        assert_eq!((found.told, found.open_questions, found.listed), (4, 2, 5));
        assert!(compare(&[], &[]).ok());
    }

    #[test]
    fn missing_and_unknown_orders_are_reported() {
        let all = [9, 7, 5].map(|number| answer(number, ReportedOutcome::Confirmed));
        for gone in 0..3 {
            let rows: Vec<ListedOrder> = all
                .iter()
                .enumerate()
                .filter(|(place, _)| *place != gone)
                .map(|(_, answer)| ListedOrder { id: answer.order, ..row(0, "confirmed") })
                .collect();
            let found = compare(&all, &rows);
            assert_eq!((found.missing.count, found.unknown.count), (1, 0), "{gone}");
            assert!(found.missing.first[0].starts_with(&all[gone].order.to_string()));
        }
        // The last one occurs twice.
        for number in [10, 8, 6, 4, 7] {
            let rows = [7, number, 9, 5].map(|n| row(n, "confirmed"));
            let found = compare(&all, &rows);
            assert_eq!((found.missing.count, found.unknown.count), (0, 1), "{number}");
            assert_eq!(found.unknown.first, [order(number).to_string()]);
        }
    }

    #[test]
    fn another_total_line_count_or_status_is_a_difference() {
        let bad =
            |outcome, row: ListedOrder| compare(&[answer(1, outcome)], &[row]).different.count;
        let total = Money::minor(101, "GBP");
        assert_eq!(
            bad(ReportedOutcome::Confirmed, ListedOrder { total, ..row(1, "confirmed") }),
            1
        );
        assert_eq!(
            bad(ReportedOutcome::Confirmed, ListedOrder { line_count: 1, ..row(1, "confirmed") }),
            1
        );
        for (outcome, status) in [
            (ReportedOutcome::Confirmed, "cancelled"),
            (ReportedOutcome::Confirmed, "pending"),
            (ReportedOutcome::Undecided, "pending"),
            (ReportedOutcome::Undecided, "stuck"),
            (ReportedOutcome::Declined, "confirmed"),
            (ReportedOutcome::Cancelled, "confirmed"),
            (ReportedOutcome::Otherwise, "confirmed"),
        ] {
            assert_eq!(bad(outcome, row(1, status)), 1, "{outcome:?} {status}");
        }
    }
}
