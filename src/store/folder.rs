//! The SQLite side of a store: one file, `kontor.db`, in a data folder. One connection writes: with
//! `synchronous=FULL` the journal and everything that must survive a power cut, with `NORMAL` what
//! can be rebuilt from the journal. Writers wait on a fair mutex of this process, not on SQLite's
//! busy handler, which sleeps. Reads use a pool of their own and see the last commit. `open` opens
//! it; the statements of rows are in their own files.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, Sqlite, SqliteConnection, SqlitePool,
};
use tokio::sync::OwnedMutexGuard;

use super::Error;

/// An open data folder. Clones share its connections.
#[derive(Clone)]
pub(in crate::store) struct Folder {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    readers: SqlitePool,
    writer: Arc<tokio::sync::Mutex<WriteConnection>>,
    lock: Mutex<Option<File>>,
}

impl Folder {
    /// Holds the folder's connections, and its lock until the folder is closed.
    pub(in crate::store) fn new(
        dir: PathBuf,
        readers: SqlitePool,
        writer: WriteConnection,
        lock: Option<File>,
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
        let lock = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(lock) = lock
            // A lock that is only closed would live on in a child process that is being started
            // right now.
            && let Err(error) = lock.unlock()
        {
            tracing::debug!(%error, "cannot unlock the folder; closing the file releases it");
        }
    }

    pub(in crate::store) fn readers(&self) -> &SqlitePool {
        &self.inner.readers
    }

    /// Waits for the write connection.
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

    /// Begins a transaction of rows that can be rebuilt from the journal.
    pub(in crate::store) async fn begin_relaxed(&self) -> Result<FolderTransaction, Error> {
        self.begin(Sync::Normal).await
    }

    /// Begins a transaction.
    pub(in crate::store) async fn begin(&self, sync: Sync) -> Result<FolderTransaction, Error> {
        let mut turn = Arc::clone(&self.inner.writer).lock_owned().await;
        turn.prepared(sync).await?;
        // Set before it begins: the caller may be cancelled before it has begun.
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

/// Whether a constraint refused the statement, so that the connection is still usable.
pub(in crate::store) fn refused_by_constraint(error: &sqlx::Error) -> bool {
    // SQLITE_CONSTRAINT is 19 in the low byte of every extended code.
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| code.parse::<i32>().is_ok_and(|extended| extended & 0xff == 19))
}

/// Whether a commit is synced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Sync {
    /// It is, so acknowledged writes survive a power cut.
    Full,
    /// It is not. What a power cut takes is rebuilt from the journal.
    Normal,
}

/// The write connection, which is opened again after an error.
///
/// There is one for both kinds of writes: with two, each would find its cached pages outdated by
/// the other's commits.
pub(in crate::store) struct WriteConnection {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    /// `None` while it is being changed: the caller may be cancelled before the outcome is known.
    sync: Option<Sync>,
    /// A transaction was begun by [`Folder::begin`] and not committed.
    open: bool,
    closed: bool,
}

impl WriteConnection {
    pub(in crate::store) fn new(
        options: SqliteConnectOptions,
        connection: SqliteConnection,
    ) -> Self {
        let (connection, sync) = (Some(connection), Some(Sync::Full));
        Self { options, connection, sync, open: false, closed: false }
    }

    /// The connection, outside of any transaction; its commits are durable.
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

/// A transaction. If dropped, it is rolled back with its connection.
pub(in crate::store) struct FolderTransaction {
    turn: OwnedMutexGuard<WriteConnection>,
}

impl FolderTransaction {
    /// The connection of its statements.
    pub(in crate::store) fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.turn.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    pub(in crate::store) async fn commit(mut self) -> Result<(), Error> {
        self.connection()?.execute("COMMIT").await?;
        self.turn.open = false;
        Ok(())
    }
}

/// Syncs a folder, where the system can.
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
