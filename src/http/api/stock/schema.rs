//! What the API's document says of a change of stock.

use utoipa::openapi::schema::AnyOfBuilder;

use crate::domain::stock::QUANTITY_MAX;
use crate::http::docs::schemas::{number, schemas};

schemas! {
    /// Units that come or, if negative, go.
    UnitsChange units_change;
}

fn units_change(about: &str) -> AnyOfBuilder {
    let range = |min, max| number("", min, max).description(None::<String>);
    AnyOfBuilder::new()
        .description(Some(about))
        .item(range(1, QUANTITY_MAX))
        .item(range(-QUANTITY_MAX, -1))
}
