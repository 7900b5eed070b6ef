//! The simulator: whole nodes on one thread in simulated time, with clients, operators, a provider,
//! a disk and a bus whose faults are drawn from a seed. The same seed gives the same run.
//!
//! The nodes are the real ones: actors, flows, lanes, timers, projections, leases, relays and
//! followers. Most seeds have one node, every third has several on one journal (`nodes`). Only
//! their environment is simulated, behind existing traits: [`Journal`] and [`Tables`] (`disk`,
//! `process`), [`Provider`] (`bank`), [`Board`] and [`Stream`] (`process`, `faulty_stream`), time
//! and randomness (`world`), and the clients (`clients`, `operators`, `fleet`, and `story` for
//! those of a single noun). HTTP, databases and sockets are not simulated; other tests use the real
//! ones.
//!
//! [`Journal`]: crate::store::journal::Journal
//! [`Tables`]: crate::store::Tables
//! [`Provider`]: crate::providers::payment::Provider
//! [`Board`]: crate::bus::local::Board
//! [`Stream`]: crate::bus::stream::Stream

mod backup;
mod bank;
mod check;
mod clients;
mod copier;
mod disk;
mod draw;
mod faulty_stream;
mod feed_checker;
mod fleet;
mod goods;
mod hunt;
mod intruder;
mod nodes;
mod operators;
mod plan;
mod process;
mod run;
mod shrink;
mod story;
#[cfg(test)]
mod tests;
mod watch;
mod world;

pub use clients::Clients;
pub use fleet::Fleet;
pub use hunt::{HuntOutcome, hunt};
pub use plan::SimulationPlan;
pub use run::{RunCounts, RunOutcome, run, run_with};
pub use shrink::{Shrunken, shrink};
pub use story::{Setup, Story};
pub use world::{BrokenPromise, World};

use crate::actors::{nouns, read_models, row_kinds};
use crate::verify::Books;

impl Setup {
    /// The standard shop. To simulate a noun with clients of its own, add its story here.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            nouns: nouns::all,
            rows: row_kinds::all,
            projections: read_models::all,
            books: Books::standard,
            stories: Vec::new(),
        }
    }
}
