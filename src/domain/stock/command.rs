//! What can be asked of a SKU's stock, what has happened to it, and why it refuses.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Location, LocationUnits};
use crate::domain::entity;
use crate::domain::id::OrderId;
use crate::domain::time::Timestamp;

/// Keeps units for an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reserve {
    /// The order, or the cart with the same key.
    pub order: OrderId,
    /// Which try of the order this is; the same one again changes nothing.
    pub generation: u32,
    /// Units, summed over the order's lines.
    pub quantity: i64,
    /// Until when they are kept.
    pub hold_until: Timestamp,
    /// Locations in the order in which they are asked.
    pub priority: Arc<[Location]>,
}

/// What can be asked of a SKU's stock.
#[derive(Clone, Debug, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Command {
    /// Keeps units for an order.
    Reserve(Reserve),
    /// Turns an order's hold into an allocation.
    Commit {
        /// The order.
        order: OrderId,
    },
    /// Gives back all that an order has, and refuses it from now on.
    Release {
        /// The order.
        order: OrderId,
    },
    /// Sends allocated units out of the house.
    Ship {
        /// The order.
        order: OrderId,
        /// The fulfillment; the same one again changes nothing.
        id: String,
        /// Units.
        quantity: i64,
    },
    /// Takes units back for a refund.
    TakeBack {
        /// The order.
        order: OrderId,
        /// The refund; the same one again changes nothing.
        id: String,
        /// Units that were not shipped yet.
        unshipped: i64,
        /// Units that were shipped.
        shipped: i64,
        /// Whether they go back on sale.
        restock: bool,
    },
    /// Goods have come in.
    Receive {
        /// Where.
        location: Location,
        /// Units.
        quantity: i64,
        /// Whether they were announced as incoming.
        from_incoming: bool,
    },
    /// Goods are announced, or with a negative quantity no longer are.
    Expect {
        /// Where.
        location: Location,
        /// Units.
        quantity: i64,
    },
    /// Somebody counted, broke or found something.
    Adjust {
        /// Where.
        location: Location,
        /// Units, negative for losses.
        delta: i64,
        /// Why.
        reason: String,
    },
    /// The units on hand are set.
    Set {
        /// Where.
        location: Location,
        /// Units in the house.
        on_hand: i64,
        /// What they must be now, if the caller says so.
        change_from: Option<i64>,
    },
    /// Units move between locations.
    Transfer {
        /// From where.
        from: Location,
        /// To where.
        to: Location,
        /// Units.
        quantity: i64,
    },
}

/// What has happened to a SKU's stock.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the commands say what each field means")]
pub enum Event {
    /// Units are kept for an order until a moment.
    Reserved {
        order: OrderId,
        #[serde(rename = "gen")]
        generation: u32,
        parts: Vec<LocationUnits>,
        #[serde(rename = "until")]
        hold_until: Timestamp,
    },
    /// A later try of the order keeps the same units, until a later moment.
    Extended {
        order: OrderId,
        #[serde(rename = "gen")]
        generation: u32,
        #[serde(rename = "until")]
        hold_until: Timestamp,
    },
    /// A hold has passed its time.
    Lapsed { order: OrderId },
    /// A hold has become an allocation.
    Committed { order: OrderId },
    /// All that the order had is given back; it gets nothing any more.
    Released { order: OrderId },
    /// Allocated units have left the house.
    Shipped { order: OrderId, id: String, parts: Vec<LocationUnits> },
    /// Units of a refund are on sale again.
    Restocked {
        order: OrderId,
        id: String,
        unshipped: Vec<LocationUnits>,
        returned: Vec<LocationUnits>,
    },
    /// Unshipped units of a refund are gone for good.
    WrittenOff { order: OrderId, id: String, parts: Vec<LocationUnits> },
    /// Goods have come in.
    Received { location: Location, quantity: i64, from_incoming: bool },
    /// Goods are announced.
    Expected { location: Location, quantity: i64 },
    /// A count was put right.
    Adjusted { location: Location, delta: i64, reason: String },
    /// Units have moved.
    Transferred { from: Location, to: Location, quantity: i64 },
}

impl entity::Event for Event {
    fn kind(&self) -> &'static str {
        self.into()
    }
}

/// Why a SKU's stock refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// There is not enough to promise.
    #[error("{requested} units were requested and {available} are available")]
    OutOfStock {
        /// Units asked for.
        requested: i64,
        /// Units that could be had.
        available: i64,
    },
    /// The hold is past its time.
    #[error("the hold has expired")]
    HoldLapsed,
    /// The order was given up before.
    #[error("the stock of the order was already released")]
    Released,
    /// The order has fewer units than are to be shipped or taken back.
    #[error("{missing} units are not allocated to the order")]
    NotAllocated {
        /// Units that it lacks.
        missing: i64,
    },
    /// The level would fall below what is promised.
    #[error("there are {on_hand} units, of which {committed} are reserved or allocated")]
    Committed {
        /// Units that are promised.
        committed: i64,
        /// Units in the house.
        on_hand: i64,
    },
    /// `change_from` does not hold.
    #[error("{on_hand} units are on hand")]
    Changed {
        /// Units in the house.
        on_hand: i64,
    },
    /// A quantity out of bounds.
    #[error("must lead to a number of units from 0 to 1000000000")]
    TooMany,
}
