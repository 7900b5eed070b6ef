//! Floor 2: when, and who next. The engine that runs entities, the flows between them, and what
//! belongs to one noun.
//!
//! Its wings, each below the next: `engine`; the nouns' own files; `flows`; `nouns`, the list of
//! all, and `node`. No decision
//! about money or stock is made here: that is the domain's. No SQL and no HTTP either.

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
