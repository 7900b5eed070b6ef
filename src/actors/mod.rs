//! Floor 2: when, and who next. The entity host, the sagas' flows, timers and projections.
//!
//! No decision about money or stock is made here: that is the domain's. No SQL and no HTTP
//! either.

pub mod cart;
pub mod catalog;
pub mod changes;
pub mod checkout;
pub mod clock;
pub mod cluster;
pub mod host;
pub mod jobs;
pub mod node;
pub mod notices;
mod numbers;
mod order;
mod patience;
pub mod payments;
pub mod placement;
pub mod projections;
mod refund;
pub mod report;
pub mod runtime;
mod shards;
mod timers;
