//! Rows of products: read one, and list them. Searching by relevance is not here; how a row with a
//! version is written is `versioned`'s.

use super::both::{Builder, Dialect, Readers};
use super::row::Value;
use super::versioned::{self, VersionedRow as _};
use super::{Error, LIST_MAX, Store};
use crate::domain::id::Sku;
use crate::domain::product::Product;

/// A product as it stands in its table.
pub type Row = versioned::Row<Product>;

crate::versioned_row! {
    Product in "product", key(sku) {
        sku, name, description, category, prices, tax_rate, active
    }
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

impl Store {
    /// The product of a SKU.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn product(&self, sku: &Sku) -> Result<Option<Row>, Error> {
        versioned::find(self, sku).await
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
async fn list(from: Readers<'_>, filter: &Filter) -> Result<Vec<Row>, Error> {
    let mut query = Builder::new(from.dialect(), &Product::table().select());
    query.push(" WHERE ");
    if let Some(category) = &filter.category {
        query.push("category = ").push_bind(category.clone()).push(" AND ");
    }
    let after = filter.after.as_ref().map_or("", Sku::as_str);
    query.push("sku > ").push_bind(after.to_owned());
    if let Some(active) = filter.active {
        query.push(" AND active = ").push_bind(Value::Flag(active));
    }
    if let Some(text) = &filter.q {
        let finds = match from.dialect() {
            Dialect::Sqlite => "instr",
            Dialect::Postgres => "strpos",
        };
        let text = text.to_ascii_lowercase();
        query.push(format_args!(" AND ({finds}(lower(name), ")).push_bind(text.clone());
        query.push(format_args!(") > 0 OR {finds}(lower(sku), ")).push_bind(text).push(") > 0)");
    }
    query.push(" ORDER BY sku LIMIT +").push_bind(i64::from(filter.limit.min(LIST_MAX)));
    query.fetch_all(from).await?.iter().map(Row::decode).collect()
}
