//! What an order wants done outside of itself, given all that has happened to it.
//!
//! Each effect has a step name, which is its identity: the same step again is the same deed,
//! with the same keys. An operator sees, retries and skips steps by that name.

use std::collections::BTreeMap;

use super::{Attempt, CapturePolicy, Order, Phase, step};
use crate::domain::id::{OrderId, Sku};
use crate::domain::money::{Currency, Money};
use crate::domain::time::Span;
use crate::seeded_fault::{self, SeededFault};

/// Something that an order wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Hold stock, all of it or none.
    Reserve {
        /// The order.
        order: OrderId,
        /// Which try this is.
        generation: u32,
        /// Units by SKU.
        units: BTreeMap<Sku, i64>,
        /// How long to hold it.
        hold: Span,
    },
    /// Ask a provider for the money.
    Authorize {
        /// Which attempt this is.
        attempt: u32,
        /// Whom to ask.
        provider: String,
        /// What the provider gave the buyer's browser; nothing once it has it.
        token: Option<String>,
        /// How much.
        amount: Money,
    },
    /// Turn the holds into allocations, and draw a number.
    Commit {
        /// The order.
        order: OrderId,
        /// Which try this is.
        generation: u32,
        /// Units by SKU.
        units: BTreeMap<Sku, i64>,
    },
    /// Take money.
    Capture {
        /// Which capture this is.
        capture: u32,
        /// Whom to ask.
        provider: String,
        /// The provider's id for the payment.
        payment: String,
        /// How much.
        amount: Money,
    },
    /// Let go what was set aside.
    Void {
        /// The attempt.
        attempt: u32,
        /// Whom to ask.
        provider: String,
        /// The provider's id for the payment.
        payment: String,
        /// How much was set aside.
        amount: Money,
    },
    /// Take back an attempt whose outcome is unknown.
    Reverse {
        /// The attempt.
        attempt: u32,
        /// Whom to ask.
        provider: String,
    },
    /// Give money back.
    Refund {
        /// Which refund this is.
        refund: u32,
        /// Whom to ask.
        provider: String,
        /// The provider's id for the payment.
        payment: String,
        /// How much.
        amount: Money,
    },
    /// Put the goods of a refund where they belong.
    Restock {
        /// The order.
        order: OrderId,
        /// The refund.
        refund: u32,
        /// Unshipped and shipped units by SKU.
        units: BTreeMap<Sku, (i64, i64)>,
        /// Whether they go back on sale.
        restock: bool,
    },
    /// Tell the stock that goods went out.
    Ship {
        /// The order.
        order: OrderId,
        /// The fulfillment.
        fulfillment: u32,
        /// Units by SKU.
        units: BTreeMap<Sku, i64>,
    },
    /// Give all stock back, for good.
    Release {
        /// The order.
        order: OrderId,
        /// The SKUs.
        units: BTreeMap<Sku, i64>,
    },
}

impl Effect {
    /// The name of the step, by which it is retried, skipped and shown.
    #[must_use]
    pub fn step(&self) -> String {
        match self {
            Self::Reserve { generation, .. } => format!("reserve:{generation}"),
            Self::Authorize { attempt, .. } => format!("authorize:{attempt}"),
            Self::Commit { generation, .. } => format!("commit:{generation}"),
            Self::Capture { capture, .. } => step::capture(*capture),
            Self::Void { attempt, .. } => format!("void:{attempt}"),
            Self::Reverse { attempt, .. } => format!("reverse:{attempt}"),
            Self::Refund { refund, .. } => step::refund(*refund),
            Self::Restock { refund, .. } => format!("restock:{refund}"),
            Self::Ship { fulfillment, .. } => format!("ship:{fulfillment}"),
            Self::Release { .. } => "release".into(),
        }
    }
}

/// The step that would capture a confirmed order by its policy.
pub(super) const POLICY_CAPTURE: u32 = 1;

impl Order {
    /// All that is wanted, stuck and skipped steps included.
    pub(super) fn wanted(&self) -> Vec<Effect> {
        let Some(placed) = self.placed.clone() else {
            return Vec::new();
        };
        let (order, currency) = (placed.order, placed.currency);
        let mut wanted = Vec::new();
        match self.phase {
            Phase::Reserving => wanted.push(Effect::Reserve {
                order,
                generation: self.generation,
                units: self.units(),
                hold: placed.hold,
            }),
            Phase::Paying => wanted.extend(self.attempts.last().map(|attempt| Effect::Authorize {
                attempt: attempt.number,
                provider: attempt.provider.clone(),
                token: self.method.as_ref().map(|method| method.token.clone()),
                amount: Money::new(attempt.amount, currency),
            })),
            Phase::Committing => wanted.push(Effect::Commit {
                order,
                generation: self.generation,
                units: self.units(),
            }),
            Phase::Confirmed => {
                wanted.extend(self.wanted_captures(currency));
                wanted.extend(self.wanted_refunds(currency));
                wanted.extend(self.wanted_reversals());
                if self.releases_rest() {
                    wanted.extend(self.wanted_voids(currency));
                }
                wanted.extend(self.wanted_moves(order));
            }
            Phase::Cancelling => return self.wanted_to_cancel(order, currency),
            Phase::AwaitingPayment => wanted.extend(self.wanted_reversals()),
            Phase::Cancelled => {
                wanted.extend(self.wanted_refunds(currency));
                wanted.extend(self.wanted_voids(currency));
            }
            Phase::Absent => {}
        }
        wanted
    }

    /// Money first, and of that what may be on its way first; then the goods.
    fn wanted_to_cancel(&self, order: OrderId, currency: Currency) -> Vec<Effect> {
        let open =
            |wanted: &[Effect]| wanted.iter().any(|effect| !self.skipped.contains(&effect.step()));
        let mut wanted = self.wanted_reversals();
        wanted.extend(self.wanted_moves(order));
        if self.number.is_some() {
            wanted.extend(self.wanted_captures(currency));
        }
        if !open(&wanted) {
            wanted.extend(self.wanted_refunds(currency));
            wanted.extend(self.wanted_voids(currency));
        }
        if !open(&wanted) {
            wanted.push(Effect::Release { order, units: self.units() });
        }
        wanted
    }

    fn wanted_captures(&self, currency: Currency) -> Vec<Effect> {
        let Some((provider, payment)) = self.payment() else {
            return Vec::new();
        };
        let effect = |capture, amount| Effect::Capture {
            capture,
            provider: provider.clone(),
            payment: payment.clone(),
            amount: Money::new(amount, currency),
        };
        let asked = self.captures.iter().filter(|one| one.operation.is_none());
        let mut wanted: Vec<_> = asked.map(|one| effect(one.number, one.amount)).collect();
        if self.wants_whole_capture() {
            wanted.push(effect(POLICY_CAPTURE, self.authorized()));
        }
        wanted
    }

    /// Whether all that is authorized is to be taken at one time, and is not yet.
    pub(super) fn wants_whole_capture(&self) -> bool {
        self.captures.is_empty() && self.policy_captures() && self.authorized() > 0
    }

    /// Whether the policy says that all that is authorized is taken at one time, and now.
    pub(super) fn policy_captures(&self) -> bool {
        match self.placed.as_ref().map(|placed| placed.capture) {
            Some(CapturePolicy::AtOnce) => true,
            Some(CapturePolicy::AtDispatch) => {
                self.fulfillments.iter().any(|one| !one.captures_share)
            }
            Some(CapturePolicy::ByHand) | None => false,
        }
    }

    fn wanted_refunds(&self, currency: Currency) -> Vec<Effect> {
        let Some((provider, payment)) = self.payment() else {
            return Vec::new();
        };
        let open = self.refunds.iter().filter(|one| one.operation.is_none() && one.amount > 0);
        open.map(|one| Effect::Refund {
            refund: one.number,
            provider: provider.clone(),
            payment: payment.clone(),
            amount: Money::new(one.amount, currency),
        })
        .collect()
    }

    /// What is set aside and must not stay so: all of it, less what was captured.
    fn wanted_voids(&self, currency: Currency) -> Vec<Effect> {
        if seeded_fault::active(SeededFault::VoidForgotten) {
            return Vec::new();
        }
        let authorized = self.attempts.iter().filter(|attempt| attempt.authorized() > 0);
        authorized
            .filter(|_| self.captured() < self.authorized())
            .filter_map(|attempt| {
                Some(Effect::Void {
                    attempt: attempt.number,
                    provider: attempt.provider.clone(),
                    payment: attempt.payment.clone()?,
                    amount: Money::new(attempt.authorized() - self.captured(), currency),
                })
            })
            .collect()
    }

    /// Attempts of unknown outcome that the order no longer waits for.
    fn wanted_reversals(&self) -> Vec<Effect> {
        let current = match self.phase {
            Phase::Paying => self.attempts.last().map(|attempt| attempt.number),
            _ => None,
        };
        let open = self.attempts.iter().filter(|attempt| attempt.open());
        open.filter(|attempt| Some(attempt.number) != current)
            .map(|attempt| Effect::Reverse {
                attempt: attempt.number,
                provider: attempt.provider.clone(),
            })
            .collect()
    }

    /// Goods whose moves the stock does not know of yet. What came back waits for what went out,
    /// or the stock would not know where it came from.
    fn wanted_moves(&self, order: OrderId) -> Vec<Effect> {
        let mut wanted = Vec::new();
        for one in self.fulfillments.iter().filter(|one| !one.shipped) {
            let mut units = BTreeMap::new();
            for line in &one.lines {
                if let Some(sku) = self.line(line.line).map(|line| line.sku.clone()) {
                    *units.entry(sku).or_insert(0) += line.quantity;
                }
            }
            wanted.push(Effect::Ship { order, fulfillment: one.number, units });
        }
        if wanted.iter().any(|effect: &Effect| !self.skipped.contains(&effect.step())) {
            return wanted;
        }
        for one in self.refunds.iter().filter(|one| !one.restocked && !one.lines.is_empty()) {
            let mut units = BTreeMap::new();
            for line in &one.lines {
                if let Some(sku) = self.line(line.line).map(|line| line.sku.clone()) {
                    let entry = units.entry(sku).or_insert((0, 0));
                    entry.0 += line.unshipped;
                    entry.1 += line.shipped;
                }
            }
            let restock = one.restock;
            wanted.push(Effect::Restock { order, refund: one.number, units, restock });
        }
        wanted
    }

    /// The provider and its id of the payment that the order lives from.
    fn payment(&self) -> Option<(String, String)> {
        let held = |attempt: &&Attempt| attempt.payment.is_some() && attempt.held();
        let attempt = self.attempts.iter().find(held)?;
        Some((attempt.provider.clone(), attempt.payment.clone()?))
    }
}
