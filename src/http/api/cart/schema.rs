//! The OpenAPI schema of the lines that are added to a cart.

use utoipa::openapi::schema::OneOfBuilder;

use super::shape::NewLine;
use crate::domain::cart::LINES_MAX;
use crate::http::api::amount::PriceInput;
use crate::http::api::shape::Units;
use crate::http::docs::schemas::{closed, null, number, refer, schemas};
use crate::http::edge::checked::Sku;

schemas! {
    /// One line to add, or several.
    NewLines new_lines;
}

fn new_lines(about: &str) -> OneOfBuilder {
    let price = OneOfBuilder::new().item(refer::<PriceInput>()).item(null());
    let quantity = number("How many units.", Units::MIN, Units::MAX);
    let one = closed()
        .property("sku", refer::<Sku>())
        .property("quantity", quantity)
        .property("unit_price", price)
        .property("lines", null())
        .required("sku")
        .required("quantity");
    let lines = refer::<NewLine>().to_array_builder();
    let many = closed()
        .property("lines", lines.min_items(Some(1)).max_items(Some(LINES_MAX)))
        .property("sku", null())
        .property("quantity", null())
        .property("unit_price", null())
        .required("lines");
    OneOfBuilder::new().description(Some(about)).item(one).item(many)
}
