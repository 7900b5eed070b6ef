//! The integration tests, as one binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod browser;
mod checkout;
mod cli_client;
mod cli_shop;
mod clocks;
mod cost;
#[cfg(debug_assertions)]
mod crashes;
mod damage;
mod doctor;
mod edge;

mod flash;
mod full_disk;
mod host;
mod hostile;
mod house;
mod journal;
mod kills;
mod lane;
mod live;
mod load;
mod operator;
mod payment_faults;
mod process;
mod sandbox_psp;
mod search;
mod session;
mod shop;
mod shopkeepers;
mod simulate;
mod site;
mod store;
mod supply;
mod verify;
