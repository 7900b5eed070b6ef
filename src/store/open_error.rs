//! Why a store cannot be opened: each error message says what to do.
//!
//! Opening is in `open`, the checks of the files in `startup_checks`.

use std::io;
use std::path::PathBuf;

use super::DatabaseUrl;
use super::schema::SchemaFaults;

/// The name of the database file in a data folder.
pub(super) const DATABASE: &str = "kontor.db";

/// Why a store, in a data folder or in PostgreSQL, could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has locked the data folder.
    #[error(
        "the data folder {} is in use by {}; stop it first, or choose another folder with --data",
        dir.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The id of the process, if it could be read.
        pid: Option<u32>,
    },
    /// The store was written by a newer kontor.
    #[error(
        "the store was written by a newer kontor (its schema is {found}, this version knows {known}); \
         run the newer version, or restore a backup made by this version"
    )]
    Newer {
        /// The newest migration in the store.
        found: i64,
        /// The newest migration that this program has.
        known: i64,
    },
    /// The store was written by an older kontor, and this command must not migrate it.
    #[error(
        "the store was written by an older kontor (its schema is {found}, this version needs {known}); \
         start this version's server on it first, which migrates it, or use the older version"
    )]
    Older {
        /// The newest migration in the store.
        found: i64,
        /// The newest migration that this program has.
        known: i64,
    },
    /// The master key of the store is missing.
    #[error(
        "the personal data of this store are sealed with a master key that is not here: copy the file \
         master.key of the folder that it comes from to {}, or set store.master_key", .0.display()
    )]
    NoMasterKey(PathBuf),
    /// The file with the master key has none.
    #[error(
        "the master key cannot be read from {}: it {rule}; copy the file again from where it is kept",
        path.display()
    )]
    MasterKeyFile {
        /// The file.
        path: PathBuf,
        /// What it must be.
        rule: String,
    },
    /// The setting with the master key is not one.
    #[error("store.master_key {0}")]
    MasterKeySetting(&'static str),
    /// The store has events of a version that kept personal data in clear, or had no chain of digests.
    #[error(
        "the store was written by a version whose journal kept names, addresses and payment tokens in clear, \
         or without digests, and a journal cannot be changed; start a new store, and keep this one only as \
         long as you must"
    )]
    Clear,
    /// There is no store at this path.
    #[error("there is no store in {}; start one with kontor serve --data, or check the path", .0.display())]
    Missing(PathBuf),
    /// The path is not a folder.
    #[error("{} is not a folder; choose another one with --data", .0.display())]
    NotADirectory(PathBuf),
    /// The file is not a store, or is damaged.
    #[error(
        "the store cannot be used: {0}; keep a copy of the folder, and restore a backup into an \
         empty one with kontor restore"
    )]
    Corrupt(String),
    /// The database file has other tables, indexes, triggers or views than a store.
    #[error(
        "{} cannot be restored: {faults}. Copy it, {}, and restore the copy",
        file.display(),
        faults.remedy("COPY")
    )]
    OtherSchema {
        /// The backup.
        file: PathBuf,
        /// What is wrong with it.
        faults: SchemaFaults,
    },
    /// The folder to restore to has something in it.
    #[error(
        "the folder {} is not empty: choose an empty one, or one that does not exist, with --data",
        .0.display()
    )]
    NotEmpty(PathBuf),
    /// The URL of a database is invalid.
    #[error(
        "{address} is not the URL of a store: {why}; it must have the form \
         postgres://user:password@host:5432/database"
    )]
    Address {
        /// The address.
        address: DatabaseUrl,
        /// What is wrong with it.
        why: String,
    },
    /// The database does not answer, or refuses access.
    #[error(
        "cannot use PostgreSQL at {address}: {why}; check that it is running and reachable from here, \
         and that user, password and database are correct"
    )]
    Unreachable {
        /// The database.
        address: DatabaseUrl,
        /// The cause.
        why: String,
    },
    /// There is no store in the database.
    #[error("there is no store in {0}; start one with kontor serve --store, or check the URL")]
    Empty(DatabaseUrl),
    /// The database belongs to another program.
    #[error(
        "the database {0} has tables that are not kontor's; use a separate database for the store: \
         CREATE DATABASE kontor"
    )]
    Foreign(DatabaseUrl),
    /// The database cannot be used as a store.
    #[error("the database {address} cannot be used as a store: {why}")]
    Unfit {
        /// The database.
        address: DatabaseUrl,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The file system failed.
    #[error("{} cannot be opened: {source}; check that it exists, is writable and not full", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}
