//! What an operator looks at and changes: nodes and shards, jobs, dead letters, settings, health and
//! metrics, and the admin page.
//!
//! Orders, stock and products are in `api`, whoever calls.

pub mod admin_page;
pub mod cluster;
pub mod dead_letters;
pub mod entities;
pub mod health;
pub mod jobs;
pub mod metrics;
pub mod node_calls;
pub mod settings;
