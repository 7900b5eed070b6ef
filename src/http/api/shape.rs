//! Types that several requests and answers share: money, addresses, totals, pages. Types of the
//! domain are never serialized to clients. Money in requests is in `amount`, and the formats of
//! single values are in `edge::checked`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::ObjectBuilder;

use crate::domain::address;
use crate::domain::cart::QUANTITY_MAX;
use crate::domain::money::{self, Currency, UnitPrice};
use crate::domain::postal_code::check_postal_code;
use crate::domain::pricing;
use crate::domain::stock::Location;
use crate::http::edge::checked::{self, Checked, TextKind, pattern};
use crate::http::edge::input::{Text, Whole, not_empty};

/// The number of units of a line of a cart or an order.
pub type Units = Whole<1, QUANTITY_MAX>;

/// An amount of money.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Money {
    /// Minor units: pence, cents, yen.
    #[schema(example = 1250)]
    pub amount: i64,
    /// ISO 4217.
    #[schema(value_type = checked::Currency)]
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
    /// Minor units; `null` if the price has decimals.
    #[schema(required, example = 255)]
    pub amount: Option<i64>,
    /// Minor units with at most 4 decimals: always the exact price.
    #[schema(example = "255")]
    pub amount_decimal: String,
    /// ISO 4217.
    #[schema(value_type = checked::Currency)]
    pub currency: &'static str,
}

impl Price {
    /// A unit price in a currency.
    #[must_use]
    pub fn new(price: UnitPrice, currency: Currency) -> Self {
        Self { amount: price.whole(), amount_decimal: price.to_string(), currency: currency.code() }
    }
}

/// A postal address. In its optional fields, an empty text is the same as none.
#[derive(Clone, Debug, Serialize, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The recipient.
    #[garde(dive)]
    pub name: Text<1, 200>,
    /// The company, if any.
    #[serde(default, deserialize_with = "not_empty", skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub company: Option<Text<0, 200>>,
    /// Street and number.
    #[garde(dive)]
    pub line1: Text<1, 200>,
    /// Second address line, such as a flat or floor.
    #[serde(default, deserialize_with = "not_empty", skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub line2: Option<Text<0, 200>>,
    /// The town.
    #[garde(dive)]
    pub city: Text<1, 100>,
    /// A state, county or province.
    #[serde(default, deserialize_with = "not_empty", skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub region: Option<Text<0, 100>>,
    /// The postal code, in the country's format; optional for countries without postal codes.
    #[serde(default, deserialize_with = "not_empty", skip_serializing_if = "Option::is_none")]
    #[garde(dive, custom(fits_country(&self.country)))]
    pub postal_code: Option<Text<0, 20>>,
    /// The country, ISO 3166-1 alpha-2.
    #[garde(dive)]
    pub country: checked::Country,
    /// A telephone number.
    #[serde(default, deserialize_with = "not_empty", skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub phone: Option<Text<0, 50>>,
}

/// Checks that there is a postal code if the country has them, and that it has the country's
/// format.
fn fits_country(
    country: &checked::Country,
) -> impl FnOnce(&Option<Text<0, 20>>, &()) -> garde::Result + '_ {
    move |code, ()| {
        check_postal_code(country, code.as_deref())
            .map_err(|error| garde::Error::new(error.to_string()))
    }
}

impl From<Address> for address::Address {
    fn from(from: Address) -> Self {
        Self {
            name: from.name.into(),
            company: from.company.map(Into::into),
            line1: from.line1.into(),
            line2: from.line2.map(Into::into),
            city: from.city.into(),
            region: from.region.map(Into::into),
            postal_code: from.postal_code.map(Into::into).unwrap_or_default(),
            country: from.country.into(),
            phone: from.phone.map(Into::into),
        }
    }
}

impl From<&address::Address> for Address {
    fn from(from: &address::Address) -> Self {
        let from = from.clone();
        Self {
            name: from.name.into(),
            company: from.company.map(Into::into),
            line1: from.line1.into(),
            line2: from.line2.map(Into::into),
            city: from.city.into(),
            region: from.region.map(Into::into),
            postal_code: Some(from.postal_code).filter(|code| !code.is_empty()).map(Into::into),
            country: from.country.into(),
            phone: from.phone.map(Into::into),
        }
    }
}

/// The chosen delivery option.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// The id of the delivery option.
    #[schema(example = "standard")]
    pub option: String,
    /// The name that buyers see.
    pub name: String,
    /// The price of the delivery.
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

/// The totals of a cart or an order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Totals {
    /// The sum of the lines.
    pub items: Money,
    /// The delivery.
    pub delivery: Money,
    /// All tax.
    pub tax: Money,
    /// Whether the prices include the tax; if false, the tax is added to them.
    pub tax_included: bool,
    /// The amount to pay.
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
    /// The rows of this page.
    pub data: Vec<T>,
    /// The cursor to send as `after` for the next page; `null` on the last page.
    pub next_cursor: Option<String>,
}

/// The location of stock, as given in a request.
pub type LocationInput = Checked<Location>;

impl TextKind for Location {
    const NAME: &'static str = "Location";

    fn read(text: &str) -> Result<Self, garde::Error> {
        text.parse().map_err(garde::Error::new)
    }

    fn schema() -> ObjectBuilder {
        pattern("The id of a location.", r"^[a-z0-9-]{1,32}$", 32).examples(["main"])
    }
}
