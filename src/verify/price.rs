//! The prices at which products were sold (I3): each line of an order has the price and the tax rate
//! of a version of its product, or a price that was agreed for the line.
//!
//! Products are on other shards than orders, so the two are compared once all events are folded, and
//! by whether there ever was such a version: a price that is cached is sold at for a moment longer.

use std::collections::{HashMap, HashSet};

use super::order::digest;
use super::report::{Invariant, Violations};
use crate::actors::engine::host::decode;
use crate::domain::cart::Cart;
use crate::domain::entity::{EntityId, Record};
use crate::domain::id::Sku;
use crate::domain::money::{Currency, TaxRate, UnitPrice};
use crate::domain::order::Placed;
use crate::domain::product::Product;
use crate::domain::versioned;

/// What a line is sold at: a listed price, or, for a line with an agreed one, the tax rate alone.
type SoldAt<'a> = (&'a Sku, Option<(Currency, UnitPrice)>, TaxRate);

/// A sale at terms that no version of the product has had so far, and how many there were.
struct Sale {
    order: EntityId,
    pos: i64,
    what: String,
    count: u64,
}

/// The terms of all versions of products, and the sales at other ones.
#[derive(Default)]
pub(super) struct PriceBook {
    set: HashSet<u128>,
    unset: HashMap<u128, Sale>,
}

impl PriceBook {
    /// Folds an event of a product. One that cannot be read is reported by the book of products.
    pub(super) fn fold_product(&mut self, record: &Record) {
        let Ok(event) = decode::<versioned::Event<Product>>(record) else { return };
        let product = event.into_value();
        let listed = product.prices.iter().map(|(currency, price)| Some((*currency, *price)));
        for price in listed.chain([None]) {
            let sold_at: SoldAt<'_> = (&product.sku, price, product.tax_rate);
            self.set.insert(digest(&sold_at));
        }
    }

    /// Notes the lines of an order whose cart was `cart`.
    pub(super) fn note_placed(&mut self, cart: &Cart, (placed, record): (&Placed, &Record)) {
        for (line, sold) in cart.lines().iter().zip(&placed.lines) {
            let listed = (placed.currency, sold.unit_price);
            let price = line.agreed_price_at(record.at).is_none().then_some(listed);
            let sold_at: SoldAt<'_> = (&sold.sku, price, sold.tax_rate);
            let terms = digest(&sold_at);
            if self.set.contains(&terms) {
                continue;
            }
            let sale = self.unset.entry(terms).or_insert_with(|| Sale {
                order: record.entity.clone(),
                pos: record.pos,
                what: match price {
                    Some((currency, price)) => {
                        let rate = sold.tax_rate;
                        format!("{} was sold at {price} {currency}, with {rate} of tax", sold.sku)
                    }
                    None => format!("{} was sold with {} of tax", sold.sku, sold.tax_rate),
                },
                count: 0,
            });
            sale.count += 1;
        }
    }

    /// Reports the sales at terms that no version of the product has.
    pub(super) fn check(&self, findings: &mut Violations) {
        for (terms, Sale { order, pos, what, count }) in &self.unset {
            if !self.set.contains(terms) {
                let why = format!("{what}, in {count} lines; no version of the product says so");
                findings.add(Invariant::I3, order, &[*pos], why);
            }
        }
    }
}
