//! What the simulated shop sells.

use crate::domain::id::Sku;
use crate::domain::money::{Currency, TaxRate, UnitPrice};
use crate::domain::product::Product;

/// The SKU of a number.
pub fn sku(number: usize) -> Sku {
    // Always a valid SKU.
    format!("SKU-{number}").parse().unwrap_or_else(|_| unreachable!("a SKU of letters"))
}

/// A product of the shop at a price in minor units; `None` if there can be no such price.
pub fn product(number: usize, price: i64) -> Option<Product> {
    Some(Product {
        sku: sku(number),
        name: format!("Product {number}"),
        description: String::new(),
        category: None,
        prices: [(Currency::GBP, UnitPrice::from_minor(price).ok()?)].into(),
        tax_rate: TaxRate::default(),
        active: true,
        restock_at: None,
    })
}
