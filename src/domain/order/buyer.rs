//! What a buyer may still do with an order that is not paid: pay again, cancel it, or go on with a
//! new cart.

use std::str::FromStr as _;

use super::command::Rejection;
use super::{Cancellation, Event, Order, Phase};

/// The most payment attempts of one order.
pub(super) const ATTEMPTS_MAX: usize = 50;

/// Who or what cancelled an order.
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
#[expect(missing_docs, reason = "docs/api.md says what each means")]
pub enum CancelCause {
    OutOfStock,
    PaymentDeadline,
    CancelledByBuyer,
    CancelledByShop,
}

impl Cancellation {
    /// Who or what cancelled the order; an operator's reason is not a buyer's to read.
    #[must_use]
    pub fn cause(&self) -> CancelCause {
        CancelCause::from_str(&self.reason).unwrap_or(CancelCause::CancelledByShop)
    }

    /// A cancellation that needs no operator.
    pub(super) fn automatic(cause: CancelCause, shortages: Vec<super::Shortage>) -> Event {
        let reason: &str = cause.into();
        Event::CancelRequested { reason: reason.to_owned(), shortages }
    }
}

impl Order {
    /// Whether another payment attempt may be made, before the payment deadline.
    #[must_use]
    pub fn payable(&self) -> bool {
        self.phase == Phase::AwaitingPayment
            && !self.has_open_reversal()
            && self.attempts.len() < ATTEMPTS_MAX
    }

    /// Whether its buyer may cancel it: no money is authorized.
    #[must_use]
    pub fn abandonable(&self) -> bool {
        matches!(self.phase, Phase::Reserving | Phase::Paying | Phase::AwaitingPayment)
            && self.authorized() == 0
    }

    /// Whether it is cancelled, or is being cancelled.
    #[must_use]
    pub const fn given_up(&self) -> bool {
        matches!(self.phase, Phase::Cancelling | Phase::Cancelled)
    }

    /// Whether its buyer may go on with a new cart in its place: it is not paid, and the shop has
    /// not cancelled it.
    #[must_use]
    pub fn replaceable(&self) -> bool {
        let by_shop = |why: &Cancellation| why.cause() == CancelCause::CancelledByShop;
        self.abandonable()
            || self.given_up()
                && self.number.is_none()
                && !self.cancellation.as_ref().is_some_and(by_shop)
    }

    pub(super) fn abandon(&self) -> Result<Vec<Event>, Rejection> {
        if self.given_up() {
            return Ok(Vec::new());
        }
        if !self.abandonable() {
            let what = "the order is paid: only the shop can cancel it".into();
            return Err(Rejection::WrongState { what });
        }
        Ok(vec![Cancellation::automatic(CancelCause::CancelledByBuyer, Vec::new())])
    }
}
