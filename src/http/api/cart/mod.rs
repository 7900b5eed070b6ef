//! Carts: what a buyer fills, and how it becomes an order.

pub mod carts;
pub mod checkout;
pub mod shape;
