//! The events of an order.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ledger::{Fulfillment, Refund, Tracking};
use super::{PaymentMethod, Placed, RequiredAction, Shortage};
use crate::domain::entity;

/// An event of an order.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the ledger and the commands say what each field means")]
pub enum Event {
    /// The order was placed, with all its data fixed.
    Placed {
        #[serde(flatten)]
        placed: Arc<Placed>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        method: Option<PaymentMethod>,
    },
    /// The buyer makes another payment attempt.
    PaymentRetried { method: PaymentMethod },
    /// All stock is reserved, for an order that is already authorized or whose total is 0.
    Reserved {
        #[serde(rename = "gen")]
        generation: u32,
    },
    /// All stock is reserved, and the provider is asked for an authorization.
    PaymentRequested { attempt: u32, provider: String, amount: i64 },
    /// The provider has accepted the attempt and will report its outcome, perhaps after an action
    /// of the buyer.
    PaymentPending {
        attempt: u32,
        payment: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<RequiredAction>,
    },
    /// The provider did not answer.
    PaymentUnknown { attempt: u32, why: String },
    /// The money is authorized.
    PaymentAuthorized { attempt: u32, payment: String, amount: i64 },
    /// The provider declined.
    PaymentDeclined { attempt: u32, code: String },
    /// The provider does not know the attempt. The order gives it up and has it reversed, whatever
    /// its outcome will be.
    PaymentGivenUp { attempt: u32 },
    /// An attempt that was not decided yet was reversed.
    PaymentReversed { attempt: u32 },
    /// An authorization was voided.
    PaymentVoided { attempt: u32 },
    /// The order waits for another payment: its hold stays only until another order needs its
    /// units.
    HoldYielded {
        #[serde(rename = "gen")]
        generation: u32,
    },
    /// A hold had expired when it was to be turned into an allocation.
    HoldLapsed {
        #[serde(rename = "gen")]
        generation: u32,
    },
    /// The order is paid, its stock is allocated, and it has an order number.
    Confirmed { number: i64 },
    /// A capture is requested, by an operator or because goods are shipped.
    CaptureRequested { capture: u32, amount: i64 },
    /// Money was captured.
    Captured { capture: u32, amount: i64, operation: String },
    /// A refund is requested.
    RefundRequested {
        #[serde(flatten)]
        refund: Box<Refund>,
    },
    /// Money was refunded.
    Refunded { refund: u32, operation: String },
    /// The goods of a refund are back in stock, or written off.
    RefundRestocked { refund: u32 },
    /// Goods are shipped.
    Fulfilled {
        #[serde(flatten)]
        fulfillment: Box<Fulfillment>,
    },
    /// The stock has recorded a shipment.
    Shipped { fulfillment: u32 },
    /// The tracking data of a fulfillment were corrected.
    TrackingCorrected {
        fulfillment: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tracking: Option<Box<Tracking>>,
    },
    /// Cancellation is requested.
    CancelRequested {
        reason: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shortages: Vec<Shortage>,
    },
    /// The cancellation is complete: the order's stock is released, and its money was voided or
    /// refunded, except for skipped steps.
    Cancelled {},
    /// A step cannot be done without an operator.
    Stuck { step: String, why: String },
    /// An operator retries a stuck order.
    RetryRequested { reason: String },
    /// An operator skipped a stuck step.
    StepSkipped { step: String, reason: String },
    /// A contradiction in the order's data was found: no effect is performed until an operator has
    /// cleared the alert or cancelled the order.
    AlertRaised { alert: String },
    /// An operator cleared the alerts.
    AlertCleared { reason: String },
    /// The buyer's personal data were erased: their keys are destroyed.
    PersonalDataErased {},
    /// The buyer's personal data must not be erased: there is a legal hold.
    LegalHoldPlaced { reason: String },
    /// The legal hold was released.
    LegalHoldReleased {},
}

impl entity::Event for Event {
    fn kind(&self) -> &'static str {
        self.into()
    }

    fn version(&self) -> u16 {
        Self::newest(self.kind())
    }

    fn newest(kind: &str) -> u16 {
        match kind {
            "placed" | "payment_pending" | "fulfilled" => 2,
            _ => 1,
        }
    }

    fn upcast(kind: &str, version: u16, mut data: Value) -> Value {
        // Refunds of orders placed with version 1 were always rounded half to even.
        if (kind, version) == ("placed", 1) && data["placed"].is_object() {
            data["placed"]["rounding"] = "half_even".into();
        }
        // With version 1, the first fulfillment captured the whole authorization.
        if (kind, version) == ("fulfilled", 1) && data["fulfilled"].is_object() {
            data["fulfilled"]["captures_share"] = false.into();
        }
        data
    }
}
