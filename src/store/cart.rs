//! Carts as far as the store is asked about them: whether one is there. What is in a cart, its
//! actor knows.

use super::{Error, Store};
use crate::domain::id::CartId;

impl Store {
    /// The newest of these carts that was ever made.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn newest_cart(&self, ids: &[CartId]) -> Result<Option<CartId>, Error> {
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let found: Option<String> = sqlx::query_scalar(
            "SELECT entity FROM event WHERE seq = 1 \
             AND entity IN (SELECT value FROM json_each($1)) ORDER BY entity DESC LIMIT 1",
        )
        .bind(serde_json::Value::from(names).to_string())
        .fetch_optional(self.readers())
        .await?;
        Ok(found.and_then(|name| name.parse().ok()))
    }
}
