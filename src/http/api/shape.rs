//! Shapes that several answers and requests share: money, addresses, totals, pages. Domain types
//! are never written to the wire themselves. The checks of single values are in `edge::validate`.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

use crate::domain::address;
use crate::domain::money::{self, Currency, UnitPrice};
use crate::domain::pricing;
use crate::domain::stock::Location;
use crate::http::docs::schemas;
use crate::http::edge::validate::{self, text};

/// An amount of money.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Money {
    /// Minor units: pence, cents, yen.
    #[schema(example = 1250)]
    pub amount: i64,
    /// ISO 4217.
    #[schema(value_type = schemas::Currency)]
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
    #[schema(value_type = schemas::Currency)]
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
pub struct MoneyInput {
    /// Minor units.
    #[garde(range(min = 0, max = money::AMOUNT_MAX))]
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64, example = 1250)]
    pub amount: i64,
    /// ISO 4217.
    #[garde(custom(validate::currency))]
    #[schema(value_type = schemas::Currency)]
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
    #[garde(custom(validate::unit_price))]
    #[schema(value_type = f64, minimum = 0, maximum = 900_719_925_474_i64, multiple_of = 0.0001, example = 255)]
    pub amount: Number,
    /// ISO 4217.
    #[garde(custom(validate::currency))]
    #[schema(value_type = schemas::Currency)]
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
    #[schema(min_length = 1, max_length = 200)]
    pub company: Option<String>,
    /// Street and number.
    #[garde(custom(text(1, 200)))]
    #[schema(min_length = 1, max_length = 200)]
    pub line1: String,
    /// Whatever else the street needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(text(1, 200))))]
    #[schema(min_length = 1, max_length = 200)]
    pub line2: Option<String>,
    /// The town.
    #[garde(custom(text(1, 100)))]
    #[schema(min_length = 1, max_length = 100)]
    pub city: String,
    /// A state, county or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(text(1, 100))))]
    #[schema(min_length = 1, max_length = 100)]
    pub region: Option<String>,
    /// The postal code.
    #[garde(custom(text(1, 20)))]
    #[schema(min_length = 1, max_length = 20)]
    pub postal_code: String,
    /// ISO 3166-1 alpha-2.
    #[garde(custom(validate::country))]
    #[schema(value_type = schemas::Country)]
    pub country: String,
    /// A telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(text(1, 50))))]
    #[schema(min_length = 1, max_length = 50)]
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

/// Checks a location.
///
/// # Errors
/// What it must be.
pub fn location(value: &str, (): &()) -> garde::Result {
    value.parse::<Location>().map(|_| ()).map_err(garde::Error::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_and_written_exactly() {
        for (text, raw) in
            [("0.1", 1_000), ("1250", 12_500_000), ("0.0001", 1), ("1250.0", 12_500_000)]
        {
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
}
