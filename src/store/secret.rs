//! Secrets that a store generates for itself, such as the keys that sign tokens and page cursors.

use super::both::{change, fetch_optional};
use super::{Error, Store};

impl Store {
    /// The secret with this name, 32 random bytes, generated at the first call and never changed.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn secret(&self, name: &str) -> Result<[u8; 32], Error> {
        if let Some(secret) = self.read_secret(name).await? {
            return Ok(secret);
        }
        let drawn: [u8; 32] = rand::random();
        let text = "INSERT INTO secret (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        change!(self, sqlx::query(text).bind(name).bind(drawn.to_vec()))?;
        // Read again: another call may have been first.
        self.read_secret(name).await?.ok_or_else(|| broken("it is gone"))
    }

    async fn read_secret(&self, name: &str) -> Result<Option<[u8; 32]>, Error> {
        let text = "SELECT value FROM secret WHERE name = $1";
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(name))?;
        let Some(found) = found else { return Ok(None) };
        let value: Vec<u8> = found.try_get(0)?;
        value.try_into().map(Some).map_err(|_| broken("it has not 32 bytes"))
    }
}

fn broken(reason: &str) -> Error {
    Error::Row { table: "secret", reason: reason.to_owned() }
}
