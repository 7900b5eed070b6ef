//! Rows of stock levels, one per SKU and location: a read model. What may be sold is decided by
//! the stock item's actor, never from here.

use std::sync::LazyLock;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::many::Texts;
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
        self.stock_levels(&filter).await
    }

    /// Levels in order of SKU and location.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn stock_levels(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        list(&mut *self.readers().acquire().await?, filter).await
    }

    /// Levels as [`Store::stock_levels`] lists them, and how far a projection of theirs has come,
    /// both at one moment.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn stock_levels_at(
        &self,
        filter: &Filter,
        (projection, shard): (&str, u16),
    ) -> Result<(Vec<Row>, i64), Error> {
        let mut read = self.readers().begin().await?;
        let pos = projection::cursor(&mut read, projection, shard).await?;
        let rows = list(&mut read, filter).await?;
        read.rollback().await?;
        Ok((rows, pos))
    }
}

async fn list(connection: &mut SqliteConnection, filter: &Filter) -> Result<Vec<Row>, Error> {
    let (sku, location) = match &filter.after {
        Some((sku, location)) => (sku.as_str(), location.as_str()),
        None => ("", ""),
    };
    // Two texts: with the SKU known, the primary key leads to it.
    let text = if filter.sku.is_some() {
        "SELECT sku, location, on_hand, reserved, allocated, incoming, sold, updated_at, \
         version FROM stock_row WHERE sku = $3 AND (sku, location) > ($1, $2) \
         AND ($4 IS NULL OR location = $4) \
         AND ($5 IS NULL OR on_hand - reserved - allocated <= $5) \
         ORDER BY sku, location LIMIT +$6"
    } else {
        "SELECT sku, location, on_hand, reserved, allocated, incoming, sold, updated_at, \
         version FROM stock_row WHERE (sku, location) > ($1, $2) \
         AND ($4 IS NULL OR location = $4) \
         AND ($5 IS NULL OR on_hand - reserved - allocated <= $5) \
         ORDER BY sku, location LIMIT +$6"
    };
    let found = sqlx::query(text)
        .bind(sku)
        .bind(location)
        .bind(filter.sku.as_ref().map(Sku::as_str))
        .bind(filter.location.as_deref())
        .bind(filter.sellable_max)
        .bind(filter.limit.min(LIST_MAX))
        .fetch_all(connection)
        .await?;
    found.iter().map(row).collect()
}

static PUT: LazyLock<Texts> = LazyLock::new(|| {
    Texts::new(
        "INSERT OR REPLACE INTO stock_row (sku, location, on_hand, reserved, allocated, incoming, \
         sold, updated_at, version) VALUES ",
        "(?,?,?,?,?,?,?,?,?)",
        "",
    )
});

/// Writes rows over what they were, inside of a projection's transaction.
pub(in crate::store) async fn put(
    connection: &mut SqliteConnection,
    rows: &[Row],
) -> Result<(), sqlx::Error> {
    PUT.run(connection, rows, |query, row: &Row| {
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
    })
    .await
}

fn row(found: &SqliteRow) -> Result<Row, Error> {
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
