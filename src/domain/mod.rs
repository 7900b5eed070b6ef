//! Floor 0: the rules of the shop, without IO.
//!
//! Every noun is a state, its commands and its events: `decide` returns a command's events,
//! `evolve` applies an event to the state. The current time and new ids are arguments. No clock, no
//! randomness, no tokio, no SQL and no tracing on this floor.

pub mod address;
pub mod background_job;
pub mod cart;
pub mod case_folding;
pub mod cluster_key;
pub mod counter;
pub mod entity;
pub mod id;
pub mod limits;
pub mod location;
pub mod masked_url;
pub mod money;
pub mod order;
pub mod plain_text;
pub mod postal_code;
pub mod pricing;
pub mod product;
pub mod sealed;
pub mod search_text;
pub mod stock;
pub mod time;
pub mod tls_files;
pub mod versioned;
