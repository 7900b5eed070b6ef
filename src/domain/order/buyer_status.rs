//! What a buyer is shown of an order's status. A shop's statuses, in `status`, also say what only the
//! shop can act on: stuck steps, calls without an answer, money that is not settled yet.

use super::{AttemptState, FulfillmentStatus, Order, PaymentStatus, Phase};

/// The status of an order that its buyer is shown.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    serde::Serialize,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "docs/glossary.md says what each means")]
pub enum BuyerStatus {
    Pending,
    AwaitingPayment,
    Confirmed,
    PartiallyFulfilled,
    Fulfilled,
    Refunded,
    Cancelled,
}

/// The payment status of an order that its buyer is shown.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    serde::Serialize,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "docs/glossary.md says what each means")]
pub enum BuyerPayment {
    None,
    Pending,
    Declined,
    Authorized,
    PartiallyPaid,
    Paid,
    PartiallyRefunded,
    Refunded,
    Cancelled,
}

impl Order {
    /// The status that its buyer is shown.
    #[must_use]
    pub fn buyer_status(&self) -> BuyerStatus {
        match self.phase {
            Phase::AwaitingPayment if !self.has_open_reversal() => BuyerStatus::AwaitingPayment,
            Phase::Paying if self.attempts.last().is_some_and(|last| last.action.is_some()) => {
                BuyerStatus::AwaitingPayment
            }
            Phase::Absent
            | Phase::Reserving
            | Phase::Paying
            | Phase::AwaitingPayment
            | Phase::Committing => BuyerStatus::Pending,
            Phase::Cancelling | Phase::Cancelled => BuyerStatus::Cancelled,
            Phase::Confirmed => match self.fulfillment_status() {
                FulfillmentStatus::Unfulfilled => BuyerStatus::Confirmed,
                FulfillmentStatus::Partial => BuyerStatus::PartiallyFulfilled,
                FulfillmentStatus::Fulfilled => BuyerStatus::Fulfilled,
                FulfillmentStatus::NotRequired => BuyerStatus::Refunded,
            },
        }
    }

    /// The payment status that its buyer is shown.
    #[must_use]
    pub fn buyer_payment(&self) -> BuyerPayment {
        let unpaid = self.authorized() == 0 && self.captured() == 0;
        if unpaid && matches!(self.phase, Phase::Reserving) && !self.attempts.is_empty() {
            return BuyerPayment::Pending;
        }
        match self.payment_status() {
            PaymentStatus::None => BuyerPayment::None,
            PaymentStatus::Requested | PaymentStatus::Unknown => BuyerPayment::Pending,
            PaymentStatus::Declined => BuyerPayment::Declined,
            PaymentStatus::Authorized => BuyerPayment::Authorized,
            PaymentStatus::PartiallyCaptured | PaymentStatus::Captured
                if self.captured() >= self.due() =>
            {
                BuyerPayment::Paid
            }
            PaymentStatus::PartiallyCaptured | PaymentStatus::Captured => {
                BuyerPayment::PartiallyPaid
            }
            PaymentStatus::PartiallyRefunded => BuyerPayment::PartiallyRefunded,
            PaymentStatus::Refunded => BuyerPayment::Refunded,
            PaymentStatus::Voided if self.phase == Phase::AwaitingPayment => BuyerPayment::Declined,
            PaymentStatus::Voided => BuyerPayment::Cancelled,
        }
    }

    /// The provider's code of the decline for which another attempt is needed; `no_answer` if the
    /// provider gave none.
    #[must_use]
    pub fn decline_code(&self) -> Option<&str> {
        if self.buyer_payment() != BuyerPayment::Declined {
            return None;
        }
        match self.attempts.last().map(|attempt| &attempt.state) {
            Some(AttemptState::Declined { code }) => Some(code),
            _ => Some("no_answer"),
        }
    }
}
