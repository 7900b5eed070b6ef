//! The money of an order: attempts, captures and refunds, each with its state, and their limits.
//! The goods of shipments and refunds are recorded here, too, because they determine amounts.

use serde::{Deserialize, Serialize};

use super::{Order, RequiredAction, is_zero, step};
use crate::domain::entity::EntityId;
use crate::domain::time::Timestamp;

/// A payment attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number, 1 for the first.
    pub number: u32,
    /// The account at the provider.
    pub provider: String,
    /// The requested amount, in minor units.
    pub amount: i64,
    /// Its state.
    pub state: AttemptState,
    /// The provider's id of the payment.
    pub payment: Option<String>,
    /// The amount that was authorized, in minor units; it stays, whatever comes after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once_authorized: Option<i64>,
    /// The buyer's action that the provider waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<RequiredAction>,
}

/// The state of a payment attempt. It changes only from an earlier to a later one in this list.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AttemptState {
    /// The provider is being asked.
    Requested,
    /// The provider did not answer: the attempt may have succeeded.
    Unknown {
        /// The error instead of an answer.
        why: String,
    },
    /// The provider has accepted the attempt and will report its outcome.
    Pending,
    /// The money is authorized.
    Authorized {
        /// The authorized amount, in minor units.
        amount: i64,
    },
    /// The provider declined.
    Declined {
        /// The provider's code.
        code: String,
    },
    /// The attempt was reversed before its outcome was known.
    Reversed,
    /// The authorization was voided.
    Voided,
}

/// Our reference for an attempt, at the provider.
#[must_use]
pub fn attempt_reference(order: &EntityId, attempt: u32) -> String {
    format!("{order}-p{attempt}")
}

impl Attempt {
    /// Whether it is not decided yet whether the money is authorized.
    #[must_use]
    pub const fn open(&self) -> bool {
        matches!(
            self.state,
            AttemptState::Requested | AttemptState::Pending | AttemptState::Unknown { .. }
        )
    }

    /// Whether money is, or was, authorized.
    #[must_use]
    pub const fn held(&self) -> bool {
        matches!(self.state, AttemptState::Authorized { .. } | AttemptState::Voided)
    }

    /// The amount that is authorized now, in minor units.
    #[must_use]
    pub const fn authorized(&self) -> i64 {
        match self.state {
            AttemptState::Authorized { amount } => amount,
            _ => 0,
        }
    }
}

/// A provider's report on an attempt: an answer, a webhook, a lookup, or an entry of its list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderReport {
    /// The money is authorized.
    Authorized {
        /// The provider's id of the payment.
        payment: String,
        /// The authorized amount, in minor units.
        amount: i64,
    },
    /// The provider declined.
    Declined {
        /// The provider's code.
        code: String,
    },
    /// The provider has accepted the attempt and will report its outcome.
    Pending {
        /// The provider's id of the payment.
        payment: String,
        /// The action that the buyer must take first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<RequiredAction>,
    },
    /// The provider did not answer.
    Unknown {
        /// The error instead of an answer.
        why: String,
    },
    /// The provider does not know the attempt; a delayed request may still reach the provider,
    /// until the attempt is reversed.
    Unheard,
    /// The attempt was reversed, or its reference was blocked.
    Reversed,
    /// The authorization was voided.
    Voided,
}

/// A capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Its number, 1 for the first.
    pub number: u32,
    /// The amount in minor units.
    pub amount: i64,
    /// The provider's id of the capture; `None` until it is done.
    pub operation: Option<String>,
}

/// A refund, with its goods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Its number, 1 for the first.
    pub number: u32,
    /// The refunded units, by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<RefundLine>,
    /// The refunded part of the delivery's price, in minor units.
    #[serde(default)]
    pub delivery: i64,
    /// The amount, in minor units, that belongs neither to a line nor to the delivery.
    #[serde(default)]
    pub free: i64,
    /// The whole amount, in minor units.
    pub amount: i64,
    /// Whether the goods become available to sell.
    pub restock: bool,
    /// The reason.
    pub reason: String,
    /// When it was requested.
    #[serde(default)]
    pub requested_at: Timestamp,
    /// The provider's id of the refund; `None` until the money is refunded.
    #[serde(default)]
    pub operation: Option<String>,
    /// Whether the goods are back in stock, or written off.
    #[serde(default)]
    pub restocked: bool,
}

/// Which units of a line a refund takes back.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RefundFrom {
    /// Units that were not shipped: they are not shipped any more.
    Unfulfilled,
    /// Units that were shipped and came back.
    Fulfilled,
}

/// Refunded units of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundLine {
    /// The line.
    pub line: u32,
    /// Units of it that had not been shipped.
    #[serde(default)]
    pub unshipped: i64,
    /// Units of it that had been shipped.
    #[serde(default)]
    pub shipped: i64,
    /// Units of it that an earlier refund has already put back into stock or written off; their
    /// money was not refunded, because the step of that refund was skipped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub moved: i64,
    /// The refunded amount, in minor units.
    pub amount: i64,
    /// Which units were asked for; `None` if the request did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RefundFrom>,
}

impl RefundLine {
    /// The number of all these units.
    #[must_use]
    pub const fn quantity(&self) -> i64 {
        self.unshipped + self.shipped + self.moved
    }

    /// Whether all units are those that were asked for.
    #[must_use]
    pub const fn is_as_asked(&self) -> bool {
        match self.from {
            None => true,
            Some(RefundFrom::Unfulfilled) => self.shipped == 0 && self.moved == 0,
            Some(RefundFrom::Fulfilled) => self.unshipped == 0 && self.moved == 0,
        }
    }
}

/// Goods that are shipped together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fulfillment {
    /// Its number, 1 for the first.
    pub number: u32,
    /// The shipped units, by line.
    pub lines: Vec<FulfillmentLine>,
    /// The tracking data of the parcel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Tracking>,
    /// When it was requested.
    #[serde(default)]
    pub created_at: Timestamp,
    /// Whether the stock has recorded the shipment.
    #[serde(default)]
    pub shipped: bool,
    /// Whether the price of its units is captured by a `capture_requested` of its own, if the order
    /// is captured at dispatch. In version 1 of the event, the first fulfillment captured the whole
    /// authorization.
    #[serde(default)]
    pub captures_share: bool,
}

/// Shipped units of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FulfillmentLine {
    /// The line.
    pub line: u32,
    /// Units.
    #[serde(rename = "qty")]
    pub quantity: i64,
}

/// The tracking data of a parcel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracking {
    /// The carrier; empty if it is not known.
    pub carrier: String,
    /// The tracking number; empty if there is none.
    pub number: String,
    /// The tracking page's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Changes of the tracking data of a parcel: what is absent stays, an empty text clears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackingPatch {
    /// The carrier.
    pub carrier: Option<String>,
    /// The tracking number.
    pub number: Option<String>,
    /// The tracking page's URL.
    pub url: Option<String>,
}

impl TrackingPatch {
    /// The tracking data after the changes; `None` if nothing is known then.
    pub(super) fn applied_to(&self, now: Option<&Tracking>) -> Option<Tracking> {
        let unknown = Tracking { carrier: String::new(), number: String::new(), url: None };
        let Self { carrier, number, url } = self.clone();
        let now = now.cloned().unwrap_or(unknown);
        let changed = Tracking {
            carrier: carrier.unwrap_or(now.carrier),
            number: number.unwrap_or(now.number),
            url: url.or(now.url).filter(|url| !url.is_empty()),
        };
        let known = !changed.carrier.is_empty() || !changed.number.is_empty();
        (known || changed.url.is_some()).then_some(changed)
    }
}

impl Order {
    /// The attempt whose authorization pays, or paid, the order.
    #[must_use]
    pub fn paid_attempt(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.authorized() > 0)
    }

    /// The attempt that paid the order, or else the last one whose authorization was voided.
    #[must_use]
    pub fn paying_attempt(&self) -> Option<&Attempt> {
        let is_voided = |attempt: &&Attempt| matches!(attempt.state, AttemptState::Voided);
        self.paid_attempt().or_else(|| self.attempts.iter().rfind(is_voided))
    }

    /// The amount authorized for the order, in minor units; captured money is included, even after
    /// the rest of the authorization was voided.
    #[must_use]
    pub fn authorized(&self) -> i64 {
        let set_aside: i64 = self.attempts.iter().map(Attempt::authorized).sum();
        set_aside.max(self.captured())
    }

    /// Whether the order is paid: its total is 0, or its money is authorized.
    #[must_use]
    pub fn paid(&self) -> bool {
        self.total() <= 0 || self.authorized() >= self.total()
    }

    /// The captured amount, in minor units.
    #[must_use]
    pub fn captured(&self) -> i64 {
        self.captures.iter().filter(|one| one.operation.is_some()).map(|one| one.amount).sum()
    }

    /// The amount of the captures that are requested, not done and not skipped, in minor units.
    #[must_use]
    pub fn capturing(&self) -> i64 {
        let open = self.captures.iter().filter(|one| one.operation.is_none());
        open.filter(|one| !self.skipped.contains(&step::capture(one.number)))
            .map(|one| one.amount)
            .sum()
    }

    /// The refunded amount, in minor units.
    #[must_use]
    pub fn refunded(&self) -> i64 {
        self.refunds.iter().filter(|one| one.operation.is_some()).map(|one| one.amount).sum()
    }

    /// The amount of all refunds that are done, or requested and not skipped, in minor units.
    #[must_use]
    pub fn refunds_requested(&self) -> i64 {
        self.refunds_that_count().map(|one| one.amount).sum()
    }

    /// The refunds that are done, or requested and not skipped.
    pub(super) fn refunds_that_count(&self) -> impl Iterator<Item = &Refund> {
        self.refunds.iter().filter(|one| {
            one.operation.is_some() || !self.skipped.contains(&step::refund(one.number))
        })
    }

    /// The amount that the buyer pays in the end, in minor units: the total less what is never
    /// charged and less all refunds; 0 once the order is being cancelled.
    #[must_use]
    pub fn due(&self) -> i64 {
        match self.phase {
            super::Phase::Cancelling | super::Phase::Cancelled => 0,
            _ => self.total() - self.waived() - self.refunds_requested(),
        }
    }

    /// Shipped units of a line.
    #[must_use]
    pub fn fulfilled(&self, line: u32) -> i64 {
        let lines = self.fulfillments.iter().flat_map(|one| &one.lines);
        lines.filter(|one| one.line == line).map(|one| one.quantity).sum()
    }

    /// Units of a line whose money was, or will be, refunded; without skipped refunds.
    #[must_use]
    pub fn refunded_units(&self, line: u32) -> i64 {
        let units: i64 = self.paid_back(line).map(RefundLine::quantity).sum();
        // If a skipped refund succeeds after all, it counts in addition to the one that replaced
        // it.
        units.min(self.line(line).map_or(0, |line| line.quantity))
    }

    /// The amount of a line that was, or will be, refunded, in minor units; without skipped
    /// refunds.
    #[must_use]
    pub fn refunded_amount(&self, line: u32) -> i64 {
        self.paid_back(line).map(|one| one.amount).sum()
    }

    /// Units of a line that are still to be shipped.
    #[must_use]
    pub fn unshipped(&self, line: u32) -> i64 {
        let quantity = self.line(line).map_or(0, |line| line.quantity);
        let moved: i64 = self.moved_back(line).map(|one| one.unshipped).sum();
        quantity - self.fulfilled(line) - moved
    }

    /// Units of a line that are left to ship; none once the order is being cancelled.
    #[must_use]
    pub fn open_units(&self, line: u32) -> i64 {
        match self.phase {
            super::Phase::Cancelling | super::Phase::Cancelled => 0,
            _ => self.unshipped(line).max(0),
        }
    }

    /// Units of a line that were shipped and did not come back.
    #[must_use]
    pub fn away(&self, line: u32) -> i64 {
        self.fulfilled(line) - self.moved_back(line).map(|one| one.shipped).sum::<i64>()
    }

    /// Units of all lines that are still to be shipped.
    #[must_use]
    pub fn unshipped_units(&self) -> i64 {
        let lines = self.placed.iter().flat_map(|placed| &placed.lines);
        lines.map(|line| self.unshipped(line.id)).sum()
    }

    /// A line's part in each refund whose money was, or will be, refunded.
    pub(super) fn paid_back(&self, line: u32) -> impl Iterator<Item = &RefundLine> {
        let lines = self.refunds_that_count().flat_map(|one| &one.lines);
        lines.filter(move |one| one.line == line)
    }

    /// A line's part in each refund, also in skipped ones: the goods are moved whether or not the
    /// money was refunded.
    pub(super) fn moved_back(&self, line: u32) -> impl Iterator<Item = &RefundLine> {
        self.refunds.iter().flat_map(|one| &one.lines).filter(move |one| one.line == line)
    }
}
