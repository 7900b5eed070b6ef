//! The SQLite side of a store: one file, `kontor.db`, in a data folder. One connection writes. It
//! uses `synchronous=FULL` for the journal and everything else that must survive a power cut, and
//! `NORMAL` for rows that can be rebuilt from the journal. Writers wait on a fair mutex of this
//! process, not on SQLite's busy handler, which sleeps. Reads use a pool of their own and see the
//! last commit. `open` opens the folder; the statements of each table are in the table's own file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _, Sqlite,
    SqliteConnection, SqlitePool,
};
use tokio::sync::OwnedMutexGuard;

use super::Error;
use super::folder_lock::FolderLock;
use super::journal::Head;

/// How long a connection waits while another process (`kontor key`, `kontor backup`) has SQLite's
/// lock. Writers of the same process wait on a mutex instead (`folder`).
pub(in crate::store) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// An open data folder. Clones share its connections.
#[derive(Clone)]
pub(in crate::store) struct Folder {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    readers: SqlitePool,
    writer: Arc<tokio::sync::Mutex<WriteConnection>>,
    lock: Mutex<Option<FolderLock>>,
}

impl Folder {
    /// Takes over the folder's connections, and its lock, which is held until the folder is closed.
    pub(in crate::store) fn new(
        dir: PathBuf,
        readers: SqlitePool,
        writer: WriteConnection,
        lock: Option<FolderLock>,
    ) -> Self {
        let writer = Arc::new(tokio::sync::Mutex::new(writer));
        Self { inner: Arc::new(Inner { dir, readers, writer, lock: Mutex::new(lock) }) }
    }

    pub(in crate::store) fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Closes all connections and unlocks the folder, after writes in progress are finished.
    pub(in crate::store) async fn close(&self) {
        let mut writer = self.inner.writer.lock().await;
        self.inner.readers.close().await;
        writer.discard().await;
        writer.closed = true;
        drop(self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(in crate::store) fn readers(&self) -> &SqlitePool {
        &self.inner.readers
    }

    /// Waits for the write connection, and keeps other writers waiting until the guard is dropped.
    pub(in crate::store) async fn lock_writer(&self) -> OwnedMutexGuard<WriteConnection> {
        Arc::clone(&self.inner.writer).lock_owned().await
    }

    /// Runs one statement durably; returns the number of changed rows.
    pub(in crate::store) async fn write(
        &self,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<u64, Error> {
        let mut durable = self.lock_writer().await;
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

    /// Copies the write-ahead log into the database, and empties it; `false` if a read still needs it.
    pub(in crate::store) async fn truncate_log(&self) -> Result<bool, Error> {
        let mut turn = self.lock_writer().await;
        let connection = turn.connection().await?;
        // Writers wait, too: not for as long as a backup takes.
        connection.execute("PRAGMA busy_timeout = 200").await?;
        let row = connection.fetch_one("PRAGMA wal_checkpoint(TRUNCATE)").await;
        let timeout = BUSY_TIMEOUT.as_millis();
        let text = AssertSqlSafe(format!("PRAGMA busy_timeout = {timeout}"));
        let restored = connection.execute(sqlx::raw_sql(text)).await;
        match (row, restored) {
            (Ok(row), Ok(_)) => Ok(row.try_get::<i64, _>(0)? == 0),
            (Err(error), _) | (_, Err(error)) => {
                turn.discard().await;
                Err(error.into())
            }
        }
    }

    /// Begins a transaction whose commit is not synced: for rows that can be rebuilt from the
    /// journal.
    pub(in crate::store) async fn begin_relaxed(&self) -> Result<FolderTransaction, Error> {
        self.begin(Sync::Normal).await
    }

    /// Begins a transaction.
    pub(in crate::store) async fn begin(&self, sync: Sync) -> Result<FolderTransaction, Error> {
        let mut turn = Arc::clone(&self.inner.writer).lock_owned().await;
        turn.prepared(sync).await?;
        // Set before the statement runs: the caller may be cancelled (its future dropped) before
        // the outcome is known.
        turn.open = true;
        let begun = match &mut turn.connection {
            Some(connection) => connection.execute("BEGIN IMMEDIATE").await.map(drop),
            None => Err(sqlx::Error::PoolClosed),
        };
        if let Err(error) = begun {
            turn.discard().await;
            return Err(error.into());
        }
        Ok(FolderTransaction { turn })
    }
}

/// Creates a new empty file that only its owner may read.
///
/// # Errors
/// The file exists, or cannot be created.
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Whether a constraint refused the statement, so that the connection is still usable.
pub(in crate::store) fn refused_by_constraint(error: &sqlx::Error) -> bool {
    // `SQLITE_CONSTRAINT` is 19, in the low byte of each of its extended codes.
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| code.parse::<i32>().is_ok_and(|extended| extended & 0xff == 19))
}

/// Whether a commit is synced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Sync {
    /// Synced, so that acknowledged writes survive a power cut.
    Full,
    /// Not synced. Rows that a power cut destroys are rebuilt from the journal.
    Normal,
}

/// The write connection, which is opened again after an error.
///
/// One connection does both kinds of writes, durable and relaxed: with two, each commit of one
/// would invalidate the page cache of the other.
pub(in crate::store) struct WriteConnection {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    /// The current setting of `synchronous`; `None` while it is being changed, because the caller
    /// may be cancelled before the outcome is known.
    sync: Option<Sync>,
    /// A transaction was begun by [`Folder::begin`] and not committed.
    open: bool,
    closed: bool,
    /// The end of the journal's chain after the last commit; `None` if it is not known.
    pub(in crate::store) head: Option<Head>,
}

impl WriteConnection {
    pub(in crate::store) fn new(
        options: SqliteConnectOptions,
        connection: SqliteConnection,
    ) -> Self {
        let (connection, sync) = (Some(connection), Some(Sync::Full));
        Self { options, connection, sync, open: false, closed: false, head: None }
    }

    /// The connection, outside of any transaction, and set so that its commits are durable.
    pub(in crate::store) async fn connection(
        &mut self,
    ) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.prepared(Sync::Full).await
    }

    async fn prepared(&mut self, sync: Sync) -> Result<&mut SqliteConnection, sqlx::Error> {
        if self.closed {
            return Err(sqlx::Error::PoolClosed);
        }
        let left = self.connection.as_ref().is_some_and(sqlx::Connection::is_in_transaction);
        if left || self.open {
            self.discard().await;
        }
        if self.connection.is_none() {
            self.connection = Some(self.options.connect().await?);
            self.sync = Some(Sync::Full);
        }
        let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        if self.sync != Some(sync) {
            self.sync = None;
            let text = match sync {
                Sync::Full => "PRAGMA synchronous = FULL",
                Sync::Normal => "PRAGMA synchronous = NORMAL",
            };
            connection.execute(text).await?;
            self.sync = Some(sync);
        }
        Ok(connection)
    }

    /// Closes the connection, which rolls back its transaction.
    pub(in crate::store) async fn discard(&mut self) {
        self.open = false;
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "a connection did not close cleanly");
        }
    }
}

/// A transaction. If it is dropped before its commit, it is rolled back before the next write.
pub(in crate::store) struct FolderTransaction {
    turn: OwnedMutexGuard<WriteConnection>,
}

impl FolderTransaction {
    /// The connection on which the statements of the transaction run.
    pub(in crate::store) fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.turn.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    pub(in crate::store) async fn commit(mut self) -> Result<(), Error> {
        self.connection()?.execute("COMMIT").await?;
        self.turn.open = false;
        Ok(())
    }
}

/// Syncs a folder, so that a renamed file survives a power cut; only on Unix.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::store::{Options, Store};

    #[tokio::test(flavor = "multi_thread")]
    async fn cancelled_write_leaves_no_open_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &Options::default()).await.unwrap();
        let folder = store.folder().unwrap().clone();
        for polls in 0..300 {
            let mut begin = Box::pin(folder.begin_relaxed());
            for _ in 0..polls {
                if (&mut begin).now_or_never().is_some() {
                    break;
                }
                std::thread::yield_now();
            }
            drop(begin);
            let mut turn = folder.lock_writer().await;
            let connection = turn.connection().await.unwrap();
            let level: i64 =
                sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *connection).await.unwrap();
            assert_eq!(level, 2, "after {polls} polls");
            let own = connection.begin_with("BEGIN IMMEDIATE").await;
            own.unwrap().rollback().await.unwrap();
        }
        store.close().await;
    }
}
