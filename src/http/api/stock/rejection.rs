//! Converts the rejections of stock to errors of the API.

use crate::actors::engine::host;
use crate::domain::stock::{Command, QUANTITY_MAX, Rejection};
use crate::http::edge::error::Error;
use crate::http::edge::problem::{Code, FieldError};

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        match &rejection {
            Rejection::TooMany | Rejection::OutOfRange { .. } => Self::field("quantity", detail),
            Rejection::NothingIncoming => Self::field("from_incoming", detail),
            _ => Self::new(code(&rejection), detail),
        }
    }
}

const fn code(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::Committed { .. } => Code::StockCommitted,
        Rejection::Changed { .. } => Code::StockChanged,
        Rejection::TooMany | Rejection::OutOfRange { .. } | Rejection::NothingIncoming => {
            Code::InvalidRequest
        }
        _ => Code::WrongState,
    }
}

/// The error for a command that was not carried out, at the field of the request that a rejection is
/// about, with what would be right.
#[must_use]
pub fn at_field(error: host::Error<Rejection>, command: &Command) -> Error {
    let host::Error::Rejected(rejection) = error else { return error.into() };
    match fault_of(&rejection, command) {
        Some((field, message)) => {
            let field = field.to_owned();
            Error::faulty(code(&rejection), vec![FieldError { field, message }])
        }
        None => rejection.into(),
    }
}

/// The field that a rejection is about, and what it must be.
fn fault_of(rejection: &Rejection, command: &Command) -> Option<(&'static str, String)> {
    let quantity = match command {
        Command::Set { .. } => "on_hand",
        _ => "quantity",
    };
    Some(match rejection {
        Rejection::Committed { committed, on_hand } => {
            let (free, why) = ((on_hand - committed).max(0), rejection.to_string());
            let rule = match command {
                Command::Set { .. } => format!("must be at least {committed}"),
                Command::Transfer { .. } if free == 0 => "is too many: no unit is free".to_owned(),
                Command::Transfer { .. } => format!("must be at most {free}"),
                _ => format!("must be at least {}", -free),
            };
            let more = match command {
                Command::Transfer { from, .. } => format!(" at {from}"),
                _ => ": cancel their orders or refund their units first".to_owned(),
            };
            (quantity, format!("{rule}: {why}{more}"))
        }
        Rejection::Changed { on_hand } => {
            ("change_from", format!("must be {on_hand}: so many units are on hand"))
        }
        Rejection::NothingIncoming => {
            let rule = "must be false: 0 units are announced as incoming at the location";
            ("from_incoming", rule.to_owned())
        }
        Rejection::OutOfRange { least, most } if most < least => {
            let rule = format!("is too many: the location has {QUANTITY_MAX} units, the most");
            (quantity, rule)
        }
        Rejection::OutOfRange { .. } | Rejection::TooMany => (quantity, rejection.to_string()),
        _ => return None,
    })
}
