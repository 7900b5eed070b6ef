//! Rows of products: read one, list them, and the write that an append makes in its own
//! transaction. Searching by relevance is not here.

use sqlx::SqliteConnection;

use super::both::{Dialect, Found, Readers, fetch_all, fetch_optional};
use super::{Error, LIST_MAX, Store};
use crate::domain::id::Sku;
use crate::domain::money::TaxRate;
use crate::domain::product::Product;
use crate::domain::time::Timestamp;

/// A product as it stands in its table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The product.
    pub product: Product,
    /// Grows by one with every change.
    pub version: i64,
}

/// Which products to list, in order of SKU.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this category.
    pub category: Option<String>,
    /// Only those that can, or cannot, be sold.
    pub active: Option<bool>,
    /// Only those with this text in their name or SKU, whatever its ASCII case.
    pub q: Option<String>,
    /// Only those behind this SKU.
    pub after: Option<Sku>,
    /// At most so many, up to [`LIST_MAX`].
    pub limit: u32,
}

macro_rules! columns {
    () => {
        "sku, name, description, category, prices, tax_rate, active, version"
    };
}

/// The text of a list; `$finds` is what finds one text in another.
macro_rules! listing {
    ($category:literal, $finds:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM product WHERE ",
            $category,
            " sku > $1 AND ($3 IS NULL OR active = $3) AND ($4 IS NULL OR ",
            $finds,
            "(lower(name), $4) > 0 OR ",
            $finds,
            "(lower(sku), $4) > 0) ORDER BY sku LIMIT +$5"
        )
    };
}

impl Store {
    /// The product of a SKU.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn product(&self, sku: &Sku) -> Result<Option<Row>, Error> {
        let text = concat!("SELECT ", columns!(), " FROM product WHERE sku = $1");
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(sku.as_str()))?;
        found.as_ref().map(row).transpose()
    }

    /// Products in order of SKU.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn products(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        list(self.lists(), filter).await
    }

    /// The same, never from a replica: what is kept for others must not be old already.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn products_to_keep(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        list(self.readers(), filter).await
    }
}

/// Products as they stand in one of the databases.
pub(in crate::store) async fn list(from: Readers<'_>, filter: &Filter) -> Result<Vec<Row>, Error> {
    // Two texts: with the category known, its index leads to it.
    let text = match (filter.category.is_some(), from.dialect()) {
        (true, Dialect::Sqlite) => listing!("category = $2 AND", "instr"),
        (false, Dialect::Sqlite) => listing!("", "instr"),
        (true, Dialect::Postgres) => listing!("category = $2 AND", "strpos"),
        (false, Dialect::Postgres) => listing!("", "strpos"),
    };
    let found = fetch_all!(
        from,
        sqlx::query(text)
            .bind(filter.after.as_ref().map_or("", Sku::as_str))
            .bind(filter.category.as_deref())
            .bind(filter.active)
            .bind(filter.q.as_ref().map(|text| text.to_ascii_lowercase()))
            .bind(i64::from(filter.limit.min(LIST_MAX)))
    )?;
    found.iter().map(row).collect()
}

/// Writes a row inside of an append; `false` if its version is not the one after the stored.
pub(in crate::store) async fn upsert(
    connection: &mut SqliteConnection,
    row: &Row,
    at: Timestamp,
) -> Result<bool, sqlx::Error> {
    let text = if row.version == 1 {
        "INSERT INTO product (sku, name, description, category, prices, tax_rate, active, version, \
         updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (sku) DO NOTHING"
    } else {
        "UPDATE product SET name = $2, description = $3, category = $4, prices = $5, \
         tax_rate = $6, active = $7, version = $8, updated_at = $9 \
         WHERE sku = $1 AND version = $8 - 1"
    };
    let product = &row.product;
    let prices = serde_json::to_string(&product.prices)
        .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let done = sqlx::query(text)
        .bind(product.sku.as_str())
        .bind(product.name.as_str())
        .bind(product.description.as_str())
        .bind(product.category.as_deref())
        .bind(prices)
        .bind(product.tax_rate.millionths())
        .bind(product.active)
        .bind(row.version)
        .bind(at.millis())
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// A row as JSON, for the function of PostgreSQL that appends.
pub(in crate::store) fn as_json(
    row: &Row,
    at: Timestamp,
) -> Result<serde_json::Value, serde_json::Error> {
    let product = &row.product;
    Ok(serde_json::json!({
        "sku": product.sku.as_str(),
        "name": product.name,
        "description": product.description,
        "category": product.category,
        "prices": serde_json::to_string(&product.prices)?,
        "tax_rate": product.tax_rate.millionths(),
        "active": product.active,
        "version": row.version,
        "updated_at": at.millis(),
    }))
}

fn row(found: &Found) -> Result<Row, Error> {
    let broken = |reason: String| Error::Row { table: "product", reason };
    let sku: &str = found.try_get(0)?;
    let prices: &str = found.try_get(4)?;
    let product = Product {
        sku: sku.parse().map_err(|_| broken(format!("{sku:?} is no SKU")))?,
        name: found.try_get(1)?,
        description: found.try_get(2)?,
        category: found.try_get(3)?,
        prices: serde_json::from_str(prices).map_err(|error| broken(error.to_string()))?,
        tax_rate: u32::try_from(found.try_get::<i64>(5)?)
            .ok()
            .and_then(TaxRate::from_millionths)
            .ok_or_else(|| broken("its tax rate is above 100 %".to_owned()))?,
        active: found.try_get(6)?,
    };
    Ok(Row { product, version: found.try_get(7)? })
}
