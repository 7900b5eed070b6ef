//! Floor 1: everything SQL. The journal is the truth; the rest are rows of their own or
//! projections of it. No decision is made here.
//!
//! One file, `kontor.db`, in one data folder. Two connections write it and never at the same
//! time: the durable one (`synchronous=FULL`) for the journal and for what must survive a power
//! cut, the relaxed one (`NORMAL`) for what can be made again from the journal. Both wait for
//! their turn on one mutex of this process, which is fair, and not on SQLite's busy handler,
//! which sleeps. Reads go to a pool of their own and see the last commit.

mod cart;
pub mod journal;
pub mod key;
pub mod maintenance;
mod many;
mod open;
pub mod order;
pub mod product;
pub mod projection;
pub mod secret;
pub mod session;
pub mod setting;
pub mod shard;
pub mod stock;
pub mod webhook;

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions};
use sqlx::{
    ConnectOptions as _, Connection as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
};
use tokio::sync::OwnedMutexGuard;

pub use self::open::OpenError;

/// The most rows that any list answers.
pub const LIST_MAX: u32 = 1_000;

/// How a store is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How many connections read at the same time, 1 to 64.
    pub read_connections: u32,
    /// The limits of the journal's writer.
    pub lane: journal::lane::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self { read_connections: 4, lane: journal::lane::Options::default() }
    }
}

/// Why rows could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite said no.
    #[error("the store cannot be read or written")]
    Sql(#[from] sqlx::Error),
    /// A row holds what this version does not understand.
    #[error("a row of {table} cannot be understood: {reason}")]
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

/// An open data folder. Clones are handles on the same one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    readers: SqlitePool,
    relaxed: SqlitePool,
    durable: Arc<tokio::sync::Mutex<Durable>>,
    lock: Mutex<Option<File>>,
}

impl Store {
    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The journal in it.
    #[must_use]
    pub fn journal(&self) -> Arc<dyn journal::Journal> {
        Arc::new(journal::sqlite::Sqlite::new(self.clone()))
    }

    /// Closes all connections and lets go of the folder. What is being written is finished first.
    pub async fn close(&self) {
        let mut durable = self.inner.durable.lock().await;
        self.inner.relaxed.close().await;
        self.inner.readers.close().await;
        durable.discard().await;
        durable.closed = true;
        drop(self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(in crate::store) fn readers(&self) -> &SqlitePool {
        &self.inner.readers
    }

    /// Waits for this writer's turn on the durable connection.
    pub(in crate::store) async fn durable(&self) -> OwnedMutexGuard<Durable> {
        Arc::clone(&self.inner.durable).lock_owned().await
    }

    /// Runs one statement durably; answers how many rows it changed.
    pub(in crate::store) async fn write(
        &self,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<u64, Error> {
        let mut durable = self.durable().await;
        let outcome = query.execute(durable.connection().await?).await;
        match outcome {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => {
                if !refused_by_constraint(&error) {
                    durable.discard().await;
                }
                Err(error.into())
            }
        }
    }

    /// Begins a transaction of what can be made again from the journal.
    pub(in crate::store) async fn begin_relaxed(&self) -> Result<Relaxed, Error> {
        let turn = Arc::clone(&self.inner.durable).lock_owned().await;
        let transaction = self.inner.relaxed.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Relaxed { transaction, _turn: turn })
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.inner.dir).finish_non_exhaustive()
    }
}

/// Whether the statement was refused for what it says, so that the connection is still good.
pub(in crate::store) fn refused_by_constraint(error: &sqlx::Error) -> bool {
    // SQLITE_CONSTRAINT is 19 in the low byte of every extended code.
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| code.parse::<i32>().is_ok_and(|extended| extended & 0xff == 19))
}

/// The durable connection, opened again after it broke.
pub(in crate::store) struct Durable {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    closed: bool,
}

impl Durable {
    fn new(options: SqliteConnectOptions, connection: SqliteConnection) -> Self {
        Self { options, connection: Some(connection), closed: false }
    }

    /// The connection, outside of any transaction.
    pub(in crate::store) async fn connection(
        &mut self,
    ) -> Result<&mut SqliteConnection, sqlx::Error> {
        if self.closed {
            return Err(sqlx::Error::PoolClosed);
        }
        if self.connection.as_ref().is_some_and(sqlx::Connection::is_in_transaction) {
            self.discard().await;
        }
        match self.connection {
            Some(ref mut connection) => Ok(connection),
            None => Ok(self.connection.insert(self.options.connect().await?)),
        }
    }

    /// Closes the connection, and with it whatever transaction it is in.
    pub(in crate::store) async fn discard(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "a connection did not close cleanly");
        }
    }
}

/// A transaction on the relaxed connection. Dropped, it is rolled back.
pub(in crate::store) struct Relaxed {
    transaction: Transaction<'static, Sqlite>,
    _turn: OwnedMutexGuard<Durable>,
}

impl Relaxed {
    pub(in crate::store) async fn commit(self) -> Result<(), Error> {
        Ok(self.transaction.commit().await?)
    }
}

impl Deref for Relaxed {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.transaction
    }
}

impl DerefMut for Relaxed {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }
}
