//! The types of columns, and the mapping of Rust types to them. The columns of a table are declared
//! with its row (`row`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::id::Sku;
use crate::domain::money::{Currency, TaxRate, UnitPrice, parse_currency};
use crate::domain::time::Timestamp;

/// The type of a column's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// `BIGINT`, in SQLite `INTEGER`.
    Number,
    /// `TEXT`.
    Text,
    /// `BOOLEAN`, in SQLite `INTEGER`.
    Flag,
    /// `BYTEA`, in SQLite `BLOB`.
    Bytes,
}

/// The value of a column. Texts are ordered by their bytes, as both databases sort them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value<'a> {
    /// `NULL`.
    Null,
    /// A whole number.
    Number(i64),
    /// A text.
    Text(Cow<'a, str>),
    /// Yes or no.
    Flag(bool),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Value<'a> {
    /// A borrowed text.
    #[must_use]
    pub const fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// The value, owned.
    #[must_use]
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Number(number) => Value::Number(number),
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Flag(flag) => Value::Flag(flag),
            Self::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
        }
    }

    /// The value as JSON, in the form from which PostgreSQL reads a column.
    pub(in crate::store) fn json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Number(number) => (*number).into(),
            Self::Text(text) => serde_json::Value::String(text.clone().into_owned()),
            Self::Flag(flag) => (*flag).into(),
            Self::Bytes(bytes) => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("\\x{digits}").into()
            }
        }
    }

    /// The value, borrowed.
    #[must_use]
    pub fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::text(text),
            Self::Flag(flag) => Value::Flag(*flag),
            Self::Bytes(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
        }
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

/// A type that a column can store. A composite type is stored as JSON text: its two methods are
/// then [`to_json`] and [`from_json`].
pub trait Stored: Sized {
    /// The type of its column.
    const KIND: ColumnKind;

    /// The column's value.
    fn to_value(&self) -> Value<'_>;

    /// Decodes the column's value.
    ///
    /// # Errors
    /// What is wrong with it.
    fn from_value(value: Value<'_>) -> Result<Self, String>;
}

fn wrong<T>(wanted: &str, value: &Value<'_>) -> Result<T, String> {
    Err(format!("{value:?} is not a valid {wanted}"))
}

impl Stored for i64 {
    const KIND: ColumnKind = ColumnKind::Number;

    fn to_value(&self) -> Value<'_> {
        Value::Number(*self)
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value {
            Value::Number(number) => Ok(number),
            other => wrong("number", &other),
        }
    }
}

impl Stored for bool {
    const KIND: ColumnKind = ColumnKind::Flag;

    fn to_value(&self) -> Value<'_> {
        Value::Flag(*self)
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value {
            Value::Flag(flag) => Ok(flag),
            other => wrong("flag", &other),
        }
    }
}

impl Stored for String {
    const KIND: ColumnKind = ColumnKind::Text;

    fn to_value(&self) -> Value<'_> {
        Value::text(self)
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(text.into_owned()),
            other => wrong("text", &other),
        }
    }
}

impl Stored for Vec<u8> {
    const KIND: ColumnKind = ColumnKind::Bytes;

    fn to_value(&self) -> Value<'_> {
        Value::Bytes(Cow::Borrowed(self))
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value {
            Value::Bytes(bytes) => Ok(bytes.into_owned()),
            other => wrong("bytes", &other),
        }
    }
}

impl<T: Stored> Stored for Option<T> {
    const KIND: ColumnKind = T::KIND;

    fn to_value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, T::to_value)
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value {
            Value::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl Stored for Timestamp {
    const KIND: ColumnKind = ColumnKind::Number;

    fn to_value(&self) -> Value<'_> {
        Value::Number(self.millis())
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        i64::from_value(value).map(Self::from_millis)
    }
}

impl Stored for Sku {
    const KIND: ColumnKind = ColumnKind::Text;

    fn to_value(&self) -> Value<'_> {
        Value::text(self.as_str())
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match &value {
            Value::Text(text) => text.parse().or_else(|_| wrong("SKU", &value)),
            other => wrong("SKU", other),
        }
    }
}

impl Stored for TaxRate {
    const KIND: ColumnKind = ColumnKind::Number;

    fn to_value(&self) -> Value<'_> {
        Value::Number(self.millionths().into())
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let millionths = u32::try_from(i64::from_value(value)?).ok();
        millionths
            .and_then(Self::from_millionths)
            .ok_or_else(|| "a tax rate is from 0 to 100 %".to_owned())
    }
}

impl Stored for Currency {
    const KIND: ColumnKind = ColumnKind::Text;

    fn to_value(&self) -> Value<'_> {
        Value::text(self.code())
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match &value {
            Value::Text(text) => parse_currency(text).or_else(|_| wrong("currency", &value)),
            other => wrong("currency", other),
        }
    }
}

impl Stored for BTreeMap<Currency, UnitPrice> {
    const KIND: ColumnKind = ColumnKind::Text;

    fn to_value(&self) -> Value<'_> {
        to_json(self)
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        from_json(&value)
    }
}

/// A composite value as JSON text. If it cannot be encoded, the value is `NULL`, which a `NOT NULL`
/// column refuses.
pub fn to_json<T: Serialize>(value: &T) -> Value<'static> {
    serde_json::to_string(value).map_or(Value::Null, Value::from)
}

/// Decodes a composite value.
///
/// # Errors
/// What is wrong with it.
pub fn from_json<T: DeserializeOwned>(value: &Value<'_>) -> Result<T, String> {
    match value {
        Value::Text(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
        other => wrong("JSON text", other),
    }
}
