//! Maintenance of a store: backup and restore of a data folder, checks and sizes. A database in
//! PostgreSQL is backed up with its own tools. The content of rows is checked by `verify`.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::folder::{create_private, sync_dir};
use super::open_error::DATABASE;
pub use super::sizes::{Check, Sizes};
use super::{Backend, Error, OpenError, Store, history, open, postgres, startup_checks};

impl Store {
    /// Writes a copy of the whole store, as of one moment, to a new file; a server may run
    /// meanwhile. The copy contains all secrets of the store; on Unix only its owner may read it.
    /// Returns its size in bytes.
    ///
    /// # Errors
    /// [`Error::Refused`] if the file exists; after an error no file is left behind.
    pub async fn backup(&self, to: &Path) -> Result<u64, Error> {
        self.folder()?;
        let Some(name) = to.to_str() else {
            return Err(Error::Refused("the path of a backup must be valid UTF-8".to_owned()));
        };
        create_private(to)?;
        let copied = self.copy_into(name).await;
        let settled = copied.and_then(|()| Ok(sync(to)?));
        if settled.is_err()
            && let Err(error) = fs::remove_file(to)
        {
            tracing::warn!(%error, "cannot remove an unfinished backup");
        }
        settled
    }

    /// Copies the store into an existing empty file, which SQLite treats as a new database. The
    /// caller has created the file with the right permissions.
    async fn copy_into(&self, name: &str) -> Result<(), Error> {
        let mut connection = open::writer_options(self.folder()?.dir()).connect().await?;
        let outcome = sqlx::query("VACUUM INTO $1").bind(name).execute(&mut connection).await;
        connection.close().await?;
        outcome?;
        Ok(())
    }

    /// Checks the integrity of the store; returns the faults, none if it is intact.
    ///
    /// # Errors
    /// [`Error`] of the store, if it cannot be read at all.
    pub async fn check(&self, check: Check) -> Result<Vec<String>, Error> {
        match &self.backend {
            Backend::Sqlite(folder) => {
                let mut connection = folder.readers().acquire().await?;
                Ok(run_check(&mut connection, check).await?)
            }
            Backend::Postgres(database) => postgres::check(database, check).await,
        }
    }

    /// The size of the store.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn sizes(&self) -> Result<Sizes, Error> {
        let folder = match &self.backend {
            Backend::Sqlite(folder) => folder,
            Backend::Postgres(database) => return postgres::sizes(database).await,
        };
        let (free_pages, page_bytes, events): (i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT freelist_count FROM pragma_freelist_count), \
             (SELECT page_size FROM pragma_page_size), (SELECT ifnull(sum(last_pos), 0) FROM shard)",
        )
        .fetch_one(folder.readers())
        .await?;
        let bytes = |name: &str| fs::metadata(folder.dir().join(name)).map_or(0, |file| file.len());
        Ok(Sizes {
            database_bytes: bytes(DATABASE),
            log_bytes: bytes(&format!("{DATABASE}-wal")),
            free_bytes: u64::try_from(free_pages.saturating_mul(page_bytes)).unwrap_or(0),
            events,
        })
    }
}

/// Checks a backup, and restores it to a data folder that is empty or does not exist.
///
/// # Errors
/// [`OpenError::Missing`] if there is no such file, [`OpenError::Corrupt`] if it is no intact
/// store, [`OpenError::Newer`] if this version cannot read it, [`OpenError::Io`] if the folder is
/// not empty.
pub async fn restore(backup: &Path, dir: &Path) -> Result<(), OpenError> {
    if !backup.is_file() {
        return Err(OpenError::Missing(backup.to_owned()));
    }
    check_backup(backup).await?;
    open::make_dir(dir)?;
    let _lock = open::HeldLock(open::lock(dir)?);
    let io = |path: PathBuf| move |source| OpenError::Io { path, source };
    for entry in fs::read_dir(dir).map_err(io(dir.to_owned()))? {
        let entry = entry.map_err(io(dir.to_owned()))?;
        if entry.file_name() != open::LOCK {
            let source = io::Error::other("the folder is not empty");
            return Err(OpenError::Io { path: dir.to_owned(), source });
        }
    }
    // Under a temporary name until it is complete: a partially restored folder does not count as a
    // store.
    let part = dir.join("kontor.db.part");
    let copy = || -> io::Result<()> {
        create_private(&part)?;
        fs::copy(backup, &part)?;
        Ok(())
    };
    copy().map_err(io(part.clone()))?;
    let ended = end_history(&part).await.map_err(io::Error::other);
    ended.map_err(io(part.clone()))?;
    let name = || -> io::Result<()> {
        sync(&part)?;
        fs::rename(&part, dir.join(DATABASE))?;
        sync_dir(dir)
    };
    name().map_err(io(part.clone()))
}

/// Ends the history of a restored file: tokens from after the backup mean other events now.
async fn end_history(file: &Path) -> Result<(), sqlx::Error> {
    // No other file belongs to the database then, so that it can be renamed.
    let options =
        SqliteConnectOptions::new().filename(file).journal_mode(SqliteJournalMode::Memory);
    let mut connection = options.connect().await?;
    sqlx::query(history::END).execute(&mut connection).await?;
    connection.close().await
}

/// Refuses a file that is not an intact store of a known version.
async fn check_backup(backup: &Path) -> Result<(), OpenError> {
    let corrupt = |error: sqlx::Error| OpenError::Corrupt(error.to_string());
    // Immutable, so that SQLite creates no files next to the backup.
    let options = SqliteConnectOptions::new().filename(backup).read_only(true).immutable(true);
    let mut connection = options.connect().await.map_err(corrupt)?;
    startup_checks::kind(&mut connection, backup).await?;
    open::refuse_newer(&mut connection).await?;
    let faults = run_check(&mut connection, Check::Full).await.map_err(corrupt)?;
    connection.close().await.map_err(corrupt)?;
    match faults.first() {
        None => Ok(()),
        Some(fault) => Err(OpenError::Corrupt(fault.clone())),
    }
}

async fn run_check(
    connection: &mut SqliteConnection,
    check: Check,
) -> Result<Vec<String>, sqlx::Error> {
    let text = match check {
        Check::Quick => "PRAGMA quick_check(100)",
        Check::Full => "PRAGMA integrity_check(100)",
    };
    let mut faults: Vec<String> = sqlx::query_scalar(text).fetch_all(connection).await?;
    faults.retain(|fault| fault != "ok");
    Ok(faults)
}

/// Syncs a file; returns its size in bytes.
fn sync(path: &Path) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}
