//! The values of one field of a filter, as clients send them: one, or a list of them.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::http::edge::faults::RequestFaults;
use crate::http::edge::query::VALUES_MAX;

/// Values of which one must be met; none for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct FilterValues {
    values: Vec<String>,
    #[serde(skip)]
    is_list: bool,
}

impl FilterValues {
    /// The values, parsed: at most [`VALUES_MAX`]. `field` is their place in the message; each value
    /// that cannot be parsed is a fault.
    pub(super) fn read<T: FromStr>(
        &self,
        field: &str,
        must_be: &str,
        faults: &mut RequestFaults,
    ) -> Vec<T> {
        if self.values.len() > VALUES_MAX {
            faults.invalid(field, format!("must have at most {VALUES_MAX} values"));
            return Vec::new();
        }
        let mut parsed = Vec::with_capacity(self.values.len());
        for (index, value) in self.values.iter().enumerate() {
            let place = if self.is_list { format!("{field}[{index}]") } else { field.to_owned() };
            match value.parse() {
                Ok(value) => parsed.push(value),
                Err(_) => faults.invalid(place, format!("{must_be}, not {value:?}")),
            }
        }
        parsed
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
        Ok(FilterValues { values: vec![value.to_owned()], is_list: false })
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<FilterValues, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_unit<E: Error>(self) -> Result<FilterValues, E> {
        Ok(FilterValues::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FilterValues, A::Error> {
        let mut values = Vec::new();
        while let Some(OneValue(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(FilterValues { values, is_list: true })
    }
}

/// A value in a list: a text, or a whole number such as that of an order.
struct OneValue(String);

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
        Ok(OneValue(value.to_owned()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<OneValue, E> {
        Ok(OneValue(value.to_string()))
    }
}
