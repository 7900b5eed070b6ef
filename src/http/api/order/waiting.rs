//! What an order waits for whose outcome is not known yet, for its buyer: in words, and how long to
//! wait before it is read again.

use crate::domain::order::{AttemptState, Order, Phase};

/// What an order waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderWait {
    /// In words.
    pub hint: &'static str,
    /// The seconds after which it is worth reading the order again.
    pub secs: u32,
}

/// What an order waits for.
#[must_use]
pub fn waits_for(order: &Order) -> OrderWait {
    let last = order.attempts().last();
    let (hint, secs) = if order.alert().is_some() || !order.stuck().is_empty() {
        ("the shop has to solve a problem with the order first", 60)
    } else if order.phase() == Phase::Cancelling {
        ("the order is cancelled; a payment is being reversed before its units are free", 1)
    } else if order.has_open_reversal() {
        ("the last payment is being reversed; the order can be paid again after that", 1)
    } else if last.is_some_and(|attempt| attempt.open() && attempt.action.is_some()) {
        ("the buyer has to complete the payment with the bank or the provider", 5)
    } else {
        match last.map(|attempt| &attempt.state) {
            Some(AttemptState::Pending | AttemptState::Unknown { .. }) => {
                ("the payment provider has not decided yet", 5)
            }
            _ => ("the order is being processed", 1),
        }
    };
    OrderWait { hint, secs }
}
