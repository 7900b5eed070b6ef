//! The integration tests, as one binary.

mod api;
mod checkout;
mod doctor;
mod house;
mod journal;
mod lane;
mod sandbox_psp;
mod shop;
mod store;
mod verify;
