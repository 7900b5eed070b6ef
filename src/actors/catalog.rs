//! Products, for the shop's pages and for editors: plain rows with a version. Prices of carts are
//! in `pricing`.

pub use super::engine::row_host::{Error, Expect, Lookups, WriteOutcome};

use super::engine::row_host::RowHost;
use crate::domain::product::Product;
use crate::domain::versioned::Versioned as _;

/// All products of a store.
pub type Catalog = RowHost<Product>;

/// The cache space of answers that contain several products; it is dropped whenever a product
/// changes.
pub const SPACE: &str = Product::PLURAL;
