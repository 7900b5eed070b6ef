//! The only query about carts: which of some carts exists. The content of a cart is read from its
//! entity.

use super::both::{Readers, fetch_optional};
use super::{Error, Store};
use crate::domain::id::CartId;

impl Store {
    /// The newest of these carts that exist.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn newest_cart(&self, ids: &[CartId]) -> Result<Option<CartId>, Error> {
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let readers = self.readers();
        let found = match readers {
            Readers::Sqlite(_) => {
                let text = "SELECT entity FROM event WHERE seq = 1 AND entity IN \
                            (SELECT value FROM json_each($1)) ORDER BY entity DESC LIMIT 1";
                let names = serde_json::Value::from(names).to_string();
                fetch_optional!(readers, sqlx::query(text).bind(names.as_str()))
            }
            Readers::Postgres(pool) => {
                let text = "SELECT entity FROM event WHERE seq = 1 AND entity = ANY($1) \
                            ORDER BY entity DESC LIMIT 1";
                pool.fetch_optional(sqlx::query(text).bind(names)).await
            }
        }?;
        let name: Option<String> = found.map(|found| found.try_get(0)).transpose()?;
        Ok(name.and_then(|name| name.parse().ok()))
    }
}
