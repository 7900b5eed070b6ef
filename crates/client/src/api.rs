//! The shapes of requests and answers.
//!
//! Deliberately not here: sending them ([`Client`](crate::Client)). Answers have the fields that
//! clients need; other fields are ignored.

use serde::{Deserialize, Serialize};

use crate::money::Money;

/// A product to import: absent fields are not changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Product {
    /// Its stock keeping unit.
    pub sku: String,
    /// What a buyer reads; a new product needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of that; `Some(None)` clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Option<String>>,
    /// What it is listed under; `Some(None)` clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Option<String>>,
    /// A price per currency; prices in other currencies stay as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<Money>,
    /// The tax rate as a fraction, for example "0.2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax_rate: Option<String>,
    /// Whether it can be put into a cart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
}

/// One row of an import.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ImportRow {
    /// The product.
    pub product: Product,
    /// An additional price, in major units: "2.55".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// The ISO 4217 code of `price`; the shop's currency if it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The stock location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Units on hand: sets the stock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_hand: Option<i64>,
    /// What `on_hand` must be before, unless it is right already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_from: Option<i64>,
    /// Units that come or, if negative, go: changes the stock, once for each idempotency key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_hand_change: Option<i64>,
}

/// The body of `POST /v1/admin/imports`.
#[derive(Debug, Serialize)]
pub struct Import<'a> {
    /// Whether to check only.
    pub dry_run: bool,
    /// The rows, at most 500.
    pub rows: &'a [ImportRow],
}

/// The result of an import.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Imported {
    /// New products.
    pub created: u64,
    /// Changed products.
    pub updated: u64,
    /// Products that already had these values.
    pub unchanged: u64,
    /// Stock levels that were set.
    pub stock_set: u64,
    /// Refused rows.
    pub errors: Vec<ImportedError>,
}

/// A refused row.
#[derive(Clone, Debug, Deserialize)]
pub struct ImportedError {
    /// Its index in the request, from 0.
    pub row: usize,
    /// The invalid field.
    #[serde(default)]
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// A shipping address.
#[derive(Clone, Debug, Serialize)]
pub struct Address {
    /// The recipient's name.
    pub name: String,
    /// The street and number.
    pub line1: String,
    /// The city.
    pub city: String,
    /// The postal code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// ISO 3166-1 alpha-2.
    pub country: String,
}

/// A new line of a cart.
#[derive(Clone, Debug, Serialize)]
pub struct NewLine {
    /// The SKU.
    pub sku: String,
    /// Units.
    pub quantity: i64,
    /// An agreed price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_price: Option<Money>,
}

/// The body of `POST /v1/store/carts`.
#[derive(Clone, Debug, Serialize)]
pub struct NewCart {
    /// The ISO 4217 code; the shop's currency if it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The buyer's email address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The buyer's own reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The first lines.
    pub lines: Vec<NewLine>,
    /// The shipping address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<Address>,
    /// The id of the delivery option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_option: Option<String>,
}

/// The body of `PATCH /v1/store/carts/{id}`: `None` leaves a field unchanged.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CartUpdate {
    /// The buyer's email address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The shipping address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<Address>,
    /// The id of the delivery option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_option: Option<String>,
}

/// A cart.
#[derive(Clone, Debug, Deserialize)]
pub struct Cart {
    /// Its id, which gives the right to use it.
    pub id: String,
    /// Its lines.
    pub lines: Vec<Line>,
    /// The chosen delivery, if any.
    #[serde(default)]
    pub delivery: Option<Delivery>,
    /// Its totals.
    pub totals: Totals,
}

/// A chosen delivery option.
#[derive(Clone, Debug, Deserialize)]
pub struct Delivery {
    /// Its price.
    pub price: Money,
}

/// The totals of a cart or an order.
#[derive(Clone, Debug, Deserialize)]
pub struct Totals {
    /// The amount to pay.
    pub total: Money,
}

/// A line of a cart or an order.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// Its id within the cart or order.
    pub id: String,
    /// The SKU.
    pub sku: String,
    /// Units.
    pub quantity: i64,
    /// The price of one unit.
    pub unit_price: Money,
}

/// The body of a checkout.
#[derive(Clone, Debug, Serialize)]
pub struct Checkout {
    /// The payment method; not needed for a cart whose total is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment: Option<PaymentMethod>,
    /// The total that the buyer was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_total: Option<Money>,
}

/// A payment method.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentMethod {
    /// The provider, for example `sandbox`.
    pub provider: String,
    /// The provider's token for the buyer's card.
    pub token: String,
}

impl PaymentMethod {
    /// A payment through the sandbox provider.
    #[must_use]
    pub fn sandbox(token: &str) -> Self {
        Self { provider: "sandbox".to_owned(), token: token.to_owned() }
    }
}

/// An order.
#[derive(Clone, Debug, Deserialize)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// The status.
    pub status: String,
    /// The payment status.
    #[serde(default)]
    pub payment_status: String,
    /// The lines.
    #[serde(default)]
    pub lines: Vec<Line>,
    /// The total.
    pub total: Money,
    /// The captured amount.
    #[serde(default)]
    pub captured: Option<Money>,
    /// The refunded amount.
    #[serde(default)]
    pub refunded: Option<Money>,
}

impl Order {
    /// The captured amount less refunds, in minor units; `None` if the answer has neither.
    #[must_use]
    pub fn kept(&self) -> Option<i64> {
        let captured = self.captured.as_ref()?.as_minor()?;
        Some(captured - self.refunded.as_ref().and_then(Money::as_minor).unwrap_or(0))
    }
}

/// The body of a refund.
#[derive(Clone, Debug, Serialize)]
pub struct Refund {
    /// The refunded lines.
    pub lines: Vec<RefundLine>,
    /// Whether the units become available to sell.
    pub restock: bool,
    /// The reason.
    pub reason: String,
}

/// The refund of one line.
#[derive(Clone, Debug, Serialize)]
pub struct RefundLine {
    /// The line's id.
    pub line: String,
    /// Units.
    pub quantity: i64,
    /// The amount to refund for them.
    pub amount: Money,
}

/// One page of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Page<T> {
    /// The items of the page.
    pub data: Vec<T>,
    /// The cursor of the next page.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// The stock of one SKU.
#[derive(Clone, Debug, Deserialize)]
pub struct StockItem {
    /// The SKU.
    pub sku: String,
    /// Units reserved for buyers who have not paid yet.
    pub reserved: i64,
    /// Units allocated to orders.
    pub allocated: i64,
    /// Units that are available to sell.
    pub sellable: i64,
    /// Units that were sold.
    pub sold: i64,
}

/// A line of an `out_of_stock` problem.
#[derive(Clone, Debug, Deserialize)]
pub struct Shortage {
    /// The SKU.
    pub sku: String,
    /// Units that are available to sell.
    pub available: i64,
}

/// A product for sale.
#[derive(Clone, Debug, Deserialize)]
pub struct Listed {
    /// Its stock keeping unit.
    pub sku: String,
}
