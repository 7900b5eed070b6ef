//! Why a subscription is not taken, and the reading of the filters that the lists of this server have.

use serde_json::Value;

use super::message::FilterInput;
use crate::http::edge::problem::Code;

/// Why a subscription is not taken.
pub struct Wrong {
    /// A problem's code.
    pub code: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

impl Wrong {
    /// A message that cannot be carried out.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// A message that cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Code::MalformedJson.as_str(), detail)
    }

    /// A filter that the topic does not have.
    #[must_use]
    pub fn unknown_filter() -> Self {
        Self::new("unknown_filter", "the topic has no such filter")
    }
}

/// Reads a filter of orders or stock.
///
/// # Errors
/// [`Wrong`] for what is none.
pub(in crate::http) fn read_filter(input: Value) -> Result<FilterInput, Wrong> {
    serde_json::from_value(input).map_err(|error| Wrong::malformed(error.to_string()))
}
