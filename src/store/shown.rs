//! Which version of a thing its rows show, for those who want to read what they have written. It
//! is asked where lists are read, which may be a moment behind where rows are written.

use super::both::fetch_optional;
use super::{Error, Store};
use crate::domain::entity::{EntityId, Noun as _};
use crate::domain::order::Order;
use crate::domain::product;
use crate::domain::stock::Stock;

impl Store {
    /// The version that the rows of an order, of stock or of a product show, 0 while there are
    /// none; nothing for what no list shows.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn shown(&self, entity: &EntityId) -> Result<Option<i64>, Error> {
        let (text, key) = match entity.prefix() {
            Order::PREFIX => ("SELECT max(version) FROM order_row WHERE id = $1", entity.as_str()),
            Stock::PREFIX => ("SELECT max(version) FROM stock_row WHERE sku = $1", entity.key()),
            product::PREFIX => ("SELECT max(version) FROM product WHERE sku = $1", entity.key()),
            _ => return Ok(None),
        };
        let found = fetch_optional!(self.lists(), sqlx::query(text).bind(key))?;
        let shown: Option<i64> = found.map_or(Ok(None), |found| found.try_get(0))?;
        Ok(Some(shown.unwrap_or(0)))
    }
}
