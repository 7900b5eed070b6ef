//! The HTTP layer (floor 3 in ARCHITECTURE.md): routes, request and answer types, status codes.
//!
//! Five modules, each of which may import only the ones named before it: `edge` (what every request
//! passes through; it knows no noun), `docs` (the documentation of the API), `api` (one folder per
//! noun), `operator` (what an operator reads and changes) and `live` (the live feed). `routes`
//! joins their lists of routes, and `server` serves these.
//!
//! A handler turns a request into a command, sends the command to an entity (`actors`) and turns
//! the result into an answer. Decisions about money or stock, SQL and timers of entities are not on
//! this floor.

pub mod api;
pub mod docs;
pub mod edge;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod live;
mod observe;
mod operator;
mod routes;
pub mod server;

pub use edge::access::Access;
pub use edge::client_address::Network;
pub use edge::error::Error;
pub use edge::principal::{ADMIN, Principal, Scope};
pub use edge::route::{Route, RouteList, Routes};
pub use operator::order_exports::export_orders;
pub use server::{Options, Server, ServerStart, start};
