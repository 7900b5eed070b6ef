//! The version of an entity up to which its projected rows are current, for clients that want to
//! read their own writes. It is read from the database that also answers lists (a replica, if
//! there is one), so that a client waits until its write has arrived there.

use sqlx::AssertSqlSafe;

use super::both::fetch_optional;
use super::row::{Table, VERSION};
use super::{Error, Store};

impl Store {
    /// The highest version among the rows of a table whose first column equals `first`, 0 if there
    /// are none.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn row_version(&self, table: &'static Table, first: &str) -> Result<i64, Error> {
        let (name, version, column) = (table.name(), VERSION.name, table.columns()[0].name);
        let text = format!("SELECT max({version}) FROM {name} WHERE {column} = $1");
        let found =
            fetch_optional!(self.lists(), sqlx::query(AssertSqlSafe(text.as_str())).bind(first))?;
        let shown: Option<i64> = found.map_or(Ok(None), |found| found.try_get(0))?;
        Ok(shown.unwrap_or(0))
    }
}
