//! `evolve` of an order: applies an event to the state. An event has already happened, so nothing
//! is rejected here.

use std::collections::BTreeSet;

use super::command::{Command, Rejection};
use super::ledger::{Attempt, AttemptState, Capture};
use super::{Cancellation, Effect, Event, Order, Phase};
use crate::domain::entity::{self, Issuer};
use crate::domain::time::Timestamp;

impl entity::Noun for Order {
    const PREFIX: &'static str = "ord";
    const NAME: &'static str = "order";
    const STATE_VERSION: u32 = 2;

    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;
    type Effect = Effect;

    fn has_outcome(&self) -> bool {
        Self::has_outcome(self)
    }

    fn may_issue(issuer: Issuer, command: &Command) -> bool {
        let of_buyers =
            matches!(command, Command::Place { .. } | Command::Pay { .. } | Command::Abandon);
        match issuer {
            Issuer::Buyer => of_buyers,
            Issuer::Staff => of_buyers || command.is_of_staff(),
            Issuer::Shop => true,
        }
    }

    fn command_name(command: &Command) -> &'static str {
        command.into()
    }

    fn decide(&self, command: &Command, now: Timestamp) -> Result<Vec<Event>, Rejection> {
        self.decide_command(command, now)
    }

    fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Confirmed | Phase::Cancelled)
    }

    fn evolve(&mut self, event: &Event, at: Timestamp) {
        self.updated_at = at;
        match event {
            Event::Placed { .. }
            | Event::HoldYielded { .. }
            | Event::PaymentRetried { .. }
            | Event::Reserved { .. }
            | Event::HoldLapsed { .. }
            | Event::Confirmed { .. } => self.evolve_checkout(event, at),
            Event::PaymentRequested { .. }
            | Event::PaymentPending { .. }
            | Event::PaymentUnknown { .. }
            | Event::PaymentAuthorized { .. }
            | Event::PaymentDeclined { .. }
            | Event::PaymentGivenUp { .. }
            | Event::PaymentReversed { .. }
            | Event::PaymentVoided { .. } => self.evolve_payment(event),
            Event::CaptureRequested { .. }
            | Event::Captured { .. }
            | Event::RefundRequested { .. }
            | Event::Refunded { .. }
            | Event::RefundRestocked { .. }
            | Event::Fulfilled { .. }
            | Event::Shipped { .. }
            | Event::TrackingCorrected { .. } => self.evolve_after_sale(event),
            Event::CancelRequested { reason, shortages } => {
                let (reason, shortages) = (reason.clone(), shortages.clone());
                self.cancellation = Some(Cancellation { reason, shortages });
                self.phase = Phase::Cancelling;
                self.alert = None;
                self.stuck.clear();
            }
            Event::Cancelled {} => {
                self.phase = Phase::Cancelled;
            }
            Event::Stuck { step, why } => {
                self.stuck.insert(step.clone(), why.clone());
            }
            Event::RetryRequested { .. } => self.stuck.clear(),
            Event::StepSkipped { step, .. } => {
                self.stuck.remove(step);
                self.skipped.insert(step.clone());
            }
            Event::AlertRaised { alert } => self.alert = Some(alert.clone()),
            Event::AlertCleared { .. } => self.alert = None,
            Event::PersonalDataErased {} => self.erased = true,
            Event::LegalHoldPlaced { reason } => self.legal_hold = Some(reason.clone()),
            Event::LegalHoldReleased {} => self.legal_hold = None,
        }
        if !self.stuck.is_empty() {
            let wanted: BTreeSet<_> = self.wanted().iter().map(Effect::step).collect();
            self.stuck.retain(|step, _| wanted.contains(step));
        }
    }

    fn effects(&self) -> Vec<Effect> {
        self.active_effects()
    }

    fn timer(&self) -> Option<Timestamp> {
        self.next_timer()
    }

    fn on_timer(&self, now: Timestamp) -> Vec<Event> {
        self.deadline(now)
    }

    fn weight(&self) -> usize {
        1 + self.placed.as_ref().map_or(0, |placed| placed.lines.len())
    }
}

impl Order {
    fn evolve_checkout(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::Placed { placed, method } => {
                self.placed = Some(placed.clone());
                self.placed_at = at;
                self.method.clone_from(method);
                self.generation = 1;
                self.phase = Phase::Reserving;
            }
            Event::PaymentRetried { method } => {
                self.method = Some(method.clone());
                self.generation += 1;
                self.hold_yields = false;
                self.phase = Phase::Reserving;
            }
            Event::HoldYielded { .. } => self.hold_yields = true,
            Event::Reserved { .. } => self.phase = Phase::Committing,
            Event::HoldLapsed { .. } => {
                self.generation += 1;
                self.phase = Phase::Reserving;
            }
            Event::Confirmed { number } => {
                self.number = Some(*number);
                self.phase = Phase::Confirmed;
            }
            _ => {}
        }
    }

    fn evolve_payment(&mut self, event: &Event) {
        match event {
            Event::PaymentRequested { attempt, provider, amount } => {
                self.attempts.push(Attempt {
                    number: *attempt,
                    provider: provider.clone(),
                    amount: *amount,
                    state: AttemptState::Requested,
                    payment: None,
                    once_authorized: None,
                    action: None,
                });
                self.phase = Phase::Paying;
            }
            Event::PaymentPending { attempt, payment, action } => {
                self.set_attempt(*attempt, AttemptState::Pending, Some(payment));
                for one in self.attempts.iter_mut().filter(|one| one.number == *attempt) {
                    one.action.clone_from(action);
                }
            }
            Event::PaymentUnknown { attempt, why } => {
                self.set_attempt(*attempt, AttemptState::Unknown { why: why.clone() }, None);
            }
            Event::PaymentAuthorized { attempt, payment, amount } => {
                let state = AttemptState::Authorized { amount: *amount };
                self.set_attempt(*attempt, state, Some(payment));
                for one in self.attempts.iter_mut().filter(|one| one.number == *attempt) {
                    one.once_authorized = Some(*amount);
                }
                if self.phase == Phase::Paying {
                    self.phase = Phase::Committing;
                    self.method = None;
                }
            }
            Event::PaymentDeclined { attempt, code } => {
                self.set_attempt(*attempt, AttemptState::Declined { code: code.clone() }, None);
                self.await_payment();
            }
            Event::PaymentGivenUp { .. } => self.await_payment(),
            Event::PaymentReversed { attempt } => {
                self.set_attempt(*attempt, AttemptState::Reversed, None);
                self.await_payment();
            }
            Event::PaymentVoided { attempt } => {
                self.set_attempt(*attempt, AttemptState::Voided, None);
            }
            _ => {}
        }
    }

    fn evolve_after_sale(&mut self, event: &Event) {
        match event {
            Event::CaptureRequested { capture, amount } => {
                self.captures.push(Capture { number: *capture, amount: *amount, operation: None })
            }
            Event::Captured { capture, amount, operation } => {
                let operation = Some(operation.clone());
                match self.captures.iter_mut().find(|one| one.number == *capture) {
                    Some(one) => {
                        one.amount = *amount;
                        one.operation = operation;
                    }
                    None => {
                        let (number, amount) = (*capture, *amount);
                        self.captures.push(Capture { number, amount, operation });
                    }
                }
            }
            Event::RefundRequested { refund } => self.refunds.push((**refund).clone()),
            Event::Refunded { refund, operation } => {
                for one in self.refunds.iter_mut().filter(|one| one.number == *refund) {
                    one.operation = Some(operation.clone());
                }
            }
            Event::RefundRestocked { refund } => {
                for one in self.refunds.iter_mut().filter(|one| one.number == *refund) {
                    one.restocked = true;
                }
            }
            Event::Fulfilled { fulfillment } => self.fulfillments.push((**fulfillment).clone()),
            Event::Shipped { fulfillment } => {
                for one in self.fulfillments.iter_mut().filter(|one| one.number == *fulfillment) {
                    one.shipped = true;
                }
            }
            Event::TrackingCorrected { fulfillment, tracking } => {
                for one in self.fulfillments.iter_mut().filter(|one| one.number == *fulfillment) {
                    one.tracking = tracking.as_deref().cloned();
                }
            }
            _ => {}
        }
    }

    fn set_attempt(&mut self, number: u32, state: AttemptState, payment: Option<&String>) {
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.number == number) {
            attempt.state = state.clone();
            attempt.action = None;
            if let Some(payment) = payment {
                attempt.payment = Some(payment.clone());
            }
        }
    }

    /// Lets the buyer make another payment attempt, after the current one has failed.
    fn await_payment(&mut self) {
        if self.phase == Phase::Paying {
            self.phase = Phase::AwaitingPayment;
            self.method = None;
        }
    }
}
