//! Access to the state that the server shares with all requests, by type.

use actix_web::{HttpRequest, web};

use super::error::Error;
use super::problem::Code;

/// The shared state of type `T`.
///
/// # Errors
/// 500 if the server was started without this state.
pub fn data<T: 'static>(request: &HttpRequest) -> Result<&web::Data<T>, Error> {
    let found = request.app_data::<web::Data<T>>();
    found.ok_or_else(|| Error::new(Code::Internal, "the request could not be carried out"))
}
