//! Floor 3: routes, request and response shapes, status codes.
//!
//! Handlers read a request into a command, send it to the floor below and write what comes back.
//! No decision about money or stock, no SQL and no timers live here.

mod access;
pub mod admission;
mod body;
mod call;
mod cart_shape;
mod carts;
mod checkout;
mod client_address;
mod cluster;
mod dead_letters;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod health;
mod idempotency;
mod imports;
mod jobs;
mod line;
mod links;
pub mod listen;
pub mod live;
pub mod metrics;
mod node_calls;
mod objects;
pub mod openapi;
mod ops;
mod order_changes;
mod order_shape;
mod orders;
mod page;
mod position;
pub mod problem;
mod products;
mod query;
mod rates;
pub mod routes;
pub mod server;
mod session;
mod settings;
mod shape;
mod stock;
mod valid;
mod values;
mod webhooks;

pub use access::{Access, Principal, Scope, holder, principal, still_good};
pub use client_address::Network;
pub use error::Error;
pub use server::{Options, Server, start};
pub use session::same_origin;
