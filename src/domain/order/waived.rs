//! What is never charged: the price of units that were refunded before their price was captured.
//!
//! Under `at_dispatch` these are units that were refunded before they were shipped, because each
//! shipment captures its price. Under `by_hand` they may have been shipped, too. A refund of such
//! units first reduces what is still to be captured; only what is more than that is refunded. Once
//! nothing is left to ship or to capture, the rest of the authorization is voided.

use super::{CapturePolicy, Order, Phase, RefundLine};
use crate::domain::pricing::QuotedLine;
use crate::seeded_fault::{self, SeededFault};

impl Order {
    /// The amount that is never charged, in minor units.
    #[must_use]
    pub fn waived(&self) -> i64 {
        if self.number().is_none() || self.policy() == Some(CapturePolicy::AtOnce) {
            return 0;
        }
        let lines: i64 = self.lines().map(|line| self.line_waived(line)).sum();
        let nothing_ships = self.fulfillments().is_empty() && self.unshipped_units() == 0;
        let delivery =
            if nothing_ships { self.delivery_due() - self.refunded_delivery() } else { 0 };
        (lines + delivery).clamp(0, (self.total() - self.captured()).max(0))
    }

    /// The amount of a line's price that is never charged, in minor units, if so much of the order
    /// was not captured yet.
    pub(super) fn line_waived(&self, line: &QuotedLine) -> i64 {
        match self.policy() {
            Some(CapturePolicy::AtDispatch) => {
                self.unshipped_value(line) - self.refunded_unshipped(line)
            }
            Some(CapturePolicy::ByHand) if !seeded_fault::active(SeededFault::WaivedStaysDue) => {
                let price = self.share(line, self.refunded_units(line.id));
                (price - self.refunded_amount(line.id)).max(0)
            }
            _ => 0,
        }
    }

    /// The amount that is still to be captured, can be, and that no capture has requested, in minor
    /// units; 0 unless the order is confirmed.
    #[must_use]
    pub fn left_to_capture(&self) -> i64 {
        let held = self.authorized() - self.captured() - self.capturing();
        self.uncharged().min(held).max(0)
    }

    /// The amount that the buyer has still to pay, and that no capture has requested, in minor units,
    /// even if its authorization was voided; 0 unless the order is confirmed.
    pub(super) fn uncharged(&self) -> i64 {
        if self.phase() != Phase::Confirmed {
            return 0;
        }
        (self.total() - self.waived() - self.captured() - self.capturing()).max(0)
    }

    /// Whether the rest of the authorization will never be captured and must be voided: nothing is
    /// left to ship, and everything to be charged was captured.
    pub(super) fn releases_rest(&self) -> bool {
        self.policy() != Some(CapturePolicy::AtOnce)
            && self.phase() == Phase::Confirmed
            && self.unshipped_units() == 0
            && self.capturing() == 0
            && self.captured() >= self.total() - self.waived()
    }

    /// When its money is captured; `None` if it was not placed yet.
    pub(super) fn policy(&self) -> Option<CapturePolicy> {
        self.placed().map(|placed| placed.capture)
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &QuotedLine> {
        self.placed().into_iter().flat_map(|placed| &placed.lines)
    }

    /// The price of a line's units that were refunded before they were shipped.
    fn unshipped_value(&self, line: &QuotedLine) -> i64 {
        let unshipped: i64 = self.moved_back(line.id).map(|one| one.unshipped).sum();
        self.share(line, line.quantity) - self.share(line, line.quantity - unshipped)
    }

    /// The amount of a line that was, or will be, refunded for units that were not shipped, in
    /// minor units. Only captured money can be refunded for such units, so at least this amount was
    /// captured. If a refund has both shipped and unshipped units, its amount is assigned to the
    /// shipped units first.
    pub(super) fn refunded_unshipped(&self, line: &QuotedLine) -> i64 {
        let shipped = |of: &RefundLine| of.shipped;
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
