//! The effects that the state of an order requires.
//!
//! Each effect has a step name, which is its identity: the calls of a repeated step have the same
//! idempotency keys, so the step is carried out once. Operators see, retry and skip steps by that
//! name.

use std::collections::BTreeMap;

use super::{Attempt, CapturePolicy, Order, Phase, step};
use crate::domain::id::{OrderId, Sku};
use crate::domain::money::{Currency, Money};
use crate::domain::sealed::Sealed;
use crate::domain::time::Span;
use crate::seeded_fault::{self, SeededFault};

/// An external effect of an order. The names of the variants are those of the steps.
#[derive(Clone, Debug, PartialEq, Eq, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Effect {
    /// Reserve the units of all SKUs, or none.
    Reserve {
        /// The order.
        order: OrderId,
        /// The number of the attempt to reserve.
        generation: u32,
        /// Units by SKU.
        units: BTreeMap<Sku, i64>,
        /// The duration of the hold.
        hold: Span,
    },
    /// Let the hold yield to other orders, because this one waits for another payment.
    Yield {
        /// The order.
        order: OrderId,
        /// The number of the attempt to reserve.
        generation: u32,
        /// The SKUs, with their units.
        units: BTreeMap<Sku, i64>,
    },
    /// Request an authorization from a provider.
    Authorize {
        /// The number of the payment attempt.
        attempt: u32,
        /// The account at the provider.
        provider: String,
        /// The provider's token for the card; `None` if the order no longer has it.
        token: Option<Sealed<String>>,
        /// The amount.
        amount: Money,
    },
    /// Turn the holds into allocations, and get an order number from the counter.
    Commit {
        /// The order.
        order: OrderId,
        /// The number of the attempt to reserve.
        generation: u32,
        /// Units by SKU.
        units: BTreeMap<Sku, i64>,
    },
    /// Capture money.
    Capture {
        /// The number of the capture.
        capture: u32,
        /// The account at the provider.
        provider: String,
        /// The provider's id for the payment.
        payment: String,
        /// The amount.
        amount: Money,
    },
    /// Void an authorization.
    Void {
        /// The number of the payment attempt.
        attempt: u32,
        /// The account at the provider.
        provider: String,
        /// The provider's id for the payment.
        payment: String,
        /// The authorized amount less the captured one.
        amount: Money,
    },
    /// Reverse an attempt that is not decided yet.
    Reverse {
        /// The number of the payment attempt.
        attempt: u32,
        /// The account at the provider.
        provider: String,
    },
    /// Refund money.
    Refund {
        /// The number of the refund.
        refund: u32,
        /// The account at the provider.
        provider: String,
        /// The provider's id for the payment.
        payment: String,
        /// The amount.
        amount: Money,
    },
    /// Return the goods of a refund to stock, or write them off.
    Restock {
        /// The order.
        order: OrderId,
        /// The number of the refund.
        refund: u32,
        /// Unshipped and shipped units by SKU.
        units: BTreeMap<Sku, (i64, i64)>,
        /// Whether the goods become sellable.
        restock: bool,
    },
    /// Record a shipment in the stock.
    Ship {
        /// The order.
        order: OrderId,
        /// The number of the fulfillment.
        fulfillment: u32,
        /// Units by SKU.
        units: BTreeMap<Sku, i64>,
    },
    /// Release all stock, permanently.
    Release {
        /// The order.
        order: OrderId,
        /// The ordered units by SKU; all stock of these SKUs is released.
        units: BTreeMap<Sku, i64>,
    },
}

impl Effect {
    /// The step name, by which it is retried, skipped and shown.
    #[must_use]
    pub fn step(&self) -> String {
        match self {
            Self::Reserve { generation, .. } => format!("reserve:{generation}"),
            Self::Yield { generation, .. } => format!("yield:{generation}"),
            Self::Authorize { attempt, .. } => format!("authorize:{attempt}"),
            Self::Commit { generation, .. } => format!("commit:{generation}"),
            Self::Capture { capture, .. } => step::capture(*capture),
            Self::Void { attempt, .. } => format!("void:{attempt}"),
            Self::Reverse { attempt, .. } => format!("reverse:{attempt}"),
            Self::Refund { refund, .. } => step::refund(*refund),
            Self::Restock { refund, .. } => format!("restock:{refund}"),
            Self::Ship { fulfillment, .. } => step::ship(*fulfillment),
            Self::Release { .. } => "release".into(),
        }
    }
}

/// The number of the capture by which a policy captures the whole authorization.
pub(super) const POLICY_CAPTURE: u32 = 1;

impl Order {
    /// All required effects, including stuck and skipped steps.
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
            Phase::AwaitingPayment => {
                wanted.extend(self.wanted_reversals());
                if !self.hold_yields {
                    let (generation, units) = (self.generation, self.units());
                    wanted.push(Effect::Yield { order, generation, units });
                }
            }
            Phase::Cancelled => {
                wanted.extend(self.wanted_refunds(currency));
                wanted.extend(self.wanted_voids(currency));
            }
            Phase::Absent => {}
        }
        wanted
    }

    /// The effects of a cancellation, in three stages: reversals, movements of goods, and captures
    /// that may be in flight; then refunds and voids; then the release of the stock. A stage begins
    /// when each step of the previous one is done or skipped.
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

    /// Whether the whole authorization must be captured in one capture that has not been made yet.
    pub(super) fn wants_whole_capture(&self) -> bool {
        self.captures.is_empty() && self.policy_captures() && self.authorized() > 0
    }

    /// Whether the policy captures the whole authorization in one capture, and this capture is due.
    /// Under `AtDispatch`, this is so only for fulfillments stored in version 1 of their event.
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

    /// Voids of the authorizations, each of the amount that was not captured.
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

    /// Reversals of attempts that are not decided yet and that the order has given up.
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

    /// Movements of goods that the stock has not recorded yet. Returns wait until all shipments are
    /// recorded, because the stock must know from which locations the goods came.
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

    /// The account and the provider's id of the payment that pays the order.
    fn payment(&self) -> Option<(String, String)> {
        let held = |attempt: &&Attempt| attempt.payment.is_some() && attempt.held();
        let attempt = self.attempts.iter().find(held)?;
        Some((attempt.provider.clone(), attempt.payment.clone()?))
    }
}
