//! The shapes of requests and answers.
//!
//! Deliberately not here: the sending of requests ([`Client`](crate::Client)). The shapes of
//! answers have only the fields that clients often need; other fields of an answer are ignored.

use serde::{Deserialize, Serialize};

use crate::money::{Money, Price};

/// A product to import: absent fields are not changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Product {
    /// Its stock keeping unit.
    pub sku: String,
    /// The display name; required for a new product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The description; `Some(None)` clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Option<String>>,
    /// The category; `Some(None)` clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Option<String>>,
    /// The unit prices, one per currency; prices in other currencies are not changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<Price>,
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
    /// The number of units on hand to set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_hand: Option<i64>,
    /// The number of units that must be on hand before; otherwise the row is refused, unless
    /// `on_hand` units are there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_from: Option<i64>,
    /// The number of units to add to the stock, or to remove if negative. A repetition with the
    /// same idempotency key does not change the stock again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_hand_change: Option<i64>,
}

/// The body of `POST /v1/admin/imports`.
#[derive(Debug, Serialize)]
pub struct Import<'a> {
    /// Whether the rows are only checked, and nothing is changed.
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
    /// Products that already had the values of their row.
    pub unchanged: u64,
    /// Stock levels that were set.
    pub stock_set: u64,
    /// Refused rows.
    pub errors: Vec<ImportedError>,
}

/// A refused row.
#[derive(Clone, Debug, Deserialize)]
pub struct ImportedError {
    /// The row's index in the request, from 0.
    pub row: usize,
    /// The invalid field.
    #[serde(default)]
    pub field: String,
    /// The rule that the field breaks.
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
    /// The country, as an ISO 3166-1 alpha-2 code.
    pub country: String,
}

/// A new line of a cart.
#[derive(Clone, Debug, Serialize)]
pub struct NewLine {
    /// The SKU.
    pub sku: String,
    /// Units.
    pub quantity: i64,
    /// A unit price that was agreed for this line; needs an API key with `orders:write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_price: Option<Price>,
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
    /// The lines.
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
    /// Its id.
    pub id: String,
    /// Its lines.
    pub lines: Vec<Line>,
    /// The chosen delivery, if any.
    #[serde(default)]
    pub delivery: Option<Delivery>,
    /// Its totals.
    pub totals: Totals,
}

/// A cart that was created, with its token.
#[derive(Clone, Debug, Deserialize)]
pub struct CreatedCart {
    /// The cart.
    #[serde(flatten)]
    pub cart: Cart,
    /// The permission to use the cart and the order that it becomes ([`Call::token`]). No other
    /// answer has it.
    ///
    /// [`Call::token`]: crate::Call::token
    pub token: String,
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
    pub unit_price: Price,
}

/// The body of a checkout.
#[derive(Clone, Debug, Serialize)]
pub struct Checkout {
    /// The payment method; not needed for a cart whose total is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment: Option<PaymentMethod>,
    /// The total that the buyer was shown; the checkout is refused if the total is another one.
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
    /// A payment method of the provider `sandbox`.
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
        let captured = self.captured.as_ref()?.amount;
        Some(captured - self.refunded.as_ref().map_or(0, |refunded| refunded.amount))
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
    /// The amount to refund for these units.
    pub amount: Money,
}

/// One page of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Page<T> {
    /// The items of the page.
    pub data: Vec<T>,
    /// The cursor of the next page; `None` on the last page.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// The stock of one SKU.
#[derive(Clone, Debug, Deserialize)]
pub struct StockItem {
    /// The SKU.
    pub sku: String,
    /// Units under holds, for orders that are not confirmed yet.
    pub reserved: i64,
    /// Units allocated to orders.
    pub allocated: i64,
    /// Units that are available to sell.
    pub sellable: i64,
    /// Units that were shipped and did not come back.
    pub sold: i64,
}

/// A SKU with too few units: an element of `lines` in a problem with the code `out_of_stock`.
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
