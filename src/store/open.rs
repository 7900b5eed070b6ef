//! Opens a data folder: locks it, checks and migrates its database file, and sets every pragma,
//! with its reason.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool};

use super::folder::{BUSY_TIMEOUT, Folder, WriteConnection, create_private, sync_dir};
use super::folder_lock::{FolderLock, lock};
use super::open_error::{DATABASE, OpenError};
use super::personal::master::MASTER_KEY_FILE;
use super::personal::{MasterKeyText, MasterKeys, PersonalKeys, master};
use super::{Options, Store, migrations, startup_checks};

impl Store {
    /// Opens a data folder for serving: creates it if needed, locks it for this process, and
    /// migrates its tables.
    ///
    /// # Errors
    /// [`OpenError`], each with its remedy.
    pub async fn open(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        make_dir(dir)?;
        let lock = lock(dir)?;
        startup_checks::files(dir)?;
        startup_checks::log(dir)?;
        let file = dir.join(DATABASE);
        if !file.exists() {
            make(dir, &file).await?;
        }
        keep_private(dir)?;
        let connect = writer_options(dir);
        let mut connection = connect.connect().await.map_err(|error| opening(&file, error))?;
        startup_checks::kind(&mut connection, &file).await?;
        let found = refuse_newer(&mut connection).await?;
        migrate_from(&mut connection, found).await?;
        startup_checks::end(&mut connection, &file).await?;
        let master = if options.master_key.is_empty() {
            refuse_without_key(&mut connection, dir).await?;
            master::read_or_make(dir).map_err(|source| master_key(dir, source))?
        } else {
            of_settings(dir, &options.master_key)?
        };
        Ok(assemble(dir, options, connection, (Some(lock), Some(master))))
    }

    /// As [`Store::open`], but never creates a store.
    ///
    /// # Errors
    /// [`OpenError::Missing`] where there is none; otherwise as [`Store::open`].
    pub async fn open_existing(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        if dir.join(DATABASE).is_file() {
            Self::open(dir, options).await
        } else {
            Err(OpenError::Missing(dir.to_owned()))
        }
    }

    /// Opens a data folder while a server may run on it, without migrating its tables. The caller
    /// must not append to the journal.
    ///
    /// # Errors
    /// [`OpenError::Missing`] where there is no store; [`OpenError::Older`] where its tables are
    /// not up to date; otherwise as [`Store::open`], but never [`OpenError::InUse`].
    pub async fn open_beside(dir: &Path) -> Result<Self, OpenError> {
        Self::open_beside_with(dir, MasterKeyText::default()).await
    }

    /// As [`Store::open_beside`], with the master key of the settings.
    ///
    /// # Errors
    /// As [`Store::open_beside`].
    pub async fn open_beside_with(
        dir: &Path,
        master_key: MasterKeyText,
    ) -> Result<Self, OpenError> {
        Self::beside(dir, master_key, false).await
    }

    /// Like [`Store::open_beside_with`], but migrates the tables.
    ///
    /// # Errors
    /// As [`Store::open_beside`], but [`OpenError::Older`] only while a server, of an older
    /// version, runs on the folder.
    pub async fn open_beside_up_to_date(
        dir: &Path,
        master_key: MasterKeyText,
    ) -> Result<Self, OpenError> {
        Self::beside(dir, master_key, true).await
    }

    async fn beside(
        dir: &Path,
        setting: MasterKeyText,
        bring_up_to_date: bool,
    ) -> Result<Self, OpenError> {
        if dir.exists() && !dir.is_dir() {
            return Err(OpenError::NotADirectory(dir.to_owned()));
        }
        let file = dir.join(DATABASE);
        if !file.is_file() {
            return Err(OpenError::Missing(dir.to_owned()));
        }
        startup_checks::files(dir)?;
        // The first process to open the file recovers the write-ahead log, so a damaged log is
        // saved before. If the folder is locked, a server has done so.
        if let Ok(_lock) = lock(dir) {
            startup_checks::log(dir)?;
        }
        let mut connection =
            writer_options(dir).connect().await.map_err(|error| opening(&file, error))?;
        startup_checks::kind(&mut connection, &file).await?;
        let found = refuse_newer(&mut connection).await?;
        if found < known() {
            if !bring_up_to_date {
                return Err(OpenError::Older { found, known: known() });
            }
            // Tables are migrated only under the lock: if it is held, a server of an older version
            // is running.
            let _lock = lock(dir).map_err(|error| match error {
                OpenError::InUse { .. } => OpenError::Older { found, known: known() },
                other => other,
            })?;
            migrate_from(&mut connection, found).await?;
        }
        let options = Options { read_connections: 2, ..Options::default() };
        let master = if setting.is_empty() {
            master::read(dir).map_err(|source| master_key(dir, source))?
        } else {
            Some(of_settings(dir, &setting)?)
        };
        Ok(assemble(dir, &options, connection, (None, master)))
    }
}

/// Creates an empty store. Its file has a temporary name until it is complete, so an interrupted
/// start leaves nothing that looks like a store.
async fn make(dir: &Path, file: &Path) -> Result<(), OpenError> {
    let part = dir.join(format!("{DATABASE}.new"));
    for left in ["", "-wal", "-shm", "-journal"] {
        let left = dir.join(format!("{DATABASE}.new{left}"));
        match fs::remove_file(&left) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::Io { path: left, source });
            }
            _ => {}
        }
    }
    create_private(&part).map_err(|source| OpenError::Io { path: part.clone(), source })?;
    let connect = writer_options(dir).filename(&part);
    let mut connection = connect.connect().await.map_err(|error| opening(&part, error))?;
    migrate(&mut connection).await?;
    connection.close().await.map_err(|error| opening(&part, error))?;
    let named = fs::rename(&part, file).and_then(|()| sync_dir(dir));
    named.map_err(|source| OpenError::Io { path: file.to_owned(), source })
}

/// Refuses a store with keys that are sealed with a master key that the folder does not have.
async fn refuse_without_key(
    connection: &mut SqliteConnection,
    dir: &Path,
) -> Result<(), OpenError> {
    if master::path_in(dir).exists() {
        return Ok(());
    }
    let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM (SELECT 1 FROM personal_key LIMIT 1)")
        .fetch_one(connection)
        .await
        .map_err(|error| OpenError::Corrupt(error.to_string()))?;
    if keys == 0 { Ok(()) } else { Err(OpenError::NoMasterKey(master::path_in(dir))) }
}

fn master_key(dir: &Path, source: io::Error) -> OpenError {
    let path = master::path_in(dir);
    match source.kind() {
        io::ErrorKind::Other => OpenError::MasterKeyFile { path, rule: source.to_string() },
        _ => OpenError::Io { path, source },
    }
}

/// The master key of the settings; and the one in the folder, if there is one, so that what it has
/// sealed can be opened.
fn of_settings(dir: &Path, setting: &MasterKeyText) -> Result<MasterKeys, OpenError> {
    let keys = setting.read().map_err(OpenError::MasterKeySetting)?;
    let known = master::read(dir).map_err(|source| master_key(dir, source))?;
    Ok(known.map_or_else(|| keys.clone(), |known| keys.and(&known)))
}

/// The first version whose events hold no personal data in clear, and are a chain.
pub(super) const CHAINED_SINCE: i64 = 22;

/// Migrates a store of the version `found`.
pub(super) async fn migrate_from(
    connection: &mut SqliteConnection,
    found: i64,
) -> Result<(), OpenError> {
    refuse_clear(connection, found).await?;
    migrate(connection).await
}

/// Refuses a store with events of a version that did not seal personal data and chain events.
async fn refuse_clear(connection: &mut SqliteConnection, found: i64) -> Result<(), OpenError> {
    if !(1..CHAINED_SINCE).contains(&found) {
        return Ok(());
    }
    let events: i64 = sqlx::query_scalar("SELECT count(*) FROM (SELECT 1 FROM event LIMIT 1)")
        .fetch_one(connection)
        .await
        .map_err(|error| OpenError::Corrupt(error.to_string()))?;
    if events == 0 { Ok(()) } else { Err(OpenError::Clear) }
}

/// The version of the newest migration that this program has.
fn known() -> i64 {
    migrations::newest(&migrations::SQLITE)
}

fn assemble(
    dir: &Path,
    options: &Options,
    connection: SqliteConnection,
    (lock, master): (Option<FolderLock>, Option<MasterKeys>),
) -> Store {
    let readers = pool(options.read_connections.clamp(1, 64), reader_options(dir));
    let writer = WriteConnection::new(writer_options(dir), connection);
    let folder = Folder::new(dir.to_owned(), readers, writer, lock);
    Store::sqlite(folder, PersonalKeys::new(master, Some(dir.to_owned())))
}

/// A pool of connections to the file. A local connection cannot break, so it does not expire, and
/// is only tested for a transaction that was left open.
fn pool(size: u32, options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(size)
        .acquire_timeout(Duration::from_secs(10))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .before_acquire(|connection, _| {
            let idle = !connection.is_in_transaction();
            Box::pin(async move { Ok(idle) })
        })
        .connect_lazy_with(options)
}

/// The settings of all connections.
fn base(dir: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(dir.join(DATABASE))
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        // No memory mapping: a disk error on a mapped page is a signal that kills the process,
        // while one of a read call fails only one request. The operating system caches the pages
        // either way.
        .pragma("mmap_size", "0")
        .pragma("temp_store", "MEMORY")
        .pragma("trusted_schema", "OFF")
        // sqlx would format the text of every statement for its log, which costs more than writing
        // the rows of a large one.
        .disable_statement_logging()
}

/// The settings of a connection that writes. With `FULL`, the write-ahead log is synced at every
/// commit, so that acknowledged writes survive a power cut.
pub(super) fn writer_options(dir: &Path) -> SqliteConnectOptions {
    base(dir)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // A page cache of 16 MiB: an append is fast if the pages that it writes of the unique index
        // of events are in memory. A larger one slows every commit: after a page was split, SQLite
        // looks through the whole cache for pages beyond the end of the file.
        .pragma("cache_size", "-16384")
        // A checkpoint costs two syncs and blocks all writers. At every 4,000 pages (16 MiB), it is
        // four times rarer than by default, and recovery of a log of that size after a crash is
        // still fast.
        .pragma("wal_autocheckpoint", "4000")
        // What is deleted is overwritten: destroyed keys, and filters with addresses.
        .pragma("secure_delete", "ON")
        // A log that grew during a long read is truncated to this many bytes.
        .pragma("journal_size_limit", "67108864")
        // Enough for every statement of the journal and the projections.
        .statement_cache_capacity(256)
}

fn reader_options(dir: &Path) -> SqliteConnectOptions {
    base(dir).pragma("cache_size", "-8192").pragma("query_only", "ON").row_buffer_size(256)
}

/// Creates the folder, accessible to its owner only: it will contain secrets and personal data.
pub(super) fn make_dir(dir: &Path) -> Result<(), OpenError> {
    if dir.is_dir() {
        return Ok(());
    }
    if dir.exists() {
        return Err(OpenError::NotADirectory(dir.to_owned()));
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}

/// Makes the store's files readable to their owner only, whatever the folder's mode and the umask
/// are. SQLite gives its log the mode of the database file.
fn keep_private(dir: &Path) -> Result<(), OpenError> {
    #[cfg(unix)]
    for entry in
        fs::read_dir(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?
    {
        let path = entry.map_err(|source| OpenError::Io { path: dir.to_owned(), source })?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let own = |name: &str| name.starts_with("kontor.") || name.starts_with(MASTER_KEY_FILE);
        if name.is_some_and(own) {
            match make_private(&path) {
                // Another process closes the store at this moment, and SQLite deletes its log.
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                made => made.map_err(|source| OpenError::Io { path, source })?,
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let found = fs::metadata(path)?;
    if found.is_file() && found.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Returns the version of the file's newest migration, 0 for an empty file; refuses a file with a
/// newer one than this program has.
pub(super) async fn refuse_newer(connection: &mut SqliteConnection) -> Result<i64, OpenError> {
    let table: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(|error| OpenError::Corrupt(error.to_string()))?;
    if table == 0 {
        return Ok(0);
    }
    let found: i64 = sqlx::query_scalar("SELECT ifnull(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map_err(|error| OpenError::Corrupt(error.to_string()))?;
    let known = known();
    if found > known { Err(OpenError::Newer { found, known }) } else { Ok(found) }
}

pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    migrations::SQLITE.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::Execute(error) => OpenError::Corrupt(error.to_string()),
        MigrateError::VersionMissing(found) => OpenError::Newer { found, known: known() },
        other => OpenError::Corrupt(other.to_string()),
    })
}

/// The [`OpenError`] for an error of SQLite while the file is opened.
fn opening(file: &Path, error: sqlx::Error) -> OpenError {
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() {
        // SQLITE_CORRUPT, SQLITE_NOTADB
        Some("11" | "26") => startup_checks::damaged(file, error),
        _ => OpenError::Io { path: file.to_owned(), source: io::Error::other(error) },
    }
}
