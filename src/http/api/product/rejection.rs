//! What the catalog refuses, as problems.

use crate::actors::catalog;
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;

/// A refusal that names the product.
#[must_use]
pub fn refused(error: catalog::Error) -> Error {
    match error {
        catalog::Error::Exists => Error::new(Code::AlreadyExists, "the product already exists"),
        catalog::Error::NotFound => Error::not_found("product"),
        other => other.into(),
    }
}
