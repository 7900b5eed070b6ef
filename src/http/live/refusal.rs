//! The refusal of a message on a live socket; and the parsing of filters of orders and stock.

use serde_json::Value;

use super::message::FilterInput;
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::json_body::check;
use crate::http::edge::problem::{Code, FieldError};

/// The refusal of a message.
#[derive(Debug)]
pub struct Wrong {
    /// The error code.
    pub code: Code,
    /// The reason for the refusal.
    pub detail: String,
    /// The invalid fields of the message.
    pub fields: Vec<FieldError>,
}

impl Wrong {
    /// A message that cannot be carried out.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), fields: Vec::new() }
    }

    /// A filter that the topic does not have.
    #[must_use]
    pub fn unknown_filter() -> Self {
        Self::unknown("filter")
    }

    /// A field of a filter that the topic does not have.
    #[must_use]
    pub fn unknown(field: &str) -> Self {
        let mut faults = RequestFaults::default();
        faults.add(Code::UnknownFilter, field, "is not a filter of this topic");
        faults.check().map_or_else(Self::from, |()| Self::new(Code::UnknownFilter, field))
    }
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        let (detail, fields) = (error.detail().to_owned(), error.fields().to_vec());
        Self { code: error.code(), detail, fields }
    }
}

/// Parses a filter of orders or stock, with all that is wrong with it.
///
/// # Errors
/// [`Wrong`] for one that cannot be parsed.
pub(in crate::http) fn read_filter(input: &Value) -> Result<(FilterInput, RequestFaults), Wrong> {
    if !input.is_object() {
        return Err(Error::field("filter", "must be an object").into());
    }
    let (filter, faults) = check::<FilterInput>(input);
    let inside =
        |fault: FieldError| FieldError { field: format!("filter.{}", fault.field), ..fault };
    let faults: Vec<_> = faults.into_iter().map(inside).collect();
    match filter {
        Some(filter) => Ok((filter, faults.into())),
        None => Err(Error::invalid(faults).into()),
    }
}
