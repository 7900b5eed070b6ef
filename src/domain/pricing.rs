//! The totals of lines, delivery and taxes. The same computation prices a cart for every answer and
//! an order when it is placed.
//!
//! The price and the tax of each line are rounded once, and so is the tax of the delivery. The
//! total is the sum of these rounded amounts, and is the amount charged.

use std::collections::{BTreeMap, BTreeSet};

use garde::Validate;
use serde::{Deserialize, Serialize};

use super::id::Sku;
use super::limits::{holds, within};
use super::money::{AMOUNT_MAX, Currency, InvalidMoney, Rounding, TaxRate, UnitPrice};
use super::plain_text::odd_in_line;

/// The shop's rules for computing prices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Rules {
    /// Whether prices include tax; if not, tax is added to them.
    pub tax_included: bool,
    /// How halves of a minor unit are rounded.
    pub rounding: Rounding,
    /// The delivery options, in the order in which they are shown.
    #[garde(custom(ways_of_delivery), dive)]
    pub delivery: Vec<DeliveryOption>,
}

impl Default for Rules {
    fn default() -> Self {
        let express = ["GBP", "EUR", "USD"];
        let price = |code| Some((Currency::from_code(code)?, 500));
        Self {
            tax_included: true,
            rounding: Rounding::default(),
            delivery: vec![
                DeliveryOption {
                    id: "standard".into(),
                    name: "Standard delivery".into(),
                    free: true,
                    prices: BTreeMap::new(),
                    tax_rate: TaxRate::default(),
                },
                DeliveryOption {
                    id: "express".into(),
                    name: "Express delivery".into(),
                    free: false,
                    prices: express.into_iter().filter_map(price).collect(),
                    tax_rate: TaxRate::default(),
                },
            ],
        }
    }
}

impl Rules {
    /// The delivery option with this id.
    #[must_use]
    pub fn delivery_option(&self, id: &str) -> Option<&DeliveryOption> {
        self.delivery.iter().find(|option| option.id == id)
    }
}

/// The most delivery options.
const DELIVERY_MAX: usize = 100;

fn ways_of_delivery(options: &[DeliveryOption], (): &()) -> garde::Result {
    holds(!options.is_empty(), || "must have a delivery option, or no cart can be ordered")?;
    holds(options.len() <= DELIVERY_MAX, || {
        format!("must have at most {DELIVERY_MAX} delivery options")
    })?;
    let mut ids = BTreeSet::new();
    match options.iter().find(|option| !ids.insert(&option.id)) {
        Some(again) => holds(false, || format!("must have different ids: {}", again.id)),
        None => Ok(()),
    }
}

/// A delivery option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct DeliveryOption {
    /// Its id, by which a cart selects it.
    #[garde(custom(one_line(64)))]
    pub id: String,
    /// Its display name.
    #[garde(custom(one_line(200)))]
    pub name: String,
    /// Whether it is free of charge, in every currency.
    #[serde(default)]
    pub free: bool,
    /// Its price in minor units, by currency.
    #[serde(default)]
    #[garde(custom(priced_or_free(self.free)))]
    pub prices: BTreeMap<Currency, i64>,
    /// Its tax rate.
    #[serde(default)]
    #[garde(custom(at_most_one))]
    pub tax_rate: TaxRate,
}

/// Checks a text that is shown on one line.
fn one_line(max: usize) -> impl Fn(&str, &()) -> garde::Result {
    move |text, ()| {
        let good =
            !text.trim().is_empty() && text.chars().count() <= max && odd_in_line(text).is_none();
        holds(good, || format!("must have 1 to {max} characters"))
    }
}

fn priced_or_free(free: bool) -> impl Fn(&BTreeMap<Currency, i64>, &()) -> garde::Result {
    move |prices, ()| {
        holds(free || !prices.is_empty(), || "must have a price, or `free` must be true")?;
        holds(!free || prices.is_empty(), || "must be empty where `free` is true")?;
        prices.values().try_for_each(|price| within(0..=AMOUNT_MAX)(price, &()))
    }
}

fn at_most_one(rate: &TaxRate, (): &()) -> garde::Result {
    within(0..=TaxRate::ONE)(&rate.millionths(), &())
}

impl DeliveryOption {
    /// Its price in minor units; `None` if it is not offered in this currency.
    #[must_use]
    pub fn price(&self, currency: Currency) -> Option<i64> {
        if self.free { Some(0) } else { self.prices.get(&currency).copied() }
    }
}

/// A line with its price, in a cart or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotedLine {
    /// Its id within the cart and the order.
    pub id: u32,
    /// The SKU.
    pub sku: Sku,
    /// The product's name when the line was priced.
    pub name: String,
    /// The number of units.
    #[serde(rename = "qty")]
    pub quantity: i64,
    /// The unit price.
    #[serde(rename = "price")]
    pub unit_price: UnitPrice,
    /// The tax rate.
    #[serde(rename = "rate", default)]
    pub tax_rate: TaxRate,
    /// The line's price in minor units; includes the tax if prices include tax.
    pub total: i64,
    /// The tax in minor units, included in the price or to be added to it.
    #[serde(default)]
    pub tax: i64,
}

impl QuotedLine {
    /// Creates a line, and computes its total and tax.
    ///
    /// # Errors
    /// [`InvalidMoney::TooLarge`] if the total or the tax is beyond [`AMOUNT_MAX`].
    pub fn new(
        id: u32,
        (sku, name): (Sku, String),
        quantity: i64,
        (unit_price, tax_rate): (UnitPrice, TaxRate),
        rules: &Rules,
    ) -> Result<Self, InvalidMoney> {
        let total = unit_price.times(quantity, rules.rounding)?;
        let tax = tax_on(total, tax_rate, rules)?;
        Ok(Self { id, sku, name, quantity, unit_price, tax_rate, total, tax })
    }

    /// The price that the buyer pays for it, in minor units.
    #[must_use]
    pub const fn due(&self, tax_included: bool) -> i64 {
        if tax_included { self.total } else { self.total + self.tax }
    }
}

fn tax_on(amount: i64, rate: TaxRate, rules: &Rules) -> Result<i64, InvalidMoney> {
    if rules.tax_included {
        rate.included_in(amount, rules.rounding)
    } else {
        rate.added_to(amount, rules.rounding)
    }
}

/// A chosen delivery option with its price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The option's id.
    pub option: String,
    /// The option's name when it was priced.
    pub name: String,
    /// The price in minor units; includes the tax if prices include tax.
    pub price: i64,
    /// The tax in minor units, included in the price or to be added to it.
    #[serde(default)]
    pub tax: i64,
}

impl Delivery {
    /// Creates a chosen option with its price; `None` if it is not offered in this currency.
    #[must_use]
    pub fn of(option: &DeliveryOption, currency: Currency, rules: &Rules) -> Option<Self> {
        let price = option.price(currency)?;
        let tax = tax_on(price, option.tax_rate, rules).ok()?;
        Some(Self { option: option.id.clone(), name: option.name.clone(), price, tax })
    }
}

/// The totals, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The sum of the lines' prices.
    pub items: i64,
    /// The price of the delivery.
    pub delivery: i64,
    /// The tax of all lines and of the delivery.
    pub tax: i64,
    /// Whether `items` and `delivery` include the tax; if not, it is added to them.
    pub tax_included: bool,
    /// The amount charged.
    pub total: i64,
}

impl Totals {
    /// The totals of lines and delivery.
    ///
    /// # Errors
    /// [`InvalidMoney::TooLarge`] if a sum is beyond [`AMOUNT_MAX`].
    pub fn of(
        lines: &[QuotedLine],
        delivery: Option<&Delivery>,
        tax_included: bool,
    ) -> Result<Self, InvalidMoney> {
        let sum = |values: &mut dyn Iterator<Item = i64>| -> Result<i64, InvalidMoney> {
            let sum: i128 = values.map(i128::from).sum();
            Rounding::HalfEven.divide(sum, 1)
        };
        let items = sum(&mut lines.iter().map(|line| line.total))?;
        let tax = sum(&mut lines
            .iter()
            .map(|line| line.tax)
            .chain(delivery.map(|delivery| delivery.tax)))?;
        let delivery = delivery.map_or(0, |delivery| delivery.price);
        let added = if tax_included { 0 } else { tax };
        let total = sum(&mut [items, delivery, added].into_iter())?;
        Ok(Self { items, delivery, tax, tax_included, total })
    }
}
