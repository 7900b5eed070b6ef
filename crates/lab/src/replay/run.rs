//! Runs the steps of the plan concurrently, but a refund only after the earlier steps that its
//! matching depends on.
//!
//! Deliberately not here: buying (`buy`), matching (`book`), comparing with the server afterwards
//! (`reconcile`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use kontor_client::Client;
use kontor_client::Money;
use kontor_client::api::{self, RefundLine};
use tokio::sync::Semaphore;

use super::book::{LinePosition, Lot, LotBook, Portion};
use super::buy::{Bought, BoughtOrder, CURRENCY, InvoiceBuyer, PurchaseFailure, pause};
use super::ledger::{RowLedger, Worth};
use super::plan::{
    InvoiceStep, InvoiceWork, PlannedOrder, PlannedRefund, ReplayPlan, RowReason, SkipReason,
};
use crate::online_retail::value;

/// The most faults that are stored; the rest are counted.
const FAULTS_MAX: usize = 100;
/// How often an order is read at most, while its capture is awaited.
const CAPTURE_READS_MAX: usize = 100;

/// Descriptions of faults.
#[derive(Debug, Default, serde::Serialize)]
pub struct FaultLog {
    /// The number.
    pub count: usize,
    /// The first of them.
    pub first: Vec<String>,
}

impl FaultLog {
    /// Adds a fault.
    pub fn add(&mut self, text: String) {
        self.count += 1;
        if self.first.len() < FAULTS_MAX {
            self.first.push(text);
        }
    }
}

/// The progress of a run.
#[derive(Debug)]
pub struct ReplayState {
    /// The outcome of every row.
    pub ledger: RowLedger,
    /// The units that can still be refunded.
    pub book: LotBook,
    /// The orders by their step.
    pub orders: BTreeMap<usize, BoughtOrder>,
    /// The refunded value by step of the refund.
    pub refunds: BTreeMap<usize, Worth>,
    /// Returned units, by step and line of their order.
    pub returned: BTreeMap<LinePosition, Worth>,
    /// Orders that were cancelled for lack of stock; fewer units, or none, were bought instead.
    pub cancelled: Vec<String>,
    /// The latency of each checkout.
    pub latencies: Vec<Duration>,
    /// Totals of the server that differ from those computed here.
    pub mismatches: FaultLog,
    /// Other faults.
    pub faults: FaultLog,
    /// The value of all order lines minus that of their booked rows, in pence. It differs from 0
    /// because a line that joins several rows is rounded once, but each row is rounded by itself.
    pub rounding: i64,
}

impl ReplayState {
    /// Starts with this ledger, and without orders and refunds.
    #[must_use]
    pub fn new(ledger: RowLedger) -> Self {
        Self {
            ledger,
            book: LotBook::default(),
            orders: BTreeMap::new(),
            refunds: BTreeMap::new(),
            returned: BTreeMap::new(),
            cancelled: Vec::new(),
            latencies: Vec::new(),
            mismatches: FaultLog::default(),
            faults: FaultLog::default(),
            rounding: 0,
        }
    }

    /// Records the sold units of an order in the ledger and in the book of lots, and the rest of
    /// its rows in the ledger as refused for `reason`.
    pub fn settle(
        &mut self,
        index: usize,
        step: &InvoiceStep,
        order: &PlannedOrder,
        sold: &[i64],
        reason: SkipReason,
    ) {
        for (number, (line, sold)) in order.lines.iter().zip(sold).enumerate() {
            let pence = value(line.price, *sold);
            let mut left = *sold;
            let mut booked_pence = 0;
            for &(row, wanted) in &line.rows {
                let booked = left.min(wanted);
                left -= booked;
                let worth = Worth::new(booked, value(line.price, booked));
                let whole = value(line.price, wanted);
                if booked > 0 {
                    booked_pence += worth.pence;
                    self.ledger.book(row, worth);
                }
                if booked < wanted {
                    let rest = Worth::new(wanted - booked, whole - worth.pence);
                    self.ledger.refuse(row, reason, rest);
                }
            }
            self.rounding += pence - booked_pence;
            if let (Some(customer), 1..) = (&step.customer, *sold) {
                let lot = Lot { price: line.price, units: *sold, pence };
                self.book.record_sale(
                    customer,
                    &line.code,
                    LinePosition { step: index, line: number },
                    lot,
                );
            }
        }
    }

    /// Matches a cancellation to earlier orders: returns the portions to refund, by order, each
    /// with its row of the cancellation. Units without a match are recorded as refused.
    pub fn match_refund(
        &mut self,
        index: usize,
        step: &InvoiceStep,
        refund: &PlannedRefund,
    ) -> Matched {
        let mut matched = Matched::new();
        let Some(customer) = &step.customer else { return matched };
        for row in &refund.rows {
            let found = self.book.match_units(customer, &row.code, index, row.price, row.quantity);
            for portion in found.portions {
                matched.entry(portion.place.step).or_default().push((row.row, portion));
            }
            let exceeding = Worth::new(-found.worthless_units, -found.exceeding_pence);
            let unmatched = Worth::new(-found.unmatched_units, -found.unmatched_pence);
            for (worth, reason) in
                [(exceeding, RowReason::RefundExceedsSale), (unmatched, RowReason::UnmatchedRefund)]
            {
                if worth != Worth::default() {
                    self.ledger.refuse(row.row, SkipReason::Row(reason), worth);
                }
            }
        }
        matched
    }

    /// Records the refund of one order in the ledger: as booked if `done`, otherwise as refused.
    pub fn settle_refund(&mut self, index: usize, portions: &[(usize, Portion)], done: bool) {
        for (row, portion) in portions {
            let worth = Worth::new(-portion.units, -portion.pence);
            if done {
                self.ledger.book(*row, worth);
                self.refunds.entry(index).or_default().add(worth);
                let back = Worth::new(portion.units, portion.pence);
                self.returned.entry(portion.place).or_default().add(back);
            } else {
                self.ledger.refuse(*row, SkipReason::Row(RowReason::Fault), worth);
            }
        }
    }
}

/// Portions by the step of their order, each with its row.
pub type Matched = BTreeMap<usize, Vec<(usize, Portion)>>;

/// One run of a plan.
pub struct ReplayRun<'a> {
    client: &'a Client,
    plan: &'a ReplayPlan,
    name: &'a str,
    bar: &'a ProgressBar,
    state: Mutex<ReplayState>,
    /// One for each step, closed when the step is done.
    done: Vec<Semaphore>,
}

impl<'a> ReplayRun<'a> {
    /// Prepares a run; `name` is part of its idempotency keys.
    #[must_use]
    pub fn new(
        client: &'a Client,
        plan: &'a ReplayPlan,
        name: &'a str,
        ledger: RowLedger,
        bar: &'a ProgressBar,
    ) -> Self {
        let done = plan.steps.iter().map(|_| Semaphore::new(0)).collect();
        Self { client, plan, name, bar, state: Mutex::new(ReplayState::new(ledger)), done }
    }

    /// Runs all steps, `concurrency` at a time, in the order of the file. A refund waits only for
    /// earlier steps, so there is no deadlock.
    ///
    /// # Errors
    /// [`kontor_client::Error`] when the server is unreachable or overloaded, or the API key
    /// is invalid or lacks a scope.
    pub async fn run(self, concurrency: usize) -> Result<ReplayState, kontor_client::Error> {
        let this = &self;
        stream::iter(0..this.plan.steps.len())
            .map(|index| this.step(index))
            .buffer_unordered(concurrency)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await?;
        Ok(self.state.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn state(&self) -> MutexGuard<'_, ReplayState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, step: &InvoiceStep) -> String {
        format!("replay-{}-{}", self.name, step.invoice)
    }

    async fn step(&self, index: usize) -> Result<(), kontor_client::Error> {
        let step = &self.plan.steps[index];
        match &step.work {
            InvoiceWork::Order(order) => self.order(index, step, order).await?,
            InvoiceWork::Refund(refund) => self.refund(index, step, refund).await?,
        }
        self.done[index].close();
        self.bar.inc(1);
        Ok(())
    }

    async fn order(
        &self,
        index: usize,
        step: &InvoiceStep,
        order: &PlannedOrder,
    ) -> Result<(), kontor_client::Error> {
        let buyer = InvoiceBuyer::new(self.client, step, order, self.key(step));
        let none = vec![0; order.lines.len()];
        match buyer.buy().await {
            Ok(bought) => self.bought(index, step, order, bought),
            Err(PurchaseFailure::End(error)) => return Err(error),
            Err(PurchaseFailure::Fault(text)) => {
                let mut state = self.state();
                state.faults.add(format!("{}: {text}", step.invoice));
                state.settle(index, step, order, &none, SkipReason::Row(RowReason::Fault));
            }
        }
        Ok(())
    }

    fn bought(&self, index: usize, step: &InvoiceStep, order: &PlannedOrder, bought: Bought) {
        let none = vec![0; order.lines.len()];
        let mut state = self.state();
        state.latencies.extend(bought.latencies);
        state.cancelled.extend(bought.cancelled);
        bought.mismatches.into_iter().for_each(|text| state.mismatches.add(text));
        let sold = bought.placed.as_ref().map_or(&none, |placed| &placed.sold);
        state.settle(index, step, order, sold, SkipReason::Row(RowReason::OutOfStock));
        if let Some(placed) = bought.placed {
            state.orders.insert(index, placed);
        }
    }

    async fn refund(
        &self,
        index: usize,
        step: &InvoiceStep,
        refund: &PlannedRefund,
    ) -> Result<(), kontor_client::Error> {
        for earlier in &refund.after {
            // The semaphore never has a permit: this waits until it is closed.
            let _ = self.done[*earlier].acquire().await;
        }
        let matched = self.state().match_refund(index, step, refund);
        for (order, portions) in matched {
            let outcome = self.refund_order(step, order, &portions).await;
            let done = match outcome {
                Ok(()) => true,
                Err(PurchaseFailure::End(error)) => return Err(error),
                Err(PurchaseFailure::Fault(text)) => {
                    self.state().faults.add(format!("{}: {text}", step.invoice));
                    false
                }
            };
            self.state().settle_refund(index, &portions, done);
        }
        Ok(())
    }

    async fn refund_order(
        &self,
        step: &InvoiceStep,
        order: usize,
        portions: &[(usize, Portion)],
    ) -> Result<(), PurchaseFailure> {
        let placed = self.state().orders.get(&order).cloned();
        let placed =
            placed.ok_or_else(|| PurchaseFailure::Fault("its order was not placed".to_owned()))?;
        if !placed.captured {
            self.wait_for_capture(&placed).await?;
        }
        let lines = lines(portions, &placed)?;
        let key = format!("{}-{}", self.key(step), self.plan.steps[order].invoice);
        let reason = format!("cancellation {}", step.invoice);
        let body = api::Refund { lines, restock: false, reason };
        let call = self.client.refund_order(&placed.id, &body).idempotency_key(&key);
        call.prefer_wait(30).send().await?;
        Ok(())
    }

    async fn wait_for_capture(&self, placed: &BoughtOrder) -> Result<(), PurchaseFailure> {
        for attempt in 1..=CAPTURE_READS_MAX {
            let order = self.client.get_order(&placed.id).send().await?.body;
            if order.captured.as_ref().map(|captured| captured.amount) == Some(placed.total) {
                return Ok(());
            }
            pause(attempt).await;
        }
        Err(PurchaseFailure::Fault(format!("the money of order {} was not captured", placed.id)))
    }
}

/// The lines of one refund; portions of the same order line are joined.
fn lines(
    portions: &[(usize, Portion)],
    placed: &BoughtOrder,
) -> Result<Vec<RefundLine>, PurchaseFailure> {
    let mut sums: BTreeMap<usize, Worth> = BTreeMap::new();
    for (_, portion) in portions {
        let sum = sums.entry(portion.place.line).or_default();
        sum.add(Worth::new(portion.units, portion.pence));
    }
    let line = |(line, sum): (usize, Worth)| {
        let id = placed.lines.get(line).cloned().flatten();
        let id =
            id.ok_or_else(|| PurchaseFailure::Fault(format!("order {} lacks a line", placed.id)))?;
        Ok(RefundLine { line: id, quantity: sum.units, amount: Money::minor(sum.pence, CURRENCY) })
    };
    sums.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::plan::tests::row;
    use super::super::plan::{invoices, plan};
    use super::*;
    use crate::online_retail::RetailRow;

    /// Settles the steps of a plan without a server, in the order of the file; `stock` returns how
    /// many of the wanted units of a code are sold.
    pub(crate) fn simulate(
        rows: &[RetailRow],
        mut stock: impl FnMut(&str, i64) -> i64,
    ) -> ReplayState {
        let mut ledger = RowLedger::new(rows);
        let plan = plan(rows, &invoices(rows), &mut ledger);
        let mut state = ReplayState::new(ledger);
        for (index, step) in plan.steps.iter().enumerate() {
            match &step.work {
                InvoiceWork::Order(order) => {
                    let sold: Vec<i64> =
                        order.lines.iter().map(|l| stock(&l.code, l.quantity)).collect();
                    let reason = SkipReason::Row(RowReason::OutOfStock);
                    state.settle(index, step, order, &sold, reason);
                }
                InvoiceWork::Refund(refund) => {
                    for portions in state.match_refund(index, step, refund).into_values() {
                        state.settle_refund(index, &portions, true);
                    }
                }
            }
        }
        state
    }

    fn any_row() -> impl Strategy<Value = RetailRow> {
        let code = prop_oneof![Just("a"), Just("c"), Just("e"), Just("POST")];
        let who = prop_oneof![Just(""), Just("7"), Just("8")];
        let price = prop_oneof![Just("100"), Just("33.3"), Just("0.5"), Just("0"), Just("-4")];
        (0..12_u8, prop::bool::ANY, code, -40_i64..40, price, who).prop_map(
            |(number, cancels, code, quantity, price, who)| {
                let invoice = format!("{}{number}", if cancels { "C" } else { "" });
                row(&invoice, code, quantity, price, who)
            },
        )
    }

    proptest! {
        #[test]
        fn booked_and_refused_rows_add_up_to_the_file(
            rows in prop::collection::vec(any_row(), 0..60),
            opening in 0_i64..60,
        ) {
            let mut left: HashMap<String, i64> = HashMap::new();
            let state = simulate(&rows, |code, wanted| {
                let left = left.entry(code.to_owned()).or_insert(opening);
                let sold = wanted.min(*left);
                *left -= sold;
                sold
            });
            prop_assert!(state.ledger.identity().holds, "{:?}", state.ledger.identity());
        }
    }

    #[test]
    fn units_cut_for_lack_of_stock_are_not_refunded() {
        let rows = [
            row("1", "a", 10, "100", "7"),
            row("2", "a", 10, "100", "7"),
            row("C3", "a", -15, "100", "7"),
        ];
        let mut left = 12;
        let state = simulate(&rows, |_, wanted| {
            let sold = wanted.min(left);
            left -= sold;
            sold
        });
        let reasons: Vec<_> = state
            .ledger
            .by_reason()
            .into_iter()
            .map(|(reason, sum)| (reason.name(), sum.worth.units, sum.rows_in_part))
            .collect();
        assert_eq!(
            reasons,
            [("out_of_stock".to_owned(), 8, 1), ("unmatched_refund".to_owned(), -3, 1)]
        );
        assert_eq!(state.ledger.booked(2), Some(Worth::new(-12, -1200)));
    }
}
