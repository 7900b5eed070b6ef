//! Rows of stock levels, one per SKU and location: a projection. Decisions about stock are made by
//! the SKU's stock entity, never from these rows.

use super::both::{Builder, Dialect, Readers, fetch_all};
use super::found::FoundRow;
use super::row::TableRow as _;
use super::{Error, LIST_MAX, Store, projection};
use crate::domain::id::Sku;
use crate::domain::time::Timestamp;

crate::table_row! {
    /// The row of a SKU's level at a location, in units.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Row in "stock_row", key(sku, location) {
        /// The SKU.
        pub sku: Sku,
        /// The location.
        pub location: String,
        /// Units on hand.
        pub on_hand: i64,
        /// Units reserved for orders that are being placed.
        pub reserved: i64,
        /// Units allocated to orders.
        pub allocated: i64,
        /// Units that are announced and not received yet.
        pub incoming: i64,
        /// Units that were sold.
        pub sold: i64,
        /// When the level last changed.
        pub updated_at: Timestamp,
        /// The seq of the last event of the SKU's stock entity in this row.
        pub version: i64,
    }
}

/// The filter of a list of levels, in order of SKU and location.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this SKU.
    pub sku: Option<Sku>,
    /// Only SKUs with this prefix.
    pub prefix: Option<String>,
    /// Only levels with reserved units.
    pub held: bool,
    /// Only at this location.
    pub location: Option<String>,
    /// Only levels with at most this many units available to sell.
    pub sellable_max: Option<i64>,
    /// Only levels after this SKU and location, which are the last of the previous page.
    pub after: Option<(Sku, String)>,
    /// At most this many levels, up to [`LIST_MAX`].
    pub limit: u32,
}

impl Store {
    /// The levels of a SKU at all its locations, at most [`LIST_MAX`].
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn stock(&self, sku: &Sku) -> Result<Vec<Row>, Error> {
        let filter = Filter { sku: Some(sku.clone()), limit: LIST_MAX, ..Filter::default() };
        list(self.readers(), &filter).await
    }

    /// The units at each location of these SKUs that are neither reserved nor allocated.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn free_units(&self, skus: &[Sku]) -> Result<Vec<FreeUnits>, Error> {
        let names: Vec<&str> = skus.iter().map(Sku::as_str).collect();
        let readers = self.lists();
        let found = match readers {
            Readers::Sqlite(_) => {
                let text = "SELECT sku, location, on_hand - reserved - allocated FROM stock_row \
                            WHERE sku IN (SELECT value FROM json_each($1))";
                let names = serde_json::Value::from(names).to_string();
                fetch_all!(readers, sqlx::query(text).bind(names.as_str()))
            }
            Readers::Postgres(pool) => {
                let text = "SELECT sku, location, on_hand - reserved - allocated FROM stock_row \
                            WHERE sku = ANY($1)";
                pool.fetch_all(sqlx::query(text).bind(names)).await
            }
        }?;
        found.iter().map(free_units).collect()
    }

    /// Levels in order of SKU and location.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn stock_levels(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        list(self.lists(), filter).await
    }

    /// Levels as [`Store::stock_levels`] lists them, with the cursors of their projection in each
    /// shard, both from one snapshot.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn stock_levels_at(
        &self,
        filter: &Filter,
        projection: &str,
    ) -> Result<(Vec<Row>, Vec<(u16, i64)>), Error> {
        let from = self.readers();
        let list = select(filter, from.dialect());
        let (found, cursors) = projection::list_at(from, list, projection).await?;
        Ok((found.iter().map(Row::decode).collect::<Result<_, _>>()?, cursors))
    }
}

/// Units of a SKU at a location that are neither reserved nor allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeUnits {
    /// The SKU.
    pub sku: Sku,
    /// The location.
    pub location: String,
    /// Units.
    pub free: i64,
}

fn free_units(found: &FoundRow) -> Result<FreeUnits, Error> {
    let sku: String = found.try_get(0)?;
    let wrong = || Error::Row { table: "stock_row", reason: format!("{sku:?} is no SKU") };
    let (location, free) = (found.try_get(1)?, found.try_get(2)?);
    Ok(FreeUnits { sku: sku.parse().map_err(|_| wrong())?, location, free })
}

/// Lists levels through the given connections.
pub(in crate::store) async fn list(from: Readers<'_>, filter: &Filter) -> Result<Vec<Row>, Error> {
    let found = select(filter, from.dialect()).fetch_all(from).await?;
    found.iter().map(Row::decode).collect()
}

/// The statement of a list. It has only the conditions that the filter sets, so that SQLite chooses
/// the right index. The index is read from the start of the page, or from the first SKU with the
/// prefix if that is later, to the last SKU with the prefix.
fn select(filter: &Filter, dialect: Dialect) -> Builder {
    let mut query = Builder::new(dialect, &Row::table().select());
    let prefix = filter.prefix.as_deref().unwrap_or("");
    let first = match &filter.after {
        Some((sku, location)) if sku.as_str() >= prefix => (sku.as_str(), location.as_str()),
        _ => (prefix, ""),
    };
    if filter.held {
        query.hint(" INDEXED BY stock_held");
    }
    query.push(if filter.held { " WHERE reserved > 0 AND" } else { " WHERE" });
    query.push(" (sku, location) > (").push_bind(first.0.to_owned()).push(", ");
    query.push_bind(first.1.to_owned()).push(")");
    if !prefix.is_empty() {
        query.push(" AND sku < ").push_bind(format!("{prefix}\u{10ffff}"));
    }
    if let Some(sku) = &filter.sku {
        query.push(" AND sku = ").push_bind(sku.to_string());
    }
    if let Some(location) = &filter.location {
        query.push(" AND location = ").push_bind(location.clone());
    }
    if let Some(max) = filter.sellable_max {
        query.push(" AND on_hand - reserved - allocated <= ").push_bind(max);
    }
    query.push(" ORDER BY sku, location LIMIT +").push_bind(i64::from(filter.limit.min(LIST_MAX)));
    query
}
