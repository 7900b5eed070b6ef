//! The OpenAPI schemas of single values of stock.

use crate::http::docs::schemas::{names, schemas};
use crate::http::edge::input::string;
use crate::store::stock::Sort;

schemas! {
    /// The order of a list of levels; by SKU and location by default.
    StockSort |about| string().description(Some(about)).enum_values(Some(names::<Sort>()));
}
