//! Floor 1: all SQL. The journal is authoritative; the rows of all other tables are either
//! authoritative data that has no events, such as API keys, or projections of the journal. No
//! business decisions are made here.
//!
//! A store is one file in a data folder, with SQLite (`folder`), or a database that nodes share,
//! with PostgreSQL (`postgres`). A statement that both databases understand is written once
//! (`both`).

mod address;
mod both;
mod bulk_write;
mod cart;
pub mod erase_again;
mod folder;
mod folder_lock;
mod found;
pub mod history;
pub mod job;
pub mod journal;
pub mod key;
pub mod list_page;
pub mod list_row;
pub mod live_ticket;
pub mod location;
pub mod maintenance;
pub mod memory;
mod migrations;
pub mod node;
mod open;
mod open_error;
pub mod order;
pub mod order_search;
pub mod personal;
pub mod postgres;
pub mod product;
pub mod projection;
pub mod relocate;
pub mod row;
mod row_version;
pub mod runtime_setting;
pub mod schema;
mod schema_check;
pub mod secret;
pub mod session;
pub mod setting;
pub mod shard;
pub mod signed_head;
mod sizes;
pub mod startup_checks;
pub mod stock;
mod tables;
mod value;
pub mod versioned;
pub mod webhook;

use std::path::Path;
use std::sync::Arc;

use garde::Validate;
use serde::{Deserialize, Serialize};

use self::both::{Readers, Writing};
use self::folder::{Folder, Sync};
use self::postgres::{Database, pool};
use crate::domain::limits::{holds, within};

pub use self::address::DatabaseUrl;
pub use self::folder::create_private;
pub use self::found::FoundRow;
pub use self::open_error::OpenError;
pub use self::tables::Tables;

/// The most rows of any list.
pub const LIST_MAX: u32 = 1_000;

/// Options of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The URL of the PostgreSQL database; empty for SQLite in the data folder.
    #[garde(custom(postgres))]
    pub url: DatabaseUrl,
    /// The URL of a PostgreSQL replica for lists, searches and reports; empty for none.
    #[garde(custom(postgres), custom(not_alone(&self.url)))]
    pub replica_url: DatabaseUrl,
    /// The largest lag of the replica, in milliseconds; while the lag is larger, lists are read
    /// from the primary.
    #[garde(custom(within(0..=3_600_000)))]
    pub replica_lag_max_ms: u64,
    /// The number of shards of a new store in PostgreSQL, 1 to 1,024; it never changes.
    #[garde(custom(within(1..=1_024)))]
    pub shards: u16,
    /// The number of lanes that write to PostgreSQL, 1 to 64; 0 for one per core, at most 4.
    #[garde(custom(within(0..=64)))]
    pub lanes: u16,
    /// The number of connections for reads, 1 to 64.
    #[garde(custom(within(1..=64)))]
    pub read_connections: u32,
    /// The number of connections for writes to PostgreSQL, 1 to 64.
    #[garde(custom(within(1..=64)))]
    pub write_connections: u32,
    /// The master key of personal data, 64 hexadecimal digits; empty for the file `master.key` in
    /// the data folder.
    #[garde(custom(is_master_key))]
    pub master_key: personal::MasterKeyText,
    /// The limits of the lanes.
    #[garde(dive)]
    pub lane: journal::lane::Options,
    /// The signing of the ends of the chains of events.
    #[garde(dive)]
    pub heads: signed_head::Options,
}

fn postgres(url: &DatabaseUrl, (): &()) -> garde::Result {
    holds(
        url.is_empty() || url.is_postgres(),
        || "must be empty, or a URL such as postgres://user:password@host:5432/database",
    )
}

fn is_master_key(text: &personal::MasterKeyText, (): &()) -> garde::Result {
    match text.read() {
        Err(rule) if !text.is_empty() => Err(garde::Error::new(rule)),
        _ => Ok(()),
    }
}

fn not_alone(primary: &DatabaseUrl) -> impl Fn(&DatabaseUrl, &()) -> garde::Result {
    move |replica, ()| {
        holds(replica.is_empty() || !primary.is_empty(), || "must be empty if store.url is empty")
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::default(),
            replica_url: DatabaseUrl::default(),
            replica_lag_max_ms: 1_000,
            shards: 64,
            lanes: 0,
            read_connections: 4,
            write_connections: 8,
            master_key: personal::MasterKeyText::default(),
            lane: journal::lane::Options::default(),
            heads: signed_head::Options::default(),
        }
    }
}

impl Options {
    /// The number of lanes that write to PostgreSQL. With more lanes than cores, batches are
    /// smaller and the throughput is lower.
    #[must_use]
    pub fn lanes(&self) -> u16 {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        if self.lanes == 0 { u16::try_from(cores.min(4)).unwrap_or(4) } else { self.lanes }
    }
}

/// Why rows could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed, or did not answer in time.
    #[error("the store cannot be read or written")]
    Sql(#[from] sqlx::Error),
    /// A row has content that this version does not understand.
    #[error("a row of {table} is invalid: {reason}")]
    Row {
        /// The table.
        table: &'static str,
        /// What is wrong with the row.
        reason: String,
    },
    /// The file system failed.
    #[error("a file of the store cannot be read or written")]
    Io(#[from] std::io::Error),
    /// The arguments are invalid.
    #[error("{0}")]
    Refused(String),
    /// The master key that seals the keys of personal values is not known: an operator must set it.
    #[error("{0}")]
    Locked(String),
    /// A stored key of personal values is damaged.
    #[error("the key {id} of the personal data of {entity} is damaged: nobody can read them")]
    DamagedKey {
        /// The id of the key.
        id: String,
        /// The entity whose values it seals.
        entity: String,
    },
}

/// Whether an error code says that a row was refused: a value is out of range, a constraint is
/// violated, a limit is exceeded, or a trigger raised an exception (classes 22, 23, 54 and P0 of
/// PostgreSQL; `SQLITE_TOOBIG`, `_CONSTRAINT`, `_MISMATCH`).
fn refuses_a_row(code: &str) -> bool {
    if code.len() == 5 {
        return ["22", "23", "54", "P0"].iter().any(|class| code.starts_with(class));
    }
    // The low byte is SQLite's primary result code; the upper bytes refine it.
    code.parse::<u32>().is_ok_and(|code| [18, 19, 20].contains(&(code & 0xff)))
}

impl Error {
    /// Whether the error may be temporary: the database is unreachable, restarting or overloaded.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut => true,
            // Codes of PostgreSQL have five characters; SQLite's are shorter numbers.
            sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                // 25006: the server has become a replica.
                let passing = ["57", "53", "08", "40", "55P03", "25006"];
                code.len() == 5 && passing.iter().any(|class| code.starts_with(class))
            }),
            _ => false,
        }
    }

    /// Whether a key of personal values cannot be opened.
    #[must_use]
    pub const fn is_of_a_key(&self) -> bool {
        matches!(self, Self::Locked(_) | Self::DamagedKey { .. })
    }

    /// Whether the error concerns one row only: the table accepts other rows.
    #[must_use]
    pub fn refuses_a_row(&self) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| refuses_a_row(&code))
    }

    /// Whether the table cannot be written at all, because it or a column is missing.
    #[must_use]
    pub fn refuses_a_table(&self) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else { return false };
        // 1 is `SQLITE_ERROR`; class 42 of PostgreSQL is about missing tables and columns.
        error.code().is_some_and(|code| code == "1" || code.len() == 5 && code.starts_with("42"))
    }
}

/// An open store. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    people: personal::PersonalKeys,
}

/// The database of an open store.
#[derive(Clone)]
enum Backend {
    Sqlite(Folder),
    Postgres(Database),
}

impl Store {
    fn sqlite(folder: Folder, people: personal::PersonalKeys) -> Self {
        Self { backend: Backend::Sqlite(folder), people }
    }

    fn postgres(database: Database, people: personal::PersonalKeys) -> Self {
        Self { backend: Backend::Postgres(database), people }
    }

    /// Whether the store is in PostgreSQL, where other nodes may use it too.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.backend, Backend::Postgres(_))
    }

    /// The store's journal.
    #[must_use]
    pub fn journal(&self) -> Arc<dyn journal::Journal> {
        let seals = journal::snapshot_seal::SnapshotSeals::of(self.clone());
        match &self.backend {
            Backend::Sqlite(folder) => {
                Arc::new(journal::sqlite::Sqlite::new(folder.clone(), seals))
            }
            Backend::Postgres(database) => {
                Arc::new(journal::postgres::PostgresJournal::new(database.clone(), seals))
            }
        }
    }

    /// The data folder, if it is in one.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.folder().ok().map(Folder::dir)
    }

    /// Closes all connections and unlocks the data folder, after writes in progress are finished.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite(folder) => folder.close().await,
            Backend::Postgres(database) => database.close().await,
        }
    }

    /// The data folder, if it is in one.
    pub(in crate::store) fn folder(&self) -> Result<&Folder, Error> {
        match &self.backend {
            Backend::Sqlite(folder) => Ok(folder),
            Backend::Postgres(_) => Err(Error::Refused(
                "this command works on data folders; for a store in PostgreSQL use its own tools: \
                 pg_dump, pg_restore, pg_amcheck"
                    .to_owned(),
            )),
        }
    }

    /// The connections for reads that decisions depend on; they see the last commit.
    pub(in crate::store) fn readers(&self) -> Readers<'_> {
        match &self.backend {
            Backend::Sqlite(folder) => Readers::Sqlite(folder.readers()),
            Backend::Postgres(database) => Readers::Postgres(database.readers()),
        }
    }

    /// The connections for lists, searches and reports: those of the replica if there is one and it
    /// does not lag too much, otherwise those of [`Store::readers`].
    pub(in crate::store) fn lists(&self) -> Readers<'_> {
        match &self.backend {
            Backend::Sqlite(folder) => Readers::Sqlite(folder.readers()),
            Backend::Postgres(database) => Readers::Postgres(database.lists()),
        }
    }

    /// Begins a transaction whose commit is durable.
    pub(in crate::store) async fn begin(&self) -> Result<Writing, Error> {
        Ok(match &self.backend {
            Backend::Sqlite(folder) => Writing::Sqlite(folder.begin(Sync::Full).await?),
            Backend::Postgres(database) => {
                Writing::Postgres(database.writers().begin(pool::BEGIN).await?)
            }
        })
    }

    /// Begins a transaction whose commit is not synced to disk: for rows that can be rebuilt from
    /// the journal.
    pub(in crate::store) async fn begin_relaxed(&self) -> Result<Writing, Error> {
        Ok(match &self.backend {
            Backend::Sqlite(folder) => Writing::Sqlite(folder.begin_relaxed().await?),
            Backend::Postgres(database) => {
                Writing::Postgres(database.writers().begin(pool::BEGIN_RELAXED).await?)
            }
        })
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.backend {
            Backend::Sqlite(folder) => f.debug_tuple("Store").field(&folder.dir()).finish(),
            Backend::Postgres(database) => {
                f.debug_tuple("Store").field(&database.address().to_string()).finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_default_to_cores_up_to_four() {
        let lanes = |lanes| Options { lanes, ..Options::default() }.lanes();
        assert_eq!((lanes(1), lanes(7), lanes(64)), (1, 7, 64));
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(usize::from(lanes(0)), cores.min(4));
    }
}
