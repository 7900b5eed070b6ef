//! The table of locations, and which locations the levels of stock name. Rows are written through
//! `versioned`.

use super::both::fetch_all;
use super::found::FoundRow;
use super::row::{ColumnKind, Stored, Value, from_json, to_json};
use super::{Error, Store};
use crate::domain::address::Address;
use crate::domain::location::StockLocation;
use crate::domain::stock::Location;

/// The maximum number of locations that stock is looked up at.
const NAMED_MAX: i64 = 1_000;

crate::versioned_row! {
    StockLocation in "location", key(id) { id, name, address, for_sale, deleted }
}

impl Stored for Location {
    const KIND: ColumnKind = ColumnKind::Text;

    fn to_value(&self) -> Value<'_> {
        Value::text(self.as_str())
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        let text = String::from_value(value)?;
        text.parse().map_err(|_| format!("{text:?} is not a valid location"))
    }
}

impl Stored for Address {
    const KIND: ColumnKind = ColumnKind::Text;

    fn to_value(&self) -> Value<'_> {
        to_json(self)
    }

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        from_json(&value)
    }
}

impl Store {
    /// All locations that a level of stock names, in order, at most 1,000.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn locations_of_stock(&self) -> Result<Vec<Location>, Error> {
        // One look into the index per location, whatever the number of levels.
        let text = "WITH RECURSIVE named(location) AS (\
                    SELECT min(location) FROM stock_row \
                    UNION ALL SELECT (SELECT min(location) FROM stock_row \
                    WHERE location > named.location) FROM named WHERE named.location IS NOT NULL) \
                    SELECT location FROM named WHERE location IS NOT NULL LIMIT $1";
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(NAMED_MAX))?;
        found.iter().map(location).collect()
    }

    /// Whether a level of stock names a location; with `units`, only a level that has units there,
    /// or incoming ones.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn has_stock_at(&self, location: &Location, units: bool) -> Result<bool, Error> {
        let text = match units {
            true => {
                "SELECT location FROM stock_row WHERE location = $1 \
                 AND (on_hand <> 0 OR incoming <> 0) LIMIT 1"
            }
            false => "SELECT location FROM stock_row WHERE location = $1 LIMIT 1",
        };
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(location.as_str()))?;
        Ok(!found.is_empty())
    }
}

fn location(found: &FoundRow) -> Result<Location, Error> {
    let text: String = found.try_get(0)?;
    let wrong = || Error::Row { table: "stock_row", reason: format!("{text:?} is no location") };
    text.parse().map_err(|_| wrong())
}
