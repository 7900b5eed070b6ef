//! The step names that are also used outside `effect`.
//!
//! The steps themselves are in `effect`.

/// The name of the step of a capture.
pub(super) fn capture(number: u32) -> String {
    format!("capture:{number}")
}

/// The name of the step of a refund.
pub(super) fn refund(number: u32) -> String {
    format!("refund:{number}")
}

/// The name of the step that records a fulfillment in the stock.
pub(super) fn ship(number: u32) -> String {
    format!("ship:{number}")
}
