//! Floor 2: entities and the processes between them. It has the engine that runs entities, the
//! flows, and each noun's code that is not a decision (its rows and prices).
//!
//! Its parts, in an order in which each may use those before it: `engine`; the files about one
//! noun, such as `order_rows`; `flows`; `nouns` (the list of all nouns) and `node`. Decisions about
//! money and stock are in `domain`; there is no SQL and no HTTP here.

pub mod buyer_data;
pub mod catalog;
pub mod engine;
pub mod flows;
pub mod locations;
pub mod node;
pub mod nouns;
pub mod order_rows;
pub mod order_search;
pub mod pricing;
pub mod read_models;
pub mod report;
pub mod row_kinds;
pub mod settings;
pub mod stock_rows;
