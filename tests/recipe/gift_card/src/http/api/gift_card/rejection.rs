//! Rejections of gift cards, as problems.

use kontor::http::edge::error::Error;
use kontor::http::edge::problem::Code;

use crate::recipe::gift_card::domain::gift_card::Rejection;

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        match rejection {
            Rejection::NotFound => Self::not_found("gift card"),
            Rejection::Exists => Self::new(Code::AlreadyExists, detail),
            Rejection::Amount => Self::field("amount", detail),
            Rejection::TooLittle { .. } | Rejection::TooManyOrders => {
                Self::new(Code::WrongState, detail)
            }
        }
    }
}
