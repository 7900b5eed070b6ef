//! What a run has in addition to a shop's buyers and operators: clients of a single noun, driven by
//! the seed, and checks of their answers.
//!
//! What must always hold of a noun is checked by its book, in `verify`.

use std::sync::Arc;

use async_trait::async_trait;

use super::clients::Clients;
use super::fleet::Fleet;
use crate::actors::engine::projections::Projections;
use crate::actors::engine::row_host::RowKinds;
use crate::actors::nouns::Nouns;
use crate::verify::Books;

/// Clients of a noun, and checks of their answers. They outlive the nodes, which may die at any
/// time.
#[async_trait]
pub trait Story: Send + Sync {
    /// Acts during one life of the machine, continuing where the last one ended. It is dropped when
    /// the machine dies.
    async fn act(&self, clients: &Clients, fleet: &Fleet);

    /// Checks the answers, once everything has finished and no node runs any more; reports
    /// violations by [`World::violate`](super::World::violate).
    async fn check(&self, clients: &Clients);
}

/// What is simulated: the nouns of a shop, and their clients.
#[derive(Clone)]
pub struct Setup {
    /// The nouns.
    pub nouns: fn() -> Nouns,
    /// The plain rows.
    pub rows: fn() -> RowKinds,
    /// The projections.
    pub projections: fn() -> Projections,
    /// The books.
    pub books: fn() -> Books,
    /// Makes stories from a plan's seed; each draws numbers of its own, so a seed gives the same
    /// plan with and without them.
    pub stories: Vec<fn(seed: u64) -> Arc<dyn Story>>,
}
