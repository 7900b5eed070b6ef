//! The money of an order: attempts, captures and refunds, each with its state, and the sums
//! that nothing may exceed. Goods that go out or come back stand beside the money they move.

use serde::{Deserialize, Serialize};

use super::{Order, RequiredAction, step};
use crate::domain::time::Timestamp;

/// One try to get an order paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// Who was asked.
    pub provider: String,
    /// What was asked for, in minor units.
    pub amount: i64,
    /// How it went.
    pub state: AttemptState,
    /// The provider's own id for it.
    pub payment: Option<String>,
    /// What the buyer must do, while the provider waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<RequiredAction>,
}

/// How a payment attempt stands. It only ever moves down this list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// The provider is being asked.
    Requested,
    /// No answer: it may have been carried out.
    Unknown {
        /// What came instead of an answer.
        why: String,
    },
    /// The provider has it, and will tell.
    Pending,
    /// The money is set aside.
    Authorized {
        /// Minor units that the provider set aside.
        amount: i64,
    },
    /// The provider said no.
    Declined {
        /// The provider's word for it.
        code: String,
    },
    /// Whatever it may have been, it was taken back.
    Reversed,
    /// The money that was set aside was let go.
    Voided,
}

impl Attempt {
    /// Whether it is not known yet whether money was set aside.
    #[must_use]
    pub const fn open(&self) -> bool {
        matches!(
            self.state,
            AttemptState::Requested | AttemptState::Pending | AttemptState::Unknown { .. }
        )
    }

    /// Whether money is, or was, set aside.
    #[must_use]
    pub const fn held(&self) -> bool {
        matches!(self.state, AttemptState::Authorized { .. } | AttemptState::Voided)
    }

    /// What is set aside, in minor units.
    #[must_use]
    pub const fn authorized(&self) -> i64 {
        match self.state {
            AttemptState::Authorized { amount } => amount,
            _ => 0,
        }
    }
}

/// What a provider says of an attempt: in answer, by webhook, when asked, or in its list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderReport {
    /// The money is set aside.
    Authorized {
        /// The provider's id for the payment.
        payment: String,
        /// Minor units.
        amount: i64,
    },
    /// The provider said no.
    Declined {
        /// The provider's word for it.
        code: String,
    },
    /// The provider has it, and will tell.
    Pending {
        /// The provider's id for the payment.
        payment: String,
        /// What the buyer must do first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<RequiredAction>,
    },
    /// No answer.
    Unknown {
        /// What came instead.
        why: String,
    },
    /// It has not heard of it. That may change until it is taken back.
    Unheard,
    /// It was taken back, or made impossible.
    Reversed,
    /// What was set aside was let go.
    Voided,
}

/// Money taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// 1 for the first.
    pub number: u32,
    /// Minor units.
    pub amount: i64,
    /// The provider's id for it, once it is done.
    pub operation: Option<String>,
}

/// Money given back, and what becomes of the goods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// 1 for the first.
    pub number: u32,
    /// The lines that it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<RefundLine>,
    /// Minor units of the delivery.
    #[serde(default)]
    pub delivery: i64,
    /// Minor units that are for nothing in particular.
    #[serde(default)]
    pub free: i64,
    /// All of it, in minor units.
    pub amount: i64,
    /// Whether the goods go back on sale.
    pub restock: bool,
    /// Why.
    pub reason: String,
    /// When it was asked for.
    #[serde(default)]
    pub requested_at: Timestamp,
    /// The provider's id for it, once the money is back.
    #[serde(default)]
    pub operation: Option<String>,
    /// Whether the goods are where they belong.
    #[serde(default)]
    pub restocked: bool,
}

/// Units of a line that are given back.
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
    /// Units of it whose goods an earlier refund has moved, the money of which was given up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub moved: i64,
    /// Minor units.
    pub amount: i64,
}

const fn is_zero(units: &i64) -> bool {
    *units == 0
}

impl RefundLine {
    /// All units of it.
    #[must_use]
    pub const fn quantity(&self) -> i64 {
        self.unshipped + self.shipped + self.moved
    }
}

/// Goods that went out together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fulfillment {
    /// 1 for the first.
    pub number: u32,
    /// What was in it.
    pub lines: Vec<FulfillmentLine>,
    /// How it can be followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Tracking>,
    /// When it was made.
    #[serde(default)]
    pub created_at: Timestamp,
    /// Whether the stock knows.
    #[serde(default)]
    pub shipped: bool,
    /// Whether its share is captured by a `capture_requested` of its own, where the order is
    /// captured at dispatch. Before, the first fulfillment captured all that was authorized.
    #[serde(default)]
    pub captures_share: bool,
}

/// Units of a line that went out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FulfillmentLine {
    /// The line.
    pub line: u32,
    /// Units.
    #[serde(rename = "qty")]
    pub quantity: i64,
}

/// How a parcel can be followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracking {
    /// Who carries it.
    pub carrier: String,
    /// The carrier's number.
    pub number: String,
    /// Where to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl Order {
    /// The attempt whose money is, or was, the order's.
    #[must_use]
    pub fn paid_attempt(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.authorized() > 0)
    }

    /// What is set aside for it, in minor units; what was taken of it stays in it, even once
    /// the rest was let go.
    #[must_use]
    pub fn authorized(&self) -> i64 {
        let set_aside: i64 = self.attempts.iter().map(Attempt::authorized).sum();
        set_aside.max(self.captured())
    }

    /// Whether there is nothing to pay, or the money for it is set aside.
    #[must_use]
    pub fn paid(&self) -> bool {
        self.total() <= 0 || self.authorized() >= self.total()
    }

    /// What was taken, in minor units.
    #[must_use]
    pub fn captured(&self) -> i64 {
        self.captures.iter().filter(|one| one.operation.is_some()).map(|one| one.amount).sum()
    }

    /// What is asked to be taken and is not yet, in minor units.
    #[must_use]
    pub fn capturing(&self) -> i64 {
        let open = self.captures.iter().filter(|one| one.operation.is_none());
        open.filter(|one| !self.skipped.contains(&step::capture(one.number)))
            .map(|one| one.amount)
            .sum()
    }

    /// What was given back, in minor units.
    #[must_use]
    pub fn refunded(&self) -> i64 {
        self.refunds.iter().filter(|one| one.operation.is_some()).map(|one| one.amount).sum()
    }

    /// What was asked to be given back, done or not, in minor units; not what was given up.
    #[must_use]
    pub fn refunds_requested(&self) -> i64 {
        self.refunds_that_count().map(|one| one.amount).sum()
    }

    /// The refunds that were carried out, or still will be.
    pub(super) fn refunds_that_count(&self) -> impl Iterator<Item = &Refund> {
        self.refunds.iter().filter(|one| {
            one.operation.is_some() || !self.skipped.contains(&step::refund(one.number))
        })
    }

    /// What its buyer owes in the end: the total less what is waived and all refunds, nothing once
    /// it is cancelled.
    #[must_use]
    pub fn due(&self) -> i64 {
        match self.phase {
            super::Phase::Cancelling | super::Phase::Cancelled => 0,
            _ => self.total() - self.waived() - self.refunds_requested(),
        }
    }

    /// Units of a line that went out.
    #[must_use]
    pub fn fulfilled(&self, line: u32) -> i64 {
        let lines = self.fulfillments.iter().flat_map(|one| &one.lines);
        lines.filter(|one| one.line == line).map(|one| one.quantity).sum()
    }

    /// Units of a line whose money was, or will be, given back; not those of a refund that was
    /// given up.
    #[must_use]
    pub fn refunded_units(&self, line: u32) -> i64 {
        let units: i64 = self.paid_back(line).map(RefundLine::quantity).sum();
        // One that was given up and went through after all may come on top of its successor.
        units.min(self.line(line).map_or(0, |line| line.quantity))
    }

    /// Minor units that were asked to be given back for a line.
    #[must_use]
    pub fn refunded_amount(&self, line: u32) -> i64 {
        self.paid_back(line).map(|one| one.amount).sum()
    }

    /// Units of a line that are still to go out.
    #[must_use]
    pub fn unshipped(&self, line: u32) -> i64 {
        let quantity = self.line(line).map_or(0, |line| line.quantity);
        let moved: i64 = self.moved_back(line).map(|one| one.unshipped).sum();
        quantity - self.fulfilled(line) - moved
    }

    /// Units of a line that went out and did not come back.
    #[must_use]
    pub(super) fn away(&self, line: u32) -> i64 {
        self.fulfilled(line) - self.moved_back(line).map(|one| one.shipped).sum::<i64>()
    }

    /// Units of all lines that are still to go out.
    #[must_use]
    pub fn unshipped_units(&self) -> i64 {
        let lines = self.placed.iter().flat_map(|placed| &placed.lines);
        lines.map(|line| self.unshipped(line.id)).sum()
    }

    /// What refunds give back of a line's money.
    pub(super) fn paid_back(&self, line: u32) -> impl Iterator<Item = &RefundLine> {
        let lines = self.refunds_that_count().flat_map(|one| &one.lines);
        lines.filter(move |one| one.line == line)
    }

    /// What refunds move of a line's goods, whatever becomes of the money.
    pub(super) fn moved_back(&self, line: u32) -> impl Iterator<Item = &RefundLine> {
        self.refunds.iter().flat_map(|one| &one.lines).filter(move |one| one.line == line)
    }
}
