//! The shapes of requests and answers.
//!
//! What deliberately is not here: sending them ([`Client`](crate::Client)). Answers name the fields
//! that a client needs; what else the server says is passed over.

use serde::{Deserialize, Serialize};

use crate::money::Money;

/// A product to import: what it leaves out stays as it is.
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
    /// A fraction, for example "0.2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax_rate: Option<String>,
    /// Whether it can be put into a cart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
}

/// One row of an import.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ImportRow {
    /// What is sold.
    pub product: Product,
    /// One more price of it, in major units: "2.55".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// The ISO 4217 code of `price`; the shop's currency if it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Where the stock lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Units that there are: sets the stock.
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
    /// Check only.
    pub dry_run: bool,
    /// At most 500.
    pub rows: &'a [ImportRow],
}

/// What an import did.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Imported {
    /// New products.
    pub created: u64,
    /// Changed products.
    pub updated: u64,
    /// Products that were so already.
    pub unchanged: u64,
    /// Stock levels that were set.
    pub stock_set: u64,
    /// Rows that were refused.
    pub errors: Vec<ImportedError>,
}

/// A row that the server refused.
#[derive(Clone, Debug, Deserialize)]
pub struct ImportedError {
    /// Its place in the request, from 0.
    pub row: usize,
    /// The faulty field.
    #[serde(default)]
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Where goods go.
#[derive(Clone, Debug, Serialize)]
pub struct Address {
    /// Who gets them.
    pub name: String,
    /// Street and number.
    pub line1: String,
    /// Town.
    pub city: String,
    /// Postal code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// ISO 3166-1 alpha-2.
    pub country: String,
}

/// A line to put into a cart.
#[derive(Clone, Debug, Serialize)]
pub struct NewLine {
    /// What.
    pub sku: String,
    /// Units.
    pub quantity: i64,
    /// A price agreed elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_price: Option<Money>,
}

/// The body of `POST /v1/store/carts`.
#[derive(Clone, Debug, Serialize)]
pub struct NewCart {
    /// The ISO 4217 code; the shop's currency if it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The buyer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The buyer's own number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What is bought.
    pub lines: Vec<NewLine>,
    /// Where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<Address>,
    /// How it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_option: Option<String>,
}

/// The body of `PATCH /v1/store/carts/{id}`: what is `None` stays as it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CartUpdate {
    /// The buyer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<Address>,
    /// How it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_option: Option<String>,
}

/// A cart.
#[derive(Clone, Debug, Deserialize)]
pub struct Cart {
    /// Its id, the right to use it.
    pub id: String,
    /// What is in it.
    pub lines: Vec<Line>,
    /// How it goes, once chosen.
    #[serde(default)]
    pub delivery: Option<Delivery>,
    /// What it comes to.
    pub totals: Totals,
}

/// A chosen way of delivery.
#[derive(Clone, Debug, Deserialize)]
pub struct Delivery {
    /// What it costs.
    pub price: Money,
}

/// What a cart or an order comes to.
#[derive(Clone, Debug, Deserialize)]
pub struct Totals {
    /// All in all.
    pub total: Money,
}

/// A line of a cart or an order.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// Its id within the cart or order.
    pub id: String,
    /// What.
    pub sku: String,
    /// Units.
    pub quantity: i64,
    /// For one.
    pub unit_price: Money,
}

/// The body of a checkout.
#[derive(Clone, Debug, Serialize)]
pub struct Checkout {
    /// Who takes the money, from what; not needed for a cart that costs nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment: Option<PaymentMethod>,
    /// What the buyer has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_total: Option<Money>,
}

/// A way to pay.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentMethod {
    /// For example `sandbox`.
    pub provider: String,
    /// The provider's name for the buyer's card.
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
    /// Where it stands.
    pub status: String,
    /// Where its money stands.
    #[serde(default)]
    pub payment_status: String,
    /// What was bought.
    #[serde(default)]
    pub lines: Vec<Line>,
    /// What it comes to.
    pub total: Money,
    /// What came in.
    #[serde(default)]
    pub captured: Option<Money>,
    /// What went back.
    #[serde(default)]
    pub refunded: Option<Money>,
}

impl Order {
    /// What came in and stayed, in minor units; `None` if the server says neither.
    #[must_use]
    pub fn kept(&self) -> Option<i64> {
        let captured = self.captured.as_ref()?.as_minor()?;
        Some(captured - self.refunded.as_ref().and_then(Money::as_minor).unwrap_or(0))
    }
}

/// The body of a refund.
#[derive(Clone, Debug, Serialize)]
pub struct Refund {
    /// What comes back.
    pub lines: Vec<RefundLine>,
    /// Whether it can be sold again.
    pub restock: bool,
    /// Why.
    pub reason: String,
}

/// What comes back of one line.
#[derive(Clone, Debug, Serialize)]
pub struct RefundLine {
    /// The line's id.
    pub line: String,
    /// Units.
    pub quantity: i64,
    /// What is given back for them.
    pub amount: Money,
}

/// One page of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Page<T> {
    /// Its part of the list.
    pub data: Vec<T>,
    /// Where the next page begins.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// The stock of one SKU.
#[derive(Clone, Debug, Deserialize)]
pub struct StockItem {
    /// Which.
    pub sku: String,
    /// Units held for buyers who have not paid yet.
    pub reserved: i64,
    /// Units that orders have a claim to.
    pub allocated: i64,
    /// Units that can be sold.
    pub sellable: i64,
    /// Units that have left.
    pub sold: i64,
}

/// A line of an `out_of_stock` problem.
#[derive(Clone, Debug, Deserialize)]
pub struct Shortage {
    /// Which.
    pub sku: String,
    /// Units that can still be had.
    pub available: i64,
}

/// A product in the shop window.
#[derive(Clone, Debug, Deserialize)]
pub struct Listed {
    /// Its stock keeping unit.
    pub sku: String,
}
