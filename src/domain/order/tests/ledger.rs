//! A second implementation of an order's ledger, with which the tests compare the order. It is
//! computed from the order's events alone, with other data structures. It checks which events are
//! allowed, and derives the statuses independently.

use super::*;

/// The state of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    Asked,
    Unknown,
    Held(i64),
    Declined,
    Gone,
}

/// The ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    total: i64,
    units: i64,
    phase: Phase,
    tries: BTreeMap<u32, Try>,
    /// By number: the amount, and whether the money was moved.
    captures: BTreeMap<u32, (i64, bool)>,
    refunds: BTreeMap<u32, (i64, bool)>,
    /// Units that were shipped, or refunded before they were shipped.
    out: i64,
    parcels: usize,
    given_up: BTreeSet<String>,
    alert: bool,
}

fn sum(all: impl Iterator<Item = i64>) -> i64 {
    all.sum()
}

impl Ledger {
    fn held(&self) -> i64 {
        sum(self.tries.values().map(|one| if let Try::Held(amount) = one { *amount } else { 0 }))
    }

    fn captured(&self) -> i64 {
        sum(self.captures.values().filter(|(_, done)| *done).map(|(amount, _)| *amount))
    }

    fn refunded(&self) -> i64 {
        sum(self.refunds.values().filter(|(_, done)| *done).map(|(amount, _)| *amount))
    }

    /// The amount of refunds that are done or pending.
    fn to_refund(&self) -> i64 {
        let counts = |(number, (_, done)): &(&u32, &(i64, bool))| {
            *done || !self.given_up.contains(&format!("refund:{number}"))
        };
        sum(self.refunds.iter().filter(counts).map(|(_, (amount, _))| *amount))
    }

    fn open(&self, attempt: u32) -> bool {
        matches!(self.tries.get(&attempt), Some(Try::Asked | Try::Unknown))
    }

    /// Folds an event, and panics if it is not allowed.
    #[track_caller]
    pub(super) fn fold(&mut self, event: &Event) {
        match event {
            Event::Placed { placed, .. } => {
                assert_eq!(self.phase, Phase::Absent, "placed twice");
                self.total = placed.totals.total;
                self.units = sum(placed.lines.iter().map(|line| line.quantity));
                self.phase = Phase::Reserving;
            }
            Event::PaymentRetried { .. } => self.go(&[Phase::AwaitingPayment], Phase::Reserving),
            Event::Reserved { .. } => self.go(&[Phase::Reserving], Phase::Committing),
            Event::HoldLapsed { .. } => self.go(&[Phase::Committing], Phase::Reserving),
            Event::Confirmed { .. } => {
                assert!(self.held().max(self.captured()) >= self.total, "confirmed unpaid");
                assert!(!self.alert, "confirmed in spite of an alert");
                self.go(&[Phase::Committing], Phase::Confirmed);
            }
            Event::CancelRequested { .. } => {
                assert!(!matches!(
                    self.phase,
                    Phase::Absent | Phase::Cancelling | Phase::Cancelled
                ));
                (self.phase, self.alert) = (Phase::Cancelling, false);
            }
            Event::Cancelled {} => {
                let left = |step: &str| !self.given_up.iter().any(|one| one.starts_with(step));
                assert!(self.held() <= self.captured() || !left("void:"), "money is still held");
                let open = self.tries.keys().any(|attempt| self.open(*attempt));
                assert!(!open || !left("reverse:"), "an attempt is still unknown");
                let owed = self.refunded() < self.to_refund();
                assert!(!owed || !left("refund:"), "money is still owed");
                self.go(&[Phase::Cancelling], Phase::Cancelled);
            }
            Event::AlertRaised { .. } => self.alert = true,
            Event::AlertCleared { .. } => self.alert = false,
            Event::StepSkipped { step, .. } => {
                self.given_up.insert(step.clone());
            }
            Event::Fulfilled { fulfillment } => {
                self.parcels += 1;
                self.out += sum(fulfillment.lines.iter().map(|line| line.quantity));
                assert!(self.out <= self.units, "more went out than was bought");
            }
            _ => self.fold_money(event),
        }
    }

    #[track_caller]
    fn go(&mut self, from: &[Phase], to: Phase) {
        assert!(from.contains(&self.phase), "from {:?} to {to:?}", self.phase);
        self.phase = to;
    }

    #[track_caller]
    fn fold_money(&mut self, event: &Event) {
        match event {
            Event::PaymentRequested { attempt, amount, .. } => {
                let others = self.tries.keys().any(|other| self.open(*other));
                assert!(!others, "an attempt while another one is unknown");
                assert_eq!((self.held(), *amount), (0, self.total), "asked for twice");
                assert!(self.tries.insert(*attempt, Try::Asked).is_none());
                self.go(&[Phase::Reserving], Phase::Paying);
            }
            Event::PaymentPending { attempt, .. } => self.turn(*attempt, Try::Asked),
            Event::PaymentUnknown { attempt, .. } => self.turn(*attempt, Try::Unknown),
            Event::PaymentAuthorized { attempt, amount, .. } => {
                self.turn(*attempt, Try::Held(*amount));
                if self.phase == Phase::Paying {
                    self.phase = Phase::Committing;
                }
            }
            Event::PaymentDeclined { attempt, .. } => self.fail(*attempt, Try::Declined),
            Event::PaymentGivenUp { attempt } => {
                assert!(self.open(*attempt), "only an open attempt is given up");
                self.go(&[Phase::Paying], Phase::AwaitingPayment);
            }
            Event::PaymentReversed { attempt } => self.fail(*attempt, Try::Gone),
            Event::PaymentVoided { attempt } => {
                assert!(matches!(self.tries.get(attempt), Some(Try::Held(_))), "nothing to void");
                self.tries.insert(*attempt, Try::Gone);
            }
            Event::CaptureRequested { capture, amount } => {
                assert!(self.captures.insert(*capture, (*amount, false)).is_none());
            }
            Event::Captured { capture, amount, .. } => {
                let before = self.captures.insert(*capture, (*amount, true));
                assert!(before.is_none_or(|(_, done)| !done), "captured twice");
            }
            Event::RefundRequested { refund } => {
                let before = self.refunds.insert(refund.number, (refund.amount, false));
                assert!(before.is_none(), "two refunds have a number");
                self.out += sum(refund.lines.iter().map(|line| line.unshipped));
                assert!(self.to_refund() <= self.captured(), "more is refunded than was captured");
            }
            Event::Refunded { refund, .. } => {
                let (amount, done) = self.refunds[refund];
                assert!(!done, "refunded twice");
                self.refunds.insert(*refund, (amount, true));
            }
            _ => {}
        }
    }

    #[track_caller]
    fn turn(&mut self, attempt: u32, to: Try) {
        assert!(self.open(attempt), "attempt {attempt} was decided before");
        self.tries.insert(attempt, to);
    }

    #[track_caller]
    fn fail(&mut self, attempt: u32, to: Try) {
        self.turn(attempt, to);
        if self.phase == Phase::Paying {
            self.phase = Phase::AwaitingPayment;
        }
    }

    /// Compares the ledger with the order.
    #[track_caller]
    pub(super) fn check(&self, order: &Order) {
        assert_eq!(order.phase(), self.phase);
        let (held, captured, refunded) = (self.held(), self.captured(), self.refunded());
        let sums =
            [order.authorized(), order.captured(), order.refunded(), order.refunds_requested()];
        assert_eq!(sums, [held.max(captured), captured, refunded, self.to_refund()], "the sums");
        assert!(refunded <= captured, "more was refunded than captured");
        let over = matches!(self.phase, Phase::Cancelling | Phase::Cancelled);
        let charged = self.total - order.waived();
        assert_eq!(order.due(), if over { 0 } else { charged - self.to_refund() }, "due");
        assert_eq!(order.payment_status(), self.payment_status(order.waived()));
        let goods = match self.parcels {
            0 if self.out < self.units => FulfillmentStatus::Unfulfilled,
            0 => FulfillmentStatus::NotRequired,
            _ if self.out < self.units => FulfillmentStatus::Partial,
            _ => FulfillmentStatus::Fulfilled,
        };
        assert_eq!(order.fulfillment_status(), goods);
        assert_eq!(order.status(), self.status(order, goods));
    }

    fn payment_status(&self, waived: i64) -> PaymentStatus {
        let (held, captured, refunded) = (self.held(), self.captured(), self.refunded());
        match self.tries.values().last() {
            _ if captured > 0 && refunded >= captured => PaymentStatus::Refunded,
            _ if captured > 0 && refunded > 0 => PaymentStatus::PartiallyRefunded,
            _ if captured > 0 && captured < held - waived => PaymentStatus::PartiallyCaptured,
            _ if captured > 0 => PaymentStatus::Captured,
            _ if held > 0 => PaymentStatus::Authorized,
            None => PaymentStatus::None,
            Some(Try::Asked) => PaymentStatus::Requested,
            Some(Try::Unknown) => PaymentStatus::Unknown,
            Some(Try::Held(_)) => PaymentStatus::Authorized,
            Some(Try::Declined) => PaymentStatus::Declined,
            Some(Try::Gone) => PaymentStatus::Voided,
        }
    }

    fn status(&self, order: &Order, goods: FulfillmentStatus) -> OrderStatus {
        if self.alert || !order.stuck().is_empty() {
            return OrderStatus::Stuck;
        }
        let settled =
            self.captured() - self.refunded() == self.total - order.waived() - self.to_refund();
        match (self.phase, goods) {
            (Phase::AwaitingPayment, _) => OrderStatus::AwaitingPayment,
            // The provider has accepted the attempt and will report its outcome, or has not
            // answered.
            (Phase::Paying, _)
                if order
                    .attempts()
                    .last()
                    .is_some_and(|one| !matches!(one.state, AttemptState::Requested)) =>
            {
                OrderStatus::AwaitingPayment
            }
            (Phase::Cancelling | Phase::Cancelled, _) => OrderStatus::Cancelled,
            (Phase::Confirmed, FulfillmentStatus::Unfulfilled) => OrderStatus::Confirmed,
            (Phase::Confirmed, FulfillmentStatus::NotRequired) => OrderStatus::Refunded,
            (Phase::Confirmed, FulfillmentStatus::Partial) => OrderStatus::PartiallyFulfilled,
            (Phase::Confirmed, FulfillmentStatus::Fulfilled) if settled => OrderStatus::Completed,
            (Phase::Confirmed, FulfillmentStatus::Fulfilled) => OrderStatus::Fulfilled,
            _ => OrderStatus::Pending,
        }
    }
}
