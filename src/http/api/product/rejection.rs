//! Converts the errors of the catalog to errors of the API.

use crate::actors::catalog;
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;

/// The error of the API for an error of the catalog, with a text about products.
#[must_use]
pub fn refused(error: catalog::Error) -> Error {
    match error {
        catalog::Error::Exists => Error::new(Code::AlreadyExists, "the product already exists")
            .at("sku", "must be a SKU that no product has"),
        catalog::Error::NotFound => Error::not_found("product"),
        other => other.into(),
    }
}
