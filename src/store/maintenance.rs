//! Maintenance of a store: backup and restore of a data folder, checks and sizes. A database in
//! PostgreSQL is backed up with its own tools. The content of rows is checked by `verify`.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::folder::{create_private, sync_dir};
use super::open_error::DATABASE;
use super::personal::StoredKey;
pub use super::sizes::{Check, Sizes};
use super::{
    Backend, Error, OpenError, Store, folder_lock, history, open, postgres, schema_check,
    startup_checks,
};
use crate::domain::time::Timestamp;

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

    /// Empties the write-ahead log of a data folder; `false` if a read still needs it.
    pub(super) async fn truncate_log(&self) -> Result<bool, Error> {
        match &self.backend {
            Backend::Sqlite(folder) => folder.truncate_log().await,
            Backend::Postgres(_) => Ok(true),
        }
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

/// What a restore did, besides copying.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The number of sessions, sign-in links and tickets that ended.
    pub ended: u64,
    /// The ids of the API keys that were revoked.
    pub revoked: Vec<String>,
    /// The ids that were to be revoked and are of no key in the backup.
    pub unknown: Vec<String>,
    /// The ids and names of the API keys that are valid.
    pub keys: Vec<(String, String)>,
}

/// The secret of the keyed hashes in a backup, which tells whether a master key is the one of its store;
/// `None` if it has none, or is no backup.
pub async fn sealed_secret(backup: &Path) -> Option<StoredKey> {
    let options = SqliteConnectOptions::new().filename(backup).read_only(true).immutable(true);
    let mut connection = options.connect().await.ok()?;
    let text = "SELECT id, entity, wrapped FROM personal_key WHERE id = 'lookups'";
    let found = sqlx::query_as(text).fetch_optional(&mut connection).await;
    let (id, entity, wrapped): (String, String, String) = found.ok().flatten()?;
    Some(StoredKey { id, entity, subject: None, wrapped })
}

/// Checks a backup, and restores it to a data folder that is empty or does not exist. Its tables are
/// migrated. All sessions, sign-in links and tickets end, and the API keys with the ids in `revoked`
/// are revoked at the time `now`.
///
/// # Errors
/// [`OpenError::Missing`] if there is no such file, [`OpenError::Corrupt`] if it is no intact
/// store, [`OpenError::OtherSchema`] if it has other tables, indexes, triggers or views than a store,
/// [`OpenError::Newer`] if this version cannot read it, [`OpenError::Clear`] if it is older than the
/// first that can be migrated, [`OpenError::NotEmpty`] if the folder is not empty. A folder that was
/// made is removed again.
pub async fn restore(
    backup: &Path,
    dir: &Path,
    revoked: &[String],
    now: Timestamp,
) -> Result<Restored, OpenError> {
    if !backup.is_file() {
        return Err(OpenError::Missing(backup.to_owned()));
    }
    check_backup(backup).await?;
    let made = !dir.exists();
    open::make_dir(dir)?;
    let restored = restore_into(backup, dir, revoked, now).await;
    if restored.is_err() && made {
        // Only what is empty: what somebody else has put there stays.
        let unlocked = fs::remove_file(dir.join(folder_lock::LOCK));
        if let Err(error) = unlocked.and_then(|()| fs::remove_dir(dir)) {
            tracing::debug!(%error, "cannot remove the folder that was made");
        }
    }
    restored
}

/// Restores a checked backup to a folder, which must be empty.
async fn restore_into(
    backup: &Path,
    dir: &Path,
    revoked: &[String],
    now: Timestamp,
) -> Result<Restored, OpenError> {
    let _lock = folder_lock::lock(dir)?;
    let io = |path: PathBuf| move |source| OpenError::Io { path, source };
    for entry in fs::read_dir(dir).map_err(io(dir.to_owned()))? {
        let entry = entry.map_err(io(dir.to_owned()))?;
        if entry.file_name() != folder_lock::LOCK {
            return Err(OpenError::NotEmpty(dir.to_owned()));
        }
    }
    // Under a temporary name until it is complete: a partially restored folder does not count as a
    // store.
    let part = dir.join("kontor.db.part");
    let copy = || -> io::Result<()> {
        // Not `fs::copy`, which gives the copy the mode of the backup.
        io::copy(&mut fs::File::open(backup)?, &mut create_private(&part)?).map(drop)
    };
    copy().map_err(io(part.clone()))?;
    let restored = match renew(&part, backup, (revoked, now)).await {
        Ok(restored) => restored,
        Err(error) => {
            fs::remove_file(&part).map_err(io(part))?;
            return Err(error);
        }
    };
    let name = || -> io::Result<()> {
        sync(&part)?;
        fs::rename(&part, dir.join(DATABASE))?;
        sync_dir(dir)
    };
    name().map_err(io(part.clone()))?;
    Ok(restored)
}

/// Migrates a restored file, checks its schema, and ends what must not go on: its history, because
/// tokens from after the backup mean other events now, and all sessions, sign-in links and tickets,
/// because those that ended after the backup would be valid again.
async fn renew(
    file: &Path,
    backup: &Path,
    (revoked, now): (&[String], Timestamp),
) -> Result<Restored, OpenError> {
    let corrupt = |error: sqlx::Error| OpenError::Corrupt(error.to_string());
    // No other file belongs to the database then, so that it can be renamed.
    let options =
        SqliteConnectOptions::new().filename(file).journal_mode(SqliteJournalMode::Memory);
    let mut connection = options.connect().await.map_err(corrupt)?;
    let found = open::refuse_newer(&mut connection).await?;
    open::migrate_from(&mut connection, found).await?;
    let faults = schema_check::faults(&mut connection).await?;
    if !faults.is_empty() {
        return Err(OpenError::OtherSchema { file: backup.to_owned(), faults });
    }
    let mut restored = Restored::default();
    sqlx::query(history::END).execute(&mut connection).await.map_err(corrupt)?;
    for text in ["DELETE FROM session", "DELETE FROM sign_in_link", "DELETE FROM live_ticket"] {
        let ended = sqlx::query(text).execute(&mut connection).await.map_err(corrupt)?;
        restored.ended += ended.rows_affected();
    }
    for id in revoked {
        let text = "UPDATE api_key SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        let query = sqlx::query(text).bind(id.clone()).bind(now.millis());
        if query.execute(&mut connection).await.map_err(corrupt)?.rows_affected() > 0 {
            restored.revoked.push(id.clone());
            continue;
        }
        let there = sqlx::query("SELECT 1 FROM api_key WHERE id = $1").bind(id.clone());
        if there.fetch_optional(&mut connection).await.map_err(corrupt)?.is_none() {
            restored.unknown.push(id.clone());
        }
    }
    let valid = "SELECT id, name FROM api_key WHERE revoked_at IS NULL ORDER BY created_at, id";
    restored.keys = sqlx::query_as(valid).fetch_all(&mut connection).await.map_err(corrupt)?;
    connection.close().await.map_err(corrupt)?;
    Ok(restored)
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
