//! How large a store is, and how closely it is looked at.
//!
//! Who looks is in `maintenance`, and the statements of PostgreSQL in `postgres`.

/// How long a check takes and what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The pages and rows; seconds for a large store.
    Quick,
    /// The indexes against their tables as well; minutes for a large store.
    Full,
}

/// How large a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the database file.
    pub database_bytes: u64,
    /// Bytes of the write-ahead log.
    pub log_bytes: u64,
    /// Bytes within the database file that are free to be used again.
    pub free_bytes: u64,
    /// How many events the journal has.
    pub events: i64,
}
