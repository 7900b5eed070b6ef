//! Floor 1: everything SQL. The journal is the truth; the rest are rows of their own or
//! projections of it. No decision is made here.
//!
//! A store is one file in a data folder, with SQLite (`folder`), or a database that many nodes
//! share, with PostgreSQL (`postgres`). What a statement says is written once where both
//! understand it (`both`).

mod address;
mod both;
mod bulk_write;
mod cart;
mod folder;
mod found;
pub mod job;
pub mod journal;
pub mod key;
pub mod list_page;
pub mod list_row;
pub mod maintenance;
pub mod memory;
mod migrations;
pub mod node;
mod open;
mod open_error;
pub mod order;
pub mod postgres;
pub mod product;
pub mod projection;
pub mod relocate;
pub mod row;
mod row_version;
pub mod runtime_setting;
pub mod secret;
pub mod session;
pub mod setting;
pub mod shard;
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
pub use self::found::FoundRow;
pub use self::open_error::OpenError;
pub use self::tables::Tables;

/// The most rows that any list answers.
pub const LIST_MAX: u32 = 1_000;

/// How a store is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The PostgreSQL database that it is in; empty for SQLite in the data folder.
    #[garde(custom(postgres))]
    pub url: DatabaseUrl,
    /// A replica of it, which lists, searches and reports are read from; empty for none.
    #[garde(custom(postgres), custom(not_alone(&self.url)))]
    pub replica_url: DatabaseUrl,
    /// How far behind the replica may be, in milliseconds, before the primary is read instead.
    #[garde(custom(within(0..=3_600_000)))]
    pub replica_lag_max_ms: u64,
    /// How many shards a store in PostgreSQL is made with, 1 to 1,024; it keeps them.
    #[garde(custom(within(1..=1_024)))]
    pub shards: u16,
    /// How many lanes write a store in PostgreSQL at the same time, 1 to 64; 0 for one a core, and
    /// 4 at the most.
    #[garde(custom(within(0..=64)))]
    pub lanes: u16,
    /// How many connections read at the same time, 1 to 64.
    #[garde(custom(within(1..=64)))]
    pub read_connections: u32,
    /// How many connections write to PostgreSQL at the same time, 1 to 64.
    #[garde(custom(within(1..=64)))]
    pub write_connections: u32,
    /// The limits of the journal's writer.
    #[garde(dive)]
    pub lane: journal::lane::Options,
}

fn postgres(url: &DatabaseUrl, (): &()) -> garde::Result {
    holds(
        url.is_empty() || url.is_postgres(),
        || "must be empty, or a URL such as postgres://user:password@host:5432/database",
    )
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
            lane: journal::lane::Options::default(),
        }
    }
}

impl Options {
    /// How many lanes write a store in PostgreSQL at the same time. More of them than cores make
    /// batches smaller, and cost more than they bring.
    #[must_use]
    pub fn lanes(&self) -> u16 {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        if self.lanes == 0 { u16::try_from(cores.min(4)).unwrap_or(4) } else { self.lanes }
    }
}

/// Why rows could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database said no, or nothing in time.
    #[error("the store cannot be read or written")]
    Sql(#[from] sqlx::Error),
    /// A row holds what this version does not understand.
    #[error("a row of {table} is invalid: {reason}")]
    Row {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system said no.
    #[error("a file of the store cannot be read or written")]
    Io(#[from] std::io::Error),
    /// What was asked for cannot be done with these arguments.
    #[error("{0}")]
    Refused(String),
}

/// Whether a code is about a row: a value out of range, a constraint, a limit, or what a trigger
/// raises (classes 22, 23, 54 and P0 of PostgreSQL; `SQLITE_TOOBIG`, `_CONSTRAINT`, `_MISMATCH`).
fn refuses_a_row(code: &str) -> bool {
    if code.len() == 5 {
        return ["22", "23", "54", "P0"].iter().any(|class| code.starts_with(class));
    }
    // The upper bytes say more of it.
    code.parse::<u32>().is_ok_and(|code| [18, 19, 20].contains(&(code & 0xff)))
}

impl Error {
    /// Whether it may be over in a moment: the database is away, restarting or overloaded.
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
                // 25006: the server is a replica by now.
                let passing = ["57", "53", "08", "40", "55P03", "25006"];
                code.len() == 5 && passing.iter().any(|class| code.starts_with(class))
            }),
            _ => false,
        }
    }

    /// Whether a table does not take a row as it is, while it takes others.
    #[must_use]
    pub fn refuses_a_row(&self) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| refuses_a_row(&code))
    }

    /// Whether a table cannot be written at all, such as one that is missing, or lacks a column.
    #[must_use]
    pub fn refuses_a_table(&self) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else { return false };
        // SQLITE_ERROR; class 42 of PostgreSQL.
        error.code().is_some_and(|code| code == "1" || code.len() == 5 && code.starts_with("42"))
    }
}

/// An open store. Clones are handles on the same one.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
}

/// Where the tables are.
#[derive(Clone)]
enum Backend {
    Sqlite(Folder),
    Postgres(Database),
}

impl Store {
    fn sqlite(folder: Folder) -> Self {
        Self { backend: Backend::Sqlite(folder) }
    }

    fn postgres(database: Database) -> Self {
        Self { backend: Backend::Postgres(database) }
    }

    /// Whether the tables are in PostgreSQL, where other nodes may use them too.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.backend, Backend::Postgres(_))
    }

    /// The journal in it.
    #[must_use]
    pub fn journal(&self) -> Arc<dyn journal::Journal> {
        match &self.backend {
            Backend::Sqlite(folder) => Arc::new(journal::sqlite::Sqlite::new(folder.clone())),
            Backend::Postgres(database) => {
                Arc::new(journal::postgres::PostgresJournal::new(database.clone()))
            }
        }
    }

    /// The data folder, where the store is in one.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.folder().ok().map(Folder::dir)
    }

    /// Closes all connections, and lets go of the data folder. What is being written is finished
    /// first.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite(folder) => folder.close().await,
            Backend::Postgres(database) => database.close().await,
        }
    }

    /// The data folder, where the store is in one.
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

    /// Where rows are read that a decision rests on: they are as of the last commit.
    pub(in crate::store) fn readers(&self) -> Readers<'_> {
        match &self.backend {
            Backend::Sqlite(folder) => Readers::Sqlite(folder.readers()),
            Backend::Postgres(database) => Readers::Postgres(database.readers()),
        }
    }

    /// Where rows are read for lists, searches and reports: a replica that is not too far behind,
    /// if there is one.
    pub(in crate::store) fn lists(&self) -> Readers<'_> {
        match &self.backend {
            Backend::Sqlite(folder) => Readers::Sqlite(folder.readers()),
            Backend::Postgres(database) => Readers::Postgres(database.lists()),
        }
    }

    /// Begins a transaction that is durable once it is committed.
    pub(in crate::store) async fn begin(&self) -> Result<Writing, Error> {
        Ok(match &self.backend {
            Backend::Sqlite(folder) => Writing::Sqlite(folder.begin(Sync::Full).await?),
            Backend::Postgres(database) => {
                Writing::Postgres(database.writers().begin(pool::BEGIN).await?)
            }
        })
    }

    /// Begins a transaction of what can be made again from the journal.
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
    fn there_are_as_many_lanes_as_said_or_else_as_cores_up_to_four() {
        let lanes = |lanes| Options { lanes, ..Options::default() }.lanes();
        assert_eq!((lanes(1), lanes(7), lanes(64)), (1, 7, 64));
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(usize::from(lanes(0)), cores.min(4));
    }
}
