//! The values of one field of a filter, as clients send them: one, or a list of them.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::http::edge::faults::RequestFaults;
use crate::http::edge::query::{NO_VALUE, VALUES_MAX, too_many_values};

/// Values of which one must be met; `None` for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterValues(Option<Given>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Given {
    values: Vec<OneValue>,
    is_list: bool,
}

/// A value: a text, or a whole number such as that of an order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OneValue {
    text: String,
    is_number: bool,
}

impl FilterValues {
    /// The texts, parsed: at most [`VALUES_MAX`]. `field` is their place in the message; each value
    /// that is no text, or cannot be parsed, is a fault.
    pub(super) fn read<T: FromStr>(
        &self,
        field: &str,
        must_be: &str,
        faults: &mut RequestFaults,
    ) -> Vec<T> {
        for (place, value) in self.places(field).filter(|(_, value)| value.is_number) {
            faults.invalid(place, format!("must be a string, not {}", value.text));
        }
        self.read_numbers(field, must_be, faults)
    }

    /// The same of values that may also be numbers.
    pub(super) fn read_numbers<T: FromStr>(
        &self,
        field: &str,
        must_be: &str,
        faults: &mut RequestFaults,
    ) -> Vec<T> {
        let count = self.0.as_ref().map(|given| given.values.len());
        if count == Some(0) {
            faults.invalid(field, NO_VALUE);
        }
        if count > Some(VALUES_MAX) {
            faults.invalid(field, too_many_values());
            return Vec::new();
        }
        let mut parsed = Vec::with_capacity(count.unwrap_or(0));
        for (place, OneValue { text, .. }) in self.places(field) {
            match text.parse() {
                Ok(value) if !text.is_empty() => parsed.push(value),
                _ => faults.invalid(place, format!("{must_be}, not {text:?}")),
            }
        }
        parsed
    }

    /// The texts, each with its place.
    pub(super) fn texts(&self, field: &str) -> impl Iterator<Item = (String, &str)> {
        self.places(field).map(|(place, value)| (place, value.text.as_str()))
    }

    fn places(&self, field: &str) -> impl Iterator<Item = (String, &OneValue)> {
        let is_list = self.0.as_ref().is_some_and(|given| given.is_list);
        let place =
            move |index| if is_list { format!("{field}[{index}]") } else { field.to_owned() };
        let values = self.0.iter().flat_map(|given| &given.values);
        values.enumerate().map(move |(index, value)| (place(index), value))
    }
}

impl<'de> Deserialize<'de> for FilterValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValuesVisitor)
    }
}

struct ValuesVisitor;

impl<'de> Visitor<'de> for ValuesVisitor {
    type Value = FilterValues;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or a list of strings")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<FilterValues, E> {
        let values = vec![OneVisitor.visit_str(value)?];
        Ok(FilterValues(Some(Given { values, is_list: false })))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<FilterValues, E> {
        let values = vec![OneVisitor.visit_u64(value)?];
        Ok(FilterValues(Some(Given { values, is_list: false })))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FilterValues, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(FilterValues(Some(Given { values, is_list: true })))
    }
}

impl<'de> Deserialize<'de> for OneValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneVisitor)
    }
}

struct OneVisitor;

impl Visitor<'_> for OneVisitor {
    type Value = OneValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<OneValue, E> {
        Ok(OneValue { text: value.trim().to_owned(), is_number: false })
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<OneValue, E> {
        Ok(OneValue { text: value.to_string(), is_number: true })
    }
}
