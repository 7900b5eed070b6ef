//! What a server is made of: its nouns, its plain rows, what is made of events, and what can be
//! called. Each is a list that stands beside what it lists; here they are one value, so that
//! somebody else's crate can start a server that has more.

use crate::actors::engine::projections::Projections;
use crate::actors::engine::row_host::RowKinds;
use crate::actors::nouns::{self, Nouns};
use crate::actors::{read_models, row_kinds};
use crate::http::Routes;
use crate::http::live::Topics;
use crate::verify::Books;

/// What a server is made of.
pub struct Assembly {
    /// The nouns that its node runs.
    pub nouns: Nouns,
    /// The plain rows with a version.
    pub rows: RowKinds,
    /// The rows that are made of events.
    pub projections: Projections,
    /// What can be called.
    pub routes: Routes,
    /// The lists that can be followed live.
    pub topics: Topics,
    /// What must hold of each noun, for the job that checks it.
    pub books: fn() -> Books,
}

impl Assembly {
    /// What every server is made of.
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
