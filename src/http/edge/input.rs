//! Request values with limits: a text with a limited number of characters, a whole number in a
//! range, a list with a limited number of items. The limits are parameters of the type; validation
//! and the OpenAPI schema use them.
//!
//! Texts with a format, such as a SKU, are in `checked`. Deserialization does not check limits:
//! garde does so afterwards, so that all faults of a body are reported at once.

use std::borrow::Cow;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{KnownFormat, Ref, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::plain_text::{odd_in_line, odd_in_lines};

/// The prefix of the names of certain schemas: the OpenAPI document does not list them, but
/// contains a copy of the schema at each place that refers to it.
pub const IN_PLACE: &str = "in-place:";

/// A text of one line, of `MIN` to `MAX` characters, and not blank if `MIN` is not 0.
pub type Text<const MIN: usize, const MAX: usize> = Letters<false, MIN, MAX>;

/// A text that may have several lines, of `MIN` to `MAX` characters, and not blank if `MIN` is not 0.
pub type Prose<const MIN: usize, const MAX: usize> = Letters<true, MIN, MAX>;

/// A text without control characters, except line feeds if it may have `LINES`, and without those
/// that change the direction in which the rest is read. A CRLF or a carriage return becomes a line
/// feed, and counts as one character.
#[derive(Clone, Debug, Serialize, Deserialize, garde::Validate)]
#[serde(from = "String", into = "String")]
#[garde(transparent)]
pub struct Letters<const LINES: bool, const MIN: usize, const MAX: usize>(
    #[garde(custom(check_text::<LINES, MIN, MAX>))] String,
);

fn check_text<const LINES: bool, const MIN: usize, const MAX: usize>(
    value: &str,
    (): &(),
) -> garde::Result {
    if !(MIN..=MAX).contains(&value.chars().count()) {
        let rule = match MIN {
            0 => format!("must have at most {MAX} characters"),
            _ => format!("must have {MIN} to {MAX} characters"),
        };
        return Err(garde::Error::new(rule));
    }
    if MIN > 0 && value.trim().is_empty() {
        return Err(garde::Error::new("must not be blank"));
    }
    if LINES { check_lines(value) } else { check_line(value) }
}

/// Checks that a text is one line without control characters.
///
/// # Errors
/// The rule, and which character breaks it.
pub fn check_line(text: &str) -> garde::Result {
    without("must be one line, without control characters", odd_in_line(text))
}

fn check_lines(text: &str) -> garde::Result {
    without("must have no control characters other than line feeds", odd_in_lines(text))
}

fn without(rule: &str, odd: Option<char>) -> garde::Result {
    odd.map_or(Ok(()), |odd| {
        Err(garde::Error::new(format!("{rule}, not U+{:04X}", u32::from(odd))))
    })
}

/// Deserializes a field that may be absent, but not `null`.
///
/// # Errors
/// The errors of the type.
pub fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Deserializes a text that may be absent; an empty one is absent, and so is `null`.
///
/// # Errors
/// It is not a text.
pub fn not_empty<'de, const LINES: bool, const MAX: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Letters<LINES, 0, MAX>>, D::Error> {
    let text = Option::<Letters<LINES, 0, MAX>>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

impl<const LINES: bool, const MIN: usize, const MAX: usize> Deref for Letters<LINES, MIN, MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const LINES: bool, const MIN: usize, const MAX: usize> From<Letters<LINES, MIN, MAX>>
    for String
{
    fn from(text: Letters<LINES, MIN, MAX>) -> Self {
        text.0
    }
}

impl<const LINES: bool, const MIN: usize, const MAX: usize> From<String>
    for Letters<LINES, MIN, MAX>
{
    /// The text is not validated yet, as after deserialization.
    fn from(text: String) -> Self {
        match text.contains('\r') {
            true => Self(text.replace("\r\n", "\n").replace('\r', "\n")),
            false => Self(text),
        }
    }
}

impl<const LINES: bool, const MIN: usize, const MAX: usize> PartialSchema
    for Letters<LINES, MIN, MAX>
{
    fn schema() -> RefOr<Schema> {
        let controls = if LINES { r"\x00-\x09\x0b-\x1f" } else { r"\x00-\x1f" };
        let odd = format!(r"{controls}\x7f-\x9f\u2028-\u202e\u2066-\u2069");
        let pattern = match MIN {
            0 => format!("^[^{odd}]*$"),
            _ => format!(r"^[^{odd}]*[^\s{odd}][^{odd}]*$"),
        };
        let text = string().min_length((MIN > 0).then_some(MIN)).max_length(Some(MAX));
        text.pattern(Some(pattern)).into()
    }
}

impl<const LINES: bool, const MIN: usize, const MAX: usize> ToSchema for Letters<LINES, MIN, MAX> {
    fn name() -> Cow<'static, str> {
        let kind = if LINES { "prose" } else { "text" };
        format!("{IN_PLACE}{kind}_{MIN}_{MAX}").into()
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, Deserialize, garde::Validate)]
#[serde(transparent)]
#[garde(transparent)]
pub struct Whole<const MIN: i64, const MAX: i64>(#[garde(custom(check_whole::<MIN, MAX>))] i64);

fn check_whole<const MIN: i64, const MAX: i64>(value: &i64, (): &()) -> garde::Result {
    if (MIN..=MAX).contains(value) {
        return Ok(());
    }
    Err(garde::Error::new(format!("must be from {MIN} to {MAX}")))
}

impl<const MIN: i64, const MAX: i64> Whole<MIN, MAX> {
    /// The minimum.
    pub const MIN: i64 = MIN;
    /// The maximum.
    pub const MAX: i64 = MAX;
    /// The smallest number.
    pub const LEAST: Self = Self(MIN);

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl<const MIN: i64, const MAX: i64> PartialSchema for Whole<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        let number = number.format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)));
        number.minimum(Some(MIN)).maximum(Some(MAX)).into()
    }
}

impl<const MIN: i64, const MAX: i64> ToSchema for Whole<MIN, MAX> {
    fn name() -> Cow<'static, str> {
        format!("{IN_PLACE}whole_{MIN}_{MAX}").into()
    }
}

/// An item of a [`List`].
pub trait ListItem: garde::Validate<Context = ()> + ToSchema {
    /// The plural of the item's name, for messages about too few or too many items.
    const PLURAL: &'static str;
}

/// A list of `MIN` to `MAX` items.
///
/// utoipa's derive macro cannot read nested generic types; so fields use a type alias.
#[derive(Clone, Debug, Deserialize, garde::Validate)]
#[serde(transparent)]
#[garde(transparent)]
pub struct List<T: ListItem, const MIN: usize, const MAX: usize>(
    #[garde(custom(check_list::<T, MIN, MAX>), dive)] Vec<T>,
);

fn check_list<T: ListItem, const MIN: usize, const MAX: usize>(
    items: &[T],
    (): &(),
) -> garde::Result {
    if (MIN..=MAX).contains(&items.len()) {
        return Ok(());
    }
    Err(garde::Error::new(match MIN {
        0 => format!("must have at most {MAX} {}", T::PLURAL),
        _ => format!("must have {MIN} to {MAX} {}", T::PLURAL),
    }))
}

impl<T: ListItem, const MIN: usize, const MAX: usize> List<T, MIN, MAX> {
    /// Whether the number of items is valid.
    #[must_use]
    pub fn fits(&self) -> bool {
        check_list::<T, MIN, MAX>(&self.0, &()).is_ok()
    }

    /// The items.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T: ListItem, const MIN: usize, const MAX: usize> Default for List<T, MIN, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: ListItem, const MIN: usize, const MAX: usize> Deref for List<T, MIN, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: ListItem, const MIN: usize, const MAX: usize> PartialSchema for List<T, MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        let list = ArrayBuilder::new().items(Ref::from_schema_name(T::name()));
        list.min_items((MIN > 0).then_some(MIN)).max_items(Some(MAX)).into()
    }
}

impl<T: ListItem, const MIN: usize, const MAX: usize> ToSchema for List<T, MIN, MAX> {
    fn name() -> Cow<'static, str> {
        format!("{IN_PLACE}list_{}_{MIN}_{MAX}", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

/// The schema of a text.
#[must_use]
pub fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

#[cfg(test)]
mod tests {
    use garde::Validate as _;

    use super::*;

    #[test]
    fn text_and_number_limits_are_enforced() {
        let text = |text: &str| Text::<1, 3>::from(text.to_owned()).validate();
        assert!(text("äöü").is_ok());
        for bad in ["", "  ", "abcd", "a\0"] {
            assert!(text(bad).is_err(), "{bad:?}");
        }
        for breaks in ["a\r\nb", "a\rb", "a\nb"] {
            let read: Prose<1, 3> = serde_json::from_value(breaks.into()).unwrap();
            assert!(read.validate().is_ok() && &*read == "a\nb", "{breaks:?}");
            let report = text(breaks).unwrap_err().to_string();
            assert_eq!(report.trim(), "must be one line, without control characters, not U+000A");
        }
        let report = Prose::<1, 3>::from("a\tb".to_owned()).validate().unwrap_err().to_string();
        let rule = "must have no control characters other than line feeds, not U+0009";
        assert_eq!(report.trim(), rule);
        for (number, rule) in [(0, "must be from 1 to 9"), (10, "must be from 1 to 9")] {
            let report = Whole::<1, 9>(number).validate().unwrap_err();
            assert_eq!(report.to_string().trim(), rule, "{number}");
        }
        assert_eq!(Whole::<1, 9>(9).get(), 9);
        assert!(Whole::<1, 9>(9).validate().is_ok());
    }
}
