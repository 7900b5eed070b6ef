//! Money and unit prices in the API's format.
//!
//! An amount is a whole number of minor units (pence, cents, yen); a unit price may have up to four
//! decimals of one, as a string. Deliberately not here: rounding and taxes, which the server
//! computes, and currency conversion.

use std::fmt;
use std::str::FromStr;

use iso_currency::Currency;
use serde::{Deserialize, Serialize};

/// The largest amount that the API accepts, in minor units: the largest integer that a 64-bit float
/// represents exactly.
pub const AMOUNT_MAX: i64 = 9_007_199_254_740_991;

/// Why a text is not money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMoney {
    /// Not an ISO 4217 code with minor units.
    #[error("must be an ISO 4217 currency code, for example GBP")]
    Currency,
    /// Not a decimal number, or with too many decimals.
    #[error("must be a number of minor units with at most 4 decimals, for example 1250 or 1250.5")]
    Number,
    /// Beyond [`AMOUNT_MAX`].
    #[error("is too large: the limit is 9007199254740991 minor units")]
    TooLarge,
}

/// The number of decimals of a currency's amounts: 2 for GBP, 0 for JPY, 3 for KWD.
///
/// # Errors
/// [`InvalidMoney::Currency`] if the text is not an ISO 4217 code, or a code without minor units.
pub fn currency_decimals(code: &str) -> Result<u16, InvalidMoney> {
    Currency::from_code(code).and_then(|known| known.exponent()).ok_or(InvalidMoney::Currency)
}

/// Money in the API's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Minor units.
    pub amount: i64,
    /// The ISO 4217 code.
    pub currency: String,
}

impl Money {
    /// Minor units of a currency.
    #[must_use]
    pub fn minor(amount: i64, currency: &str) -> Self {
        Self { amount, currency: currency.to_owned() }
    }
}

/// A unit price in the API's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Minor units; `None` if the price has decimals.
    pub amount: Option<i64>,
    /// Minor units with at most 4 decimals.
    pub amount_decimal: String,
    /// The ISO 4217 code.
    pub currency: String,
}

impl Price {
    /// A unit price in a currency.
    #[must_use]
    pub fn new(price: UnitPrice, currency: &str) -> Self {
        let whole = price.raw() % UnitPrice::SCALE == 0;
        Self {
            amount: whole.then_some(price.raw() / UnitPrice::SCALE),
            amount_decimal: price.to_string(),
            currency: currency.to_owned(),
        }
    }

    /// The exact price; `None` if it has too many decimals.
    #[must_use]
    pub fn read(&self) -> Option<UnitPrice> {
        self.amount_decimal.parse().ok()
    }
}

/// A price for one unit, in ten-thousandths of a minor unit. It has no currency of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnitPrice(i64);

impl UnitPrice {
    /// The number of parts into which a price divides a minor unit.
    pub const SCALE: i64 = 10_000;

    /// Parses an amount in major units: "2.55" GBP is a price of 255 pence.
    ///
    /// # Errors
    /// [`InvalidMoney`]: no such currency, no decimal number, too many decimals, or too large.
    pub fn from_major(text: &str, currency: &str) -> Result<Self, InvalidMoney> {
        decimal(text, usize::from(currency_decimals(currency)?) + 4).map(Self)
    }

    /// A price in ten-thousandths of a minor unit.
    #[must_use]
    pub const fn from_raw(raw: i64) -> Self {
        Self(raw)
    }

    /// Ten-thousandths of a minor unit.
    #[must_use]
    pub const fn raw(self) -> i64 {
        self.0
    }
}

impl fmt::Display for UnitPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let whole = self.0.unsigned_abs() / Self::SCALE.unsigned_abs();
        let part = self.0.unsigned_abs() % Self::SCALE.unsigned_abs();
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{part:04}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for UnitPrice {
    type Err = InvalidMoney;

    /// Parses minor units with up to four decimals: `1250`, `0.1`.
    fn from_str(text: &str) -> Result<Self, InvalidMoney> {
        decimal(text, 4).map(Self)
    }
}

/// Parses a decimal number as a whole number of 10^-`places`.
fn decimal(text: &str, places: usize) -> Result<i64, InvalidMoney> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let part = part.trim_end_matches('0');
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > places || !all_digits(whole) || !all_digits(part) {
        return Err(InvalidMoney::Number);
    }
    let padding = std::iter::repeat_n(b'0', places - part.len());
    let value = whole.bytes().chain(part.bytes()).chain(padding).try_fold(0_i64, |value, byte| {
        let next = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
        (next <= AMOUNT_MAX).then_some(next)
    });
    let value = value.ok_or(InvalidMoney::TooLarge)?;
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn price_json_round_trips() {
        for (price, json) in [
            ("0.1", r#"{"amount":null,"amount_decimal":"0.1","currency":"GBP"}"#),
            ("255", r#"{"amount":255,"amount_decimal":"255","currency":"GBP"}"#),
        ] {
            let price: UnitPrice = price.parse().unwrap();
            assert_eq!(serde_json::to_string(&Price::new(price, "GBP")).unwrap(), json);
            assert_eq!(serde_json::from_str::<Price>(json).unwrap().read(), Some(price));
        }
    }

    #[test]
    fn prices_are_read_exactly() {
        let major = |text, code| UnitPrice::from_major(text, code).map(|price| price.to_string());
        assert_eq!(major("2.55", "GBP"), Ok("255".into()));
        assert_eq!(major("-0.001", "GBP"), Ok("-0.1".into()));
        assert_eq!(major("12", "JPY"), Ok("12".into()));
        assert_eq!(major("1.2345678", "KWD"), Ok("1234.5678".into()));
        assert_eq!(major("0.0000001", "GBP"), Err(InvalidMoney::Number));
        for unknown in ["gbp", "XXX", ""] {
            assert_eq!(major("1", unknown), Err(InvalidMoney::Currency), "{unknown}");
        }
        for bad in ["", ".", "1.23456", "1e3", "NaN", "--1", "1.2.3", "９"] {
            assert_eq!(bad.parse::<UnitPrice>(), Err(InvalidMoney::Number), "{bad}");
        }
        assert_eq!("9".repeat(40).parse::<UnitPrice>(), Err(InvalidMoney::TooLarge));
    }
}
