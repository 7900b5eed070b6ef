//! The commands of an order, and its rejections.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ledger::{ProviderReport, Tracking};
use super::{PaymentMethod, Phase, Placed, Shortage};
use crate::domain::money::Currency;

/// A command for an order. Commands that report the result of an effect are safe to repeat: a known
/// result gives no events.
#[derive(Clone, Debug, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Command {
    /// Places it.
    Place {
        /// The fixed data of the order.
        placed: Arc<Placed>,
        /// The payment method; not needed for an order whose total is 0.
        method: Option<PaymentMethod>,
    },
    /// Makes another payment attempt.
    Pay {
        /// The payment method.
        method: Option<PaymentMethod>,
    },
    /// All stock is reserved.
    Reserved {
        /// The attempt to reserve.
        generation: u32,
    },
    /// Some stock could not be reserved.
    OutOfStock {
        /// The attempt to reserve.
        generation: u32,
        /// The missing stock.
        shortages: Vec<Shortage>,
    },
    /// A provider's report on a payment attempt.
    Report {
        /// The payment attempt.
        attempt: u32,
        /// The report.
        report: ProviderReport,
    },
    /// A provider account's own report on a payment attempt: it is ignored if the attempt was not
    /// made with that account.
    FromProvider {
        /// The account.
        provider: String,
        /// The currency of its amounts.
        currency: Currency,
        /// The payment attempt.
        attempt: u32,
        /// The reported command.
        command: Box<Command>,
    },
    /// A hold had expired when it was to be allocated.
    HoldLapsed {
        /// The attempt to reserve.
        generation: u32,
    },
    /// All stock is allocated, and the order number is drawn.
    Confirm {
        /// The number.
        number: i64,
    },
    /// The provider has captured money.
    Captured {
        /// The capture.
        capture: u32,
        /// Minor units.
        amount: i64,
        /// The provider's id for it.
        operation: String,
    },
    /// The provider has refunded money.
    Refunded {
        /// The refund.
        refund: u32,
        /// The provider's id for it.
        operation: String,
    },
    /// The goods of a refund are back in stock, or written off.
    RefundRestocked {
        /// The refund.
        refund: u32,
    },
    /// The stock has recorded a shipment.
    Shipped {
        /// The fulfillment.
        fulfillment: u32,
    },
    /// All stock was released.
    Released,
    /// A step is impossible.
    GiveUp {
        /// The step.
        step: String,
        /// The reason.
        why: String,
    },
    /// Cancels it, for an operator.
    Cancel {
        /// The reason.
        reason: String,
    },
    /// Refunds money, for an operator.
    Refund(RefundRequest),
    /// Captures money, for an operator.
    Capture {
        /// Minor units; all that is left to capture if absent.
        amount: Option<i64>,
    },
    /// Ships goods, for an operator.
    Fulfill(FulfillmentRequest),
    /// Retries stuck steps and clears alerts, for an operator.
    Retry {
        /// The reason.
        reason: String,
    },
    /// Skips a stuck step, for an operator.
    Skip {
        /// The step; may be absent if only one is stuck.
        step: Option<String>,
        /// The reason.
        reason: String,
    },
    /// Raises an alert: the order's data are inconsistent.
    RaiseAlert {
        /// The alert.
        alert: String,
    },
}

/// A refund request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundRequest {
    /// Lines and units.
    pub lines: Vec<RefundLineRequest>,
    /// Minor units of the delivery.
    pub delivery: i64,
    /// Minor units that belong to no line.
    pub free: i64,
    /// Whether the goods go back on sale.
    pub restock: bool,
    /// The reason.
    pub reason: String,
}

/// Units of a line that are to be refunded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundLineRequest {
    /// The line.
    pub line: u32,
    /// Units.
    pub quantity: i64,
    /// Minor units for them; if absent, their share of what was paid.
    pub amount: Option<i64>,
}

/// Goods that are to be shipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FulfillmentRequest {
    /// Lines and units; if empty, everything that is left.
    pub lines: Vec<(u32, i64)>,
    /// The tracking data of the parcel.
    pub tracking: Option<Tracking>,
}

/// Why an order rejects a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The order does not exist.
    #[error("there is no such order")]
    NotFound,
    /// A payment attempt is in progress.
    #[error("a payment of the order is in progress")]
    InProgress,
    /// The total is not 0, and there is no payment method.
    #[error("a payment is required")]
    PaymentRequired,
    /// It can no longer be paid.
    #[error("the order is {phase:?} and takes no further payment")]
    NotPayable {
        /// Its phase.
        phase: Phase,
    },
    /// Not allowed in the current state.
    #[error("{what}")]
    WrongState {
        /// The reason.
        what: Cow<'static, str>,
    },
    /// It is ambiguous which step is meant.
    #[error("must be one of the stuck steps: {}", stuck.join(", "))]
    WhichStep {
        /// The stuck steps.
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
    /// There is no such line.
    #[error("the order has no line {line}")]
    UnknownLine {
        /// The line.
        line: u32,
    },
    /// More units than are left.
    #[error("line {line} has {limit} units left for this")]
    TooManyUnits {
        /// The line.
        line: u32,
        /// Units that are left.
        limit: i64,
    },
    /// The request is empty, or nothing is left.
    #[error("{what}")]
    Nothing {
        /// What is empty or used up.
        what: Cow<'static, str>,
    },
}
