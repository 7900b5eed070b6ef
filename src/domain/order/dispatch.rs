//! Orders that are captured at dispatch: what each shipment captures. `decide` requests the
//! captures, `effect` has them carried out.
//!
//! Each shipment captures the price of the units that it ships, and the first one the price of the
//! delivery, too.

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
}
