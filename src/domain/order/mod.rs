//! An order with its payment ledger and its saga.
//!
//! `decide` (in `decide.rs`) returns a command's events, `evolve` (in `evolve.rs`) applies an event
//! to the state, `wanted` (in `effect.rs`) returns the effects that the state requires. The effects
//! are performed by `actors::flows`. An order refers to SKUs and to its cart by id only.

mod buyer;
mod buyer_action;
mod buyer_status;
mod command;
mod decide;
mod dispatch;
mod effect;
mod event;
mod evolve;
mod ledger;
mod moved;
mod movement;
mod status;
mod step;
mod waived;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use buyer::CancelCause;
pub use buyer_action::{BuyerAction, RequiredAction};
pub use buyer_status::{BuyerPayment, BuyerStatus};
pub use command::{
    Command, FulfillmentRequest, RefundLineRequest, RefundPart, RefundRequest, Rejection,
};
pub use effect::Effect;
pub use event::Event;
pub use ledger::{
    Attempt, AttemptState, Capture, Fulfillment, FulfillmentLine, ProviderReport, Refund,
    RefundFrom, RefundLine, Tracking, TrackingPatch, attempt_reference,
};
pub use movement::MovementStatus;
pub use status::{FulfillmentStatus, OrderStatus, PaymentStatus};

use super::entity;
use super::id::{OrderId, Sku};
use super::money::{Currency, Rounding};
use super::pricing::{Delivery, QuotedLine, Totals};
use super::sealed::{Sealed, SealedAddress};
use super::time::{Span, Timestamp};
use crate::seeded_fault::{self, SeededFault};

/// The journal's id for an order.
#[must_use]
pub fn entity_id(id: OrderId) -> entity::EntityId {
    entity::EntityId::new(&id.to_string())
}

/// When the money of a confirmed order is captured.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CapturePolicy {
    /// As soon as the order is confirmed.
    #[default]
    AtOnce,
    /// With each fulfillment: the price of the units that it ships, and, with the first
    /// fulfillment, the price of the delivery.
    AtDispatch,
    /// When an operator requests it.
    ByHand,
}

/// A payment method.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentMethod {
    /// The name of the shop's account at the provider, such as `sandbox/eu`.
    pub provider: String,
    /// The provider's token for the card, from the buyer's browser.
    pub token: Sealed<String>,
}

impl std::fmt::Debug for PaymentMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PaymentMethod({})", self.provider)
    }
}

/// The data of an order that are fixed when it is placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The order's id, which has the same key as the cart's id.
    pub order: OrderId,
    /// The currency of every amount.
    pub currency: Currency,
    /// The buyer's email address.
    pub email: Sealed<String>,
    /// The buyer's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Sealed<String>>,
    /// The lines.
    pub lines: Vec<QuotedLine>,
    /// The shipping address.
    pub shipping_address: SealedAddress,
    /// The billing address, if it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_address: Option<SealedAddress>,
    /// The delivery option.
    pub delivery: Delivery,
    /// The totals.
    pub totals: Totals,
    /// The rounding rule for this order and its refunds.
    #[serde(default)]
    pub rounding: Rounding,
    /// When its money is captured.
    #[serde(default)]
    pub capture: CapturePolicy,
    /// The payment deadline.
    pub deadline_at: Timestamp,
    /// How long its stock is held, from the request to reserve it.
    #[serde(rename = "hold_ms")]
    pub hold: Span,
}

/// The phase of an order's saga.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// The order does not exist.
    #[default]
    Absent,
    /// Stock is being reserved.
    Reserving,
    /// The outcome of a payment attempt is awaited from the provider.
    Paying,
    /// The last payment attempt was declined, reversed or given up. The buyer may make another one
    /// when no attempt is left to reverse.
    AwaitingPayment,
    /// The order is paid, and its stock is being allocated.
    Committing,
    /// The order is confirmed.
    Confirmed,
    /// The order is being cancelled.
    Cancelling,
    /// The order is cancelled.
    Cancelled,
}

/// The reason of a cancellation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// A [`CancelCause`], or an operator's text.
    pub reason: String,
    /// The SKUs with too few units, if stock was the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortages: Vec<Shortage>,
}

/// A SKU with too few units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// The SKU.
    pub sku: Sku,
    /// Units that the order needs.
    pub requested: i64,
    /// Units that the order could have got.
    pub available: i64,
    /// Units held for orders that are not paid: they may become available.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: i64,
}

const fn is_zero(units: &i64) -> bool {
    *units == 0
}

/// An order; the default value is an order that does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    placed: Option<Arc<Placed>>,
    placed_at: Timestamp,
    updated_at: Timestamp,
    phase: Phase,
    method: Option<PaymentMethod>,
    generation: u32,
    /// Whether the hold of this generation yields to other orders.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    hold_yields: bool,
    number: Option<i64>,
    attempts: Vec<Attempt>,
    captures: Vec<Capture>,
    refunds: Vec<Refund>,
    fulfillments: Vec<Fulfillment>,
    cancellation: Option<Cancellation>,
    stuck: BTreeMap<String, String>,
    skipped: BTreeSet<String>,
    alert: Option<String>,
    /// Whether the buyer's personal data were erased.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
    /// Why the buyer's personal data must not be erased (legal hold), if they must not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    legal_hold: Option<String>,
}

impl Order {
    /// Its fixed data; `None` if the order does not exist.
    #[must_use]
    pub const fn placed(&self) -> Option<&Arc<Placed>> {
        self.placed.as_ref()
    }

    /// When it was placed.
    #[must_use]
    pub const fn placed_at(&self) -> Timestamp {
        self.placed_at
    }

    /// When it last changed.
    #[must_use]
    pub const fn updated_at(&self) -> Timestamp {
        self.updated_at
    }

    /// The phase of its saga.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Its order number; `None` before it is confirmed.
    #[must_use]
    pub const fn number(&self) -> Option<i64> {
        self.number
    }

    /// The number of its current attempt to reserve stock.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether it waits for another payment, and its hold yields to other orders meanwhile.
    #[must_use]
    pub fn hold_yields(&self) -> bool {
        self.phase == Phase::AwaitingPayment && self.hold_yields
    }

    /// Whether it may keep units from other buyers although it is not paid.
    #[must_use]
    pub fn keeps_unpaid_units(&self) -> bool {
        !self.hold_yields() && !matches!(self.phase, Phase::Confirmed | Phase::Cancelled)
    }

    /// The payment attempts, oldest first.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The captures.
    #[must_use]
    pub fn captures(&self) -> &[Capture] {
        &self.captures
    }

    /// The refunds.
    #[must_use]
    pub fn refunds(&self) -> &[Refund] {
        &self.refunds
    }

    /// The fulfillments.
    #[must_use]
    pub fn fulfillments(&self) -> &[Fulfillment] {
        &self.fulfillments
    }

    /// Why it is, or was, cancelled.
    #[must_use]
    pub const fn cancellation(&self) -> Option<&Cancellation> {
        self.cancellation.as_ref()
    }

    /// The names of the stuck steps, each with the reason.
    #[must_use]
    pub const fn stuck(&self) -> &BTreeMap<String, String> {
        &self.stuck
    }

    /// The alert, if there is one. No effect is performed until an operator has cleared it or
    /// cancelled the order.
    #[must_use]
    pub fn alert(&self) -> Option<&str> {
        self.alert.as_deref()
    }

    /// Whether the buyer's personal data were erased.
    #[must_use]
    pub const fn is_erased(&self) -> bool {
        self.erased
    }

    /// Why the buyer's personal data must not be erased (legal hold); `None` without a hold.
    #[must_use]
    pub fn legal_hold(&self) -> Option<&str> {
        let ignored = seeded_fault::active(SeededFault::LegalHoldIgnored);
        self.legal_hold.as_deref().filter(|_| !ignored)
    }

    /// Whether the buyer's personal data are still needed: the order is neither cancelled nor paid and
    /// shipped, or something is left to be done.
    #[must_use]
    pub fn needs_buyer(&self) -> bool {
        let over = match self.phase {
            Phase::Cancelled => true,
            Phase::Confirmed => self.unshipped_units() == 0,
            _ => false,
        };
        !over || self.alert.is_some() || !self.stuck.is_empty() || !self.wanted().is_empty()
    }

    /// A line by its id.
    #[must_use]
    pub fn line(&self, id: u32) -> Option<&QuotedLine> {
        self.placed.as_ref()?.lines.iter().find(|line| line.id == id)
    }

    /// The ordered units by SKU, summed over the lines.
    #[must_use]
    pub fn units(&self) -> BTreeMap<Sku, i64> {
        let mut units = BTreeMap::new();
        for line in self.placed.iter().flat_map(|placed| &placed.lines) {
            *units.entry(line.sku.clone()).or_insert(0) += line.quantity;
        }
        units
    }

    /// The amount to be charged, in minor units.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.placed.as_ref().map_or(0, |placed| placed.totals.total)
    }

    /// Whether a request that waits for the outcome of a checkout or payment can be answered now.
    #[must_use]
    pub fn has_outcome(&self) -> bool {
        match self.phase {
            Phase::Absent | Phase::Reserving | Phase::Paying | Phase::Committing => {
                !self.stuck.is_empty() || self.alert.is_some()
            }
            Phase::AwaitingPayment => {
                let settled = !self.has_open_reversal() && self.hold_yields;
                settled || !self.stuck.is_empty() || self.alert.is_some()
            }
            Phase::Confirmed | Phase::Cancelling | Phase::Cancelled => true,
        }
    }

    /// Whether the order has given up a payment attempt that is not reversed yet.
    #[must_use]
    pub fn has_open_reversal(&self) -> bool {
        self.phase == Phase::AwaitingPayment && self.attempts.iter().any(Attempt::open)
    }
}
