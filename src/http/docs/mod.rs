//! What the API says of itself: its OpenAPI document, the schemas of single values, and which answer
//! leads where.
//!
//! The shapes of requests and answers stand beside their nouns in `api`.

mod links;
pub mod openapi;
pub mod schemas;
