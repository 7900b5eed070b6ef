//! What shops and their back offices call: a folder a noun, with its routes, its shapes, and what it
//! refuses as problems.
//!
//! What every request passes through before it comes here is in `edge`.

pub(super) mod cart;
pub(super) mod order;
pub(super) mod product;
pub mod shape;
pub(super) mod stock;
pub(super) mod webhook;
