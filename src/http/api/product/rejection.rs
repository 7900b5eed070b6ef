//! What the catalog refuses, as problems.

use crate::actors::catalog;
use crate::http::edge::error::{Error, storage, version_mismatch};
use crate::http::edge::problem::Code;

impl From<catalog::Error> for Error {
    fn from(error: catalog::Error) -> Self {
        match error {
            catalog::Error::Exists => Self::new(Code::AlreadyExists, "the product is there"),
            catalog::Error::NotFound => Self::not_found("product"),
            catalog::Error::VersionMismatch { version } => version_mismatch(version),
            catalog::Error::Store(error) => error.into(),
            catalog::Error::TryAgain => Self::new(Code::TryAgain, "the outcome is not known"),
            catalog::Error::Storage(why) => storage(why),
        }
    }
}
