//! The OpenAPI schemas of single values of stock.

use strum::VariantNames as _;

use crate::domain::stock::Event;
use crate::http::docs::schemas::{names, schemas};
use crate::http::edge::input::string;
use crate::store::stock::Sort;

schemas! {
    /// The kind of an event of stock.
    EventKind |about| string().description(Some(about)).enum_values(Some(Event::VARIANTS.iter().copied()));
    /// The order of a list of levels; by SKU and location by default.
    StockSort |about| string().description(Some(about)).enum_values(Some(names::<Sort>()));
}
