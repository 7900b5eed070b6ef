//! Converts the rejections of carts and the refusals of checkouts to problem responses.

use actix_web::http::header;

use crate::actors::flows::checkout::CheckoutRefusal;
use crate::actors::flows::guests::{GuestRefusal, HoldBound, HoldExcess};
use crate::domain::cart::{FullLine, QUANTITY_MAX, Rejection};
use crate::domain::money::Money;
use crate::domain::order;
use crate::http::api::cart::problem::{
    CartChanged, CartIncomplete, CartSpent, ChallengeRequired, TooManyHeld,
};
use crate::http::api::order::problem::not_ordered;
use crate::http::edge::error::Error;
use crate::http::edge::problem::{Code, FieldError};

/// The rule that an expected total breaks.
#[must_use]
pub fn must_be_total(total: Money) -> String {
    format!("must be {}, the total of the cart", total.amount)
}

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
            Rejection::TooManyUnits { full } => {
                too_many_units(&full, |index| format!("lines[{index}].quantity"))
            }
            Rejection::TooManyLines { .. } => Self::field("lines", detail),
            Rejection::AgreedQuantity { .. } => Self::field("quantity", detail),
        }
    }
}

/// The error for units that lines of the cart cannot take; `field` names them in the request.
#[must_use]
pub fn too_many_units(full: &[FullLine], field: impl Fn(usize) -> String) -> Error {
    let fault = |one: &FullLine| FieldError {
        field: field(one.index),
        message: match one.left {
            0 => format!("is too many: the line has {QUANTITY_MAX} units, the most"),
            left => format!("must be at most {left}: a line has at most {QUANTITY_MAX} units"),
        },
    };
    Error::invalid(full.iter().map(fault).collect())
}

/// The error for a checkout after which a guest would hold too many units.
fn too_many_held(one: &HoldExcess) -> Error {
    let HoldExcess { bound, most, requested, retry_in } = *one;
    let whose = match bound {
        HoldBound::Cart => "a cart",
        HoldBound::Email => "the unpaid orders of one email address",
        HoldBound::Address => "the unpaid orders from one IP address",
        HoldBound::Network => "the unpaid orders from one network",
    };
    let remedy = match retry_in {
        None => format!("order at most {most} units"),
        Some(_) => {
            "pay or cancel the others first, order fewer units, or try again later".to_owned()
        }
    };
    let detail = format!(
        "the cart has {requested} units, and {whose} may have at most {most}, without an API key; \
         nothing was paid: {remedy}"
    );
    let error = Error::of(&TooManyHeld { bound: bound.into(), most, requested }, detail);
    match retry_in {
        Some(wait) => error.header(header::RETRY_AFTER, (wait.as_secs() + 1).to_string()),
        None => error,
    }
}

impl From<GuestRefusal> for Error {
    fn from(refusal: GuestRefusal) -> Self {
        match refusal {
            GuestRefusal::TooManyHeld(excess) => too_many_held(&excess),
            GuestRefusal::Challenge(challenge) => Self::of(
                &ChallengeRequired { challenge: (*challenge).into() },
                "nothing was ordered; repeat the request with the solved challenge",
            ),
            GuestRefusal::Denied => {
                Self::new(Code::CheckoutDenied, "nothing was ordered, and nothing is held")
            }
            GuestRefusal::Undecided => {
                Self::new(Code::TryAgain, "the checkout cannot be checked now; nothing was ordered")
            }
            GuestRefusal::Store(error) => error.into(),
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
                let rule = must_be_total(total);
                Self::of(&CartChanged { total: total.into() }, detail)
                    .at("expected_total.amount", rule)
            }
            CheckoutRefusal::OutOfStock(lines) => not_ordered(&lines),
            CheckoutRefusal::ProviderOff { provider } => Self::new(
                Code::ProviderOff,
                format!("{provider} is switched off; nothing was ordered"),
            )
            .at(
                "payment.provider",
                format!("must be another provider: {provider} is switched off"),
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
            CheckoutRefusal::InProgress { .. } => {
                Self::new(Code::CheckoutInProgress, order::Rejection::InProgress.to_string())
            }
            CheckoutRefusal::Guest(refusal) => refusal.into(),
            CheckoutRefusal::Host(error) => error.into(),
            CheckoutRefusal::Store(error) => error.into(),
        }
    }
}
