//! What can have happened to an order.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ledger::{Fulfillment, Refund};
use super::{PaymentMethod, Placed, RequiredAction, Shortage};
use crate::domain::entity;

/// What has happened to an order.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the ledger and the commands say what each field means")]
pub enum Event {
    /// It exists, and everything in it is frozen.
    Placed {
        #[serde(flatten)]
        placed: Arc<Placed>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        method: Option<PaymentMethod>,
    },
    /// The buyer tries once more to pay.
    PaymentRetried { method: PaymentMethod },
    /// All stock is held, for an order that is paid for already or costs nothing.
    Reserved {
        #[serde(rename = "gen")]
        generation: u32,
    },
    /// All stock is held, and the provider is asked.
    PaymentRequested { attempt: u32, provider: String, amount: i64 },
    /// The provider has the attempt, and will tell, perhaps once the buyer has done something.
    PaymentPending {
        attempt: u32,
        payment: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<RequiredAction>,
    },
    /// The provider did not answer.
    PaymentUnknown { attempt: u32, why: String },
    /// The money is set aside.
    PaymentAuthorized { attempt: u32, payment: String, amount: i64 },
    /// The provider said no.
    PaymentDeclined { attempt: u32, code: String },
    /// The provider has not heard of an attempt: it is no longer waited for, and taken back,
    /// whatever comes of it.
    PaymentGivenUp { attempt: u32 },
    /// An attempt whose outcome was unknown was taken back.
    PaymentReversed { attempt: u32 },
    /// Money that was set aside was let go.
    PaymentVoided { attempt: u32 },
    /// The hold was past its time when the money came.
    HoldLapsed {
        #[serde(rename = "gen")]
        generation: u32,
    },
    /// Paid, allocated, numbered: it stands.
    Confirmed { number: i64 },
    /// Money is to be taken, because an operator asked, or because goods go out.
    CaptureRequested { capture: u32, amount: i64 },
    /// Money was taken.
    Captured { capture: u32, amount: i64, operation: String },
    /// Money is to be given back.
    RefundRequested {
        #[serde(flatten)]
        refund: Box<Refund>,
    },
    /// Money was given back.
    Refunded { refund: u32, operation: String },
    /// The goods of a refund are where they belong.
    RefundRestocked { refund: u32 },
    /// Goods go out.
    Fulfilled {
        #[serde(flatten)]
        fulfillment: Box<Fulfillment>,
    },
    /// The stock knows that goods went out.
    Shipped { fulfillment: u32 },
    /// It is being taken back.
    CancelRequested {
        reason: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shortages: Vec<Shortage>,
    },
    /// It was taken back: no money, no stock.
    Cancelled {},
    /// A step cannot be done, and waits for an operator.
    Stuck { step: String, why: String },
    /// An operator lets a stuck order go on.
    RetryRequested { reason: String },
    /// An operator gave a stuck step up.
    StepSkipped { step: String, reason: String },
    /// Something does not fit together: nothing is sent until an operator has looked.
    AlertRaised { alert: String },
    /// An operator has looked.
    AlertCleared { reason: String },
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
        // Refunds of these orders were always rounded so.
        if (kind, version) == ("placed", 1) && data["placed"].is_object() {
            data["placed"]["rounding"] = "half_even".into();
        }
        // The first of these fulfillments captured all that was authorized.
        if (kind, version) == ("fulfilled", 1) && data["fulfilled"].is_object() {
            data["fulfilled"]["captures_share"] = false.into();
        }
        data
    }
}
