//! The facts, one in each line of the ledger, and a payment in memory, which is folded from them.
//!
//! Requests are checked before a fact is recorded (`book`, `service`); nothing is refused here.

use iso_currency::Currency;
use serde::{Deserialize, Serialize};

use super::clock::Timestamp;

/// One line of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fact {
    pub account: String,
    pub at: Timestamp,
    pub what: What,
}

/// A fact.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A payment was created by the request with this idempotency key.
    Made {
        key: String,
        /// A hash of the request, which distinguishes a repetition from another request.
        request: String,
        payment: Made,
    },
    /// A pending payment was authorized.
    Settled { payment: String },
    /// An operation was executed by the request with this idempotency key.
    Operated { key: String, request: String, payment: String, operation: BookedOperation },
    /// A payment was reversed by a request with its reference.
    Reversed { payment: String, operations: Vec<BookedOperation> },
    /// A reference was permanently blocked.
    Blocked { reference: String },
    /// The webhook endpoint was set.
    Endpoint(Endpoint),
}

/// A payment at its creation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Made {
    pub id: String,
    pub reference: String,
    pub status: BookedStatus,
    pub amount: i64,
    pub currency: Currency,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decline_code: Option<String>,
    /// The page that the buyer must visit while the payment is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
}

/// A page that a buyer must visit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Redirect {
    pub url: String,
    pub expires_at: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BookedStatus {
    Pending,
    Authorized,
    Declined,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BookedKind {
    Capture,
    Void,
    Refund,
}

/// A capture, void or refund; the amount is in minor units.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BookedOperation {
    pub id: String,
    pub kind: BookedKind,
    pub reference: String,
    pub amount: i64,
}

/// The endpoint to which an account's webhooks are sent, and the secret that signs them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub url: String,
    pub secret: String,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A payment in memory.
#[derive(Clone, Debug)]
pub struct BookedPayment {
    pub made: Made,
    pub made_at: Timestamp,
    /// The current status; `made.status` is the first one.
    pub status: BookedStatus,
    pub operations: Vec<(Timestamp, BookedOperation)>,
}

/// Sums over a payment's operations, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub captured: i64,
    pub refunded: i64,
    pub voided: bool,
}

impl BookedPayment {
    /// The sums after its first `count` operations.
    pub fn sums(&self, count: usize) -> Sums {
        let mut sums = Sums::default();
        for (_, operation) in self.operations.iter().take(count) {
            match operation.kind {
                BookedKind::Capture => sums.captured += operation.amount,
                BookedKind::Refund => sums.refunded += operation.amount,
                BookedKind::Void => sums.voided = true,
            }
        }
        sums
    }

    /// The payment as it is sent now.
    pub fn view(&self) -> PaymentView {
        self.view_at(self.status, self.operations.len())
    }

    /// The payment as it is sent with this status and its first `count` operations.
    pub fn view_at(&self, status: BookedStatus, count: usize) -> PaymentView {
        let Sums { captured, refunded, voided } = self.sums(count);
        PaymentView {
            id: self.made.id.clone(),
            reference: self.made.reference.clone(),
            status,
            amount: self.made.amount,
            currency: self.made.currency,
            captured,
            refunded,
            voided,
            decline_code: self.made.decline_code.clone(),
            created_at: self.made_at.to_string(),
            operations: self.operations.iter().take(count).map(OperationView::of).collect(),
            redirect: self.made.redirect.clone().filter(|_| status == BookedStatus::Pending),
        }
    }
}

/// A payment as it is sent in answers and webhooks.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentView {
    pub id: String,
    pub reference: String,
    pub status: BookedStatus,
    pub amount: i64,
    pub currency: Currency,
    pub captured: i64,
    pub refunded: i64,
    pub voided: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decline_code: Option<String>,
    pub created_at: String,
    pub operations: Vec<OperationView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
}

/// An operation as it is sent in answers and webhooks.
#[derive(Clone, Debug, Serialize)]
pub struct OperationView {
    pub id: String,
    pub kind: BookedKind,
    pub reference: String,
    pub amount: i64,
    pub created_at: String,
}

impl OperationView {
    fn of((at, operation): &(Timestamp, BookedOperation)) -> Self {
        Self {
            id: operation.id.clone(),
            kind: operation.kind,
            reference: operation.reference.clone(),
            amount: operation.amount,
            created_at: at.to_string(),
        }
    }
}
