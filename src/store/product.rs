//! Reads and lists the rows of products. A search finds a text in the name or SKU, and does not
//! rank its results. Rows are written through `versioned`.

use super::both::{Builder, Dialect, Readers};
use super::row::Value;
use super::versioned::{self, VersionedRow as _};
use super::{Error, LIST_MAX, Store};
use crate::domain::case_folding::fold_case;
use crate::domain::id::Sku;
use crate::domain::product::Product;

/// A product's row.
pub type Row = versioned::Row<Product>;

crate::versioned_row! {
    Product in "product", key(sku) {
        sku, name, description, category, prices, tax_rate, active, restock_at
    }
}

/// The filter of a list of products, in order of SKU.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only products of this category.
    pub category: Option<String>,
    /// Only active products, or only inactive ones.
    pub active: Option<bool>,
    /// Only products with this text in their name or SKU, ignoring case.
    pub q: Option<String>,
    /// Only products after this SKU.
    pub after: Option<Sku>,
    /// At most this many products, up to [`LIST_MAX`].
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

    /// Products in order of SKU, never from a replica: a cache must not be filled with stale
    /// products.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn products_for_cache(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        list(self.readers(), filter).await
    }
}

/// Products from the primary or from a replica.
async fn list(from: Readers<'_>, filter: &Filter) -> Result<Vec<Row>, Error> {
    let limit = filter.limit.min(LIST_MAX);
    let Some(text) = filter.q.as_deref().map(fold_case) else {
        return page(from, filter, (None, filter.after.as_ref(), limit)).await;
    };
    // Candidates, which may contain the text, are read until enough of them do contain it.
    let (mut found, mut after) = (Vec::new(), filter.after.clone());
    loop {
        let candidates =
            page(from, filter, (Some(text.as_str()), after.as_ref(), LIST_MAX)).await?;
        let full = candidates.len() == LIST_MAX as usize;
        after = candidates.last().map(|row| row.value.sku.clone());
        let has = |row: &Row| {
            let Product { sku, name, .. } = &row.value;
            fold_case(name).contains(&text) || fold_case(sku.as_str()).contains(&text)
        };
        let left = (limit as usize).saturating_sub(found.len());
        found.extend(candidates.into_iter().filter(has).take(left));
        if !full || found.len() >= limit as usize {
            return Ok(found);
        }
    }
}

/// A page of products, or of candidates for a search. The databases fold the case of ASCII only, so
/// a product is also a candidate if its name has other characters.
async fn page(
    from: Readers<'_>,
    filter: &Filter,
    (text, after, limit): (Option<&str>, Option<&Sku>, u32),
) -> Result<Vec<Row>, Error> {
    let mut query = Builder::new(from.dialect(), &Product::table().select());
    query.push(" WHERE ");
    if let Some(category) = &filter.category {
        query.push("category = ").push_bind(category.clone()).push(" AND ");
    }
    let after = after.map_or("", Sku::as_str);
    query.push("sku > ").push_bind(after.to_owned());
    if let Some(active) = filter.active {
        query.push(" AND active = ").push_bind(Value::Flag(active));
    }
    if let Some(text) = text {
        let (finds, characters) = match from.dialect() {
            Dialect::Sqlite => ("instr", "length"),
            Dialect::Postgres => ("strpos", "char_length"),
        };
        query.push(format_args!(" AND (octet_length(name) > {characters}(name)"));
        if text.is_ascii() {
            query.push(format_args!(" OR {finds}(lower(name), ")).push_bind(text.to_owned());
            query.push(format_args!(") > 0 OR {finds}(lower(sku), ")).push_bind(text.to_owned());
            query.push(") > 0");
        }
        query.push(")");
    }
    query.push(" ORDER BY sku LIMIT +").push_bind(i64::from(limit));
    query.fetch_all(from).await?.iter().map(Row::decode).collect()
}
