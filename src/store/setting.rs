//! Named text values that belong to the store, such as the time of the last backup. They are
//! neither the configuration nor the settings that change at run time.

use super::both::{change, fetch_optional};
use super::{Error, Store};

impl Store {
    /// The value with this name, if there is one.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn setting(&self, name: &str) -> Result<Option<String>, Error> {
        let text = "SELECT value FROM setting WHERE name = $1";
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(name))?;
        Ok(found.map(|found| found.try_get(0)).transpose()?)
    }

    /// Writes the value with this name.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn put_setting(&self, name: &str, value: &str) -> Result<(), Error> {
        let text = "INSERT INTO setting (name, value) VALUES ($1, $2) \
                    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        change!(self, sqlx::query(text).bind(name).bind(value))?;
        Ok(())
    }
}
