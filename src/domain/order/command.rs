//! The commands of an order, and its rejections.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ledger::{ProviderReport, RefundFrom, Tracking, TrackingPatch};
use super::{PaymentMethod, Phase, Placed, Shortage};
use crate::domain::money::Currency;

/// A command for an order. Commands that report the result of an effect are safe to repeat: a known
/// result gives no events.
#[derive(Clone, Debug, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Command {
    /// Places the order. If the order exists, this is another payment attempt, like `Pay`.
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
        /// The number of the attempt to reserve.
        generation: u32,
    },
    /// Some stock could not be reserved.
    OutOfStock {
        /// The number of the attempt to reserve.
        generation: u32,
        /// The SKUs with too few units.
        shortages: Vec<Shortage>,
    },
    /// A provider's report on a payment attempt.
    Report {
        /// The number of the payment attempt.
        attempt: u32,
        /// The report.
        report: ProviderReport,
    },
    /// A report on a payment attempt that was not requested by the order's saga: a webhook, or an
    /// entry of the provider's list. It is rejected if the attempt was not made with this account.
    FromProvider {
        /// The account at the provider that sent the report.
        provider: String,
        /// The currency of the reported amounts.
        currency: Currency,
        /// The number of the payment attempt.
        attempt: u32,
        /// The command with the report's content.
        command: Box<Command>,
    },
    /// The hold yields to other orders.
    HoldYielded {
        /// The number of the attempt to reserve.
        generation: u32,
    },
    /// A hold had expired when it was to be allocated.
    HoldLapsed {
        /// The number of the attempt to reserve.
        generation: u32,
    },
    /// All stock is allocated, and the counter has issued the order number.
    Confirm {
        /// The order number.
        number: i64,
    },
    /// The provider has captured money.
    Captured {
        /// The number of the capture; `None` if it was made elsewhere, such as in the provider's
        /// dashboard.
        capture: Option<u32>,
        /// The captured amount, in minor units.
        amount: i64,
        /// The provider's id of the capture.
        operation: String,
    },
    /// The provider has refunded money.
    Refunded {
        /// The number of the refund; `None` if it was made elsewhere, such as in the provider's
        /// dashboard.
        refund: Option<u32>,
        /// The refunded amount, in minor units.
        amount: i64,
        /// The provider's id of the refund.
        operation: String,
    },
    /// The goods of a refund are back in stock, or written off.
    RefundRestocked {
        /// The number of the refund.
        refund: u32,
    },
    /// The stock has recorded a shipment.
    Shipped {
        /// The number of the fulfillment.
        fulfillment: u32,
    },
    /// All stock was released.
    Released,
    /// A step cannot be done without an operator: it becomes stuck.
    GiveUp {
        /// The name of the step.
        step: String,
        /// The reason.
        why: String,
    },
    /// Cancels the order, for its buyer, while no money is authorized.
    Abandon,
    /// Cancels the order, for an operator.
    Cancel {
        /// The reason.
        reason: String,
    },
    /// Refunds money, for an operator.
    Refund(RefundRequest),
    /// Captures money, for an operator.
    Capture {
        /// The amount in minor units; everything that is left to capture if absent.
        amount: Option<i64>,
    },
    /// Ships goods, for an operator.
    Fulfill(FulfillmentRequest),
    /// Corrects the tracking data of a fulfillment, for an operator.
    CorrectTracking {
        /// The number of the fulfillment.
        fulfillment: u32,
        /// What changes; `None` clears all.
        tracking: Option<TrackingPatch>,
    },
    /// Retries stuck steps and clears alerts, for an operator.
    Retry {
        /// The reason.
        reason: String,
    },
    /// Skips a stuck step, for an operator.
    Skip {
        /// The name of the step; may be absent if only one is stuck.
        step: Option<String>,
        /// The reason.
        reason: String,
    },
    /// Records that the buyer's personal data are erased.
    Erase,
    /// Keeps the buyer's personal data from being erased until the hold is released (legal hold).
    PlaceLegalHold {
        /// The reason.
        reason: String,
    },
    /// Releases the legal hold.
    ReleaseLegalHold,
    /// Raises an alert: the order's data are inconsistent.
    RaiseAlert {
        /// The alert.
        alert: String,
    },
}

impl Command {
    /// Whether it is one of an operator's commands.
    #[must_use]
    pub const fn is_of_staff(&self) -> bool {
        matches!(
            self,
            Self::Cancel { .. }
                | Self::Refund(_)
                | Self::Capture { .. }
                | Self::Fulfill(_)
                | Self::CorrectTracking { .. }
                | Self::Retry { .. }
                | Self::Skip { .. }
                | Self::Erase
                | Self::PlaceLegalHold { .. }
                | Self::ReleaseLegalHold
        )
    }
}

/// A refund request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundRequest {
    /// The units to be refunded, by line.
    pub lines: Vec<RefundLineRequest>,
    /// The part of the delivery's price to be refunded, in minor units.
    pub delivery: i64,
    /// An amount, in minor units, that belongs neither to a line nor to the delivery.
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
    /// The amount for these units, in minor units; if absent, their share of the line's price, for
    /// units that were not shipped at most what was captured for them.
    pub amount: Option<i64>,
    /// Which units; if absent, those that were not shipped first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RefundFrom>,
}

/// Goods that are to be shipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FulfillmentRequest {
    /// The ids of lines with the units to ship; if empty, all units that are left are shipped.
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
    /// The command names no payment method, and the total is not 0.
    #[error("a payment is required")]
    PaymentRequired,
    /// The order can no longer be paid.
    #[error("{}", not_payable(*phase))]
    NotPayable {
        /// Its phase.
        phase: Phase,
    },
    /// The command is not allowed in the order's current state.
    #[error("{what}")]
    WrongState {
        /// The reason.
        what: Cow<'static, str>,
    },
    /// The command does not name exactly one of the stuck steps.
    #[error("must be one of the stuck steps: {}", stuck.join(", "))]
    WhichStep {
        /// The names of the stuck steps.
        stuck: Vec<String>,
    },
    /// The requested refund is larger than allowed.
    #[error("at most {limit} minor units can be refunded")]
    RefundTooLarge {
        /// The largest amount, in minor units.
        limit: i64,
        /// The part of the request that is too large.
        #[serde(default)]
        part: RefundPart,
    },
    /// The requested capture is not from 1 to the limit.
    #[error("at most {limit} minor units can be captured")]
    CaptureTooLarge {
        /// The largest amount, in minor units.
        limit: i64,
    },
    /// The order has no fulfillment with this number.
    #[error("there is no such fulfillment")]
    UnknownFulfillment,
    /// The order has no line with this id.
    #[error("the order has no line {line}")]
    UnknownLine {
        /// The line.
        line: u32,
    },
    /// The quantity is not from 1 to the number of units that are left on the line.
    #[error("line {line}: at most {limit} units are left for this")]
    TooManyUnits {
        /// The line.
        line: u32,
        /// Units that are left.
        limit: i64,
    },
    /// Several parts of the request are rejected.
    #[error("{}", all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several {
        /// Why each is.
        all: Vec<Self>,
    },
    /// The request is empty, or nothing is left to do.
    #[error("{what}")]
    Nothing {
        /// The reason.
        what: Cow<'static, str>,
    },
}

impl Rejection {
    /// Rejects a request if parts of it are rejected.
    ///
    /// # Errors
    /// The only rejection, or all of them.
    pub(super) fn check(mut rejections: Vec<Self>) -> Result<(), Self> {
        match rejections.len() {
            0 => Ok(()),
            1 => Err(rejections.remove(0)),
            _ => Err(Self::Several { all: rejections }),
        }
    }
}

/// A part of a refund request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundPart {
    /// The sum of all parts.
    #[default]
    Sum,
    /// The amount for the delivery.
    Delivery,
    /// The amount that belongs neither to a line nor to the delivery.
    Free,
    /// The amount for this line.
    Line(u32),
}

const fn not_payable(phase: Phase) -> &'static str {
    match phase {
        Phase::Confirmed => "the order is paid already",
        Phase::AwaitingPayment => "the payment deadline of the order has passed",
        _ => "the order is cancelled and takes no further payment",
    }
}
