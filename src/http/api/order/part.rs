//! The parts of an order that a list shows if it is asked for them.

use strum::{EnumString, IntoStaticStr, VariantArray};

/// A part of an order that a list shows if the caller asks for it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum OrderPart {
    /// The lines, with the units that were shipped, refunded and are left to ship.
    Lines,
    /// The addresses, and the delivery.
    Addresses,
    /// The payments, captures and refunds.
    Payments,
    /// The fulfillments, with their tracking data.
    Fulfillments,
    /// From which locations the units that are left to ship are taken.
    Allocations,
}
