//! Rows of products.

use crate::domain::product::Product;

/// A product as it stands in its table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The product.
    pub product: Product,
    /// Grows by one with every change.
    pub version: i64,
}
