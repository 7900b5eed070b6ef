//! Opens the store that a command works on: in a data folder, or in PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::serve::SettingArgs;
use kontor::store::{DatabaseUrl, OpenError, Options, Store};

/// The message of `kontor backup` for a store in PostgreSQL.
pub const PG_DUMP: &str = "back up a store in PostgreSQL with PostgreSQL's own tools: \
    pg_dump --format=custom --file kontor.dump URL; restore it into an empty database with \
    pg_restore --dbname URL kontor.dump, then kontor verify --store URL";

/// The data folder of a server that is started here without flags: what config.toml and the environment
/// say, or `data`. If they cannot be read, the server says why.
#[must_use]
pub fn configured_data() -> PathBuf {
    // Each command that has the flag asks for its default, whichever of them is run.
    static DIR: LazyLock<PathBuf> = LazyLock::new(|| match SettingArgs::default().load() {
        Ok(loaded) => loaded.config.data.dir,
        Err(_) => PathBuf::from("data"),
    });
    DIR.clone()
}

/// The URL of the database, if the store is in PostgreSQL; an empty URL counts as none.
#[must_use]
pub fn database(store: Option<&DatabaseUrl>) -> Option<&DatabaseUrl> {
    store.filter(|address| !address.is_empty())
}

/// Opens a store that servers may be using, without migrating its tables.
///
/// # Errors
/// [`OpenError`].
pub async fn open(data: &Path, store: Option<&DatabaseUrl>) -> Result<Store, OpenError> {
    match database(store) {
        Some(address) => Store::connect_beside(address).await,
        None => Store::open_beside(data).await,
    }
}

/// Opens a store that servers may be using, and migrates its tables.
///
/// # Errors
/// [`OpenError`].
pub async fn open_and_migrate(
    data: &Path,
    store: Option<&DatabaseUrl>,
) -> Result<Store, OpenError> {
    match database(store) {
        Some(address) => Store::connect(address, &Options::default()).await,
        None => Store::open_beside_up_to_date(data).await,
    }
}
