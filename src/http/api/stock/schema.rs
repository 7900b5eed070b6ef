//! The OpenAPI schemas of single values of stock.

use crate::domain::stock::Event;
use crate::http::docs::schemas::{one_kind_of, one_of, schemas};
use crate::store::stock::Sort;

schemas! {
    /// The kind of an event of stock.
    StockEventKind one_kind_of::<Event>;
    /// The order of a list of levels; by SKU and location by default.
    StockSort one_of::<Sort>;
}
