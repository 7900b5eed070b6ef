//! The commands of a SKU's stock, its events, and its rejections.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Location, LocationUnits};
use crate::domain::entity;
use crate::domain::id::OrderId;
use crate::domain::time::Timestamp;

/// Reserves units for an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reserve {
    /// The order.
    pub order: OrderId,
    /// The number of the order's attempt to reserve; a repeated attempt has no effect.
    pub generation: u32,
    /// Units, summed over the order's lines.
    pub quantity: i64,
    /// When the hold expires.
    pub hold_until: Timestamp,
    /// The locations to take units from first, in order of priority; all others follow by name.
    pub priority: Arc<[Location]>,
    /// The locations from which no units are taken.
    #[serde(default)]
    pub closed: Arc<[Location]>,
}

/// A command for a SKU's stock.
#[derive(Clone, Debug, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Command {
    /// Reserves units for an order.
    Reserve(Reserve),
    /// Turns an order's hold into an allocation.
    Commit {
        /// The order.
        order: OrderId,
    },
    /// Lets an order's hold yield: it stays until another order needs its units.
    Yield {
        /// The order.
        order: OrderId,
        /// The number of its attempt to reserve; a later one's hold does not yield.
        generation: u32,
    },
    /// Releases all units of an order, and rejects its later reservations.
    Release {
        /// The order.
        order: OrderId,
    },
    /// Ships allocated units.
    Ship {
        /// The order.
        order: OrderId,
        /// The number of the fulfillment; a repeated command for it has no effect.
        id: String,
        /// Units.
        quantity: i64,
    },
    /// Puts units of a refund back on sale, or writes them off.
    TakeBack {
        /// The order.
        order: OrderId,
        /// The number of the refund; a repeated command for it has no effect.
        id: String,
        /// Units that were not shipped.
        unshipped: i64,
        /// Units that were shipped.
        shipped: i64,
        /// Whether the units become sellable; if not, unshipped units are written off, and shipped
        /// units stay sold.
        restock: bool,
    },
    /// Receives goods.
    Receive {
        /// The location.
        location: Location,
        /// Units.
        quantity: i64,
        /// Whether the units were announced, so that they are subtracted from `incoming`.
        from_incoming: bool,
        /// The reason, if the operator gave one.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Announces incoming goods; a negative quantity withdraws them.
    Expect {
        /// The location.
        location: Location,
        /// Units.
        quantity: i64,
        /// The reason, if the operator gave one.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Corrects the units on hand, for example after a count, or for damaged or found goods.
    Adjust {
        /// The location.
        location: Location,
        /// The change in units, negative for losses.
        delta: i64,
        /// The reason.
        reason: String,
    },
    /// Sets the units on hand.
    Set {
        /// The location.
        location: Location,
        /// Units on hand.
        on_hand: i64,
        /// The units on hand that the caller expects; the command is rejected if there are others.
        change_from: Option<i64>,
        /// The reason, if the operator gave one.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Moves units between locations.
    Transfer {
        /// The source.
        from: Location,
        /// The destination.
        to: Location,
        /// Units.
        quantity: i64,
        /// The reason, if the operator gave one.
        #[serde(default)]
        reason: Option<String>,
    },
}

/// An event of a SKU's stock.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the commands say what each field means")]
pub enum Event {
    /// Units are reserved for an order until a time.
    Reserved {
        order: OrderId,
        #[serde(rename = "gen")]
        generation: u32,
        parts: Vec<LocationUnits>,
        #[serde(rename = "until")]
        hold_until: Timestamp,
    },
    /// A later attempt of the order reserves the same units: the hold is extended.
    Extended {
        order: OrderId,
        #[serde(rename = "gen")]
        generation: u32,
        #[serde(rename = "until")]
        hold_until: Timestamp,
    },
    /// A hold stays only until another order needs its units.
    Yielded {
        order: OrderId,
        #[serde(rename = "gen")]
        generation: u32,
    },
    /// A hold has expired, or its units were needed after it had yielded.
    Lapsed { order: OrderId },
    /// A hold has become an allocation.
    Committed { order: OrderId },
    /// The hold and the allocation of an order are released; its later reservations are rejected.
    Released { order: OrderId },
    /// Allocated units were shipped.
    Shipped { order: OrderId, id: String, parts: Vec<LocationUnits> },
    /// Units of a refund are sellable again.
    Restocked {
        order: OrderId,
        id: String,
        unshipped: Vec<LocationUnits>,
        returned: Vec<LocationUnits>,
    },
    /// Unshipped units of a refund were written off.
    WrittenOff { order: OrderId, id: String, parts: Vec<LocationUnits> },
    /// Goods were received.
    Received {
        location: Location,
        quantity: i64,
        from_incoming: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Incoming goods were announced.
    Expected {
        location: Location,
        quantity: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The units on hand were corrected.
    Adjusted {
        location: Location,
        delta: i64,
        /// An operator's words, or [`COUNTED`](super::COUNTED).
        reason: String,
        /// Whether the number of units was set, as after a count.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        counted: bool,
    },
    /// Units were moved between locations.
    Transferred {
        from: Location,
        to: Location,
        quantity: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl entity::Event for Event {
    fn kind(&self) -> &'static str {
        self.into()
    }
}

/// Why a SKU's stock rejects a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// Too few units are available to sell.
    #[error("{requested} units were requested and {available} are available")]
    OutOfStock {
        /// Units requested.
        requested: i64,
        /// Units available to sell.
        available: i64,
        /// Units held for orders that are not paid: they may become available.
        #[serde(default)]
        held: i64,
    },
    /// The hold has expired.
    #[error("the hold has expired")]
    HoldLapsed,
    /// The order's stock was released before.
    #[error("the stock of the order was already released")]
    Released,
    /// The command ships or takes back more units than are allocated to the order.
    #[error("{missing} units are not allocated to the order")]
    NotAllocated {
        /// The units beyond the allocated ones.
        missing: i64,
    },
    /// The units on hand would fall below the reserved and allocated ones.
    #[error("{on_hand} units are on hand, of which {committed} are reserved or allocated")]
    Committed {
        /// Reserved and allocated units.
        committed: i64,
        /// Units on hand.
        on_hand: i64,
    },
    /// The number of units on hand is not `change_from`.
    #[error("{on_hand} units are on hand")]
    Changed {
        /// Units on hand.
        on_hand: i64,
    },
    /// The quantity would lead to a level that is out of bounds.
    #[error("must be from {least} to {most}")]
    OutOfRange {
        /// The least quantity now.
        least: i64,
        /// The largest quantity now.
        most: i64,
    },
    /// The goods were not announced.
    #[error("no units are announced")]
    NothingIncoming,
    /// A quantity is out of bounds.
    #[error("must lead to a number of units from 0 to 1000000000")]
    TooMany,
}
