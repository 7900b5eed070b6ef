//! Turns the rows of the file into steps: orders to place, refunds to make, rows to refuse, with
//! reasons.
//!
//! Deliberately not here: the matching of refunds to sales (`book`), which depends on what was
//! really sold; and sending (`run`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kontor_client::UnitPrice;
use serde::Serialize;

use super::ledger::RowLedger;
use crate::online_retail::{NotGoods, RetailRow, not_goods};

/// Why a row, or a part of it, is not booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum SkipReason {
    /// Its code is not a product.
    NotGoods(NotGoods),
    /// A row of a product: because of its content, or of the outcome of its order or refund.
    Row(RowReason),
}

/// Why a product's row is not booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowReason {
    /// A negative quantity on an ordinary invoice: damaged, lost or miscounted.
    WriteOff,
    /// A price of 0.
    NoPrice,
    /// A negative price.
    NegativePrice,
    /// A quantity of 0.
    NoQuantity,
    /// A positive quantity on a cancellation.
    SaleOnCancellation,
    /// A cancellation without a customer, so that no sale can be found for it.
    UnmatchedRefundNoCustomer,
    /// A cancellation of more units than the customer has bought before.
    UnmatchedRefund,
    /// The part of a refund beyond the value of the sale.
    RefundExceedsSale,
    /// More than the stock.
    OutOfStock,
    /// The server refused, or its answer was wrong: see the faults.
    Fault,
}

impl SkipReason {
    /// Its name in the report.
    #[must_use]
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            _ => format!("{self:?}"),
        }
    }
}

/// A line of an order: it joins all rows of the invoice with the same code and price.
#[derive(Clone, Debug)]
pub struct PlannedLine {
    /// The stock code.
    pub code: Arc<str>,
    /// The unit price.
    pub price: UnitPrice,
    /// Units wanted.
    pub quantity: i64,
    /// The rows, by their index, with their units.
    pub rows: Vec<(usize, i64)>,
}

/// An order to place.
#[derive(Clone, Debug)]
pub struct PlannedOrder {
    /// The lines.
    pub lines: Vec<PlannedLine>,
}

/// A row of a cancellation.
#[derive(Clone, Debug)]
pub struct RefundRow {
    /// Its index.
    pub row: usize,
    /// The stock code.
    pub code: Arc<str>,
    /// The unit price.
    pub price: UnitPrice,
    /// Returned units, positive.
    pub quantity: i64,
}

/// A refund to make: a cancellation in the file.
#[derive(Clone, Debug)]
pub struct PlannedRefund {
    /// The returned rows.
    pub rows: Vec<RefundRow>,
    /// The steps that must be done before this refund can be matched to sales.
    pub after: Vec<usize>,
}

/// The work for an invoice.
#[derive(Clone, Debug)]
pub enum InvoiceWork {
    /// Place an order.
    Order(PlannedOrder),
    /// Make a refund.
    Refund(PlannedRefund),
}

/// An invoice of which at least one row is to be booked.
#[derive(Clone, Debug)]
pub struct InvoiceStep {
    /// Its number.
    pub invoice: Arc<str>,
    /// The customer, if known.
    pub customer: Option<Arc<str>>,
    /// The country's name in the file.
    pub country: Arc<str>,
    /// The work.
    pub work: InvoiceWork,
}

/// The plan for the whole file.
#[derive(Debug)]
pub struct ReplayPlan {
    /// The steps, in the order of the file.
    pub steps: Vec<InvoiceStep>,
    /// The number of invoices, including those without a step.
    pub invoices: usize,
}

/// Keeps the rows of the first `limit` invoices, in the order in which invoices begin.
pub fn keep_invoices(rows: &mut Vec<RetailRow>, limit: usize) {
    let mut kept: HashSet<Arc<str>> = HashSet::new();
    rows.retain(|row| {
        kept.contains(&row.invoice) || (kept.len() < limit && kept.insert(Arc::clone(&row.invoice)))
    });
}

/// The rows of each invoice by their index, in the order in which the invoices begin.
#[must_use]
pub fn invoices(rows: &[RetailRow]) -> Vec<Vec<usize>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut invoices: Vec<Vec<usize>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let place = *places.entry(&row.invoice).or_insert(invoices.len());
        if place == invoices.len() {
            invoices.push(Vec::new());
        }
        invoices[place].push(index);
    }
    invoices
}

/// Why a row is refused beforehand; `None` for a sale or a refund of a product.
#[must_use]
pub fn refusal(row: &RetailRow) -> Option<SkipReason> {
    if row.invoice.starts_with('A') {
        return Some(SkipReason::NotGoods(NotGoods::BadDebt));
    }
    if let Some(reason) = not_goods(&row.code) {
        return Some(SkipReason::NotGoods(reason));
    }
    let cancels = row.invoice.starts_with('C');
    let reason = match (row.quantity, row.price.raw()) {
        (0, _) => RowReason::NoQuantity,
        (..=-1, _) if !cancels => RowReason::WriteOff,
        (1.., _) if cancels => RowReason::SaleOnCancellation,
        (_, ..=-1) => RowReason::NegativePrice,
        (_, 0) => RowReason::NoPrice,
        _ if cancels && row.customer.is_none() => RowReason::UnmatchedRefundNoCustomer,
        _ => return None,
    };
    Some(SkipReason::Row(reason))
}

/// The steps of `invoices`; rows that are refused beforehand are recorded in the ledger.
#[must_use]
pub fn plan(rows: &[RetailRow], invoices: &[Vec<usize>], ledger: &mut RowLedger) -> ReplayPlan {
    let mut steps = Vec::new();
    let mut earlier = Earlier::default();
    for invoice in invoices {
        let wanted: Vec<usize> = invoice
            .iter()
            .copied()
            .filter(|&index| match refusal(&rows[index]) {
                Some(reason) => {
                    ledger.refuse_all(index, &rows[index], reason);
                    false
                }
                None => true,
            })
            .collect();
        let Some(&first) = wanted.first() else { continue };
        let row = &rows[first];
        let work = if row.invoice.starts_with('C') {
            InvoiceWork::Refund(refund(rows, &wanted, &mut earlier, steps.len()))
        } else {
            InvoiceWork::Order(order(rows, &wanted, &mut earlier, steps.len()))
        };
        steps.push(InvoiceStep {
            invoice: Arc::clone(&row.invoice),
            customer: row.customer.clone(),
            country: Arc::clone(&row.country),
            work,
        });
    }
    ReplayPlan { steps, invoices: invoices.len() }
}

/// The steps so far, by customer and code.
#[derive(Default)]
struct Earlier {
    orders: HashMap<(Arc<str>, Arc<str>), Vec<usize>>,
    last_refund: HashMap<Arc<str>, usize>,
}

fn order(rows: &[RetailRow], wanted: &[usize], earlier: &mut Earlier, step: usize) -> PlannedOrder {
    let mut places: HashMap<(&str, UnitPrice), usize> = HashMap::new();
    let mut lines: Vec<PlannedLine> = Vec::new();
    for &index in wanted {
        let row = &rows[index];
        let place = *places.entry((&row.code, row.price)).or_insert_with(|| {
            let (code, price) = (Arc::clone(&row.code), row.price);
            lines.push(PlannedLine { code, price, quantity: 0, rows: Vec::new() });
            lines.len() - 1
        });
        lines[place].quantity += row.quantity;
        lines[place].rows.push((index, row.quantity));
        if let Some(customer) = &row.customer {
            let key = (Arc::clone(customer), Arc::clone(&row.code));
            let steps = earlier.orders.entry(key).or_default();
            if steps.last() != Some(&step) {
                steps.push(step);
            }
        }
    }
    PlannedOrder { lines }
}

fn refund(
    rows: &[RetailRow],
    wanted: &[usize],
    earlier: &mut Earlier,
    step: usize,
) -> PlannedRefund {
    let mut after = Vec::new();
    for &index in wanted {
        let row = &rows[index];
        let Some(customer) = &row.customer else { continue };
        let key = (Arc::clone(customer), Arc::clone(&row.code));
        after.extend(earlier.orders.get(&key).into_iter().flatten().copied());
        // One refund of a customer at a time, so that matching follows the order of the file.
        if let Some(last) = earlier.last_refund.insert(Arc::clone(customer), step)
            && last != step
        {
            after.push(last);
        }
    }
    after.sort_unstable();
    after.dedup();
    let rows = wanted.iter().map(|&index| RefundRow {
        row: index,
        code: Arc::clone(&rows[index].code),
        price: rows[index].price,
        quantity: -rows[index].quantity,
    });
    PlannedRefund { rows: rows.collect(), after }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row for tests: invoice, code, quantity, pence, customer.
    pub(crate) fn row(
        invoice: &str,
        code: &str,
        quantity: i64,
        price: &str,
        who: &str,
    ) -> RetailRow {
        RetailRow {
            line: 0,
            invoice: invoice.into(),
            code: code.into(),
            description: "".into(),
            quantity,
            price: price.parse().unwrap(),
            customer: (!who.is_empty()).then(|| who.into()),
            country: "United Kingdom".into(),
        }
    }

    #[test]
    fn every_row_that_is_no_sale_has_its_reason() {
        for (row, want) in [
            (row("A1", "a", 1, "100", ""), "bad_debt"),
            (row("1", "POST", 1, "100", ""), "postage"),
            (row("C1", "D", -1, "100", "7"), "discount"),
            (row("1", "a", -1, "0", ""), "write_off"),
            (row("1", "a", 1, "0", ""), "no_price"),
            (row("1", "a", 1, "-5", ""), "negative_price"),
            (row("1", "a", 0, "5", ""), "no_quantity"),
            (row("C1", "a", 1, "5", "7"), "sale_on_cancellation"),
            (row("C1", "a", -1, "5", ""), "unmatched_refund_no_customer"),
        ] {
            assert_eq!(refusal(&row).map(SkipReason::name).as_deref(), Some(want));
        }
        for good in [row("1", "a", 1, "5", ""), row("C1", "a", -1, "5", "7")] {
            assert_eq!(refusal(&good), None);
        }
    }

    #[test]
    fn rows_of_one_price_are_one_line_and_refunds_wait_for_their_sales() {
        let mut rows = vec![
            row("1", "a", 2, "100", "7"),
            row("1", "e", 1, "50", "7"),
            row("1", "a", 3, "100", "7"),
            row("1", "a", 1, "90", "7"),
            row("2", "a", 1, "100", "8"),
            row("C3", "e", -1, "50", "7"),
            row("3", "c", 1, "1", "7"),
            row("C4", "a", -1, "90", "7"),
            row("2", "a", 1, "1", "8"),
        ];
        let mut ledger = RowLedger::new(&rows);
        let plan = plan(&rows, &invoices(&rows), &mut ledger);
        let lines = |step: usize| match &plan.steps[step].work {
            InvoiceWork::Order(order) => {
                order.lines.iter().map(|l| (&*l.code, l.quantity)).collect()
            }
            InvoiceWork::Refund(_) => Vec::new(),
        };
        let after = |step: usize| match &plan.steps[step].work {
            InvoiceWork::Refund(refund) => refund.after.clone(),
            InvoiceWork::Order(_) => Vec::new(),
        };
        assert_eq!(lines(0), [("a", 5), ("e", 1), ("a", 1)]);
        assert_eq!(lines(1), [("a", 1), ("a", 1)]);
        assert_eq!((after(2), after(4)), (vec![0], vec![0, 2]));
        keep_invoices(&mut rows, 2);
        assert_eq!(invoices(&rows), [vec![0, 1, 2, 3], vec![4, 5]]);
    }
}
