//! What can be asked of an order, and why it refuses.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ledger::{ProviderReport, Tracking};
use super::{PaymentMethod, Phase, Placed, Shortage};
use crate::domain::money::Currency;

/// What can be asked of an order. Commands that bring back what an effect led to are safe to
/// repeat; they lead to nothing when the order knows already.
#[derive(Clone, Debug, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Command {
    /// Makes it of a cart.
    Place {
        /// What is frozen.
        placed: Arc<Placed>,
        /// How it is paid; not needed for an order that costs nothing.
        method: Option<PaymentMethod>,
    },
    /// Tries once more to pay.
    Pay {
        /// How it is paid.
        method: Option<PaymentMethod>,
    },
    /// All stock is held.
    Reserved {
        /// The try that this was.
        generation: u32,
    },
    /// Some stock could not be held.
    OutOfStock {
        /// The try that this was.
        generation: u32,
        /// What there was too little of.
        shortages: Vec<Shortage>,
    },
    /// What the provider says of an attempt.
    Report {
        /// The attempt.
        attempt: u32,
        /// What it says.
        report: ProviderReport,
    },
    /// What an account of a provider says by itself of an attempt: nothing of it is believed if the
    /// attempt was not made there.
    FromProvider {
        /// The account.
        provider: String,
        /// Of the amounts that it names.
        currency: Currency,
        /// The attempt.
        attempt: u32,
        /// What it comes to.
        command: Box<Command>,
    },
    /// A hold was past its time when it was to be allocated.
    HoldLapsed {
        /// The try that this was.
        generation: u32,
    },
    /// All stock is allocated, and a number is drawn.
    Confirm {
        /// The number.
        number: i64,
    },
    /// The provider has taken money.
    Captured {
        /// The capture.
        capture: u32,
        /// Minor units.
        amount: i64,
        /// The provider's id for it.
        operation: String,
    },
    /// The provider has given money back.
    Refunded {
        /// The refund.
        refund: u32,
        /// The provider's id for it.
        operation: String,
    },
    /// The goods of a refund are where they belong.
    RefundRestocked {
        /// The refund.
        refund: u32,
    },
    /// The stock knows that goods went out.
    Shipped {
        /// The fulfillment.
        fulfillment: u32,
    },
    /// All stock was given back.
    Released,
    /// A step cannot be done.
    GiveUp {
        /// The step.
        step: String,
        /// Why.
        why: String,
    },
    /// An operator takes it back.
    Cancel {
        /// Why.
        reason: String,
    },
    /// An operator gives money back.
    Refund(RefundRequest),
    /// An operator takes money.
    Capture {
        /// Minor units; all that is left to take if it is not said.
        amount: Option<i64>,
    },
    /// An operator sends goods out.
    Fulfill(FulfillmentRequest),
    /// An operator lets it go on.
    Retry {
        /// Why.
        reason: String,
    },
    /// An operator gives a stuck step up.
    Skip {
        /// Which; the only one that is stuck if it is not said.
        step: Option<String>,
        /// Why.
        reason: String,
    },
    /// Something does not fit together.
    RaiseAlert {
        /// What.
        alert: String,
    },
}

/// A refund that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundRequest {
    /// Lines and units.
    pub lines: Vec<RefundLineRequest>,
    /// Minor units of the delivery.
    pub delivery: i64,
    /// Minor units for nothing in particular.
    pub free: i64,
    /// Whether the goods go back on sale.
    pub restock: bool,
    /// Why.
    pub reason: String,
}

/// Units of a line that are to be given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundLineRequest {
    /// The line.
    pub line: u32,
    /// Units.
    pub quantity: i64,
    /// Minor units for them; their share of what was paid if it is not said.
    pub amount: Option<i64>,
}

/// Goods that are to go out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FulfillmentRequest {
    /// Lines and units; all that is left if there are none.
    pub lines: Vec<(u32, i64)>,
    /// How it can be followed.
    pub tracking: Option<Tracking>,
}

/// Why an order refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// There is none.
    #[error("there is no such order")]
    NotFound,
    /// An attempt is being made.
    #[error("a payment of the order is in progress")]
    InProgress,
    /// It costs something, and nothing says how that is paid.
    #[error("a payment is required")]
    PaymentRequired,
    /// It is beyond paying.
    #[error("the order is {phase:?} and takes no further payment")]
    NotPayable {
        /// Where it stands.
        phase: Phase,
    },
    /// The state does not allow it.
    #[error("{what}")]
    WrongState {
        /// Why not.
        what: Cow<'static, str>,
    },
    /// It is not clear which step is meant.
    #[error("must be one of the stuck steps: {}", stuck.join(", "))]
    WhichStep {
        /// The steps that are stuck.
        stuck: Vec<String>,
    },
    /// More than can be refunded.
    #[error("at most {limit} minor units can be refunded")]
    RefundTooLarge {
        /// Minor units.
        limit: i64,
    },
    /// More than can be captured.
    #[error("at most {limit} minor units can be captured")]
    CaptureTooLarge {
        /// Minor units.
        limit: i64,
    },
    /// No such line.
    #[error("the order has no line {line}")]
    UnknownLine {
        /// The line.
        line: u32,
    },
    /// More units than there are.
    #[error("line {line} has {limit} units left for this")]
    TooManyUnits {
        /// The line.
        line: u32,
        /// Units that are left.
        limit: i64,
    },
    /// Nothing was asked for, or nothing is left.
    #[error("{what}")]
    Nothing {
        /// What there is nothing of.
        what: Cow<'static, str>,
    },
}
