//! Opens the store that a command works on: in a data folder, or in PostgreSQL.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Error;
use super::serve::SettingArgs;
use kontor::config::{self, Config};
use kontor::store::personal::{MasterKeyText, master};
use kontor::store::{DatabaseUrl, Options, Store};

/// The message of `kontor backup` for a store in PostgreSQL.
pub const PG_DUMP: &str = "back up a store in PostgreSQL with PostgreSQL's own tools: \
    pg_dump --format=custom --file kontor.dump URL; restore it into an empty database with \
    pg_restore --dbname URL kontor.dump, then kontor verify --store URL";

/// The flags that name the store of a command. Without them it is the one of the configuration: of
/// a server that is started here without flags.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StoreArgs {
    /// The data folder; without this and --store, the store of the configuration
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The PostgreSQL database of the store, instead of a data folder
    #[arg(long, value_name = "URL")]
    store: Option<DatabaseUrl>,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// In a data folder.
    Folder(PathBuf),
    /// In PostgreSQL.
    Database(DatabaseUrl),
}

impl StoreArgs {
    /// The place that the flags name, or the configuration.
    ///
    /// # Errors
    /// [`config::Error`]: there are no flags, and the configuration cannot be read.
    pub fn place(&self) -> Result<StorePlace, config::Error> {
        Ok(match (&self.store, &self.data) {
            (Some(url), _) if !url.is_empty() => StorePlace::Database(url.clone()),
            (_, Some(dir)) => StorePlace::Folder(dir.clone()),
            _ => StorePlace::of(&configuration()?),
        })
    }
}

impl StorePlace {
    /// The place of a server's store.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        match config.store.url.is_empty() {
            true => Self::Folder(config.data.dir.clone()),
            false => Self::Database(config.store.url.clone()),
        }
    }

    /// The flag that names it, with its value.
    #[must_use]
    pub fn flag(&self) -> String {
        match self {
            Self::Folder(dir) => format!("--data {}", dir.display()),
            Self::Database(url) => format!("--store {url}"),
        }
    }

    /// The master key of the settings. A folder that has its own can be opened whatever they are.
    ///
    /// # Errors
    /// As [`master_key`].
    pub fn master_key(&self) -> Result<MasterKeyText, config::Error> {
        match self {
            Self::Folder(dir) if master::path_in(dir).is_file() => {
                Ok(master_key().unwrap_or_default())
            }
            _ => master_key(),
        }
    }

    /// The options of a store that a command opens alone, or creates.
    ///
    /// # Errors
    /// As [`StorePlace::master_key`].
    pub fn options(&self) -> Result<Options, config::Error> {
        Ok(Options { master_key: self.master_key()?, ..Options::default() })
    }

    /// Opens a store that servers may be using, without migrating its tables.
    ///
    /// # Errors
    /// [`Error`]: it cannot be opened, or the master key of the settings is not valid.
    pub async fn open(&self) -> Result<Store, Error> {
        let master_key = self.master_key()?;
        Ok(match self {
            Self::Database(url) => Store::connect_beside_with(url, master_key).await?,
            Self::Folder(dir) => Store::open_beside_with(dir, master_key).await?,
        })
    }

    /// Opens a store that servers may be using, and migrates its tables.
    ///
    /// # Errors
    /// As [`StorePlace::open`].
    pub async fn open_and_migrate(&self) -> Result<Store, Error> {
        let options = self.options()?;
        Ok(match self {
            Self::Database(url) => Store::connect(url, &options).await?,
            Self::Folder(dir) => Store::open_beside_up_to_date(dir, options.master_key).await?,
        })
    }
}

impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(dir) => write!(f, "{}", dir.display()),
            Self::Database(url) => write!(f, "{url}"),
        }
    }
}

/// The data folder that a flag names, or the configuration.
///
/// # Errors
/// [`config::Error`]: there is no flag, and the configuration cannot be read.
pub fn folder(flag: Option<&Path>) -> Result<PathBuf, config::Error> {
    flag.map_or_else(|| Ok(configuration()?.data.dir), |dir| Ok(dir.to_owned()))
}

/// The master key of the settings: flags name only the store.
///
/// # Errors
/// [`config::Error`]: the settings cannot be read, or it is not a key. What else is invalid does not
/// matter to a store that flags name.
pub(super) fn master_key() -> Result<MasterKeyText, config::Error> {
    let loaded = SettingArgs::default().load()?;
    let mut faults = loaded.faults();
    faults.retain(|fault| fault.path == "store.master_key");
    if faults.is_empty() {
        Ok(loaded.config.store.master_key)
    } else {
        Err(config::Error::Faults(faults))
    }
}

fn configuration() -> Result<Config, config::Error> {
    SettingArgs::default().load()?.checked()
}
