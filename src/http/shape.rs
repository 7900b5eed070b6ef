//! Shapes that several answers and requests share: money, addresses, lines, totals, and the
//! checks of single values. Domain types are never written to the wire themselves.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

use crate::domain::address;
use crate::domain::id::Sku;
use crate::domain::money::{self, Currency, TaxRate, UnitPrice};
use crate::domain::pricing;
use crate::domain::stock::Location;

/// An amount of money.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Money {
    /// Minor units: pence, cents, yen.
    #[schema(example = 1250)]
    pub amount: i64,
    /// ISO 4217.
    #[schema(example = "GBP")]
    pub currency: &'static str,
}

impl Money {
    /// An amount of minor units.
    #[must_use]
    pub fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency: currency.code() }
    }
}

impl From<money::Money> for Money {
    fn from(money: money::Money) -> Self {
        Self::new(money.amount, money.currency)
    }
}

/// The price of one unit.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Price {
    /// Minor units, with at most 4 decimals.
    #[schema(value_type = f64, example = 255)]
    pub amount: Number,
    /// ISO 4217.
    #[schema(example = "GBP")]
    pub currency: &'static str,
}

impl Price {
    /// The price as a number of JSON.
    #[must_use]
    pub fn new(price: UnitPrice, currency: Currency) -> Self {
        let amount = price.to_string().parse().unwrap_or_else(|_| Number::from(price.raw()));
        Self { amount, currency: currency.code() }
    }
}

/// A whole number of minor units, as a request names it.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MoneyInput)]
pub struct MoneyInput {
    /// Minor units.
    #[garde(range(min = 0, max = money::AMOUNT_MAX))]
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64, example = 1250)]
    pub amount: i64,
    /// ISO 4217.
    #[garde(custom(currency))]
    #[schema(example = "GBP")]
    pub currency: String,
}

impl MoneyInput {
    /// The amount, if it is in this currency.
    #[must_use]
    pub fn in_currency(&self, currency: Currency) -> Option<i64> {
        (self.currency == currency.code()).then_some(self.amount)
    }
}

/// A price of one unit, as a request names it.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceInput {
    /// Minor units, with at most 4 decimals.
    #[garde(custom(unit_price))]
    #[schema(value_type = f64, minimum = 0, example = 255)]
    pub amount: Number,
    /// ISO 4217.
    #[garde(custom(currency))]
    #[schema(example = "GBP")]
    pub currency: String,
}

impl PriceInput {
    /// The price and its currency; `None` only for a value that was not checked.
    #[must_use]
    pub fn read(&self) -> Option<(Currency, UnitPrice)> {
        Some((money::parse_currency(&self.currency).ok()?, self.amount.to_string().parse().ok()?))
    }
}

/// A postal address.
#[derive(Clone, Debug, Serialize, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Who receives it.
    #[garde(custom(text(1, 200)))]
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// A company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(text(1, 200))))]
    pub company: Option<String>,
    /// Street and number.
    #[garde(custom(text(1, 200)))]
    #[schema(min_length = 1, max_length = 200)]
    pub line1: String,
    /// Whatever else the street needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(text(1, 200))))]
    pub line2: Option<String>,
    /// The town.
    #[garde(custom(text(1, 100)))]
    #[schema(min_length = 1, max_length = 100)]
    pub city: String,
    /// A state, county or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(text(1, 100))))]
    pub region: Option<String>,
    /// The postal code.
    #[garde(custom(text(1, 20)))]
    #[schema(min_length = 1, max_length = 20)]
    pub postal_code: String,
    /// ISO 3166-1 alpha-2.
    #[garde(custom(country))]
    #[schema(example = "GB")]
    pub country: String,
    /// A telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(text(1, 50))))]
    pub phone: Option<String>,
}

impl From<Address> for address::Address {
    fn from(from: Address) -> Self {
        let Address { name, company, line1, line2, city, region, postal_code, country, phone } =
            from;
        Self { name, company, line1, line2, city, region, postal_code, country, phone }
    }
}

impl From<&address::Address> for Address {
    fn from(from: &address::Address) -> Self {
        let address::Address { name, company, line1, line2, city, .. } = from.clone();
        let address::Address { region, postal_code, country, phone, .. } = from.clone();
        Self { name, company, line1, line2, city, region, postal_code, country, phone }
    }
}

/// A chosen way of delivery.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// Its id.
    #[schema(example = "standard")]
    pub option: String,
    /// What a buyer reads.
    pub name: String,
    /// What it costs.
    pub price: Money,
}

impl Delivery {
    /// A delivery in a currency.
    #[must_use]
    pub fn new(from: &pricing::Delivery, currency: Currency) -> Self {
        let price = Money::new(from.price, currency);
        Self { option: from.option.clone(), name: from.name.clone(), price }
    }
}

/// What it all comes to.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Totals {
    /// The sum of the lines.
    pub items: Money,
    /// The delivery.
    pub delivery: Money,
    /// All tax.
    pub tax: Money,
    /// Whether the tax is in the rows, or was added to them.
    pub tax_included: bool,
    /// What is charged.
    pub total: Money,
}

impl Totals {
    /// Totals in a currency.
    #[must_use]
    pub fn new(from: &pricing::Totals, currency: Currency) -> Self {
        let money = |amount| Money::new(amount, currency);
        Self {
            items: money(from.items),
            delivery: money(from.delivery),
            tax: money(from.tax),
            tax_included: from.tax_included,
            total: money(from.total),
        }
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T: ToSchema> {
    /// Its part of the list.
    pub data: Vec<T>,
    /// What to send as `after` for the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

/// A check of a text's length in characters, and of its characters.
pub fn text(min: usize, max: usize) -> impl Fn(&str, &()) -> garde::Result {
    move |value, ()| {
        let count = value.chars().count();
        if !(min..=max).contains(&count) {
            let rule = if min == 0 {
                format!("must have at most {max} characters")
            } else {
                format!("must have {min} to {max} characters")
            };
            return Err(garde::Error::new(rule));
        }
        if min > 0 && value.trim().is_empty() {
            return Err(garde::Error::new("must not be blank"));
        }
        let odd = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
        if value.chars().any(odd) {
            return Err(garde::Error::new("must not have control characters"));
        }
        Ok(())
    }
}

/// A check of a number of units.
pub fn units(max: i64) -> impl Fn(&i64, &()) -> garde::Result {
    move |value, ()| {
        if (1..=max).contains(value) {
            Ok(())
        } else {
            Err(garde::Error::new(format!("must be from 1 to {max}")))
        }
    }
}

/// Checks an ISO 4217 code.
///
/// # Errors
/// What it must be.
pub fn currency(value: &str, (): &()) -> garde::Result {
    money::parse_currency(value).map(|_| ()).map_err(garde::Error::new)
}

fn unit_price(value: &Number, (): &()) -> garde::Result {
    let price: UnitPrice = value.to_string().parse().map_err(garde::Error::new)?;
    if price.raw() < 0 {
        return Err(garde::Error::new("must not be negative"));
    }
    Ok(())
}

/// Checks a SKU.
///
/// # Errors
/// What it must be.
pub fn sku(value: &str, (): &()) -> garde::Result {
    value.parse::<Sku>().map(|_| ()).map_err(garde::Error::new)
}

/// Checks a location.
///
/// # Errors
/// What it must be.
pub fn location(value: &str, (): &()) -> garde::Result {
    value.parse::<Location>().map(|_| ()).map_err(garde::Error::new)
}

/// Checks a tax rate.
///
/// # Errors
/// What it must be.
pub fn tax_rate(value: &str, (): &()) -> garde::Result {
    let wrong = || garde::Error::new("must be a fraction from 0 to 1 as a text, for example \"0.2\"");
    TaxRate::parse(value).map(|_| ()).ok_or_else(wrong)
}

/// Checks an email address, 254 bytes at most.
///
/// # Errors
/// What it must be.
pub fn email(value: &str, (): &()) -> garde::Result {
    let options = email_address::Options::default()
        .with_required_tld()
        .without_display_text()
        .without_domain_literal();
    let good = value.len() <= 254
        && email_address::EmailAddress::parse_with_options(value, options).is_ok();
    if good { Ok(()) } else { Err(garde::Error::new("must be an email address")) }
}

fn country(value: &str, (): &()) -> garde::Result {
    let upper = value.len() == 2 && value.bytes().all(|byte| byte.is_ascii_uppercase());
    if upper && celes::Country::from_alpha2(value).is_ok() {
        Ok(())
    } else {
        Err(garde::Error::new("must be an ISO 3166-1 alpha-2 code, for example GB"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_and_written_exactly() {
        for (text, raw) in [("0.1", 1_000), ("1250", 12_500_000), ("0.0001", 1), ("1250.0", 12_500_000)] {
            let body = format!(r#"{{"amount": {text}, "currency": "GBP"}}"#);
            let price: PriceInput = serde_json::from_str(&body).unwrap();
            let (currency, price) = price.read().unwrap();
            assert_eq!(price.raw(), raw, "{text}");
            let written = serde_json::to_string(&Price::new(price, currency)).unwrap();
            let expected = text.trim_end_matches(".0");
            assert_eq!(written, format!(r#"{{"amount":{expected},"currency":"GBP"}}"#));
        }
        for bad in ["-1", "0.00001", "1e300", "12.34567", "9007199254740993"] {
            let body = format!(r#"{{"amount": {bad}, "currency": "GBP"}}"#);
            let price: PriceInput = serde_json::from_str(&body).unwrap();
            assert!(garde::Validate::validate(&price).is_err(), "{bad}");
        }
    }

    #[test]
    fn single_values_are_checked() {
        for good in ["a@example.com", "ann.o+x@mail.example.co.uk"] {
            assert!(email(good, &()).is_ok(), "{good}");
        }
        for bad in ["", "a", "a@b", "Ann <a@example.com>", "a@[127.0.0.1]", "a b@example.com"] {
            assert!(email(bad, &()).is_err(), "{bad}");
        }
        for (value, good) in [("GB", true), ("gb", false), ("XX", false), ("GBR", false), ("", false)] {
            assert_eq!(country(value, &()).is_ok(), good, "{value}");
        }
        assert!(text(1, 3)("äöü", &()).is_ok());
        for bad in ["", "  ", "abcd", "a\0"] {
            assert!(text(1, 3)(bad, &()).is_err(), "{bad:?}");
        }
    }
}
