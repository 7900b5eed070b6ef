//! The current prices of a cart: its lines with the products' current names and prices, delivery,
//! totals, and the requirements for a checkout that the cart does not meet yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::Catalog;
use crate::domain::cart::Cart;
use crate::domain::id::Sku;
use crate::domain::money::InvalidMoney;
use crate::domain::pricing::{Delivery, QuotedLine, Rules, Totals};
use crate::domain::time::Timestamp;
use crate::store;
use crate::store::product::Row;

/// A cart with prices.
#[derive(Clone, Debug)]
pub struct PricedCart {
    /// The lines; a line without a price has the price 0.
    pub lines: Vec<PricedLine>,
    /// The chosen delivery option, if it is offered.
    pub delivery: Option<Delivery>,
    /// The totals, without lines that cannot be sold.
    pub totals: Totals,
    /// The requirements for a checkout that the cart does not meet yet.
    pub requirements: Vec<Requirement>,
}

/// A line of a cart with its price.
#[derive(Clone, Debug)]
pub struct PricedLine {
    /// The line as it would be stored in the order.
    pub line: QuotedLine,
    /// Its product, if there is one.
    pub product: Option<Arc<Row>>,
    /// Whether its price was agreed for this cart only.
    pub agreed: bool,
    /// Whether it can be sold now.
    pub available: bool,
}

/// A requirement for a checkout that a cart does not meet yet.
#[derive(
    Clone, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr, strum::VariantNames,
)]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the messages say what each means")]
pub enum Requirement {
    #[error("add a line")]
    LinesMissing,
    #[error("give an email address")]
    EmailMissing,
    #[error("give a shipping address")]
    ShippingAddressMissing,
    #[error("choose a delivery option that is offered in the cart's currency")]
    DeliveryOptionMissing,
    #[error("remove line {line}: {sku} is not for sale{}", if *active { " in this currency" } else { "" })]
    LineUnavailable { line: u32, sku: Sku, active: bool },
    #[error("the total of the cart is too large")]
    TotalTooLarge,
}

impl Requirement {
    /// The code in the API, which never changes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.into()
    }
}

/// Prices carts.
#[derive(Clone)]
pub struct Pricing {
    /// All products.
    pub catalog: Arc<Catalog>,
    /// The rules of price computation.
    pub rules: Arc<Rules>,
}

impl Pricing {
    /// Prices a cart to be shown, as it is at `now`. Products that other nodes have just changed may
    /// have their old prices.
    ///
    /// # Errors
    /// [`store::Error`] if products cannot be read.
    pub async fn price(&self, cart: &Cart, now: Timestamp) -> Result<PricedCart, store::Error> {
        let mut products = BTreeMap::new();
        for line in cart.lines() {
            if let Some(row) = self.catalog.get(&line.sku).await? {
                products.insert(line.sku.clone(), row);
            }
        }
        Ok(self.price_of((cart, now), &products))
    }

    /// Prices a cart that is to be ordered, as it is at `now`, with the prices that the store has now.
    ///
    /// # Errors
    /// [`store::Error`] if products cannot be read.
    pub async fn price_order(
        &self,
        cart: &Cart,
        now: Timestamp,
    ) -> Result<PricedCart, store::Error> {
        let skus = cart.lines().iter().map(|line| line.sku.clone()).collect();
        Ok(self.price_of((cart, now), &self.catalog.current(&skus).await?))
    }

    fn price_of(
        &self,
        (cart, now): (&Cart, Timestamp),
        products: &BTreeMap<Sku, Arc<Row>>,
    ) -> PricedCart {
        let mut requirements = Vec::new();
        let lines = self.price_lines((cart, now), products, &mut requirements);
        if cart.lines().is_empty() {
            requirements.push(Requirement::LinesMissing);
        }
        if cart.email().is_none() {
            requirements.push(Requirement::EmailMissing);
        }
        if cart.shipping_address().is_none() {
            requirements.push(Requirement::ShippingAddressMissing);
        }
        let option = cart.delivery_option().and_then(|id| self.rules.delivery_option(id));
        let delivery = option
            .zip(cart.currency())
            .and_then(|(option, currency)| Delivery::of(option, currency, &self.rules));
        if delivery.is_none() {
            requirements.push(Requirement::DeliveryOptionMissing);
        }
        let sold: Vec<QuotedLine> =
            lines.iter().filter(|line| line.available).map(|line| line.line.clone()).collect();
        let totals = Totals::of(&sold, delivery.as_ref(), self.rules.tax_included);
        if totals.is_err() {
            requirements.push(Requirement::TotalTooLarge);
        }
        PricedCart { lines, delivery, totals: totals.unwrap_or_default(), requirements }
    }

    fn price_lines(
        &self,
        (cart, now): (&Cart, Timestamp),
        products: &BTreeMap<Sku, Arc<Row>>,
        requirements: &mut Vec<Requirement>,
    ) -> Vec<PricedLine> {
        let mut lines = Vec::with_capacity(cart.lines().len());
        for line in cart.lines() {
            let row = products.get(&line.sku).cloned();
            let product = row.as_ref().map(|row| &row.value);
            let listed = cart
                .currency()
                .and_then(|currency| product?.prices.get(&currency))
                .filter(|_| product.is_some_and(|product| product.active))
                .copied();
            let agreed = line.agreed_price_at(now);
            let price = agreed.filter(|_| product.is_some()).or(listed);
            let name = product.map(|product| product.name.clone()).unwrap_or_default();
            let rate = product.map(|product| product.tax_rate).unwrap_or_default();
            let named = (line.sku.clone(), name);
            let unit_price = price.unwrap_or_default();
            let priced = QuotedLine::new(
                line.id,
                named.clone(),
                line.quantity,
                (unit_price, rate),
                &self.rules,
            );
            let available = price.is_some() && priced.is_ok();
            match priced {
                Err(InvalidMoney::TooLarge) => requirements.push(Requirement::TotalTooLarge),
                _ if !available => {
                    let (line, sku) = (line.id, line.sku.clone());
                    let active = product.is_some_and(|product| product.active);
                    requirements.push(Requirement::LineUnavailable { line, sku, active });
                }
                _ => {}
            }
            let (sku, name) = named;
            let line_of = priced.unwrap_or(QuotedLine {
                id: line.id,
                sku,
                name,
                quantity: line.quantity,
                unit_price,
                tax_rate: rate,
                total: 0,
                tax: 0,
            });
            let agreed = agreed.is_some();
            lines.push(PricedLine { line: line_of, agreed, available, product: row });
        }
        lines
    }
}
