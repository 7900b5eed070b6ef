//! Converts the rejections of orders to errors of the API.

use crate::domain::order::{Phase, RefundPart, Rejection};
use crate::http::edge::error::Error;
use crate::http::edge::problem::{Code, FieldError};

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        let code = match rejection {
            Rejection::NotFound | Rejection::UnknownFulfillment => Code::NotFound,
            // Of a checkout it is `CheckoutRefusal::InProgress`.
            Rejection::InProgress => Code::WrongState,
            Rejection::NotPayable { phase } => match phase {
                Phase::Cancelling | Phase::Cancelled => Code::OrderCancelled,
                _ => Code::WrongState,
            },
            Rejection::WrongState { .. } => Code::WrongState,
            Rejection::PaymentRequired => {
                return Self::field("payment", "is required: the total of the cart is not 0");
            }
            Rejection::WhichStep { .. } => return Self::field("step", detail),
            Rejection::RefundTooLarge { .. } => Code::RefundTooLarge,
            Rejection::CaptureTooLarge { .. } => Code::CaptureTooLarge,
            Rejection::UnknownLine { .. } | Rejection::TooManyUnits { .. } => Code::UnknownLine,
            Rejection::Nothing { what } if what.contains("fulfill") => Code::NothingToFulfill,
            Rejection::Nothing { .. } => return Self::field("lines", detail),
        };
        Self::new(code, detail)
    }
}

/// The error for a rejected change, at the field of the request that it is about. `lines` are the
/// lines that the request names, in its order.
#[must_use]
pub fn at_field(rejection: Rejection, lines: &[u32]) -> Error {
    let (field, message) = match &rejection {
        Rejection::UnknownLine { line } => {
            (in_line(lines, *line, "line"), "must be a line of the order".to_owned())
        }
        Rejection::TooManyUnits { line, limit } => (
            in_line(lines, *line, "quantity"),
            format!("must be at most {limit}: so many are left"),
        ),
        Rejection::RefundTooLarge { limit, part } => (
            match part {
                RefundPart::Sum => (!lines.is_empty()).then(|| "lines".to_owned()),
                RefundPart::Delivery => Some("delivery.amount".to_owned()),
                RefundPart::Free => Some("amount.amount".to_owned()),
                RefundPart::Line(line) => in_line(lines, *line, "amount.amount"),
            },
            format!("must be at most {limit}: so much is left to refund"),
        ),
        Rejection::CaptureTooLarge { limit: 0 } => {
            return Error::new(Code::CaptureTooLarge, "nothing is left to capture");
        }
        Rejection::CaptureTooLarge { limit } => (
            Some("amount.amount".to_owned()),
            format!("must be from 1 to {limit}: so much is left to capture"),
        ),
        _ => (None, String::new()),
    };
    let error = Error::from(rejection);
    match field {
        Some(field) => Error::faulty(error.code(), vec![FieldError { field, message }]),
        None => error,
    }
}

/// The path of a part of the line that a request names.
fn in_line(lines: &[u32], line: u32, part: &str) -> Option<String> {
    let index = lines.iter().position(|one| *one == line)?;
    Some(format!("lines[{index}].{part}"))
}
