//! What has become of each capture, refund and fulfillment of an order.

use serde::{Deserialize, Serialize};

use super::{Capture, Fulfillment, Order, Refund, step};

/// The status of a movement of money or goods.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum MovementStatus {
    /// It is to be carried out.
    Requested,
    /// It was carried out.
    Done,
    /// An operator skipped its step: it is not carried out.
    Skipped,
}

impl Order {
    /// The status of a capture.
    #[must_use]
    pub fn capture_status(&self, capture: &Capture) -> MovementStatus {
        self.movement(capture.operation.is_some(), &step::capture(capture.number))
    }

    /// The status of the money of a refund. A refund of 0 needs no call of the provider.
    #[must_use]
    pub fn refund_status(&self, refund: &Refund) -> MovementStatus {
        let done = refund.operation.is_some() || refund.amount == 0;
        self.movement(done, &step::refund(refund.number))
    }

    /// The status of a fulfillment: whether the stock has recorded it.
    #[must_use]
    pub fn shipment_status(&self, fulfillment: &Fulfillment) -> MovementStatus {
        self.movement(fulfillment.shipped, &step::ship(fulfillment.number))
    }

    fn movement(&self, done: bool, step: &str) -> MovementStatus {
        match done {
            true => MovementStatus::Done,
            false if self.skipped.contains(step) => MovementStatus::Skipped,
            false => MovementStatus::Requested,
        }
    }
}
