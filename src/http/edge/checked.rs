//! Texts with a format, such as a SKU or a country: for each, its validation and its OpenAPI
//! schema.
//!
//! Texts without a format, which are only limited in length, are in `input`. Formats that only one
//! noun uses are next to that noun.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::LazyLock;

use email_address::EmailAddress;
use garde::{Path, Report};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use utoipa::openapi::{KnownFormat, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use super::input::{ListItem, check_line, string};
use crate::domain::time::Timestamp;
use crate::domain::{id, money};

/// A format of texts, by the type of the parsed value.
pub trait TextKind: Sized {
    /// The name of its schema.
    const NAME: &'static str;

    /// Parses a text of this format.
    ///
    /// # Errors
    /// The rule that the text breaks.
    fn read(text: &str) -> Result<Self, garde::Error>;

    /// The schema of the text. It should accept exactly what [`TextKind::read`] parses, as far as a
    /// pattern can express that.
    fn schema() -> ObjectBuilder;
}

/// A text with a format. Deserialization accepts any text; garde validates it afterwards, so that
/// all faults of a body are reported at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checked<T> {
    text: String,
    kind: PhantomData<T>,
}

/// A stock keeping unit.
pub type Sku = Checked<id::Sku>;
/// The id of a line.
pub type LineId = Checked<LineNumber>;
/// A tax rate.
pub type TaxRate = Checked<money::TaxRate>;
/// A time.
pub type Time = Checked<Timestamp>;
/// A currency's code.
pub type Currency = Checked<money::Currency>;
/// A country's code.
pub type Country = Checked<celes::Country>;
/// An email address.
pub type Email = Checked<EmailAddress>;

impl<T: TextKind> Checked<T> {
    /// The parsed value.
    ///
    /// # Errors
    /// The rule that the text breaks; a validated text breaks none.
    pub fn read(&self) -> Result<T, garde::Error> {
        T::read(&self.text)
    }
}

impl<T: TextKind> garde::Validate for Checked<T> {
    type Context = ();

    fn validate_into(&self, (): &(), parent: &mut dyn FnMut() -> Path, report: &mut Report) {
        if let Err(rule) = self.read() {
            report.append(parent(), rule);
        }
    }
}

impl<T> Deref for Checked<T> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl<T> From<Checked<T>> for String {
    fn from(checked: Checked<T>) -> Self {
        checked.text
    }
}

impl<T> From<String> for Checked<T> {
    /// The text is not validated yet, as after deserialization.
    fn from(text: String) -> Self {
        Self { text, kind: PhantomData }
    }
}

impl<T: TextKind> PartialSchema for Checked<T> {
    fn schema() -> RefOr<Schema> {
        T::schema().into()
    }
}

impl<T: TextKind> ToSchema for Checked<T> {
    fn name() -> Cow<'static, str> {
        T::NAME.into()
    }
}

impl TextKind for id::Sku {
    const NAME: &'static str = "Sku";

    fn read(text: &str) -> Result<Self, garde::Error> {
        text.parse().map_err(garde::Error::new)
    }

    fn schema() -> ObjectBuilder {
        let about = "A SKU: visible ASCII characters other than `/`, with single spaces inside; \
                     not `.` or `..`.";
        let text = r"^(\.?[!-\-0-~][!-.0-~]*|\.\.[!-.0-~]+|\.{1,2} [!-.0-~]+)( [!-.0-~]+)*$";
        pattern(about, text, Self::MAX_BYTES).examples(["85123A"])
    }
}

/// The number of a line of a cart or an order.
#[derive(Clone, Copy, Debug)]
pub struct LineNumber(pub u32);

impl TextKind for LineNumber {
    const NAME: &'static str = "LineId";

    fn read(text: &str) -> Result<Self, garde::Error> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let number = text.parse().ok().filter(|_| digits && text.len() <= 9);
        let rule = || garde::Error::new("must be the id of a line, for example \"1\"");
        number.map(Self).ok_or_else(rule)
    }

    fn schema() -> ObjectBuilder {
        let about = "The id of a line of a cart or an order.";
        pattern(about, r"^[1-9][0-9]{0,8}$", 9).examples(["1"])
    }
}

impl TextKind for money::TaxRate {
    const NAME: &'static str = "TaxRate";

    fn read(text: &str) -> Result<Self, garde::Error> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        // Trailing zeros beyond six decimals are accepted, because databases write them.
        let said = decimals.trim_end_matches('0').len();
        let plain = ["0", "1"].contains(&whole) && said <= 6 && (1..=18).contains(&decimals.len());
        Self::parse(text).filter(|_| plain).ok_or_else(|| {
            garde::Error::new(
                "must be a fraction from 0 to 1 as a string, with at most 6 decimals, for example \
                 \"0.2\"",
            )
        })
    }

    fn schema() -> ObjectBuilder {
        let about = "A fraction as a string, with at most 6 decimals.";
        let fraction = r"^(0(\.[0-9]{1,6}0{0,12})?|1(\.0{1,18})?)$";
        pattern(about, fraction, 20).examples(["0.2"])
    }
}

impl TextKind for Timestamp {
    const NAME: &'static str = "Time";

    fn read(text: &str) -> Result<Self, garde::Error> {
        let rule = "must be an RFC 3339 time, for example 2026-01-31T12:00:00Z";
        Self::parse(text).ok_or_else(|| garde::Error::new(rule))
    }

    fn schema() -> ObjectBuilder {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        string().description(Some("An RFC 3339 time.")).format(Some(format))
    }
}

impl TextKind for money::Currency {
    const NAME: &'static str = "Currency";

    fn read(text: &str) -> Result<Self, garde::Error> {
        money::parse_currency(text).map_err(garde::Error::new)
    }

    fn schema() -> ObjectBuilder {
        static CODES: LazyLock<Vec<String>> = LazyLock::new(|| codes::<money::Currency>(3));
        one_of("ISO 4217.", &CODES).examples(["GBP"])
    }
}

impl TextKind for celes::Country {
    const NAME: &'static str = "Country";

    fn read(text: &str) -> Result<Self, garde::Error> {
        let upper = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        let country = Self::from_alpha2(text).ok().filter(|_| upper);
        let rule = || garde::Error::new("must be an ISO 3166-1 alpha-2 code, for example GB");
        country.ok_or_else(rule)
    }

    fn schema() -> ObjectBuilder {
        static CODES: LazyLock<Vec<String>> = LazyLock::new(|| codes::<celes::Country>(2));
        one_of("ISO 3166-1 alpha-2.", &CODES).examples(["GB"])
    }
}

/// The maximum number of bytes of an email address.
const EMAIL_MAX: usize = 254;

impl ListItem for Country {
    const PLURAL: &'static str = "countries";
}

impl TextKind for EmailAddress {
    const NAME: &'static str = "Email";

    fn read(text: &str) -> Result<Self, garde::Error> {
        let options = email_address::Options::default()
            .with_required_tld()
            .without_display_text()
            .without_domain_literal();
        let rule = || garde::Error::new("must be an email address");
        if text.len() > EMAIL_MAX {
            return Err(rule());
        }
        check_line(text)?;
        Self::parse_with_options(text, options).map_err(|_| rule())
    }

    fn schema() -> ObjectBuilder {
        let format = SchemaFormat::KnownFormat(KnownFormat::Email);
        let text = string().description(Some("An email address.")).format(Some(format));
        text.max_length(Some(EMAIL_MAX))
    }
}

/// The schema of a text with a pattern, and a maximum of characters.
#[must_use]
pub fn pattern(about: &str, pattern: &str, max: usize) -> ObjectBuilder {
    string().description(Some(about)).pattern(Some(pattern)).max_length(Some(max))
}

/// All valid codes of `letters` capital letters. The callers keep the result, because the OpenAPI
/// document needs the schema at every field.
fn codes<T: TextKind>(letters: usize) -> Vec<String> {
    let mut codes = vec![String::new()];
    for _ in 0..letters {
        let longer = |code: String| ('A'..='Z').map(move |letter| format!("{code}{letter}"));
        codes = codes.into_iter().flat_map(longer).collect();
    }
    codes.retain(|code| T::read(code).is_ok());
    codes
}

fn one_of(about: &str, codes: &[String]) -> ObjectBuilder {
    string().description(Some(about)).enum_values(Some(codes.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails_and_countries_are_checked() {
        for good in ["a@example.com", "ann.o+x@mail.example.co.uk"] {
            assert!(EmailAddress::read(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "a@b",
            "Ann <a@example.com>",
            "a@[127.0.0.1]",
            "a b@example.com",
            "a\u{202e}b@example.com",
        ] {
            assert!(EmailAddress::read(bad).is_err(), "{bad}");
        }
        for (code, good) in
            [("GB", true), ("gb", false), ("XX", false), ("GBR", false), ("", false)]
        {
            assert_eq!(celes::Country::read(code).is_ok(), good, "{code}");
        }
    }
}
