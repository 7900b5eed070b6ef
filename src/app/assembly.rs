//! The parts of a server that can be extended: nouns, plain rows, projections, routes, live topics
//! and books. Each is a list in the module that it belongs to; here the lists are one value, so
//! that another crate can start a server with additional entries.

use crate::actors::engine::projections::Projections;
use crate::actors::engine::row_host::RowKinds;
use crate::actors::nouns::{self, Nouns};
use crate::actors::{read_models, row_kinds};
use crate::http::Routes;
use crate::http::live::Topics;
use crate::verify::Books;

/// The extensible parts of a server.
pub struct Assembly {
    /// The nouns that its node runs.
    pub nouns: Nouns,
    /// The plain rows with a version.
    pub rows: RowKinds,
    /// The projections, which make rows from events.
    pub projections: Projections,
    /// The routes of the HTTP API.
    pub routes: Routes,
    /// The lists that the live feed offers.
    pub topics: Topics,
    /// The invariants of each noun, for the job `verify`.
    pub books: fn() -> Books,
}

impl Assembly {
    /// The parts of a standard server.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            nouns: nouns::all(),
            rows: row_kinds::all(),
            projections: read_models::all(),
            routes: Routes::standard(),
            topics: Topics::standard(),
            books: Books::standard,
        }
    }
}
