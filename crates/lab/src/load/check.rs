//! The check at the end: the server's orders of this run are the ones that it told of.
//!
//! What was told is sorted by id once, and every row of the server's list looked up in it page by
//! page, so that nothing but 33 bytes an order is held. The list is a read model that follows the
//! orders: what differs is looked at again until patience is over. What deliberately is not here:
//! whether the server's books are right in themselves; `kontor verify` says that.

use std::fmt;
use std::time::{Duration, Instant};

use kontor_client::Money;
use kontor_client::api::Page;
use kontor_client::{Client, Error};
use serde::{Deserialize, Serialize};

use super::id::OrderId;
use super::progress::ProgressOutput;

/// How many differences are named.
const NAMED_MAX: usize = 20;
/// Rows of a page.
const PAGE: &str = "200";
/// How many more orders than were told of are read before the check gives up.
const UNTOLD_MAX: u64 = 10_000;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// What the server said about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// 201.
    Confirmed,
    /// 202.
    Undecided,
    /// 402.
    Declined,
    /// 409, and there is a cancelled order.
    Cancelled,
    /// Nothing that says whether there is one.
    Nothing,
    /// 201 or 202 with another id, total or number of lines than the cart has.
    Otherwise,
}

impl Said {
    /// Whether an order may stand at this status; for one that was not decided, in the end.
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

/// What the server has told a client about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAnswer {
    /// Its id.
    pub order: OrderId,
    /// In minor units.
    pub total: i64,
    /// How many lines it has.
    pub lines: u32,
    /// What the server said.
    pub said: Said,
}

/// An order as the server lists it.
#[derive(Clone, Debug, Deserialize)]
pub struct ListedOrder {
    /// Its id.
    pub id: OrderId,
    /// Where it stands.
    pub status: String,
    /// What it comes to.
    pub total: Money,
    /// How many lines it has.
    pub line_count: u32,
}

/// Differences of one kind: how many, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// How many.
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

/// What the check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadFindings {
    /// Orders that the server told of.
    pub told: u64,
    /// Checkouts that were not answered, or only with an error that leaves it open.
    pub open_questions: u64,
    /// Orders that the server lists.
    pub listed: u64,
    /// Of these confirmed.
    pub confirmed: u64,
    /// Told of, and not there.
    pub missing: Differences,
    /// There, and never told of.
    pub unknown: Differences,
    /// There with another total, number of lines or status.
    pub different: Differences,
}

impl LoadFindings {
    /// Whether the server has exactly what it told of.
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

/// A comparison under way: what was told against rows in any order.
#[derive(Debug)]
pub struct Comparison<'a> {
    told: &'a [ServerAnswer],
    /// Which of them had their row.
    seen: Vec<bool>,
    found: LoadFindings,
}

impl<'a> Comparison<'a> {
    /// `told` must be sorted by order.
    #[must_use]
    pub fn new(told: &'a [ServerAnswer]) -> Self {
        let open = told.iter().filter(|told| told.said == Said::Nothing).count();
        let found = LoadFindings {
            told: count(told.len() - open),
            open_questions: count(open),
            ..LoadFindings::default()
        };
        Self { told, seen: vec![false; told.len()], found }
    }

    /// Takes a row; one that comes again is unknown.
    pub fn row(&mut self, row: &ListedOrder) {
        self.found.listed += 1;
        self.found.confirmed += u64::from(row.status == "confirmed");
        let place = self.told.binary_search_by_key(&row.id, |told| told.order).ok();
        let place = place.filter(|at| !std::mem::replace(&mut self.seen[*at], true));
        let Some(told) = place.map(|at| &self.told[at]) else {
            self.found.unknown.add(|| row.id.to_string());
            return;
        };
        let total = row.total.as_minor();
        let same = total == Some(told.total) && row.line_count == told.lines;
        if !same || !told.said.allows(&row.status) {
            self.found.different.add(|| {
                format!(
                    "{}: reported {:?}, total {}, {} lines; found {}, total {}, {} lines",
                    row.id,
                    told.said,
                    told.total,
                    told.lines,
                    row.status,
                    row.total.amount,
                    row.line_count
                )
            });
        }
    }

    /// There are no more rows.
    #[must_use]
    pub fn finish(mut self) -> LoadFindings {
        for (told, seen) in self.told.iter().zip(&self.seen) {
            if !seen && told.said != Said::Nothing {
                self.found.missing.add(|| format!("{}, reported {:?}", told.order, told.said));
            }
        }
        self.found
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Compares what was told with the server's orders of this reference, again and again until they
/// agree or `patience` is over.
///
/// # Errors
/// [`Error`] of the client.
pub async fn check(
    client: &Client,
    reference: &str,
    told: &mut [ServerAnswer],
    patience: Duration,
    progress: ProgressOutput,
) -> Result<LoadFindings, Error> {
    told.sort_unstable_by_key(|told| told.order);
    let started = Instant::now();
    loop {
        let found = pass(client, reference, told, progress).await?;
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
    told: &[ServerAnswer],
    progress: ProgressOutput,
) -> Result<LoadFindings, Error> {
    let mut comparison = Comparison::new(told);
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
                told.len()
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

    fn told(number: u128, said: Said) -> ServerAnswer {
        ServerAnswer { order: order(number), total: 100, lines: 2, said }
    }

    fn row(number: u128, status: &str) -> ListedOrder {
        let total = Money::minor(100, "GBP");
        ListedOrder { id: order(number), status: status.to_owned(), total, line_count: 2 }
    }

    fn compare(told: &[ServerAnswer], rows: &[ListedOrder]) -> LoadFindings {
        let mut sorted = told.to_vec();
        sorted.sort_by_key(|told| told.order);
        let told = &sorted;
        let mut comparison = Comparison::new(told);
        rows.iter().for_each(|row| comparison.row(row));
        comparison.finish()
    }

    #[test]
    fn what_agrees_is_fine() {
        let all = [
            told(9, Said::Confirmed),
            told(8, Said::Undecided),
            told(7, Said::Declined),
            told(6, Said::Cancelled),
            told(5, Said::Nothing),
            told(4, Said::Nothing),
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
    fn missing_and_unknown_orders_are_named_wherever_they_are() {
        let all = [9, 7, 5].map(|number| told(number, Said::Confirmed));
        for gone in 0..3 {
            let rows: Vec<ListedOrder> = all
                .iter()
                .enumerate()
                .filter(|(place, _)| *place != gone)
                .map(|(_, told)| ListedOrder { id: told.order, ..row(0, "confirmed") })
                .collect();
            let found = compare(&all, &rows);
            assert_eq!((found.missing.count, found.unknown.count), (1, 0), "{gone}");
            assert!(found.missing.first[0].starts_with(&all[gone].order.to_string()));
        }
        // The last one comes twice.
        for number in [10, 8, 6, 4, 7] {
            let rows = [7, number, 9, 5].map(|n| row(n, "confirmed"));
            let found = compare(&all, &rows);
            assert_eq!((found.missing.count, found.unknown.count), (0, 1), "{number}");
            assert_eq!(found.unknown.first, [order(number).to_string()]);
        }
    }

    #[test]
    fn another_total_line_count_or_status_is_a_difference() {
        let bad = |said, row: ListedOrder| compare(&[told(1, said)], &[row]).different.count;
        let total = Money::minor(101, "GBP");
        assert_eq!(bad(Said::Confirmed, ListedOrder { total, ..row(1, "confirmed") }), 1);
        assert_eq!(bad(Said::Confirmed, ListedOrder { line_count: 1, ..row(1, "confirmed") }), 1);
        for (said, status) in [
            (Said::Confirmed, "cancelled"),
            (Said::Confirmed, "pending"),
            (Said::Undecided, "pending"),
            (Said::Undecided, "stuck"),
            (Said::Declined, "confirmed"),
            (Said::Cancelled, "confirmed"),
            (Said::Otherwise, "confirmed"),
        ] {
            assert_eq!(bad(said, row(1, status)), 1, "{said:?} {status}");
        }
    }
}
