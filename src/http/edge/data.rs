//! What the server shares with all requests, by its type.

use actix_web::{HttpRequest, web};

use super::error::Error;
use super::problem::Code;

/// What the server shares of a type.
///
/// # Errors
/// 500 where the server was started without it.
pub fn data<T: 'static>(request: &HttpRequest) -> Result<&web::Data<T>, Error> {
    let found = request.app_data::<web::Data<T>>();
    found.ok_or_else(|| Error::new(Code::Internal, "the request could not be carried out"))
}
