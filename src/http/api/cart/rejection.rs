//! Converts the rejections of carts and the refusals of checkouts to problem responses.

use serde_json::{Value, json};

use crate::actors::flows::checkout::CheckoutRefusal;
use crate::domain::cart::Rejection;
use crate::domain::order;
use crate::http::api::order::rejection::shortages;
use crate::http::api::shape::Money;
use crate::http::edge::error::Error;
use crate::http::edge::problem::{Code, FieldError};

/// The rule that an unknown payment provider breaks.
pub const UNKNOWN_PROVIDER: &str = "must be a payment provider of this store";

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        match rejection {
            Rejection::NotFound => Self::new(Code::NotFound, detail),
            Rejection::Spent { order } => {
                Self::new(Code::CartSpent, detail).with("order", order.to_string().into())
            }
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
                let list: Value = requirements
                    .iter()
                    .map(|one| json!({"code": one.code(), "message": one.to_string()}))
                    .collect();
                Self::new(Code::CartIncomplete, "the cart cannot be ordered yet")
                    .with("requirements", list)
            }
            CheckoutRefusal::Changed { total } => {
                Self::new(Code::CartChanged, format!("the total is {total}"))
                    .with("total", json!(Money::from(total)))
            }
            CheckoutRefusal::OutOfStock(lines) => {
                Self::new(Code::OutOfStock, "nothing was ordered; the cart is still open")
                    .with("order", Value::Null)
                    .with("lines", shortages(&lines))
            }
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
                Self::from(order::Rejection::InProgress).with("order", order.to_string().into())
            }
            CheckoutRefusal::Host(error) => error.into(),
            CheckoutRefusal::Store(error) => error.into(),
        }
    }
}
