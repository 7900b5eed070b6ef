//! Sizes of a store, and the depth of a check.
//!
//! `maintenance` uses them; the statements of PostgreSQL are in `postgres`.

/// The depth of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Checks pages and rows; takes seconds for a large store.
    Quick,
    /// Also compares the indexes with their tables; takes minutes for a large store.
    Full,
}

/// The sizes of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the database file.
    pub database_bytes: u64,
    /// Bytes of the write-ahead log.
    pub log_bytes: u64,
    /// Free bytes within the database file.
    pub free_bytes: u64,
    /// The number of events.
    pub events: i64,
}
