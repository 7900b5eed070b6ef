//! The public statuses. They are derived from the order's state, and stored only in projected rows.

use serde::{Deserialize, Serialize};

use super::{AttemptState, Order, Phase};
use crate::seeded_fault::{self, SeededFault};

/// The status of an order.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "docs/glossary.md says what each means")]
pub enum OrderStatus {
    Pending,
    AwaitingPayment,
    Confirmed,
    PartiallyFulfilled,
    Fulfilled,
    Completed,
    Refunded,
    Cancelled,
    Stuck,
}

/// The payment status of an order.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "docs/glossary.md says what each means")]
pub enum PaymentStatus {
    None,
    Requested,
    Unknown,
    Declined,
    Authorized,
    PartiallyCaptured,
    Captured,
    PartiallyRefunded,
    Refunded,
    Voided,
}

/// The fulfillment status of an order.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "docs/glossary.md says what each means")]
pub enum FulfillmentStatus {
    Unfulfilled,
    Partial,
    Fulfilled,
    NotRequired,
}

impl Order {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> OrderStatus {
        if !self.stuck.is_empty() || self.alert.is_some() {
            return OrderStatus::Stuck;
        }
        match self.phase {
            Phase::Absent | Phase::Reserving => OrderStatus::Pending,
            Phase::Paying => match self.attempts.last().map(|attempt| &attempt.state) {
                Some(AttemptState::Unknown { .. } | AttemptState::Pending) => {
                    OrderStatus::AwaitingPayment
                }
                _ => OrderStatus::Pending,
            },
            Phase::AwaitingPayment => OrderStatus::AwaitingPayment,
            Phase::Committing => OrderStatus::Pending,
            Phase::Cancelling | Phase::Cancelled => OrderStatus::Cancelled,
            Phase::Confirmed => match self.fulfillment_status() {
                FulfillmentStatus::Unfulfilled => OrderStatus::Confirmed,
                FulfillmentStatus::Partial => OrderStatus::PartiallyFulfilled,
                FulfillmentStatus::Fulfilled if self.captured() - self.refunded() == self.due() => {
                    OrderStatus::Completed
                }
                FulfillmentStatus::Fulfilled => OrderStatus::Fulfilled,
                FulfillmentStatus::NotRequired => OrderStatus::Refunded,
            },
        }
    }

    /// Its payment status.
    #[must_use]
    pub fn payment_status(&self) -> PaymentStatus {
        let (captured, refunded) = (self.captured(), self.refunded());
        if captured > 0 {
            return match refunded {
                0 if captured < self.authorized() - self.waived() => {
                    PaymentStatus::PartiallyCaptured
                }
                0 => PaymentStatus::Captured,
                _ if refunded < captured => PaymentStatus::PartiallyRefunded,
                _ => PaymentStatus::Refunded,
            };
        }
        if self.authorized() > 0 {
            return PaymentStatus::Authorized;
        }
        match self.attempts.last().map(|attempt| &attempt.state) {
            None => PaymentStatus::None,
            Some(AttemptState::Requested | AttemptState::Pending) => PaymentStatus::Requested,
            Some(AttemptState::Unknown { .. }) => PaymentStatus::Unknown,
            Some(AttemptState::Declined { .. }) => PaymentStatus::Declined,
            Some(AttemptState::Authorized { .. }) => PaymentStatus::Authorized,
            Some(AttemptState::Reversed | AttemptState::Voided) => PaymentStatus::Voided,
        }
    }

    /// Its fulfillment status.
    #[must_use]
    pub fn fulfillment_status(&self) -> FulfillmentStatus {
        let shipped = !self.fulfillments.is_empty();
        let left = self.placed.is_none() || self.unshipped_units() > 0;
        match (shipped, left) {
            (false, true) => FulfillmentStatus::Unfulfilled,
            (false, false) if seeded_fault::active(SeededFault::RefundedStaysToPick) => {
                FulfillmentStatus::Unfulfilled
            }
            (false, false) => FulfillmentStatus::NotRequired,
            (true, true) => FulfillmentStatus::Partial,
            (true, false) => FulfillmentStatus::Fulfilled,
        }
    }
}
