//! The refusal of a message on a live socket; and the parsing of filters.

use serde_json::Value;

use super::message::FilterInput;
use crate::domain::id::Sku;
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

    /// A filter of a topic that has none.
    #[must_use]
    pub fn unknown_filter() -> Self {
        let mut faults = RequestFaults::default();
        faults.add(Code::UnknownFilter, "filter", "must be empty: the topic has no filters");
        let none = || Self::new(Code::UnknownFilter, "filter");
        faults.check().map_or_else(Self::from, |()| none())
    }
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        let (detail, fields) = (error.detail().to_owned(), error.fields().to_vec());
        Self { code: error.code(), detail, fields }
    }
}

/// Parses a filter of a topic that has these filters, with all that is wrong with it.
///
/// # Errors
/// [`Wrong`] for one that cannot be parsed.
pub(in crate::http) fn read_filter(
    input: &Value,
    known: &[&str],
) -> Result<(FilterInput, RequestFaults), Wrong> {
    let Some(fields) = input.as_object() else {
        return Err(Error::field("filter", "must be an object").into());
    };
    let mut faults = RequestFaults::default();
    // The old name of `id`.
    let is_known = |name: &str| known.contains(&name) || name == "order" && known.contains(&"id");
    for name in fields.keys().filter(|name| !is_known(name)) {
        let rule = format!("is not a filter of this topic: its filters are {}", known.join(", "));
        faults.add(Code::UnknownFilter, format!("filter.{name}"), rule);
    }
    let (filter, wrong) = check::<FilterInput>(input);
    for fault in wrong {
        faults.invalid(format!("filter.{}", fault.field), fault.message);
    }
    match filter {
        Some(filter) => Ok((filter, faults)),
        None => Err(Error::invalid(faults.into_fields()).into()),
    }
}

/// Parses the filter of a topic that has only the filter `sku`: the SKUs, none for all.
///
/// # Errors
/// [`Wrong`] for an invalid SKU or another filter.
pub(in crate::http) fn by_sku(input: &Value) -> Result<Vec<Sku>, Wrong> {
    let (filter, mut faults) = read_filter(input, &["sku"])?;
    let skus = filter.sku.read("filter.sku", "must be a SKU", &mut faults);
    faults.check()?;
    Ok(skus)
}
