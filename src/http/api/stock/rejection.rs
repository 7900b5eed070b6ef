//! Converts the rejections of stock to errors of the API.

use crate::domain::stock::Rejection;
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        let code = match rejection {
            Rejection::Committed { .. } => Code::StockCommitted,
            Rejection::Changed { .. } => Code::StockChanged,
            Rejection::TooMany => return Self::field("quantity", detail),
            _ => Code::WrongState,
        };
        Self::new(code, detail)
    }
}
