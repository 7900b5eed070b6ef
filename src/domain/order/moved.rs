//! Money that the provider has moved: what kontor requested, and what was captured or refunded
//! elsewhere, such as in the provider's dashboard. The provider's ledger is the truth: money that was
//! moved elsewhere gets a number of its own here, so that both ledgers agree.

use super::decide::{Decision, wrong};
use super::effect::POLICY_CAPTURE;
use super::{Event, Order, Phase, Refund, step};
use crate::domain::entity::Noun as _;
use crate::domain::money::AMOUNT_MAX;
use crate::domain::time::Timestamp;
use crate::seeded_fault::{self, SeededFault};

/// The alert when a provider captured another amount than requested.
const CAPTURE_MISMATCH: &str = "capture_mismatch";

/// The reason of a refund that was made elsewhere.
const REFUNDED_ELSEWHERE: &str = "refunded at the payment provider";

impl Order {
    /// Records captured money, even if the step of the capture was skipped. If the order is being
    /// cancelled or is cancelled, the money is refunded.
    pub(super) fn captured_now(
        &self,
        capture: Option<u32>,
        amount: i64,
        operation: &str,
    ) -> Decision {
        let mut all = self.captures.iter();
        let known = all.find(|one| Some(one.number) == capture);
        let done = known.is_some_and(|one| one.operation.is_some());
        if done || self.knows(operation) || !(1..=AMOUNT_MAX).contains(&amount) {
            return Ok(Vec::new());
        }
        let by_policy =
            capture == Some(POLICY_CAPTURE) && self.number.is_some() && self.policy_captures();
        if known.is_none() && !by_policy {
            return self.captured_elsewhere(amount, operation);
        }
        let capture = known.map_or(POLICY_CAPTURE, |one| one.number);
        let mut events = vec![Event::Captured { capture, amount, operation: operation.to_owned() }];
        let asked = known.map_or(self.authorized(), |one| one.amount);
        if self.gives_back() {
            events.push(self.give_back(amount));
        } else if amount != asked && self.alert.is_none() {
            events.push(Event::AlertRaised { alert: CAPTURE_MISMATCH.to_owned() });
        }
        Ok(events)
    }

    /// Records a capture that was made elsewhere. Open captures that the rest of the authorization
    /// does not cover any more are skipped, latest first; what the rest covers of past shipments is
    /// captured instead.
    fn captured_elsewhere(&self, amount: i64, operation: &str) -> Decision {
        let mut left = self.ever_authorized() - self.captured() - amount;
        if left < 0 {
            return Err(wrong("more was captured at the provider than is authorized"));
        }
        let mut events = Vec::new();
        let open = self.captures.iter().rev().filter(|one| one.operation.is_none());
        left -= self.capturing();
        for one in open.filter(|one| !self.skipped.contains(&step::capture(one.number))) {
            if left >= 0 {
                break;
            }
            let reason = "captured at the payment provider".to_owned();
            events.push(Event::StepSkipped { step: step::capture(one.number), reason });
            left += one.amount;
        }
        let (capture, operation) = (self.next_capture(), operation.to_owned());
        let others = !events.is_empty();
        events.push(Event::Captured { capture, amount, operation });
        if self.gives_back() {
            events.push(self.give_back(amount));
        } else if others {
            events.extend(self.shipments_capture(&events));
        }
        Ok(events)
    }

    /// The request to capture what these events leave uncaptured of past shipments, if the order is
    /// captured at dispatch.
    fn shipments_capture(&self, events: &[Event]) -> Option<Event> {
        let mut after = self.clone();
        events.iter().for_each(|event| after.evolve(event, self.updated_at));
        let amount = after.uncaptured_shipments();
        (amount > 0).then(|| Event::CaptureRequested { capture: after.next_capture(), amount })
    }

    /// Records a refund. If its step was skipped and the refund succeeds after all, open refund
    /// requests are skipped instead, latest first, until the captured money covers the others.
    pub(super) fn refunded_now(
        &self,
        refund: Option<u32>,
        amount: i64,
        operation: &str,
        now: Timestamp,
    ) -> Decision {
        let known = refund.and_then(|number| self.refund(number));
        let done = known.is_some_and(|one| one.operation.is_some());
        if done || self.knows(operation) {
            return Ok(Vec::new());
        }
        if !(1..=self.captured() - self.refunded()).contains(&amount) {
            return Err(wrong("more was refunded at the provider than was captured"));
        }
        let Some(one) = known else {
            return self.refunded_elsewhere(amount, operation, now);
        };
        if one.amount != amount {
            return Err(wrong("another amount was refunded at the provider than was requested"));
        }
        let refund = one.number;
        let mut events = vec![Event::Refunded { refund, operation: operation.to_owned() }];
        let counted = !self.skipped.contains(&step::refund(refund));
        let reason = format!("{} went through after all", step::refund(refund));
        let (skipped, left) = self.make_room(if counted { 0 } else { amount }, &reason);
        let others = !skipped.is_empty();
        events.extend(skipped);
        if others && left > 0 && self.gives_back() {
            events.push(self.give_back(left));
        }
        Ok(events)
    }

    /// Records a refund that was made elsewhere, as an amount that belongs to no line. Open refunds
    /// that the captured money does not cover any more are skipped, latest first; what is left
    /// then of an order that is cancelled is refunded.
    fn refunded_elsewhere(&self, amount: i64, operation: &str, now: Timestamp) -> Decision {
        let (mut events, left) = self.make_room(amount, REFUNDED_ELSEWHERE);
        let others = !events.is_empty();
        let (number, reason) = (self.next_refund(), REFUNDED_ELSEWHERE.to_owned());
        let refund = Box::new(Refund::of_amount(number, amount, (reason, now)));
        events.push(Event::RefundRequested { refund });
        events.push(Event::Refunded { refund: number, operation: operation.to_owned() });
        if others && left > 0 && self.gives_back() {
            let cancelled = Refund::of_amount(number + 1, left, ("cancelled".to_owned(), now));
            events.push(Event::RefundRequested { refund: Box::new(cancelled) });
        }
        Ok(events)
    }

    /// Skips open refunds, latest first, until the captured money covers this amount and all other
    /// refunds; and the amount that is left then.
    fn make_room(&self, amount: i64, reason: &str) -> (Vec<Event>, i64) {
        let mut left = self.captured() - self.refunds_requested() - amount;
        let mut events = Vec::new();
        let open = self.refunds_that_count().filter(|one| one.operation.is_none());
        for one in open.collect::<Vec<_>>().into_iter().rev() {
            if left >= 0 {
                break;
            }
            let (step, reason) = (step::refund(one.number), reason.to_owned());
            events.push(Event::StepSkipped { step, reason });
            left += one.amount;
        }
        (events, left)
    }

    /// The amount that was authorized for the order, in minor units, even if the rest of it was
    /// voided since.
    fn ever_authorized(&self) -> i64 {
        let paid = self.attempts.iter().filter(|one| one.held());
        paid.filter_map(|one| one.once_authorized).max().unwrap_or(0)
    }

    /// Whether a capture or refund with the provider's id is recorded.
    fn knows(&self, operation: &str) -> bool {
        let captures = self.captures.iter().map(|one| &one.operation);
        let mut all = captures.chain(self.refunds.iter().map(|one| &one.operation));
        all.any(|one| one.as_deref() == Some(operation))
            && !seeded_fault::active(SeededFault::ElsewhereTwice)
    }

    /// Whether captured money is refunded because the order is cancelled as a whole.
    const fn gives_back(&self) -> bool {
        matches!(self.phase, Phase::Cancelling | Phase::Cancelled)
    }

    /// A refund of an amount without lines, for an order that is cancelled as a whole.
    pub(super) fn give_back(&self, amount: i64) -> Event {
        let why = ("cancelled".to_owned(), self.updated_at);
        let refund = Refund::of_amount(self.next_refund(), amount, why);
        Event::RefundRequested { refund: Box::new(refund) }
    }
}

impl Refund {
    /// A refund of an amount without lines, for a reason, requested at this time.
    pub(super) fn of_amount(
        number: u32,
        amount: i64,
        (reason, requested_at): (String, Timestamp),
    ) -> Self {
        Self {
            number,
            lines: Vec::new(),
            delivery: 0,
            free: amount,
            amount,
            restock: false,
            reason,
            requested_at,
            operation: None,
            restocked: true,
        }
    }
}
