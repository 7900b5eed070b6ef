//! The documentation of the API: its OpenAPI document, the schemas of single values, and the pages
//! about error codes.
//!
//! The types of requests and answers, their schemas and links are next to the handlers; this module
//! gets them with the list of routes.

use crate::http::edge::access::Access;
use crate::routes;

pub mod error_page;
pub mod examples;
mod finish;
mod links;
pub mod openapi;
mod problems;
pub mod schemas;

const PUBLIC: Access = Access::Public;

routes! {
    /// The documentation pages.
    pub const ROUTES =
    GET "/openapi.json"       PUBLIC Browse openapi::show_openapi;
    GET "/docs/errors/{code}" PUBLIC Browse error_page::explain_error;
    GET "/docs"               PUBLIC Browse openapi::redirect_to_docs;
    GET "/docs/{file:.*}"     PUBLIC Browse openapi::show_docs;
}
