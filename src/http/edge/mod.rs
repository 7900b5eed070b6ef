//! What every request passes through: connections and their deadlines, admission, authentication,
//! bodies, queries, errors and idempotency.
//!
//! This module depends on no noun; the handlers and the list of routes are in the other parts of
//! `http`.

pub mod access;
pub mod authentication;
pub mod call;
pub mod checked;
pub mod client_address;
pub mod connection;
pub mod cross_origin;
pub mod data;
pub mod error;
pub mod faults;
pub mod head_lines;
pub mod idempotency;
pub mod if_match;
pub mod if_none_match;
pub mod input;
pub mod json_body;
pub mod listen;
pub mod load_shedding;
pub mod object_only;
pub mod prefer;
pub mod principal;
pub mod problem;
pub mod problem_body;
pub mod query;
pub mod rate_limit;
pub mod read_your_writes;
pub mod request_metrics;
pub mod route;
pub mod router;
pub mod rule;
pub mod secret;
pub mod security_log;
pub mod session;
pub mod static_text;
pub mod wire;
