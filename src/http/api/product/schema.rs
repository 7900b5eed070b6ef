//! The OpenAPI schema of a new product, whose SKU is in the body.

use utoipa::PartialSchema as _;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::shape::ProductInput;
use crate::domain::product::Event;
use crate::http::docs::schemas::{one_kind_of, one_of, refer, schemas};
use crate::http::edge::checked::Sku;
use crate::store::product::Sort;

schemas! {
    /// The order of a list of products; by SKU by default.
    ProductSort one_of::<Sort>;
    /// The kind of an event of a product or a location.
    RowEventKind one_kind_of::<Event>;
    /// A new product, with its SKU.
    NewProduct new_product;
}

/// A [`ProductInput`] whose SKU is required.
fn new_product(about: &str) -> RefOr<Schema> {
    let mut schema = ProductInput::schema();
    if let RefOr::T(Schema::Object(product)) = &mut schema {
        product.description = Some(about.to_owned());
        product.properties.insert("sku".to_owned(), refer::<Sku>().into());
        product.required.push("sku".to_owned());
    }
    schema
}
