//! Orders: what their buyers and the back office read, and what the back office changes.

pub mod change;
pub mod read;
pub mod shape;
