//! An order with its payment ledger and its checkout saga, as values.
//!
//! `decide` (in `decide.rs`) says what a command leads to, `evolve` (in `evolve.rs`) folds an
//! event in, `effects` (in `effect.rs`) says what is still wanted outside. Who performs the
//! effects, and when, is two floors up. The stock of a SKU and the cart are known by id only.

mod buyer_action;
mod command;
mod decide;
mod dispatch;
mod effect;
mod event;
mod evolve;
mod ledger;
mod status;
mod step;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use buyer_action::{BuyerAction, RequiredAction};
pub use command::{Command, FulfillmentRequest, RefundLineRequest, RefundRequest, Rejection};
pub use effect::Effect;
pub use event::Event;
pub use ledger::{
    Attempt, AttemptState, Capture, Fulfillment, FulfillmentLine, ProviderReport, Refund,
    RefundLine, Tracking,
};
pub use status::{FulfillmentStatus, OrderStatus, PaymentStatus};

use super::address::Address;
use super::entity;
use super::id::{OrderId, Sku};
use super::money::{Currency, Rounding};
use super::pricing::{Delivery, QuotedLine, Totals};
use super::time::{Span, Timestamp};

/// The journal's id for an order.
#[must_use]
pub fn entity_id(id: OrderId) -> entity::EntityId {
    entity::EntityId::new(&id.to_string())
}

/// When the money of a confirmed order is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapturePolicy {
    /// As soon as the order is confirmed.
    #[default]
    AtOnce,
    /// With each fulfillment: what it ships, and the delivery with the first.
    AtDispatch,
    /// When an operator asks for it.
    ByHand,
}

/// How a buyer wants to pay.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentMethod {
    /// The provider's name.
    pub provider: String,
    /// What the provider gave the buyer's browser for the card.
    pub token: String,
}

impl std::fmt::Debug for PaymentMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PaymentMethod({})", self.provider)
    }
}

/// All that is frozen when an order is placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its id, which has the cart's key.
    pub order: OrderId,
    /// The currency of every amount.
    pub currency: Currency,
    /// Where the mail goes.
    pub email: String,
    /// The buyer's own number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What was bought.
    pub lines: Vec<QuotedLine>,
    /// Where the goods go.
    pub shipping_address: Address,
    /// Where the bill goes, if elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_address: Option<Address>,
    /// How the goods go.
    pub delivery: Delivery,
    /// What it comes to.
    pub totals: Totals,
    /// How a half of a minor unit was rounded, and will be in its refunds.
    #[serde(default)]
    pub rounding: Rounding,
    /// When its money is taken.
    #[serde(default)]
    pub capture: CapturePolicy,
    /// Until when it can be paid.
    pub deadline_at: Timestamp,
    /// How long stock is held for it.
    #[serde(rename = "hold_ms")]
    pub hold: Span,
}

/// Where the checkout saga stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// There is no such order.
    #[default]
    Absent,
    /// Stock is being reserved.
    Reserving,
    /// The provider is being asked.
    Paying,
    /// A buyer's next attempt is awaited.
    AwaitingPayment,
    /// It is paid for, and its stock is being allocated.
    Committing,
    /// It stands.
    Confirmed,
    /// It is being taken back.
    Cancelling,
    /// It was taken back.
    Cancelled,
}

/// Why an order is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// `out_of_stock`, `payment_deadline`, or an operator's words.
    pub reason: String,
    /// What there was too little of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortages: Vec<Shortage>,
}

/// A SKU of which there was too little.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// Which.
    pub sku: Sku,
    /// Units that the order needs.
    pub requested: i64,
    /// Units that could be had.
    pub available: i64,
}

/// An order; by default, one that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    placed: Option<Arc<Placed>>,
    placed_at: Timestamp,
    updated_at: Timestamp,
    phase: Phase,
    method: Option<PaymentMethod>,
    generation: u32,
    number: Option<i64>,
    attempts: Vec<Attempt>,
    captures: Vec<Capture>,
    refunds: Vec<Refund>,
    fulfillments: Vec<Fulfillment>,
    cancellation: Option<Cancellation>,
    stuck: BTreeMap<String, String>,
    skipped: BTreeSet<String>,
    alert: Option<String>,
}

impl Order {
    /// What was frozen when it was placed; `None` if there is no such order.
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

    /// Where its saga stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Its human number, from its confirmation on.
    #[must_use]
    pub const fn number(&self) -> Option<i64> {
        self.number
    }

    /// Which try at the stock is the current one.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// The payment attempts, the first first.
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

    /// Why it is, or was, taken back.
    #[must_use]
    pub const fn cancellation(&self) -> Option<&Cancellation> {
        self.cancellation.as_ref()
    }

    /// The steps that are stuck, with why.
    #[must_use]
    pub const fn stuck(&self) -> &BTreeMap<String, String> {
        &self.stuck
    }

    /// What an operator must look at before anything is sent.
    #[must_use]
    pub fn alert(&self) -> Option<&str> {
        self.alert.as_deref()
    }

    /// A line by its id.
    #[must_use]
    pub fn line(&self, id: u32) -> Option<&QuotedLine> {
        self.placed.as_ref()?.lines.iter().find(|line| line.id == id)
    }

    /// The units that it takes of each SKU, lines of one SKU summed.
    #[must_use]
    pub fn units(&self) -> BTreeMap<Sku, i64> {
        let mut units = BTreeMap::new();
        for line in self.placed.iter().flat_map(|placed| &placed.lines) {
            *units.entry(line.sku.clone()).or_insert(0) += line.quantity;
        }
        units
    }

    /// What is to be charged in all, in minor units.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.placed.as_ref().map_or(0, |placed| placed.totals.total)
    }

    /// Whether the buyer who waits can be told how it went.
    #[must_use]
    pub fn settled(&self) -> bool {
        match self.phase {
            Phase::Absent | Phase::Reserving | Phase::Paying | Phase::Committing => {
                !self.stuck.is_empty() || self.alert.is_some()
            }
            Phase::AwaitingPayment => {
                !self.taking_back() || !self.stuck.is_empty() || self.alert.is_some()
            }
            Phase::Confirmed | Phase::Cancelling | Phase::Cancelled => true,
        }
    }

    /// Whether the last attempt was given up, and is not taken back yet.
    #[must_use]
    pub fn taking_back(&self) -> bool {
        self.phase == Phase::AwaitingPayment && self.attempts.iter().any(Attempt::open)
    }
}
