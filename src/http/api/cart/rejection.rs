//! Converts the rejections of carts and the refusals of checkouts to problem responses.

use crate::actors::flows::checkout::CheckoutRefusal;
use crate::domain::cart::Rejection;
use crate::domain::order;
use crate::http::api::cart::problem::{CartChanged, CartIncomplete, CartSpent};
use crate::http::api::order::problem::{CheckoutInProgress, not_ordered};
use crate::http::edge::error::Error;
use crate::http::edge::problem::{Code, FieldError};

/// The rule that an unknown payment provider breaks.
pub const UNKNOWN_PROVIDER: &str = "must be a payment provider of this store";

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        match rejection {
            Rejection::NotFound => Self::new(Code::NotFound, detail),
            Rejection::Spent { order } => Self::of(&CartSpent { order: order.to_string() }, detail),
            Rejection::Expired => Self::new(Code::CartExpired, detail),
            Rejection::Exists => Self::new(Code::AlreadyExists, detail),
            Rejection::UnknownLine { .. } => Self::new(Code::NotFound, detail),
            Rejection::Quantity => Self::field("quantity", detail),
            Rejection::TooManyLines => Self::field("lines", detail),
        }
    }
}

impl From<CheckoutRefusal> for Error {
    fn from(refusal: CheckoutRefusal) -> Self {
        match refusal {
            CheckoutRefusal::CartNotFound => Rejection::NotFound.into(),
            CheckoutRefusal::CartExpired => Rejection::Expired.into(),
            CheckoutRefusal::CartSpent { order } => Rejection::Spent { order }.into(),
            CheckoutRefusal::Incomplete(requirements) => {
                let requirements = requirements.iter().map(Into::into).collect();
                Self::of(&CartIncomplete { requirements }, "the cart cannot be ordered yet")
            }
            CheckoutRefusal::Changed { total } => {
                let detail = format!("the total is {total}");
                Self::of(&CartChanged { total: total.into() }, detail)
            }
            CheckoutRefusal::OutOfStock(lines) => not_ordered(&lines),
            CheckoutRefusal::ProviderOff { provider } => Self::new(
                Code::ProviderOff,
                format!("{provider} is switched off; nothing was ordered"),
            ),
            CheckoutRefusal::Closed => {
                Self::new(Code::CheckoutClosed, "checkout is switched off; the cart is kept")
            }
            CheckoutRefusal::PaymentRequired => order::Rejection::PaymentRequired.into(),
            CheckoutRefusal::UnknownProvider => Self::faulty(
                Code::UnknownProvider,
                vec![FieldError {
                    field: "payment.provider".to_owned(),
                    message: UNKNOWN_PROVIDER.to_owned(),
                }],
            ),
            CheckoutRefusal::InProgress { order } => {
                Self::of(&CheckoutInProgress::of(order), order::Rejection::InProgress.to_string())
            }
            CheckoutRefusal::Host(error) => error.into(),
            CheckoutRefusal::Store(error) => error.into(),
        }
    }
}
