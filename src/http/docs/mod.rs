//! What the API says of itself: its OpenAPI document, the schemas of single values, and the pages on
//! error codes.
//!
//! The shapes of requests and answers, their schemas, and what leads where, stand beside their nouns
//! in `api`: which routes there are is handed in.

use crate::http::edge::access::Access;
use crate::routes;

pub mod error_page;
mod links;
pub mod openapi;
pub mod schemas;

const PUBLIC: Access = Access::Public;

routes! {
    /// The pages on the API.
    pub const ROUTES =
    GET "/openapi.json"       PUBLIC Browse openapi::show_openapi;
    GET "/docs/errors/{code}" PUBLIC Browse error_page::explain_error;
    GET "/docs"               PUBLIC Browse openapi::redirect_to_docs;
    GET "/docs/{file:.*}"     PUBLIC Browse openapi::show_docs;
}
