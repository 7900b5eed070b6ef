//! The simulator: a whole node on one thread and in simulated time, between buyers, operators, a
//! provider and a disk whose faults are drawn from a seed. The same seed gives the same run.
//!
//! The node is the real one: its actors, flows, lane, timers and projections. Only what is
//! outside of it is simulated, behind the seams that it has anyway: [`Journal`] and [`Tables`]
//! (`disk`), [`Provider`] (`bank`), the clock and chance (`world`), and those who call it
//! (`clients`, `operators`). HTTP, SQLite and sockets are not here; they are tested as they are.
//!
//! [`Journal`]: crate::store::journal::Journal
//! [`Tables`]: crate::store::Tables
//! [`Provider`]: crate::providers::payment::Provider

mod bank;
mod check;
mod clients;
mod disk;
mod draw;
mod hunt;
mod operators;
mod plan;
mod run;
mod shrink;
mod watch;
mod world;

pub use hunt::{Found, hunt};
pub use plan::Plan;
pub use run::{Counts, Outcome, run};
pub use shrink::{Shrunken, shrink};
pub use world::Violation;
