//! kontor: a headless commerce and order platform.
//!
//! Four floors; an import runs only downwards. `domain` is true without IO. `store`, `cache`, `bus`
//! and `providers` are next to each other above it. `actors` decides when, and who next. `http` is
//! the API. `app` is where everything meets; `config`, `doctor`, `telemetry` and `verify` stand
//! beside it. The command line is the binary's (`src/cli`). Not in a server: `simulate`, and `fuzz`,
//! which says what decoders promise. ARCHITECTURE.md is the tour.

pub mod actors;
pub mod app;
pub mod bus;
pub mod cache;
pub mod config;
#[cfg(debug_assertions)]
pub mod crash;
pub mod doctor;
pub mod domain;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod http;
pub mod providers;
pub mod seeded_fault;
#[cfg(any(test, feature = "simulate"))]
pub mod simulate;
pub mod store;
pub mod telemetry;
pub mod verify;

/// A noun of somebody else, in the simulator: its files say `kontor` for `crate`.
#[cfg(test)]
#[path = "../tests/recipe/simulated.rs"]
pub mod recipe;

#[cfg(test)]
extern crate self as kontor;
