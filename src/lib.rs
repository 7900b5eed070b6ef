//! kontor: a headless commerce and order platform.
//!
//! The modules form four floors, and imports go only downwards. Floor 0 is `domain`, which has no
//! IO. Floor 1 has `store`, `cache`, `bus` and `providers`. Floor 2 is `actors`, which runs the
//! entities of the domain. Floor 3 is `http`, the API. `app` assembles a server from these modules.
//! `config`, `doctor`, `telemetry`, `tls` and `verify` are outside of the floors. The command line is part
//! of the binary (`src/cli`). `simulate` and `fuzz` (the guarantees of decoders) are not part of a
//! server. ARCHITECTURE.md has the details.

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
pub mod tls;
pub mod verify;

/// The noun of `docs/adding-a-noun.md` in the simulator; its files use `kontor::` for this crate.
#[cfg(test)]
#[path = "../tests/recipe/simulated.rs"]
pub mod recipe;

#[cfg(test)]
extern crate self as kontor;
