//! The request and answer types of carts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::cart::{self, LINES_MAX};
use crate::http::api::amount::PriceInput;
use crate::http::api::cart::requirement::RequirementShape;
use crate::http::api::product::availability::Availability;
use crate::http::api::shape::{Address, Delivery, Money, Price, Totals, Units};
use crate::http::docs::schemas;
use crate::http::edge::checked;
use crate::http::edge::input::{List, ListItem, Text};

/// A line to add.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLine {
    /// The SKU.
    #[garde(dive)]
    pub sku: checked::Sku,
    /// The number of units.
    #[garde(dive)]
    pub quantity: Units,
    /// An agreed price of one unit, instead of the product's price. Requires a key with the scope
    /// `orders:write`.
    #[serde(default)]
    #[garde(dive)]
    pub unit_price: Option<PriceInput>,
}

/// Lines to add.
pub type LinesToAdd = List<NewLine, 0, LINES_MAX>;

impl ListItem for NewLine {
    const PLURAL: &'static str = "lines";
}

/// A new cart; every field is optional.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCart {
    /// The currency, ISO 4217; by default the shop's currency.
    #[serde(default)]
    #[garde(dive)]
    pub currency: Option<checked::Currency>,
    /// The buyer's email address.
    #[serde(default)]
    #[garde(dive)]
    pub email: Option<checked::Email>,
    /// The buyer's own reference, such as a purchase order number.
    #[serde(default)]
    #[garde(dive)]
    pub reference: Option<Text<1, 100>>,
    /// The first lines of the cart.
    #[serde(default)]
    #[garde(dive)]
    pub lines: LinesToAdd,
    /// The shipping address.
    #[serde(default)]
    #[garde(dive)]
    pub shipping_address: Option<Address>,
    /// The billing address, if it differs from the shipping address.
    #[serde(default)]
    #[garde(dive)]
    pub billing_address: Option<Address>,
    /// The id of a delivery option.
    #[serde(default)]
    #[garde(dive)]
    pub delivery_option: Option<Text<1, 64>>,
}

/// Changes to a cart; `null` clears a field.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CartPatch {
    /// The buyer's email address.
    #[serde(default, deserialize_with = "cart::double_option::deserialize")]
    #[garde(dive)]
    pub email: Option<Option<checked::Email>>,
    /// The buyer's own reference, such as a purchase order number.
    #[serde(default, deserialize_with = "cart::double_option::deserialize")]
    #[garde(dive)]
    pub reference: Option<Option<Text<1, 100>>>,
    /// The shipping address.
    #[serde(default, deserialize_with = "cart::double_option::deserialize")]
    #[garde(dive)]
    pub shipping_address: Option<Option<Address>>,
    /// The billing address, if it differs from the shipping address.
    #[serde(default, deserialize_with = "cart::double_option::deserialize")]
    #[garde(dive)]
    pub billing_address: Option<Option<Address>>,
    /// The id of a delivery option.
    #[serde(default, deserialize_with = "cart::double_option::deserialize")]
    #[garde(dive)]
    pub delivery_option: Option<Option<Text<1, 64>>>,
}

/// One line to add, or several; the OpenAPI document has [`super::schema::NewLines`] instead.
#[derive(Clone, Debug, Deserialize, garde::Validate)]
#[serde(deny_unknown_fields)]
pub struct NewLines {
    /// The SKU, for a single line.
    #[serde(default)]
    #[garde(custom(of_one_line(self)), dive)]
    pub sku: Option<checked::Sku>,
    /// The number of units, for a single line.
    #[serde(default)]
    #[garde(custom(of_one_line(self)), dive)]
    pub quantity: Option<Units>,
    /// An agreed price of one unit, for a single line. Requires a key with the scope
    /// `orders:write`.
    #[serde(default)]
    #[garde(custom(not_with_lines(self)), dive)]
    pub unit_price: Option<PriceInput>,
    /// Several lines.
    #[serde(default)]
    #[garde(custom(some_lines(self)), dive)]
    pub lines: Option<LinesToAdd>,
}

fn some_lines(new: &NewLines) -> impl FnOnce(&Option<LinesToAdd>, &()) -> garde::Result + '_ {
    move |lines, ()| match lines {
        Some(lines) if lines.is_empty() => Err(garde::Error::new("must not be empty")),
        None if !new.has_one() => {
            Err(garde::Error::new("is required, unless sku and quantity are given"))
        }
        _ => Ok(()),
    }
}

fn not_with_lines<T>(new: &NewLines) -> impl FnOnce(&Option<T>, &()) -> garde::Result + '_ {
    move |value, ()| match (value, &new.lines) {
        (Some(_), Some(_)) => Err(garde::Error::new("must not be given with lines")),
        _ => Ok(()),
    }
}

/// The rule of a field that a single line needs.
fn of_one_line<T>(new: &NewLines) -> impl FnOnce(&Option<T>, &()) -> garde::Result + '_ {
    move |value, ()| match (value, &new.lines) {
        (None, None) if new.has_one() => Err(garde::Error::new("is required")),
        _ => not_with_lines(new)(value, &()),
    }
}

impl NewLines {
    /// Whether it has fields of a single line.
    const fn has_one(&self) -> bool {
        self.sku.is_some() || self.quantity.is_some() || self.unit_price.is_some()
    }

    /// The lines; and `true` if a single line was given without `lines`, so that the names of its
    /// fields have no prefix.
    #[must_use]
    pub fn list(self) -> (Vec<NewLine>, bool) {
        match (self.lines, self.sku, self.quantity) {
            (None, Some(sku), quantity) => {
                // Without a quantity the line has a fault, and is only looked up.
                let quantity = quantity.unwrap_or(Units::LEAST);
                (vec![NewLine { sku, quantity, unit_price: self.unit_price }], true)
            }
            (lines, ..) => (lines.unwrap_or_default().into_vec(), false),
        }
    }
}

/// The new quantity of a line.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinePatch {
    /// The number of units.
    #[garde(custom(some_units))]
    pub quantity: Units,
}

fn some_units(quantity: &Units, (): &()) -> garde::Result {
    let rule = format!("must be from {} to {}", Units::MIN, Units::MAX);
    match quantity.get() {
        0 => Err(garde::Error::new(format!("{rule}; DELETE removes the line"))),
        Units::MIN..=Units::MAX => Ok(()),
        _ => Err(garde::Error::new(rule)),
    }
}

/// A line of a cart, at the current price or an agreed one.
#[derive(Debug, Serialize, ToSchema)]
pub struct CartLine {
    #[schema(value_type = checked::LineId)]
    pub id: String,
    #[schema(value_type = checked::Sku)]
    pub sku: String,
    pub name: String,
    pub quantity: i64,
    pub unit_price: Price,
    /// Until when an agreed price holds, for the line's quantity; then the price of the product
    /// applies. `null` for the price of the product.
    #[schema(required, value_type = Option<schemas::Moment>)]
    pub unit_price_until: Option<String>,
    #[schema(value_type = checked::TaxRate)]
    pub tax_rate: String,
    pub total: Money,
    pub tax: Money,
    /// Whether the line can be sold now. If not, its price is 0 and it does not count in the
    /// totals.
    pub available: bool,
    /// What the shop shows of the stock, for the line's quantity; `null` if it shows nothing, or if
    /// the line cannot be sold.
    #[schema(required)]
    pub availability: Option<Availability>,
}

/// The status of a cart.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CartStatus {
    /// It can be changed, and checked out.
    Open,
    /// It has become an order.
    Spent,
}

/// A cart.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Cart)]
pub struct CartShape {
    /// The cart's id. Only who has the cart's token may use the cart.
    #[schema(value_type = schemas::CartId)]
    pub id: String,
    pub status: CartStatus,
    pub version: i64,
    #[schema(value_type = checked::Currency)]
    pub currency: &'static str,
    #[schema(value_type = Option<checked::Email>)]
    pub email: Option<String>,
    pub reference: Option<String>,
    pub lines: Vec<CartLine>,
    pub shipping_address: Option<Address>,
    pub billing_address: Option<Address>,
    pub delivery: Option<Delivery>,
    pub totals: Totals,
    /// What the cart still lacks before checkout.
    pub requirements: Vec<RequirementShape>,
    pub created_at: String,
    pub updated_at: String,
    pub expires_at: String,
}

/// A cart that was created, with its token.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedCart)]
pub struct CreatedCartShape {
    #[serde(flatten)]
    pub cart: CartShape,
    /// The cart's token: the permission to use the cart and the order that it becomes, sent as
    /// `Authorization: Bearer`. Keep it: no other answer has it.
    #[schema(example = "ct_TiDqW8b1mJt0s9gq2Zx7pQ4nK5yV6cR3hL8eF1dA0uBwXi")]
    pub token: String,
}

/// A delivery option.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryOptionShape {
    pub id: String,
    pub name: String,
    /// One price per currency; empty if the delivery is free.
    pub prices: Vec<Money>,
    pub free: bool,
}

/// The delivery options.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryOptions {
    pub data: Vec<DeliveryOptionShape>,
}
