//! Rows of stock levels, one per SKU and location: a read model. What may be sold is decided by
//! the stock item's actor, never from here.

use std::sync::LazyLock;

use super::both::{Builder, Dialect, Found, Readers, Writing};
use super::many::{Binding, Texts, last_of_each};
use super::{Error, LIST_MAX, Store, projection};
use crate::domain::id::Sku;
use crate::domain::time::Timestamp;

/// The level of a SKU at a location as its projection last saw it, in units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What is kept.
    pub sku: Sku,
    /// Where it is kept.
    pub location: String,
    /// What is there.
    pub on_hand: i64,
    /// What is held for orders that are being placed.
    pub reserved: i64,
    /// What orders have a claim on.
    pub allocated: i64,
    /// What is on its way here.
    pub incoming: i64,
    /// What has left for good.
    pub sold: i64,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The seq of its item's last event.
    pub version: i64,
}

/// Which levels to list, in order of SKU and location.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this SKU.
    pub sku: Option<Sku>,
    /// Only of SKUs that begin like this.
    pub prefix: Option<String>,
    /// Only where units are held for orders that are being placed.
    pub held: bool,
    /// Only at this location.
    pub location: Option<String>,
    /// Only with at most so many units sellable.
    pub sellable_max: Option<i64>,
    /// Only those behind this SKU and location, the last of the page before.
    pub after: Option<(Sku, String)>,
    /// At most so many, up to [`LIST_MAX`].
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

    /// Levels in order of SKU and location.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn stock_levels(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        list(self.lists(), filter).await
    }

    /// Levels as [`Store::stock_levels`] lists them, and how far a projection of theirs has come in
    /// each shard, both at one moment.
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
        Ok((found.iter().map(row).collect::<Result<_, _>>()?, cursors))
    }
}

/// Levels as they stand in one of the databases.
pub(in crate::store) async fn list(from: Readers<'_>, filter: &Filter) -> Result<Vec<Row>, Error> {
    let found = select(filter, from.dialect()).fetch_all(from).await?;
    found.iter().map(row).collect()
}

/// Only the conditions that the filter has, so that SQLite walks the one index that fits: it
/// begins where the page does, or behind it where the SKUs begin, and ends with them.
fn select(filter: &Filter, dialect: Dialect) -> Builder {
    let mut query = Builder::new(
        dialect,
        "SELECT sku, location, on_hand, reserved, allocated, incoming, sold, updated_at, version \
         FROM stock_row",
    );
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

static PUT: LazyLock<Texts> = LazyLock::new(|| {
    Texts::new(
        "INSERT OR REPLACE INTO stock_row (sku, location, on_hand, reserved, allocated, incoming, \
         sold, updated_at, version) VALUES ",
        "(?,?,?,?,?,?,?,?,?)",
        "",
    )
});

const PUT_ARRAYS: &str = "INSERT INTO stock_row (sku, location, on_hand, reserved, allocated, \
    incoming, sold, updated_at, version) SELECT * FROM unnest($1::TEXT[], $2::TEXT[], $3::BIGINT[], \
    $4::BIGINT[], $5::BIGINT[], $6::BIGINT[], $7::BIGINT[], $8::BIGINT[], $9::BIGINT[]) \
    ON CONFLICT (sku, location) DO UPDATE SET on_hand = excluded.on_hand, \
    reserved = excluded.reserved, allocated = excluded.allocated, incoming = excluded.incoming, \
    sold = excluded.sold, updated_at = excluded.updated_at, version = excluded.version";

/// Writes rows over what they were, inside of a projection's transaction.
pub(in crate::store) async fn put(writing: &mut Writing, rows: &[Row]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    match writing {
        Writing::Sqlite(writing) => PUT.run(writing.connection()?, rows, bind).await,
        Writing::Postgres(transaction) => {
            let rows = last_of_each(rows, |row| (row.sku.as_str(), row.location.as_str()));
            macro_rules! column {
                ($row:ident => $value:expr) => {
                    rows.iter().map(|$row| $value).collect::<Vec<_>>()
                };
            }
            let query = sqlx::query(PUT_ARRAYS)
                .bind(column!(row => row.sku.as_str()))
                .bind(column!(row => row.location.as_str()))
                .bind(column!(row => row.on_hand))
                .bind(column!(row => row.reserved))
                .bind(column!(row => row.allocated))
                .bind(column!(row => row.incoming))
                .bind(column!(row => row.sold))
                .bind(column!(row => row.updated_at.millis()))
                .bind(column!(row => row.version));
            transaction.execute(query).await.map(drop)
        }
    }
}

fn bind(query: Binding, row: &Row) -> Binding {
    query
        .bind(row.sku.as_str())
        .bind(row.location.as_str())
        .bind(row.on_hand)
        .bind(row.reserved)
        .bind(row.allocated)
        .bind(row.incoming)
        .bind(row.sold)
        .bind(row.updated_at.millis())
        .bind(row.version)
}

fn row(found: &Found) -> Result<Row, Error> {
    let sku: &str = found.try_get(0)?;
    let broken = |_| Error::Row { table: "stock_row", reason: format!("{sku:?} is no SKU") };
    Ok(Row {
        sku: sku.parse().map_err(broken)?,
        location: found.try_get(1)?,
        on_hand: found.try_get(2)?,
        reserved: found.try_get(3)?,
        allocated: found.try_get(4)?,
        incoming: found.try_get(5)?,
        sold: found.try_get(6)?,
        updated_at: Timestamp::from_millis(found.try_get(7)?),
        version: found.try_get(8)?,
    })
}
