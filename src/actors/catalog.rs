//! Products for those who sell and those who edit them: rows with a version like any other. What a
//! product costs in a cart is `pricing`'s.

pub use super::engine::row_host::{Error, Expect, Lookups, WriteOutcome};

use super::engine::row_host::RowHost;
use crate::domain::product::Product;
use crate::domain::versioned::Versioned as _;

/// All products of a store.
pub type Catalog = RowHost<Product>;

/// The space of the cache that holds what was answered of many products.
pub const SPACE: &str = Product::PLURAL;
