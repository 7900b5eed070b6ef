//! The names of steps that are looked for by others than their effects.
//!
//! What a step does is in `effect`.

/// The step that captures.
pub(super) fn capture(number: u32) -> String {
    format!("capture:{number}")
}

/// The step that refunds.
pub(super) fn refund(number: u32) -> String {
    format!("refund:{number}")
}
