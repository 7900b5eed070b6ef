//! Products: what is sold, one at a time or as an import.

pub mod import;
pub mod products;
