//! Floor 2: entities and their processes. The engine that runs entities, the flows between them,
//! and the code of each noun.
//!
//! Its parts, each of which may use those before it: `engine`; the nouns' own files; `flows`;
//! `nouns` (the list of all nouns) and `node`. Decisions about money and stock are in `domain`;
//! there is no SQL and no HTTP here.

pub mod catalog;
pub mod engine;
pub mod flows;
pub mod node;
pub mod nouns;
pub mod order_rows;
pub mod pricing;
pub mod read_models;
pub mod report;
pub mod row_kinds;
pub mod settings;
pub mod stock_rows;
