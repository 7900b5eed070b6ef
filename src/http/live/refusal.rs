//! The refusal of a message on a live socket; and the parsing of filters of orders and stock.

use serde_json::Value;

use super::message::FilterInput;
use crate::http::edge::problem::Code;

/// The refusal of a message.
pub struct Wrong {
    /// The error code.
    pub code: &'static str,
    /// The reason for the refusal.
    pub detail: String,
}

impl Wrong {
    /// A message that cannot be carried out.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// A message that cannot be parsed.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Code::MalformedJson.as_str(), detail)
    }

    /// A filter that the topic does not have.
    #[must_use]
    pub fn unknown_filter() -> Self {
        Self::new("unknown_filter", "the topic has no such filter")
    }
}

/// Parses a filter of orders or stock.
///
/// # Errors
/// [`Wrong`] for an invalid filter.
pub(in crate::http) fn read_filter(input: Value) -> Result<FilterInput, Wrong> {
    serde_json::from_value(input).map_err(|error| Wrong::malformed(error.to_string()))
}
