//! What touches more than one noun, or the world outside: one file a flow, named after it.

pub mod checkout;
pub(in crate::actors) mod order_effects;
pub mod payment;
mod stock_movements;
pub mod webhook;
