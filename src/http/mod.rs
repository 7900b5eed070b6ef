//! Floor 3: routes, request and response shapes, status codes.
//!
//! Five wings, each of which knows those before it only: `edge` (what every request passes through;
//! knows no noun), `docs` (what the API says of itself), `api` (a folder a noun), `operator` (what an
//! operator looks at and changes) and `live` (what is told as it happens). `routes` is the one page
//! that puts them together, and `server` starts it.
//!
//! Handlers read a request into a command, send it to the floor below and write what comes back.
//! No decision about money or stock, no SQL and no timers live here.

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
pub use edge::principal::{Principal, Scope};
pub use edge::route::{Route, RouteList, Routes};
pub use server::{Options, Server, ServerStart, start};
