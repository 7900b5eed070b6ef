//! A story adds clients of a single noun to a run, beside the shop's buyers and operators. The
//! clients act as the seed determines, and the story checks the answers that they get.
//!
//! The invariants of a noun are checked by its book, in `verify`.

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
    /// Acts during one life of the machine, continuing where the previous life ended. This future
    /// is dropped when the machine dies.
    async fn act(&self, clients: &Clients, fleet: &Fleet);

    /// Checks the answers, once everything has finished and no node runs any more; reports
    /// violations by [`World::violate`](super::World::violate).
    async fn check(&self, clients: &Clients);
}

/// The parts of a simulated shop: nouns, rows, projections and books, and the additional clients.
#[derive(Clone)]
pub struct Setup {
    /// The nouns.
    pub nouns: fn() -> Nouns,
    /// The plain rows.
    pub rows: fn() -> RowKinds,
    /// The projections.
    pub projections: fn() -> Projections,
    /// The books, which check the invariants of each noun in `verify`.
    pub books: fn() -> Books,
    /// Makes stories from a plan's seed; each has a random generator of its own, so a seed gives
    /// the same plan with and without stories.
    pub stories: Vec<fn(seed: u64) -> Arc<dyn Story>>,
}
