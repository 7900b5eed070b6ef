//! The integration tests, as one binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod checkout;
mod cli_client;
mod cli_shop;
mod failures;
mod host;
mod house;
mod journal;
mod lane;
mod sandbox_psp;
mod shop;
mod site;
mod store;
mod verify;
