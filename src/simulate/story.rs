//! What a run has beside the buyers and operators of every shop: who acts on a noun from outside, as
//! the seed says, and what must hold of what they were told.
//!
//! What must hold of a noun at any moment is its book's, in `verify`.

use std::sync::Arc;

use async_trait::async_trait;

use super::clients::Clients;
use super::fleet::Fleet;
use crate::actors::engine::projections::Projections;
use crate::actors::engine::row_host::RowKinds;
use crate::actors::nouns::Nouns;
use crate::verify::Books;

/// Somebody outside, and what must hold of what they were told. It outlives the nodes, which die at
/// any moment.
#[async_trait]
pub trait Story: Send + Sync {
    /// Acts during one life of the machine, from where it was when the last one ended. It is dropped
    /// wherever it is when the machine dies.
    async fn act(&self, clients: &Clients, fleet: &Fleet);

    /// Looks whether what they were told is true, once all is at rest and no node lives any more;
    /// [`World::violate`](super::World::violate) says what is not.
    async fn check(&self, clients: &Clients);
}

/// What is simulated: the nouns of a shop, and who acts on them.
#[derive(Clone)]
pub struct Setup {
    /// The nouns.
    pub nouns: fn() -> Nouns,
    /// The plain rows.
    pub rows: fn() -> RowKinds,
    /// What is made of events.
    pub projections: fn() -> Projections,
    /// What must hold of each noun.
    pub books: fn() -> Books,
    /// Draws a story from a plan's seed; each has its own. They take nothing from what else is
    /// drawn, so that a seed means the same with them and without.
    pub stories: Vec<fn(seed: u64) -> Arc<dyn Story>>,
}
