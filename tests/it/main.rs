//! The integration tests, as one binary.

mod checkout;
mod journal;
mod lane;
mod sandbox_psp;
mod shop;
mod store;
mod verify;
