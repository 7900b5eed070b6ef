//! The API of shops and their back offices: one folder per noun, with the routes, the request and
//! answer types, and the errors for the noun's rejections.
//!
//! Authentication, load shedding and the like are in `edge`.

pub mod amount;
pub(super) mod cart;
pub(super) mod location;
pub(super) mod order;
pub(super) mod product;
pub mod shape;
pub(super) mod stock;
pub mod token;
pub(super) mod webhook;
