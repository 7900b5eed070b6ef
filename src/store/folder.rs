//! The SQLite side of a store: one file, `kontor.db`, in one data folder. One connection writes it:
//! with `synchronous=FULL` the journal and what must survive a power cut, with `NORMAL` what can be
//! made again from the journal. Writers wait for their turn on a mutex of this process, which is
//! fair, and not on SQLite's busy handler, which sleeps. Reads go to a pool of their own and see the
//! last commit. Opening it is in `open`; its rows' statements are in their own files.

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

/// An open data folder. Clones are handles on the same one.
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
    /// The folder, its connections, and its lock for as long as it is open.
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

    /// Closes all connections and lets go of the folder. What is being written is finished first.
    pub(in crate::store) async fn close(&self) {
        let mut writer = self.inner.writer.lock().await;
        self.inner.readers.close().await;
        writer.discard().await;
        writer.closed = true;
        let lock = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(lock) = lock
            // Closed only, it would go on in a process that is being started just now.
            && let Err(error) = lock.unlock()
        {
            tracing::debug!(%error, "cannot unlock the folder; closing the file releases it");
        }
    }

    pub(in crate::store) fn readers(&self) -> &SqlitePool {
        &self.inner.readers
    }

    /// Waits for this writer's turn.
    pub(in crate::store) async fn durable(&self) -> OwnedMutexGuard<WriteConnection> {
        Arc::clone(&self.inner.writer).lock_owned().await
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
    pub(in crate::store) async fn begin_relaxed(&self) -> Result<FolderTransaction, Error> {
        self.begin(Sync::Normal).await
    }

    /// Begins a transaction.
    pub(in crate::store) async fn begin(&self, sync: Sync) -> Result<FolderTransaction, Error> {
        let mut turn = Arc::clone(&self.inner.writer).lock_owned().await;
        turn.prepared(sync).await?;
        // Before it is: whoever asks may be gone by the time that it has begun.
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

/// Whether the statement was refused for what it says, so that the connection is still good.
pub(in crate::store) fn refused_by_constraint(error: &sqlx::Error) -> bool {
    // SQLITE_CONSTRAINT is 19 in the low byte of every extended code.
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| code.parse::<i32>().is_ok_and(|extended| extended & 0xff == 19))
}

/// Whether a commit is synced before it is believed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Sync {
    /// It is, so that what is acknowledged survives a power cut.
    Full,
    /// It is not. What a power cut takes is made again from the journal.
    Normal,
}

/// The connection that writes, opened again after it broke.
///
/// There is one for both kinds of writing: with two, each would find its pages outdated by the
/// other's commits and read them again.
pub(in crate::store) struct WriteConnection {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    /// `None` while it is being changed: whoever asks may be gone before it is known.
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

    /// Closes the connection, and with it whatever transaction it is in.
    pub(in crate::store) async fn discard(&mut self) {
        self.open = false;
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "a connection did not close cleanly");
        }
    }
}

/// A transaction. Dropped, it is rolled back with its connection.
pub(in crate::store) struct FolderTransaction {
    turn: OwnedMutexGuard<WriteConnection>,
}

impl FolderTransaction {
    /// Where its statements run.
    pub(in crate::store) fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.turn.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    pub(in crate::store) async fn commit(mut self) -> Result<(), Error> {
        self.connection()?.execute("COMMIT").await?;
        self.turn.open = false;
        Ok(())
    }
}

/// Waits until a folder's names are on the disk, where the system can.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::store::{Options, Store};

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_gives_up_half_way_leaves_nothing_to_the_next() {
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
            let mut turn = folder.durable().await;
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
