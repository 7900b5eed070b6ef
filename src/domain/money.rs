//! Money, unit prices, tax rates and the one rounding rule.
//!
//! Deliberately not here: currency conversion and floats. An amount is a whole number of minor
//! units. A unit price may have fractions of a minor unit; the price of a line is rounded once.

use std::fmt;
use std::str::FromStr;

pub use iso_currency::Currency;
use serde::{Deserialize, Serialize};

/// The largest amount that is accepted or computed, in minor units: the largest integer that a
/// client's 64-bit float represents exactly.
pub const AMOUNT_MAX: i64 = 9_007_199_254_740_991;

/// The number of parts into which a [`UnitPrice`] divides a minor unit.
pub const PRICE_SCALE: i64 = 10_000;

/// An amount in minor units (pence, cents, yen) of one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units; negative for money that goes back.
    pub amount: i64,
    /// The ISO 4217 code.
    pub currency: Currency,
}

impl Money {
    /// An amount of minor units in a currency.
    #[must_use]
    pub const fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Zero in a currency.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = usize::from(self.currency.exponent().unwrap_or(0));
        let unit = 10_u64.pow(u32::try_from(places).unwrap_or(0));
        let sign = if self.amount < 0 { "-" } else { "" };
        let whole = self.amount.unsigned_abs() / unit;
        let part = self.amount.unsigned_abs() % unit;
        let code = self.currency.code();
        if places == 0 {
            write!(f, "{sign}{whole} {code}")
        } else {
            write!(f, "{sign}{whole}.{part:0places$} {code}")
        }
    }
}

/// Parses an ISO 4217 code that has minor units.
///
/// # Errors
/// [`InvalidMoney::Currency`] for anything else, also for ISO codes without minor units, such as
/// XXX.
pub fn parse_currency(code: &str) -> Result<Currency, InvalidMoney> {
    Currency::from_code(code)
        .filter(|currency| currency.exponent().is_some())
        .ok_or(InvalidMoney::Currency)
}

/// Why a number or a code is not money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMoney {
    /// Not an ISO 4217 code with minor units.
    #[error("must be an ISO 4217 currency code, for example GBP")]
    Currency,
    /// Not a decimal number of minor units.
    #[error("must be a number of minor units with at most 4 decimals, for example 1250 or 1250.5")]
    Number,
    /// Not a decimal number of major units.
    #[error(
        "must be a number of major units with at most 4 decimals more than the currency has, for example 12.50"
    )]
    MajorNumber,
    /// Beyond [`AMOUNT_MAX`].
    #[error(
        "is too large: an amount may have at most 9007199254740991 minor units, a price 900719925474"
    )]
    TooLarge,
}

/// A price for one unit, in ten-thousandths of a minor unit, so that 0.001 GBP is not zero. It has
/// no currency of its own.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnitPrice(i64);

impl UnitPrice {
    /// A price of whole minor units.
    ///
    /// # Errors
    /// [`InvalidMoney::TooLarge`] beyond 900,719,925,474 minor units.
    pub fn from_minor(amount: i64) -> Result<Self, InvalidMoney> {
        if amount.unsigned_abs() > (AMOUNT_MAX / PRICE_SCALE).unsigned_abs() {
            return Err(InvalidMoney::TooLarge);
        }
        Ok(Self(amount * PRICE_SCALE))
    }

    /// Ten-thousandths of a minor unit.
    #[must_use]
    pub const fn raw(self) -> i64 {
        self.0
    }

    /// The minor units; `None` if there is a fraction of one.
    #[must_use]
    pub const fn whole(self) -> Option<i64> {
        if self.0 % PRICE_SCALE == 0 { Some(self.0 / PRICE_SCALE) } else { None }
    }

    /// The price of `quantity` units, rounded to a minor unit.
    ///
    /// # Errors
    /// [`InvalidMoney::TooLarge`] when the result is beyond [`AMOUNT_MAX`].
    pub fn times(self, quantity: i64, rounding: Rounding) -> Result<i64, InvalidMoney> {
        rounding.divide(i128::from(self.0) * i128::from(quantity), i128::from(PRICE_SCALE))
    }
}

impl fmt::Display for UnitPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let whole = self.0.unsigned_abs() / PRICE_SCALE.unsigned_abs();
        let part = self.0.unsigned_abs() % PRICE_SCALE.unsigned_abs();
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

/// Parses an amount in major units ("2.55") as a unit price of a currency.
///
/// # Errors
/// [`InvalidMoney`] when it is no decimal number, finer than a ten-thousandth of a minor unit, or
/// too large.
pub fn parse_major(text: &str, currency: Currency) -> Result<UnitPrice, InvalidMoney> {
    let places = usize::from(currency.exponent().unwrap_or(0)) + 4;
    decimal(text, places).map(UnitPrice).map_err(|error| match error {
        InvalidMoney::Number => InvalidMoney::MajorNumber,
        other => other,
    })
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
    let mut value: i64 = 0;
    let padding = std::iter::repeat_n(b'0', places - part.len());
    for byte in whole.bytes().chain(part.bytes()).chain(padding) {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i64::from(byte - b'0')))
            .filter(|value| *value <= AMOUNT_MAX)
            .ok_or(InvalidMoney::TooLarge)?;
    }
    Ok(if negative { -value } else { value })
}

/// How halves are rounded; one rule per store.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Rounding {
    /// To the even neighbor, so that the errors of many lines cancel out.
    #[default]
    HalfEven,
    /// Away from zero, as tax offices often require.
    HalfUp,
}

impl Rounding {
    /// `numerator / denominator`, rounded; the denominator is positive.
    ///
    /// # Errors
    /// [`InvalidMoney::TooLarge`] when the result is beyond [`AMOUNT_MAX`].
    pub fn divide(self, numerator: i128, denominator: i128) -> Result<i64, InvalidMoney> {
        let quotient = numerator / denominator;
        let remainder = (numerator % denominator).abs();
        let twice = remainder * 2;
        let up = match self {
            Self::HalfUp => twice >= denominator,
            Self::HalfEven => twice > denominator || (twice == denominator && quotient % 2 != 0),
        };
        let rounded = if up { quotient + numerator.signum() } else { quotient };
        i64::try_from(rounded)
            .ok()
            .filter(|amount| (-AMOUNT_MAX..=AMOUNT_MAX).contains(amount))
            .ok_or(InvalidMoney::TooLarge)
    }
}

/// A tax rate in millionths: 200,000 is 20 %.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TaxRate(u32);

impl TaxRate {
    /// One whole, in millionths.
    pub const ONE: u32 = 1_000_000;

    /// A rate in millionths; `None` above 100 %.
    #[must_use]
    pub fn from_millionths(millionths: u32) -> Option<Self> {
        (millionths <= Self::ONE).then_some(Self(millionths))
    }

    /// Parses a fraction such as `0.2` (20 %), with at most 6 decimals; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let value = decimal(text, 6).ok()?;
        u32::try_from(value).ok().and_then(Self::from_millionths)
    }

    /// The rate in millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// The tax that a gross amount includes.
    ///
    /// # Errors
    /// [`InvalidMoney::TooLarge`], but never for an amount up to [`AMOUNT_MAX`].
    pub fn included_in(self, gross: i64, rounding: Rounding) -> Result<i64, InvalidMoney> {
        rounding.divide(
            i128::from(gross) * i128::from(self.0),
            i128::from(Self::ONE) + i128::from(self.0),
        )
    }

    /// The tax that is added to a net amount.
    ///
    /// # Errors
    /// [`InvalidMoney::TooLarge`] when the tax is beyond [`AMOUNT_MAX`].
    pub fn added_to(self, net: i64, rounding: Rounding) -> Result<i64, InvalidMoney> {
        rounding.divide(i128::from(net) * i128::from(self.0), i128::from(Self::ONE))
    }
}

impl fmt::Display for TaxRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:07}", self.0);
        let (whole, part) = digits.split_at(digits.len() - 6);
        let part = part.trim_end_matches('0');
        if part.is_empty() { write!(f, "{whole}") } else { write!(f, "{whole}.{part}") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_round_to_even_or_up() {
        let cases = [(5, 0, 1), (15, 2, 2), (25, 2, 3), (-5, 0, -1), (-15, -2, -2), (24, 2, 2)];
        for (tenths, even, up) in cases {
            assert_eq!(Rounding::HalfEven.divide(tenths, 10), Ok(even), "{tenths} even");
            assert_eq!(Rounding::HalfUp.divide(tenths, 10), Ok(up), "{tenths} up");
        }
    }

    #[test]
    fn amounts_beyond_the_limits_are_refused() {
        assert_eq!(UnitPrice::from_minor(i64::MIN), Err(InvalidMoney::TooLarge));
        let far = i128::from(i64::MIN);
        assert_eq!(Rounding::HalfEven.divide(far, 1), Err(InvalidMoney::TooLarge));
        let price = UnitPrice(AMOUNT_MAX);
        assert_eq!(price.times(i64::MAX, Rounding::HalfUp), Err(InvalidMoney::TooLarge));
    }

    #[test]
    fn prices_are_read_exactly() {
        assert_eq!(parse_major("2.55", Currency::GBP).map(UnitPrice::raw), Ok(2_550_000));
        assert_eq!(parse_major("0.001", Currency::GBP).map(|p| p.to_string()), Ok("0.1".into()));
        assert_eq!(parse_major("12", Currency::JPY).map(|p| p.to_string()), Ok("12".into()));
        assert_eq!("1250.5".parse::<UnitPrice>().map(|p| p.to_string()), Ok("1250.5".into()));
        for bad in ["", ".", "1.23456", "1e3", "NaN", "--1", "1.2.3", "９"] {
            assert_eq!(bad.parse::<UnitPrice>(), Err(InvalidMoney::Number), "{bad}");
        }
        assert_eq!("9".repeat(40).parse::<UnitPrice>(), Err(InvalidMoney::TooLarge));
    }

    #[test]
    fn money_displays_the_decimals_of_its_currency() {
        assert_eq!(Money::new(1250, Currency::GBP).to_string(), "12.50 GBP");
        assert_eq!(Money::new(-5, Currency::KWD).to_string(), "-0.005 KWD");
        assert_eq!(Money::new(1250, Currency::JPY).to_string(), "1250 JPY");
        assert_eq!(parse_currency("XXX"), Err(InvalidMoney::Currency));
        assert_eq!(parse_currency("gbp"), Err(InvalidMoney::Currency));
    }

    proptest! {
        #[test]
        fn price_round_trips_as_text(raw in -1_000_000_000_000_i64..1_000_000_000_000) {
            let price = UnitPrice(raw);
            prop_assert_eq!(price.to_string().parse::<UnitPrice>(), Ok(price));
        }

        #[test]
        fn rounding_is_off_by_half_at_the_most(n in -1_000_000_i128..1_000_000, d in 1_i128..10_000) {
            for rounding in [Rounding::HalfEven, Rounding::HalfUp] {
                let got = i128::from(rounding.divide(n, d).unwrap());
                prop_assert!((got * d - n).abs() * 2 <= d);
            }
        }

        #[test]
        fn included_and_added_tax_agree(net in 0_i64..10_000_000, millionths in 0_u32..=1_000_000) {
            let rate = TaxRate::from_millionths(millionths).unwrap();
            let added = rate.added_to(net, Rounding::HalfEven).unwrap();
            let included = rate.included_in(net + added, Rounding::HalfEven).unwrap();
            prop_assert!((added - included).abs() <= 1);
        }
    }
}
