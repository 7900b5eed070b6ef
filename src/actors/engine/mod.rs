//! The engine runs the entities of any noun: it has hosts, shards, timers, projections and cluster
//! membership. It depends on no noun and no flow.

pub mod backoff;
pub mod change_pages;
pub mod changes;
pub mod clock;
pub mod cluster;
pub mod fold;
pub mod host;
pub mod hosts;
pub mod job_ledger;
pub mod placement;
pub mod projections;
pub mod row_host;
pub mod runtime;
pub mod shards;
pub mod stored;
pub mod supervisor;
pub mod timers;
