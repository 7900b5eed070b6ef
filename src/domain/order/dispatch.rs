//! Orders that are captured at dispatch: what each shipment captures, and what is never charged.
//! `decide` requests the captures, `effect` has them carried out.
//!
//! Each shipment captures the price of the units that it ships, and the first one the price of the
//! delivery, too. Units that were refunded before they were shipped and captured are never charged:
//! once nothing is left to ship, the rest of the authorization is voided.

use super::{CapturePolicy, Order, Phase, step};
use crate::domain::pricing::QuotedLine;

impl Order {
    /// Whether each shipment captures the price of the units that it ships.
    #[must_use]
    pub fn captures_at_dispatch(&self) -> bool {
        self.placed().is_some_and(|placed| placed.capture == CapturePolicy::AtDispatch)
    }

    /// The amount that must have been captured by now, in minor units: the price of the shipped
    /// units; the price of the delivery, once there was a shipment; and money that was captured by
    /// hand and refunded for units or a delivery that had not been shipped. 0 under other policies.
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

    /// The amount that is never charged, in minor units, because the units were refunded before
    /// they were shipped and captured.
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

    /// The amount that was captured, or is being captured, for units that are not shipped yet, in
    /// minor units. `i64::MAX` under other policies, because it limits refunds of unshipped units.
    pub(super) fn captured_ahead_of_shipments(&self) -> i64 {
        if !self.captures_at_dispatch() {
            return i64::MAX;
        }
        (self.captured() + self.capturing() - self.due_at_dispatch()).max(0)
    }

    /// The amount of the shipments so far that no capture has taken or requested, in minor units;
    /// at most what is left of the authorization.
    pub(super) fn uncaptured_shipments(&self) -> i64 {
        let whole = self.wants_whole_capture() && !self.skipped.contains(&step::capture(1));
        if self.phase() != Phase::Confirmed || whole {
            return 0;
        }
        let taken = self.captured() + self.capturing();
        (self.due_at_dispatch().min(self.authorized()) - taken).max(0)
    }

    /// Whether the rest of the authorization will never be captured and must be voided: nothing is
    /// left to ship, and everything to be charged was captured.
    pub(super) fn releases_rest(&self) -> bool {
        self.captures_at_dispatch()
            && self.phase() == Phase::Confirmed
            && self.unshipped_units() == 0
            && self.capturing() == 0
            && self.captured() >= self.total() - self.waived()
    }

    /// Whether money must still be captured for a past or future shipment.
    pub(super) fn has_more_to_capture(&self) -> bool {
        self.captures_at_dispatch() && self.captured() < self.total() - self.waived()
    }

    /// The share of a line's price for this number of its units, rounded to a minor unit; the price
    /// paid for the line if these are all its units.
    pub(super) fn share(&self, line: &QuotedLine, units: i64) -> i64 {
        let Some(placed) = self.placed() else { return 0 };
        let paid = line.due(placed.totals.tax_included);
        let share = i128::from(paid) * i128::from(units);
        placed.rounding.divide(share, i128::from(line.quantity)).unwrap_or(paid)
    }

    /// The price paid for the delivery, with added tax, in minor units.
    pub(super) fn delivery_due(&self) -> i64 {
        self.placed().map_or(0, |placed| {
            let added = if placed.totals.tax_included { 0 } else { placed.delivery.tax };
            placed.delivery.price + added
        })
    }

    /// The amount of the delivery's price that was, or will be, refunded, in minor units.
    pub(super) fn refunded_delivery(&self) -> i64 {
        self.refunds_that_count().map(|one| one.delivery).sum()
    }

    fn lines(&self) -> impl Iterator<Item = &QuotedLine> {
        self.placed().into_iter().flat_map(|placed| &placed.lines)
    }

    /// The price of a line's units that were refunded before they were shipped.
    fn unshipped_value(&self, line: &QuotedLine) -> i64 {
        let unshipped: i64 = self.moved_back(line.id).map(|one| one.unshipped).sum();
        self.share(line, line.quantity) - self.share(line, line.quantity - unshipped)
    }

    /// The amount of a line that was, or will be, refunded for units that were not shipped, in
    /// minor units. Only money captured by hand can be refunded for such units, so at least this
    /// amount was captured. If a refund has both shipped and unshipped units, its amount is
    /// assigned to the shipped units first.
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
