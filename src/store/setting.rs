//! Settings that belong to the data, not to the process: a name and a text each.

use super::{Error, Store};

impl Store {
    /// The setting of this name.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn setting(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(sqlx::query_scalar("SELECT value FROM setting WHERE name = $1")
            .bind(name)
            .fetch_optional(self.readers())
            .await?)
    }

    /// Writes a setting over what it was.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn put_setting(&self, name: &str, value: &str) -> Result<(), Error> {
        let query = sqlx::query(
            "INSERT INTO setting (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        );
        self.write(query.bind(name).bind(value)).await?;
        Ok(())
    }
}
