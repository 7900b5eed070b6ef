//! The simulator: whole nodes on one thread and in simulated time, between buyers, operators, a
//! provider, a disk and a bus whose faults are drawn from a seed. The same seed gives the same run.
//!
//! The nodes are the real ones: their actors, flows, lanes, timers, projections, leases, relays
//! and followers. Most seeds have one, every third has several on one journal (`nodes`). Only what
//! is outside of them is simulated, behind the seams that they have anyway: [`Journal`] and
//! [`Tables`] (`disk`, `process`), [`Provider`] (`bank`), [`Board`] and [`Stream`] (`process`,
//! `pipe`), the clock and chance (`world`), and those who call them (`clients`, `operators`,
//! `fleet`, and `story` for what a noun brings of its own). HTTP, databases and sockets are not here; they are tested as they are.
//!
//! [`Journal`]: crate::store::journal::Journal
//! [`Tables`]: crate::store::Tables
//! [`Provider`]: crate::providers::payment::Provider
//! [`Board`]: crate::bus::local::Board
//! [`Stream`]: crate::bus::stream::Stream

mod bank;
mod check;
mod clients;
mod disk;
mod draw;
mod ears;
mod fleet;
mod hunt;
mod nodes;
mod operators;
mod pipe;
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
    /// What every shop has. A noun whose story is told is a line here.
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
