//! The OpenAPI schema of a new product, whose SKU is in the body.

use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Type};

use super::shape::ProductInput;
use crate::http::docs::schemas::{refer, schemas};
use crate::http::edge::checked::Sku;

schemas! {
    /// A new product, with its SKU.
    NewProduct new_product;
}

fn new_product(about: &str) -> AllOfBuilder {
    let named = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("sku", refer::<Sku>())
        .required("sku");
    let all = AllOfBuilder::new().description(Some(about));
    all.item(refer::<ProductInput>()).item(named)
}
