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

/// Parses a filter, with all that is wrong with it.
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

/// Parses the filter of a topic that has only the filter `sku`: one SKU, or all.
///
/// # Errors
/// [`Wrong`] for an invalid SKU or another filter.
pub(in crate::http) fn by_sku(input: &Value) -> Result<Option<Sku>, Wrong> {
    let (filter, mut faults) = read_filter(input)?;
    let sku = filter.sku.as_deref().map(str::parse::<Sku>).transpose();
    if let Err(rule) = &sku {
        faults.invalid("filter.sku", rule.to_string());
    }
    only(&["sku"], input, &mut faults);
    faults.check()?;
    Ok(sku.ok().flatten())
}

/// Adds a fault for each filter of other topics.
pub(in crate::http) fn only(known: &[&str], input: &Value, faults: &mut RequestFaults) {
    let fields = input.as_object().into_iter().flatten();
    for name in fields.map(|(name, _)| name).filter(|name| !known.contains(&name.as_str())) {
        let rule = match known {
            [one] => format!("is not a filter of this topic: its filter is {one}"),
            _ => format!("is not a filter of this topic: its filters are {}", known.join(" and ")),
        };
        faults.add(Code::UnknownFilter, format!("filter.{name}"), rule);
    }
}
