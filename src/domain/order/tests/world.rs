//! The environment of an order in `model`: real stock, and a simulated payment provider that never
//! lies. `model` decides which calls are made, when, and whether their answers are lost.

use super::*;
use crate::domain::stock::{self, Stock};

/// Numbers of captures and refunds that were made in the provider's dashboard begin here.
const ELSEWHERE: u32 = 1_000;

/// The behavior of the provider and of its connection in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// The call is carried out, and the answer arrives.
    Answered,
    /// The call is carried out, and the answer is lost; it may still arrive as a message.
    Unanswered,
    /// The call is not carried out, and the saga makes the step stuck.
    GivenUp,
    /// The request for an authorization is still in transit, and the provider reports that it does
    /// not know the attempt.
    Unheard,
    /// The authorization is declined.
    Declined,
    /// The authorization is decided later.
    Pending,
    /// One minor unit less than requested is authorized.
    Less,
}

/// A payment in the provider's ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Payment {
    pub(super) set_aside: i64,
    pub(super) pending: bool,
    pub(super) declined: bool,
    pub(super) closed: bool,
    captures: BTreeMap<u32, i64>,
    refunds: BTreeMap<u32, i64>,
}

impl Payment {
    pub(super) fn captured(&self) -> i64 {
        self.captures.values().sum()
    }

    pub(super) fn refunded(&self) -> i64 {
        self.refunds.values().sum()
    }

    /// The amount that is still authorized and not captured.
    pub(super) fn held(&self) -> i64 {
        if self.declined || self.closed { 0 } else { self.set_aside - self.captured() }
    }
}

/// The stock and the provider. Each operation has an idempotency key, and a repeated key has no
/// further effect.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: i64,
    pub(super) stocks: BTreeMap<Sku, Stock>,
    pub(super) payments: BTreeMap<u32, Payment>,
}

impl World {
    pub(super) fn new(on_hand: [i64; 2]) -> Self {
        let mut world = Self { now: START, stocks: BTreeMap::new(), payments: BTreeMap::new() };
        for (sku, on_hand) in ["A", "B"].into_iter().zip(on_hand) {
            let sku: Sku = sku.parse().unwrap();
            world.stocks.insert(sku.clone(), Stock::default());
            let location = "main".parse().unwrap();
            world
                .stock(
                    &sku,
                    &stock::Command::Set { location, on_hand, change_from: None, reason: None },
                )
                .unwrap();
        }
        world
    }

    pub(super) fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn stock(&mut self, sku: &Sku, command: &stock::Command) -> Result<(), stock::Rejection> {
        let at = self.at();
        let stock = self.stocks.get_mut(sku).unwrap();
        for event in stock.decide(command, at)? {
            stock.evolve(&event, at);
            assert_eq!(stock.fault(), None);
        }
        Ok(())
    }

    /// Performs an effect, and returns the command that reports the result to the order.
    pub(super) fn perform(&mut self, effect: &Effect, how: How) -> Command {
        let no = Command::GiveUp { step: effect.step(), why: "refused".into() };
        match effect {
            Effect::Reserve { order, generation, units, hold } => {
                self.reserve(*order, *generation, units, *hold)
            }
            Effect::Commit { order, generation, units } => {
                let commit = stock::Command::Commit { order: *order };
                let mut all = true;
                for sku in units.keys() {
                    all &= self.stock(sku, &commit).is_ok();
                }
                if all {
                    Command::Confirm { number: 1 }
                } else {
                    Command::HoldLapsed { generation: *generation }
                }
            }
            Effect::Release { order, units } => {
                for sku in units.keys() {
                    self.stock(sku, &stock::Command::Release { order: *order }).unwrap();
                }
                Command::Released
            }
            Effect::Ship { order, fulfillment, units } => {
                for (sku, quantity) in units {
                    let (order, id) = (*order, fulfillment.to_string());
                    let ship = stock::Command::Ship { order, id, quantity: *quantity };
                    if self.stock(sku, &ship).is_err() {
                        return no;
                    }
                }
                Command::Shipped { fulfillment: *fulfillment }
            }
            Effect::Yield { order, generation, units } => {
                for sku in units.keys() {
                    let command = stock::Command::Yield { order: *order, generation: *generation };
                    self.stock(sku, &command).unwrap();
                }
                Command::HoldYielded { generation: *generation }
            }
            Effect::Restock { order, refund, units, restock } => {
                for (sku, (unshipped, shipped)) in units {
                    let back = stock::Command::TakeBack {
                        order: *order,
                        id: refund.to_string(),
                        unshipped: *unshipped,
                        shipped: *shipped,
                        restock: *restock,
                    };
                    if self.stock(sku, &back).is_err() {
                        return no;
                    }
                }
                Command::RefundRestocked { refund: *refund }
            }
            _ => self.ask_provider(effect, how).unwrap_or(no),
        }
    }

    fn reserve(
        &mut self,
        order: OrderId,
        generation: u32,
        units: &BTreeMap<Sku, i64>,
        hold: Span,
    ) -> Command {
        let hold_until = self.at() + hold;
        let mut shortages = Vec::new();
        for (sku, quantity) in units {
            let (quantity, priority, closed) = (*quantity, [].into(), [].into());
            let reserve =
                stock::Reserve { order, generation, quantity, hold_until, priority, closed };
            match self.stock(sku, &stock::Command::Reserve(reserve)) {
                Err(stock::Rejection::OutOfStock { requested, available, held }) => {
                    shortages.push(Shortage { sku: sku.clone(), requested, available, held });
                }
                Err(stock::Rejection::Released) | Ok(()) => {}
                Err(error) => panic!("{error}"),
            }
        }
        if shortages.is_empty() {
            Command::Reserved { generation }
        } else {
            Command::OutOfStock { generation, shortages }
        }
    }

    /// The provider's answer; `None` if it rejects the call. The provider never refunds more than
    /// was captured.
    fn ask_provider(&mut self, effect: &Effect, how: How) -> Option<Command> {
        Some(match effect {
            Effect::Authorize { attempt, amount, .. } => {
                let set_aside = amount.amount - i64::from(how == How::Less);
                let (declined, pending) = (how == How::Declined, how == How::Pending);
                let fresh = Payment { set_aside, declined, pending, ..Payment::default() };
                self.payments.entry(*attempt).or_insert(fresh);
                self.report(*attempt)
            }
            Effect::Reverse { attempt, .. } => {
                let payment = self.payments.entry(*attempt).or_default();
                if payment.pending {
                    *payment = Payment::default();
                }
                payment.closed = true;
                self.report(*attempt)
            }
            Effect::Void { attempt, .. } => {
                self.payments.get_mut(attempt)?.closed = true;
                self.report(*attempt)
            }
            Effect::Capture { capture, payment, amount, .. } => {
                let paid = self.paid(payment)?;
                let fits = amount.amount <= paid.held();
                if !fits && !paid.captures.contains_key(capture) {
                    return None;
                }
                let amount = *paid.captures.entry(*capture).or_insert(amount.amount);
                let operation = format!("c{capture}");
                Command::Captured { capture: Some(*capture), amount, operation }
            }
            Effect::Refund { refund, payment, amount, .. } => {
                let paid = self.paid(payment)?;
                let fits = amount.amount <= paid.captured() - paid.refunded();
                if !fits && !paid.refunds.contains_key(refund) {
                    return None;
                }
                let amount = *paid.refunds.entry(*refund).or_insert(amount.amount);
                let operation = format!("r{refund}");
                Command::Refunded { refund: Some(*refund), amount, operation }
            }
            _ => return None,
        })
    }

    fn paid(&mut self, payment: &str) -> Option<&mut Payment> {
        self.payments.get_mut(&payment.strip_prefix("pay_")?.parse().ok()?)
    }

    /// The provider's report on an attempt.
    pub(super) fn report(&self, attempt: u32) -> Command {
        let (one, payment) = (&self.payments[&attempt], format!("pay_{attempt}"));
        let report = match one {
            Payment { declined: true, .. } => ProviderReport::Declined { code: "no".into() },
            Payment { pending: true, .. } => ProviderReport::Pending { payment, action: None },
            Payment { closed: true, set_aside: 0, .. } => ProviderReport::Reversed,
            Payment { closed: true, .. } => ProviderReport::Voided,
            _ => ProviderReport::Authorized { payment, amount: one.set_aside },
        };
        Command::Report { attempt, report }
    }

    /// Lets the provider decide all pending attempts, and returns its reports.
    pub(super) fn decide(&mut self) -> Vec<Command> {
        let pending = self.payments.iter_mut().filter(|(_, one)| one.pending);
        let decided = pending.map(|(attempt, one)| {
            one.pending = false;
            *attempt
        });
        let decided: Vec<u32> = decided.collect();
        decided.into_iter().map(|attempt| self.report(attempt)).collect()
    }

    /// Captures in the provider's dashboard at most this amount of an authorization, and returns
    /// the provider's report.
    pub(super) fn capture_elsewhere(&mut self, attempt: u32, most: i64) -> Option<Command> {
        let one = self.payments.get_mut(&attempt)?;
        let amount = most.min(if one.pending { 0 } else { one.held() });
        let number = ELSEWHERE + u32::try_from(one.captures.len()).unwrap();
        let operation = format!("e{number}");
        (amount > 0).then(|| {
            one.captures.insert(number, amount);
            Command::Captured { capture: None, amount, operation }
        })
    }

    /// Refunds in the provider's dashboard at most this amount of a payment, and returns the
    /// provider's report.
    pub(super) fn refund_elsewhere(&mut self, attempt: u32, most: i64) -> Option<Command> {
        let one = self.payments.get_mut(&attempt)?;
        let amount = most.min(one.captured() - one.refunded());
        let number = ELSEWHERE + u32::try_from(one.refunds.len()).unwrap();
        let operation = format!("b{number}");
        (amount > 0).then(|| {
            one.refunds.insert(number, amount);
            Command::Refunded { refund: None, amount, operation }
        })
    }

    /// Lets the provider void an authorization that was not captured, and returns its report.
    pub(super) fn void_elsewhere(&mut self) -> Option<Command> {
        let open = |one: &Payment| !one.pending && one.held() > 0 && one.captures.is_empty();
        let attempt =
            self.payments.iter().find(|(_, one)| open(one)).map(|(attempt, _)| *attempt)?;
        self.payments.get_mut(&attempt)?.closed = true;
        Some(self.report(attempt))
    }
}
