//! The documentation of the API: its OpenAPI document with examples, the pages that show it, the
//! guide, the pages about error codes, the schemas of single values, and a Postman collection.
//!
//! The types of requests and answers, their schemas and links are next to the handlers; this module
//! gets them with the list of routes.

use crate::http::edge::access::Access;
use crate::routes;

mod error_page;
pub mod examples;
mod finish;
mod guide;
mod links;
pub mod openapi;
mod page;
pub mod postman;
mod problems;
pub mod schemas;
mod swagger;

const PUBLIC: Access = Access::Public;

routes! {
    /// The documentation pages.
    pub const ROUTES =
    GET "/openapi.json"       PUBLIC Browse openapi::show_openapi;
    GET "/docs/errors"        PUBLIC Browse error_page::list_error_codes;
    GET "/docs/errors/{code}" PUBLIC Browse error_page::explain_error;
    GET "/postman.json"       PUBLIC Browse postman::show_postman;
    GET "/docs/guide"         PUBLIC Browse guide::show_guide;
    GET "/docs/guide/{page}"  PUBLIC Browse guide::show_guide_page;
    GET "/docs"               PUBLIC Browse swagger::redirect_to_docs;
    GET "/docs/{file:.*}"     PUBLIC Browse swagger::show_docs;
}
