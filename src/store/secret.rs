//! Secrets that this store draws for itself and keeps: what signs tokens and cursors.

use super::{Error, Store};

impl Store {
    /// The secret of this name, 32 random bytes, drawn at the first call and the same ever after.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn secret(&self, name: &str) -> Result<[u8; 32], Error> {
        if let Some(secret) = self.read_secret(name).await? {
            return Ok(secret);
        }
        let drawn: [u8; 32] = rand::random();
        let query = sqlx::query(
            "INSERT INTO secret (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        );
        self.write(query.bind(name).bind(drawn.to_vec())).await?;
        // Read again: another call may have been first.
        self.read_secret(name).await?.ok_or_else(|| broken("it is gone"))
    }

    async fn read_secret(&self, name: &str) -> Result<Option<[u8; 32]>, Error> {
        let found: Option<Vec<u8>> = sqlx::query_scalar("SELECT value FROM secret WHERE name = $1")
            .bind(name)
            .fetch_optional(self.readers())
            .await?;
        found.map(|value| value.try_into().map_err(|_| broken("it has not 32 bytes"))).transpose()
    }
}

fn broken(reason: &str) -> Error {
    Error::Row { table: "secret", reason: reason.to_owned() }
}
