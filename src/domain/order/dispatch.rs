//! An order that is captured at dispatch: what each shipment captures, and what is never charged.
//! When a capture is asked for is in `decide`, how it is carried out in `effect`.
//!
//! What was shipped is captured, and the delivery with the first shipment. What was taken back
//! before it was shipped and captured is never charged: once nothing is left to ship, what is still
//! authorized for it is released.

use super::{CapturePolicy, Order, Phase, step};
use crate::domain::pricing::QuotedLine;

impl Order {
    /// Whether each shipment captures what it ships.
    #[must_use]
    pub fn captures_at_dispatch(&self) -> bool {
        self.placed().is_some_and(|placed| placed.capture == CapturePolicy::AtDispatch)
    }

    /// What must have been captured by now because it was shipped, in minor units; 0 under other
    /// policies.
    #[must_use]
    pub fn due_at_dispatch(&self) -> i64 {
        if !self.captures_at_dispatch() {
            return 0;
        }
        let lines = self
            .lines()
            .map(|line| self.share(line, self.fulfilled(line.id)) + self.refunded_unshipped(line));
        let delivery = if self.fulfillments().is_empty() {
            self.refunded_delivery()
        } else {
            self.delivery_due()
        };
        (lines.sum::<i64>() + delivery).min(self.total())
    }

    /// What is never charged because it was taken back before it was shipped and captured, in minor
    /// units.
    #[must_use]
    pub fn waived(&self) -> i64 {
        if !self.captures_at_dispatch() || self.number().is_none() {
            return 0;
        }
        let lines =
            self.lines().map(|line| self.unshipped_value(line) - self.refunded_unshipped(line));
        let nothing_ships = self.fulfillments().is_empty() && self.unshipped_units() == 0;
        let delivery =
            if nothing_ships { self.delivery_due() - self.refunded_delivery() } else { 0 };
        (lines.sum::<i64>() + delivery).clamp(0, (self.total() - self.captured()).max(0))
    }

    /// What was captured, or is being captured, before it was shipped, in minor units; no limit under
    /// policies that do not capture by shipment.
    pub(super) fn captured_ahead_of_shipments(&self) -> i64 {
        if !self.captures_at_dispatch() {
            return i64::MAX;
        }
        (self.captured() + self.capturing() - self.due_at_dispatch()).max(0)
    }

    /// What the shipments so far have still to capture, in minor units, as far as it is authorized.
    pub(super) fn uncaptured_shipments(&self) -> i64 {
        let whole = self.wants_whole_capture() && !self.skipped.contains(&step::capture(1));
        if self.phase() != Phase::Confirmed || whole {
            return 0;
        }
        let taken = self.captured() + self.capturing();
        (self.due_at_dispatch().min(self.authorized()) - taken).max(0)
    }

    /// Whether what is still authorized will never be captured: nothing is left to ship, and all
    /// that is to be charged was captured.
    pub(super) fn releases_rest(&self) -> bool {
        self.captures_at_dispatch()
            && self.phase() == Phase::Confirmed
            && self.unshipped_units() == 0
            && self.capturing() == 0
            && self.captured() >= self.total() - self.waived()
    }

    /// Whether a shipment, made or to come, has still to be captured.
    pub(super) fn has_more_to_capture(&self) -> bool {
        self.captures_at_dispatch() && self.captured() < self.total() - self.waived()
    }

    /// The part of a line's price that so many of its units have. The parts of all units add up to
    /// what is paid for the line.
    pub(super) fn share(&self, line: &QuotedLine, units: i64) -> i64 {
        let Some(placed) = self.placed() else { return 0 };
        let paid = line.due(placed.totals.tax_included);
        let share = i128::from(paid) * i128::from(units);
        placed.rounding.divide(share, i128::from(line.quantity)).unwrap_or(paid)
    }

    /// What is paid for the delivery, with the tax that is added, in minor units.
    pub(super) fn delivery_due(&self) -> i64 {
        self.placed().map_or(0, |placed| {
            let added = if placed.totals.tax_included { 0 } else { placed.delivery.tax };
            placed.delivery.price + added
        })
    }

    /// What was asked to be given back of the delivery, in minor units.
    pub(super) fn refunded_delivery(&self) -> i64 {
        self.refunds_that_count().map(|one| one.delivery).sum()
    }

    fn lines(&self) -> impl Iterator<Item = &QuotedLine> {
        self.placed().into_iter().flat_map(|placed| &placed.lines)
    }

    /// The price of the units of a line that were taken back before they were shipped.
    fn unshipped_value(&self, line: &QuotedLine) -> i64 {
        let unshipped: i64 = self.moved_back(line.id).map(|one| one.unshipped).sum();
        self.share(line, line.quantity) - self.share(line, line.quantity - unshipped)
    }

    /// What was asked to be given back of that price: it was captured by hand, and counts as such.
    /// Money of a refund that also has units that were shipped is theirs first, as they were
    /// captured.
    fn refunded_unshipped(&self, line: &QuotedLine) -> i64 {
        let shipped = |of: &super::RefundLine| of.shipped;
        let mut given_up = self.moved_back(line.id).map(shipped).sum::<i64>()
            - self.paid_back(line.id).map(shipped).sum::<i64>();
        let (mut units, mut refunded) = (0, 0);
        for of in self.paid_back(line.id) {
            let again = of.moved.min(given_up);
            given_up -= again;
            let own = self.share(line, units + of.shipped + again) - self.share(line, units);
            let left = of.shipped + again < of.quantity();
            refunded += if left { (of.amount - own).max(0) } else { 0 };
            units += of.quantity();
        }
        refunded.clamp(0, self.unshipped_value(line).max(0))
    }
}
