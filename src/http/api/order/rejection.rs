//! Converts the rejections of orders to errors of the API.

use crate::domain::order::{Command, Order, Phase, RefundFrom, RefundPart, Rejection};
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::problem::Code;

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        match rejection {
            Rejection::PaymentRequired => {
                Self::field("payment", "is required: the total of the cart is not 0")
            }
            Rejection::WhichStep { .. } => Self::field("step", detail),
            Rejection::CaptureTooLarge { limit: 0 } => {
                Self::new(Code::CaptureTooLarge, "nothing is left to capture")
            }
            Rejection::Nothing { .. } if code(&rejection) == Code::InvalidRequest => {
                Self::field("lines", detail)
            }
            other => Self::new(code(&other), detail),
        }
    }
}

fn code(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::NotFound | Rejection::UnknownFulfillment => Code::NotFound,
        Rejection::NotPayable { phase: Phase::Cancelling | Phase::Cancelled } => {
            Code::OrderCancelled
        }
        // `InProgress` of a checkout is `CheckoutRefusal::InProgress`.
        Rejection::InProgress | Rejection::NotPayable { .. } | Rejection::WrongState { .. } => {
            Code::WrongState
        }
        Rejection::RefundTooLarge { .. } => Code::RefundTooLarge,
        Rejection::CaptureTooLarge { .. } => Code::CaptureTooLarge,
        Rejection::UnknownLine { .. } => Code::UnknownLine,
        Rejection::TooManyUnits { .. } => Code::TooManyUnits,
        Rejection::Nothing { what } if what.contains("fulfill") => Code::NothingToFulfill,
        Rejection::Several { all } => all.first().map_or(Code::InvalidRequest, code),
        Rejection::PaymentRequired | Rejection::WhichStep { .. } | Rejection::Nothing { .. } => {
            Code::InvalidRequest
        }
    }
}

/// The error for a rejected command, with all fields of the request that it is about. `order` is the
/// order now, as far as it could be read.
#[must_use]
pub fn at_fields(rejection: Rejection, command: &Command, order: Option<&Order>) -> Error {
    let all = match &rejection {
        Rejection::Several { all } => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut faults = RequestFaults::default();
    for one in all {
        if let Some((field, rule)) = fault_of(one, command, order) {
            faults.add(code(one), field, rule);
        }
    }
    match faults.check() {
        Ok(()) => rejection.into(),
        Err(faulty) => faulty,
    }
}

/// The field that a rejection is about, and what it must be.
fn fault_of(
    rejection: &Rejection,
    command: &Command,
    order: Option<&Order>,
) -> Option<(String, String)> {
    let lines = lines_of(command);
    Some(match rejection {
        Rejection::UnknownLine { line } => {
            (in_line(&lines, *line, "line")?, "must be a line of the order".to_owned())
        }
        Rejection::TooManyUnits { line, limit } => {
            (in_line(&lines, *line, "quantity")?, too_many_units(*line, *limit, command))
        }
        Rejection::RefundTooLarge { limit, part } => (
            match part {
                RefundPart::Sum => part_of_sum(command).0,
                RefundPart::Delivery => "delivery.amount".to_owned(),
                RefundPart::Free => "amount.amount".to_owned(),
                RefundPart::Line(line) => in_line(&lines, *line, "amount.amount")?,
            },
            match order.filter(|order| *limit == 0 && order.captured() == 0) {
                Some(order) => nothing_captured(order, command),
                None if *part == RefundPart::Sum && part_of_sum(command).1 => format!(
                    "is too much with the rest of the refund: at most {limit} is left to refund in all"
                ),
                None => format!("must be at most {limit}: so much is left to refund"),
            },
        ),
        // Without an amount, everything that is left was asked for.
        Rejection::CaptureTooLarge { .. }
            if matches!(command, Command::Capture { amount: None }) =>
        {
            return None;
        }
        Rejection::CaptureTooLarge { limit: 0 } => {
            ("amount.amount".to_owned(), "is too much: nothing is left to capture".to_owned())
        }
        Rejection::CaptureTooLarge { limit } => (
            "amount.amount".to_owned(),
            format!("must be from 1 to {limit}: so much is left to capture"),
        ),
        _ => return None,
    })
}

/// The rule for a number of units of a line of which `limit` are left.
fn too_many_units(line: u32, limit: i64, command: &Command) -> String {
    let from = match command {
        Command::Refund(request) => {
            request.lines.iter().find(|one| one.line == line).and_then(|one| one.from)
        }
        _ => None,
    };
    let (one, many) = match from {
        None => ("no unit of the line is left", "so many are left"),
        Some(RefundFrom::Unfulfilled) => (
            "no unit of the line is left that was not shipped",
            "so many are left that were not shipped",
        ),
        Some(RefundFrom::Fulfilled) => (
            "no shipped unit of the line is left to come back",
            "so many shipped ones are left to come back",
        ),
    };
    match limit {
        0 => format!("is too many: {one}"),
        _ => format!("must be at most {limit}: {many}"),
    }
}

/// The rule for a refund of an order of which nothing was captured, with what can be done instead.
fn nothing_captured(order: &Order, command: &Command) -> String {
    if order.left_to_capture() == 0 {
        return "cannot be refunded: nothing was captured, and nothing is left to capture"
            .to_owned();
    }
    let asks_amount = match command {
        Command::Refund(request) => {
            let of_lines = request.lines.iter().any(|line| line.amount.is_some());
            of_lines || request.delivery > 0 || request.free > 0
        }
        _ => false,
    };
    let mut ways = vec!["capture the money first"];
    if order.fulfillments().is_empty() {
        ways.push("cancel the order");
    }
    if asks_amount && !lines_of(command).is_empty() {
        ways.push("leave the amount out");
    }
    format!("cannot be refunded, because nothing was captured yet: {}", ways.join(", or "))
}

/// The field of a refund whose sum is too large: an amount that the request gives, or else its lines;
/// and whether the sum has other parts.
fn part_of_sum(command: &Command) -> (String, bool) {
    let Command::Refund(request) = command else {
        return ("lines".to_owned(), false);
    };
    let named = request.lines.iter().position(|line| line.amount.is_some());
    let parts = [request.delivery > 0, request.free > 0];
    let amounts = parts.iter().filter(|given| **given).count();
    let field = match (named, parts) {
        (_, [_, true]) => "amount.amount".to_owned(),
        (Some(index), _) => format!("lines[{index}].amount.amount"),
        (None, [true, _]) => "delivery.amount".to_owned(),
        (None, _) => return ("lines".to_owned(), false),
    };
    (field, request.lines.len() + amounts > 1)
}

/// The lines that a command names, in its order.
fn lines_of(command: &Command) -> Vec<u32> {
    match command {
        Command::Refund(request) => request.lines.iter().map(|line| line.line).collect(),
        Command::Fulfill(request) => request.lines.iter().map(|(line, _)| *line).collect(),
        _ => Vec::new(),
    }
}

/// The path of a part of the line that a request names.
fn in_line(lines: &[u32], line: u32, part: &str) -> Option<String> {
    let index = lines.iter().position(|one| *one == line)?;
    Some(format!("lines[{index}].{part}"))
}
