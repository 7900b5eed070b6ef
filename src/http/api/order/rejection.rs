//! Converts the rejections of orders to errors of the API.

use serde_json::{Value, json};

use crate::domain::order::{Phase, Rejection, Shortage};
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        let code = match rejection {
            Rejection::NotFound => Code::NotFound,
            Rejection::InProgress => Code::CheckoutInProgress,
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

/// The member `lines` of an `out_of_stock` error: each SKU with too few units.
#[must_use]
pub fn shortages(shortages: &[Shortage]) -> Value {
    shortages
        .iter()
        .map(|one| {
            json!({
                "sku": one.sku.as_str(),
                "requested": one.requested,
                "available": one.available,
            })
        })
        .collect()
}
