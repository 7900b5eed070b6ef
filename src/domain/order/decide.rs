//! `decide` of an order: the events of each command. Pure: the same state, command and time give
//! the same events.

use std::collections::BTreeMap;

use super::buyer::ATTEMPTS_MAX;
use super::command::{
    Command, FulfillmentRequest, RefundLineRequest, RefundPart, RefundRequest, Rejection,
};
use super::effect::POLICY_CAPTURE;
use super::ledger::{
    Attempt, AttemptState, Fulfillment, FulfillmentLine, ProviderReport, Refund, RefundFrom,
    RefundLine, TrackingPatch,
};
use super::{
    CancelCause, Cancellation, CapturePolicy, Effect, Event, Order, PaymentMethod, Phase, Shortage,
};
use crate::domain::entity::Noun as _;
use crate::domain::money::Currency;
use crate::domain::time::{Span, Timestamp};
use crate::seeded_fault::{self, SeededFault};

/// How long after its last change an order with pending work is woken again.
const NUDGE: Span = Span::from_secs(300);

/// The alert when a provider authorized another amount than requested.
const AMOUNT_MISMATCH: &str = "amount_mismatch";

/// The alert when an authorization was voided without the order's request.
const VOIDED_ELSEWHERE: &str = "voided_elsewhere";

pub(super) type Decision = Result<Vec<Event>, Rejection>;

impl Order {
    pub(super) fn decide_command(&self, command: &Command, now: Timestamp) -> Decision {
        if self.placed.is_none() && !matches!(command, Command::Place { .. }) {
            return Err(Rejection::NotFound);
        }
        match command {
            Command::Place { placed, method } if self.placed.is_none() => {
                let free = placed.totals.total <= 0;
                if !free && method.is_none() {
                    return Err(Rejection::PaymentRequired);
                }
                let kept = !free || seeded_fault::active(SeededFault::FreeOrderPaid);
                let method = method.clone().filter(|_| kept);
                Ok(vec![Event::Placed { placed: placed.clone(), method }])
            }
            Command::Place { method, .. } | Command::Pay { method } => {
                self.pay(method.as_ref(), now)
            }
            Command::Reserved { generation } => Ok(self.reserved(*generation)),
            Command::OutOfStock { generation, shortages } => {
                Ok(self.out_of_stock(*generation, shortages))
            }
            Command::Report { attempt, report } => Ok(self.report(*attempt, report)),
            Command::FromProvider { provider, currency, attempt, command } => {
                self.check_source(provider, *currency, *attempt, command)?;
                self.decide_command(command, now)
            }
            Command::HoldYielded { generation } => {
                let current = self.phase == Phase::AwaitingPayment
                    && self.generation == *generation
                    && !self.hold_yields;
                Ok(some(current, Event::HoldYielded { generation: *generation }))
            }
            Command::HoldLapsed { generation } => {
                let current = self.phase == Phase::Committing && self.generation == *generation;
                Ok(some(current, Event::HoldLapsed { generation: *generation }))
            }
            Command::Confirm { number } => {
                let committing =
                    self.phase == Phase::Committing && self.paid() && self.alert.is_none();
                Ok(some(committing, Event::Confirmed { number: *number }))
            }
            Command::Captured { capture, amount, operation } => {
                self.captured_now(*capture, *amount, operation)
            }
            Command::Refunded { refund, amount, operation } => {
                self.refunded_now(*refund, *amount, operation, now)
            }
            Command::RefundRestocked { refund } => {
                let open = self.refund(*refund).is_some_and(|one| !one.restocked);
                Ok(some(open, Event::RefundRestocked { refund: *refund }))
            }
            Command::Shipped { fulfillment } => {
                let mut all = self.fulfillments.iter();
                let open = all.any(|one| one.number == *fulfillment && !one.shipped);
                Ok(some(open, Event::Shipped { fulfillment: *fulfillment }))
            }
            Command::Released => {
                let last = self.wanted().iter().any(|one| matches!(one, Effect::Release { .. }));
                Ok(some(last, Event::Cancelled {}))
            }
            Command::GiveUp { step, why } => {
                let wanted = self.active_effects().iter().any(|effect| effect.step() == *step);
                let (step, why) = (step.clone(), why.clone());
                Ok(some(wanted, Event::Stuck { step, why }))
            }
            Command::Erase if self.needs_buyer() => Err(Rejection::WrongState {
                what: "the order is not complete: it needs the buyer's data".into(),
            }),
            Command::Erase if self.legal_hold().is_some() => {
                Err(Rejection::WrongState { what: "the order is under a legal hold".into() })
            }
            Command::Erase => Ok(some(!self.erased, Event::PersonalDataErased {})),
            Command::PlaceLegalHold { .. } if self.erased => Err(Rejection::WrongState {
                what: "the buyer's data are erased: there is nothing to hold".into(),
            }),
            Command::PlaceLegalHold { reason } => {
                let changes = self.legal_hold.as_ref() != Some(reason);
                Ok(some(changes, Event::LegalHoldPlaced { reason: reason.clone() }))
            }
            Command::ReleaseLegalHold => {
                Ok(some(self.legal_hold.is_some(), Event::LegalHoldReleased {}))
            }
            Command::RaiseAlert { alert } => {
                let alert = alert.clone();
                Ok(some(self.alert.is_none(), Event::AlertRaised { alert }))
            }
            Command::Abandon => self.abandon(),
            Command::Cancel { reason } => self.cancel(reason),
            Command::Refund(request) => {
                self.refund_request(request, now).map(|events| self.and_captures(events, now))
            }
            Command::Capture { amount } => self.capture(*amount),
            Command::Fulfill(request) => {
                self.fulfill(request, now).map(|events| self.and_captures(events, now))
            }
            Command::CorrectTracking { fulfillment, tracking } => {
                self.correct_tracking(*fulfillment, tracking.as_ref())
            }
            Command::Retry { reason } => self.retry(reason),
            Command::Skip { step, reason } => self.skip(step.as_deref(), reason),
        }
    }

    /// Checks that a provider's account may send this report on an attempt: the attempt was made
    /// with this account, and, for a capture or a refund, has or had an authorization there.
    fn check_source(
        &self,
        provider: &str,
        currency: Currency,
        attempt: u32,
        command: &Command,
    ) -> Result<(), Rejection> {
        let moves = matches!(command, Command::Captured { .. } | Command::Refunded { .. });
        let made = |one: &Attempt| {
            one.number == attempt && one.provider == provider && (one.held() || !moves)
        };
        let placed = self.placed.as_ref().map(|placed| placed.currency);
        if !self.attempts.iter().any(made) {
            return Err(wrong("no payment of the order was made there"));
        }
        match placed.filter(|placed| *placed != currency) {
            None => Ok(()),
            Some(placed) => {
                let (paid, placed) = (currency.code(), placed.code());
                let what = format!("the payment is in {paid}, and its order in {placed}").into();
                Err(Rejection::WrongState { what })
            }
        }
    }

    /// The required effects that are neither stuck nor skipped; none while there is an alert.
    pub(super) fn active_effects(&self) -> Vec<Effect> {
        if self.alert.is_some() {
            return Vec::new();
        }
        let mut wanted = self.wanted();
        wanted.retain(|effect| {
            let step = effect.step();
            !self.stuck.contains_key(&step) && !self.skipped.contains(&step)
        });
        wanted
    }

    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        let placed = self.placed.as_ref()?;
        match self.phase {
            Phase::Reserving | Phase::Paying | Phase::AwaitingPayment if self.authorized() == 0 => {
                Some(placed.deadline_at)
            }
            Phase::Absent => None,
            _ => {
                let left = self.wanted();
                let open = left.iter().any(|effect| !self.skipped.contains(&effect.step()));
                open.then(|| self.updated_at + NUDGE)
            }
        }
    }

    pub(super) fn deadline(&self, now: Timestamp) -> Vec<Event> {
        let Some(placed) = &self.placed else {
            return Vec::new();
        };
        let late = self.abandonable() && now >= placed.deadline_at;
        some(late, Cancellation::automatic(CancelCause::PaymentDeadline, Vec::new()))
    }

    fn pay(&self, method: Option<&PaymentMethod>, now: Timestamp) -> Decision {
        let retried = || match method {
            Some(method) => Ok(vec![Event::PaymentRetried { method: method.clone() }]),
            None => Err(Rejection::PaymentRequired),
        };
        let in_time = self.placed.as_ref().is_some_and(|placed| now < placed.deadline_at);
        match self.phase {
            Phase::AwaitingPayment if self.has_open_reversal() => Err(Rejection::InProgress),
            Phase::AwaitingPayment if self.attempts.len() >= ATTEMPTS_MAX => {
                Err(wrong("the order has too many payment attempts"))
            }
            Phase::AwaitingPayment if in_time => retried(),
            Phase::Paying
                if seeded_fault::active(SeededFault::SecondAttemptWhileUnknown)
                    && self.attempts.last().is_some_and(Attempt::open) =>
            {
                retried()
            }
            Phase::Reserving | Phase::Paying | Phase::Committing => Err(Rejection::InProgress),
            phase => Err(Rejection::NotPayable { phase }),
        }
    }

    fn reserved(&self, generation: u32) -> Vec<Event> {
        if self.phase != Phase::Reserving || self.generation != generation {
            return Vec::new();
        }
        match &self.method {
            Some(method) if self.authorized() == 0 => vec![Event::PaymentRequested {
                attempt: u32::try_from(self.attempts.len()).unwrap_or(u32::MAX).saturating_add(1),
                provider: method.provider.clone(),
                amount: self.total(),
            }],
            _ if self.paid() => vec![Event::Reserved { generation }],
            _ => Vec::new(),
        }
    }

    fn out_of_stock(&self, generation: u32, shortages: &[Shortage]) -> Vec<Event> {
        let current = self.phase == Phase::Reserving && self.generation == generation;
        some(current, Cancellation::automatic(CancelCause::OutOfStock, shortages.to_vec()))
    }

    fn report(&self, number: u32, report: &ProviderReport) -> Vec<Event> {
        let Some(attempt) = self.attempts.iter().find(|attempt| attempt.number == number) else {
            return Vec::new();
        };
        let attempt_number = number;
        match report {
            // The order has given up this attempt; its reversal will undo the authorization, too.
            ProviderReport::Authorized { .. } if self.phase == Phase::AwaitingPayment => Vec::new(),
            ProviderReport::Authorized { payment, amount } if attempt.open() => {
                let mut events = vec![Event::PaymentAuthorized {
                    attempt: attempt_number,
                    payment: payment.clone(),
                    amount: *amount,
                }];
                let same = *amount == attempt.amount
                    || seeded_fault::active(SeededFault::AmountNotCompared);
                if !same && self.phase == Phase::Paying {
                    events.push(Event::AlertRaised { alert: AMOUNT_MISMATCH.to_owned() });
                }
                events
            }
            ProviderReport::Declined { code } if attempt.open() => {
                vec![Event::PaymentDeclined { attempt: attempt_number, code: code.clone() }]
            }
            ProviderReport::Pending { payment, action }
                if matches!(
                    attempt.state,
                    AttemptState::Requested | AttemptState::Unknown { .. }
                ) =>
            {
                let (payment, action) = (payment.clone(), action.clone());
                vec![Event::PaymentPending { attempt: attempt_number, payment, action }]
            }
            ProviderReport::Unknown { why } if attempt.state == AttemptState::Requested => {
                vec![Event::PaymentUnknown { attempt: attempt_number, why: why.clone() }]
            }
            ProviderReport::Unheard if attempt.open() && self.phase == Phase::Paying => {
                vec![Event::PaymentGivenUp { attempt: attempt_number }]
            }
            ProviderReport::Reversed | ProviderReport::Voided if attempt.open() => {
                vec![Event::PaymentReversed { attempt: attempt_number }]
            }
            ProviderReport::Reversed | ProviderReport::Voided if attempt.authorized() > 0 => {
                let mut events = vec![Event::PaymentVoided { attempt: attempt_number }];
                let unasked =
                    matches!(self.phase, Phase::Reserving | Phase::Committing | Phase::Confirmed);
                let missed = self.captured() == 0 || self.has_more_to_capture();
                if unasked && missed && !self.releases_rest() {
                    events.push(Event::AlertRaised { alert: VOIDED_ELSEWHERE.to_owned() });
                }
                events
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn next_refund(&self) -> u32 {
        u32::try_from(self.refunds.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    pub(super) fn refund(&self, number: u32) -> Option<&Refund> {
        self.refunds.iter().find(|one| one.number == number)
    }

    fn cancel(&self, reason: &str) -> Decision {
        match self.phase {
            Phase::Cancelling | Phase::Cancelled => return Ok(Vec::new()),
            Phase::Committing if self.stuck.is_empty() && self.alert.is_none() => {
                return Err(wrong("the order is being confirmed: try again in a second"));
            }
            Phase::Confirmed if !self.fulfillments.is_empty() => {
                return Err(wrong("goods were shipped: refund what is returned instead"));
            }
            _ => {}
        }
        let reason = reason.to_owned();
        let mut events = vec![Event::CancelRequested { reason, shortages: Vec::new() }];
        let left = self.captured() - self.refunds_requested();
        if left > 0 {
            events.push(self.give_back(left));
        }
        Ok(events)
    }

    fn refund_request(&self, request: &RefundRequest, now: Timestamp) -> Decision {
        let amount_only = request.lines.is_empty() && request.delivery == 0;
        match self.phase {
            Phase::Confirmed => {}
            Phase::Cancelled if amount_only => {}
            Phase::Cancelled => {
                return Err(wrong("a cancelled order has no goods: refund an amount only"));
            }
            _ => return Err(wrong("only a confirmed or cancelled order can be refunded")),
        }
        let (lines, mut rejections) = self.refund_lines_of(request);
        rejections.extend(self.check_delivery_refund(request.delivery).err());
        Rejection::check(rejections)?;
        let mut limit = (self.captured() - self.refunds_requested()).max(0);
        if seeded_fault::active(SeededFault::RefundNotCapped) {
            limit = i64::MAX;
        }
        let rest = [request.delivery, request.free];
        let amounts = || lines.iter().map(|line| line.amount).chain(rest);
        let amount = i64::try_from(amounts().map(i128::from).sum::<i128>())
            .ok()
            .filter(|amount| *amount <= limit && amounts().all(|part| part >= 0))
            .ok_or_else(|| too_large(limit, &lines, request))?;
        if amount == 0 && lines.is_empty() {
            return Err(Rejection::Nothing {
                what: "must have units, unless delivery or amount is above 0".into(),
            });
        }
        Ok(vec![Event::RefundRequested {
            refund: Box::new(Refund {
                number: self.next_refund(),
                restocked: lines.iter().all(|line| line.unshipped + line.shipped == 0),
                lines,
                delivery: request.delivery,
                free: request.free,
                amount,
                restock: request.restock,
                reason: request.reason.clone(),
                requested_at: now,
                operation: None,
            }),
        }])
    }

    fn check_delivery_refund(&self, amount: i64) -> Result<(), Rejection> {
        let limit = self.delivery_due() - self.refunded_delivery();
        let part = RefundPart::Delivery;
        if amount > limit { Err(Rejection::RefundTooLarge { limit, part }) } else { Ok(()) }
    }

    /// The lines of a refund with their amounts, and why lines are rejected. The share of units a
    /// to b is the share of the first b units minus the share of the first a - 1 units, so that the
    /// shares of all units add up to the price paid for the line in spite of rounding. Unless the
    /// request has an amount, what can be waived is not refunded (see `waived`).
    fn refund_lines_of(&self, request: &RefundRequest) -> (Vec<RefundLine>, Vec<Rejection>) {
        let mut lines: Vec<RefundLine> = Vec::with_capacity(request.lines.len());
        let mut rejections = Vec::new();
        let mut uncaptured = self.uncharged();
        for wanted in &request.lines {
            if lines.iter().any(|other| other.line == wanted.line) {
                rejections.push(wrong("each line may be named only once"));
                continue;
            }
            match self.refund_line(wanted, &mut uncaptured) {
                Ok(line) => lines.push(line),
                Err(rejection) => rejections.push(rejection),
            }
        }
        (lines, rejections)
    }

    /// A line of a refund; `uncaptured` is what is still to be captured, and is reduced by what
    /// this line waives of it.
    fn refund_line(
        &self,
        wanted: &RefundLineRequest,
        uncaptured: &mut i64,
    ) -> Result<RefundLine, Rejection> {
        let included = self.placed.as_ref().is_some_and(|placed| placed.totals.tax_included);
        let number = wanted.line;
        let line = self.line(number).ok_or(Rejection::UnknownLine { line: number })?;
        let (open, away) = (self.unshipped(number).max(0), self.away(number).max(0));
        let left = line.quantity - self.refunded_units(number);
        let limit = match wanted.from {
            None => left,
            Some(RefundFrom::Unfulfilled) => left.min(open),
            Some(RefundFrom::Fulfilled) => left.min(away),
        };
        if wanted.quantity < 1 || wanted.quantity > limit {
            return Err(Rejection::TooManyUnits { line: number, limit });
        }
        let waived = self.line_waived(line).min(self.waived());
        let left = (line.due(included) - self.refunded_amount(number) - waived).max(0);
        let units = self.refunded_units(number);
        let returned = wanted.from == Some(RefundFrom::Fulfilled)
            && !seeded_fault::active(SeededFault::RefundFromIgnored);
        let unshipped = if returned { 0 } else { wanted.quantity.min(open) };
        let price = self.share(line, units + wanted.quantity) - self.share(line, units);
        let waivable = match self.policy() {
            Some(CapturePolicy::AtDispatch) => {
                let all = units + wanted.quantity;
                self.share(line, all) - self.share(line, all - unshipped)
            }
            Some(CapturePolicy::ByHand) => price,
            _ => 0,
        };
        let amount = wanted.amount.unwrap_or_else(|| {
            let waives = waivable.min(*uncaptured);
            *uncaptured -= waives;
            (price - waives).clamp(0, left)
        });
        if amount > left {
            let part = RefundPart::Line(number);
            return Err(Rejection::RefundTooLarge { limit: left, part });
        }
        let shipped = (wanted.quantity - unshipped).min(away);
        let moved = wanted.quantity - unshipped - shipped;
        let from = wanted.from;
        Ok(RefundLine { line: number, unshipped, shipped, moved, amount, from })
    }

    fn capture(&self, amount: Option<i64>) -> Decision {
        if self.phase != Phase::Confirmed {
            return Err(wrong("only a confirmed order can be captured"));
        }
        let asked = |effect: &Effect| {
            matches!(effect, Effect::Capture { .. }) && !self.skipped.contains(&effect.step())
        };
        if self.wanted().iter().any(asked) {
            return Err(wrong("a capture is in progress"));
        }
        let limit = self.left_to_capture();
        let amount = amount.unwrap_or(limit);
        if amount < 1 || amount > limit {
            return Err(Rejection::CaptureTooLarge { limit });
        }
        Ok(vec![Event::CaptureRequested { capture: self.next_capture(), amount }])
    }

    pub(super) fn next_capture(&self) -> u32 {
        let policy = self.policy_captures().then_some(POLICY_CAPTURE);
        let last = self.captures.iter().map(|one| one.number).chain(policy).max().unwrap_or(0);
        last.saturating_add(1)
    }

    /// Adds a request for the capture that these events make due, if the order is captured at
    /// dispatch.
    fn and_captures(&self, mut events: Vec<Event>, now: Timestamp) -> Vec<Event> {
        let forgotten = seeded_fault::active(SeededFault::ShipmentNotCaptured);
        if !self.captures_at_dispatch() || forgotten && !self.captures.is_empty() {
            return events;
        }
        let mut after = self.clone();
        for event in &events {
            after.evolve(event, now);
        }
        let mut amount = after.uncaptured_shipments();
        // A shipment also captures the amount of skipped captures; a refund does not.
        if !events.iter().any(|event| matches!(event, Event::Fulfilled { .. })) {
            amount = amount.min(after.due_at_dispatch() - self.due_at_dispatch());
        }
        if amount > 0 {
            events.push(Event::CaptureRequested { capture: after.next_capture(), amount });
        }
        events
    }

    fn fulfill(&self, request: &FulfillmentRequest, now: Timestamp) -> Decision {
        if self.phase != Phase::Confirmed {
            return Err(wrong("only a confirmed order can be fulfilled"));
        }
        if self.alert.is_some() {
            return Err(wrong("an order with an alert cannot be fulfilled: clear the alert first"));
        }
        let mut units: BTreeMap<u32, i64> = BTreeMap::new();
        let mut rejections = Vec::new();
        for (line, quantity) in &request.lines {
            if self.line(*line).is_none() {
                rejections.push(Rejection::UnknownLine { line: *line });
                continue;
            }
            let units = units.entry(*line).or_insert(0);
            *units = units.saturating_add(*quantity);
            let limit = self.unshipped(*line);
            if *quantity < 1 || *units > limit {
                rejections.push(Rejection::TooManyUnits { line: *line, limit });
            }
        }
        Rejection::check(rejections)?;
        if request.lines.is_empty() {
            let all = self.placed.iter().flat_map(|placed| &placed.lines);
            units = all.map(|line| (line.id, self.unshipped(line.id))).collect();
            units.retain(|_, quantity| *quantity > 0);
        }
        if units.is_empty() {
            return Err(Rejection::Nothing { what: "nothing is left to fulfill".into() });
        }
        let number = u32::try_from(self.fulfillments.len()).unwrap_or(u32::MAX).saturating_add(1);
        let lines =
            units.into_iter().map(|(line, quantity)| FulfillmentLine { line, quantity }).collect();
        Ok(vec![Event::Fulfilled {
            fulfillment: Box::new(Fulfillment {
                number,
                lines,
                tracking: request.tracking.clone(),
                created_at: now,
                shipped: false,
                captures_share: true,
            }),
        }])
    }

    /// What is as it should be gives no event.
    fn correct_tracking(&self, number: u32, patch: Option<&TrackingPatch>) -> Decision {
        let mut all = self.fulfillments.iter();
        let found = all.find(|one| one.number == number).ok_or(Rejection::UnknownFulfillment)?;
        let tracking = patch.and_then(|patch| patch.applied_to(found.tracking.as_ref()));
        let changed = found.tracking != tracking;
        let tracking = tracking.map(Box::new);
        Ok(some(changed, Event::TrackingCorrected { fulfillment: number, tracking }))
    }

    fn retry(&self, reason: &str) -> Decision {
        let reason = reason.to_owned();
        let unconfirmed = matches!(self.phase, Phase::Reserving | Phase::Committing);
        match self.alert.as_deref() {
            Some(AMOUNT_MISMATCH) if unconfirmed => {
                Err(wrong("the amounts differ: cancel the order"))
            }
            Some(VOIDED_ELSEWHERE) if unconfirmed => {
                Err(wrong("the authorization was voided: cancel the order"))
            }
            Some(_) => Ok(vec![Event::AlertCleared { reason }]),
            None if self.stuck.is_empty() => Err(wrong("nothing is stuck")),
            None => Ok(vec![Event::RetryRequested { reason }]),
        }
    }

    /// Skips the given step, or the only stuck one.
    fn skip(&self, named: Option<&str>, reason: &str) -> Decision {
        let mut stuck: Vec<String> = self.stuck.keys().cloned().collect();
        let step = match named {
            _ if stuck.is_empty() => return Err(wrong("nothing is stuck")),
            None if stuck.len() == 1 => stuck.remove(0),
            Some(named) if self.stuck.contains_key(named) => named.to_owned(),
            _ => return Err(Rejection::WhichStep { stuck }),
        };
        if ["reserve:", "authorize:", "commit:"].iter().any(|step_of| step.starts_with(step_of)) {
            return Err(wrong("this step cannot be skipped: retry or cancel"));
        }
        let last = step == "release";
        let mut events = vec![Event::StepSkipped { step, reason: reason.to_owned() }];
        if last {
            events.push(Event::Cancelled {});
        }
        Ok(events)
    }
}

/// The rejection of a refund whose sum is too large: if the rest of it is not, its free amount is.
fn too_large(limit: i64, lines: &[RefundLine], request: &RefundRequest) -> Rejection {
    let rest = lines.iter().map(|line| line.amount).fold(request.delivery, i64::saturating_add);
    let left = limit.saturating_sub(rest);
    let free = left >= 0 && request.free > 0 && request.delivery >= 0;
    let (limit, part) = if free { (left, RefundPart::Free) } else { (limit, RefundPart::Sum) };
    Rejection::RefundTooLarge { limit, part }
}

fn some(when: bool, event: Event) -> Vec<Event> {
    if when { vec![event] } else { Vec::new() }
}

pub(super) const fn wrong(what: &'static str) -> Rejection {
    Rejection::WrongState { what: std::borrow::Cow::Borrowed(what) }
}
