//! Reads and lists the rows of products. A search finds words in the name or SKU, and does not
//! rank its results. Rows are written through `versioned`.

use std::collections::{BTreeSet, HashMap};

use strum::{EnumString, IntoStaticStr, VariantArray};

use super::both::{Builder, Dialect, Readers, fetch_all, texts};
use super::found::FoundRow;
use super::row::Value;
use super::versioned::{self, VersionedRow as _};
use super::{Error, LIST_MAX, Store};
use crate::domain::id::Sku;
use crate::domain::product::Product;
use crate::domain::search_text::fold;
use crate::domain::time::Timestamp;

/// A product's row.
pub type Row = versioned::Row<Product>;

crate::versioned_row! {
    Product in "product", key(sku) {
        sku, name, description, category, prices, tax_rate, active, restock_at
    }
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum Sort {
    /// By SKU.
    #[default]
    #[strum(serialize = "sku")]
    Sku,
    /// By SKU, the last first.
    #[strum(serialize = "-sku")]
    LastSku,
    /// The last changed first.
    #[strum(serialize = "-updated_at")]
    LastUpdated,
    /// The one that has not changed for the longest time first.
    #[strum(serialize = "updated_at")]
    FirstUpdated,
}

impl Sort {
    /// Whether the list is sorted by the time of the last change.
    #[must_use]
    pub const fn by_update(self) -> bool {
        matches!(self, Self::LastUpdated | Self::FirstUpdated)
    }

    const fn descending(self) -> bool {
        matches!(self, Self::LastSku | Self::LastUpdated)
    }
}

/// The filter of a list of products. A filter with several values matches products that have one of
/// them; an empty one matches all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only the products with these SKUs.
    pub sku: Vec<Sku>,
    /// Only products of these categories.
    pub category: Vec<String>,
    /// Only active products, or only inactive ones.
    pub active: Option<bool>,
    /// Only products with each of these folded words in their name or SKU.
    pub words: Vec<String>,
    /// Only products that last changed at this time or later.
    pub updated_from: Option<Timestamp>,
    /// Only products that last changed before this time.
    pub updated_to: Option<Timestamp>,
    /// The order of the list.
    pub sort: Sort,
    /// Only products after the one that last changed at this time and has this SKU. The time counts
    /// only in lists that are sorted by it.
    pub after: Option<(Timestamp, Sku)>,
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

    /// Products in the order of `filter.sort`.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn products(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        list(self.lists(), filter).await
    }

    /// The names of the products with these SKUs.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn product_names(
        &self,
        skus: impl IntoIterator<Item = &Sku>,
    ) -> Result<HashMap<Sku, String>, Error> {
        names(self.lists(), skus).await
    }

    /// Products in the order of `filter.sort`, never from a replica: a cache must not be filled with stale
    /// products.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn products_for_cache(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        list(self.readers(), filter).await
    }
}

/// The names of the products with these SKUs.
pub(in crate::store) async fn names(
    from: Readers<'_>,
    skus: impl IntoIterator<Item = &Sku>,
) -> Result<HashMap<Sku, String>, Error> {
    let skus: BTreeSet<&str> = skus.into_iter().map(Sku::as_str).collect();
    let skus: Vec<&str> = skus.into_iter().collect();
    let found = match from {
        Readers::Sqlite(_) => {
            let text =
                "SELECT sku, name FROM product WHERE sku IN (SELECT value FROM json_each($1))";
            let skus = serde_json::Value::from(skus).to_string();
            fetch_all!(from, sqlx::query(text).bind(skus.as_str()))
        }
        Readers::Postgres(pool) => {
            let text = "SELECT sku, name FROM product WHERE sku = ANY($1)";
            pool.fetch_all(sqlx::query(text).bind(skus)).await
        }
    }?;
    let named = |found: &FoundRow| {
        let sku: String = found.try_get(0)?;
        let wrong = |_| Error::Row { table: "product", reason: format!("{sku:?} is no SKU") };
        Ok((sku.parse().map_err(wrong)?, found.try_get(1)?))
    };
    found.iter().map(named).collect()
}

/// Products from the primary or from a replica.
async fn list(from: Readers<'_>, filter: &Filter) -> Result<Vec<Row>, Error> {
    let limit = filter.limit.min(LIST_MAX);
    if filter.words.is_empty() {
        return page(from, filter, (filter.after.clone(), limit)).await;
    }
    // Candidates, which may contain the words, are read until enough of them do contain them.
    let (mut found, mut after) = (Vec::new(), filter.after.clone());
    loop {
        let candidates = page(from, filter, (after.clone(), LIST_MAX)).await?;
        let full = candidates.len() == LIST_MAX as usize;
        after = candidates.last().map(|row| (row.updated_at, row.value.sku.clone()));
        let has = |row: &Row| contains(&filter.words, &row.value.sku, &row.value.name);
        let left = (limit as usize).saturating_sub(found.len());
        found.extend(candidates.into_iter().filter(has).take(left));
        if !full || found.len() >= limit as usize {
            return Ok(found);
        }
    }
}

/// A page of products, or of candidates for a search.
async fn page(
    from: Readers<'_>,
    filter: &Filter,
    (after, limit): (Option<(Timestamp, Sku)>, u32),
) -> Result<Vec<Row>, Error> {
    let query = select(filter, (after, limit), from.dialect());
    query.fetch_all(from).await?.iter().map(Row::decode).collect()
}

/// The statement of a page. It enters the index of SKUs, of categories or of times of the last
/// change where the page begins.
fn select(
    filter: &Filter,
    (after, limit): (Option<(Timestamp, Sku)>, u32),
    dialect: Dialect,
) -> Builder {
    let (by_update, descending) = (filter.sort.by_update(), filter.sort.descending());
    let mut query = Builder::new(dialect, &Product::table().select());
    query.push(" WHERE TRUE");
    query.push_in("", "category", &filter.category);
    query.push_in("", "sku", &texts(&filter.sku));
    let than = if descending { "<" } else { ">" };
    match after {
        Some((at, sku)) if by_update => {
            query.push(format_args!(" AND (updated_at, sku) {than} (")).push_bind(at.millis());
            query.push(", ").push_bind(sku.to_string()).push(")");
        }
        Some((_, sku)) => {
            query.push(format_args!(" AND sku {than} ")).push_bind(sku.to_string());
        }
        None => {}
    }
    // Without this hint, SQLite might sort all products that have changed since, for one page.
    let hint = if by_update { "" } else { "+" };
    for (than, bound) in [(">=", filter.updated_from), ("<", filter.updated_to)] {
        if let Some(bound) = bound {
            query.push(" AND ").hint(hint).push(format_args!("updated_at {than} "));
            query.push_bind(bound.millis());
        }
    }
    if let Some(active) = filter.active {
        query.push(" AND active = ").push_bind(Value::Flag(active));
    }
    push_search(&mut query, &filter.words);
    let direction = if descending { " DESC" } else { "" };
    let time = if by_update { format!("updated_at{direction}, ") } else { String::new() };
    query.push(format_args!(" ORDER BY {time}sku{direction} LIMIT +"));
    query.push_bind(i64::from(limit));
    query
}

/// Whether each of the words is in the SKU or the name.
pub(in crate::store) fn contains(words: &[String], sku: &Sku, name: &str) -> bool {
    let (sku, name) = (fold(sku.as_str()), fold(name));
    words.iter().all(|word| sku.contains(word) || name.contains(word))
}

/// Adds the condition that a product is a candidate for a search. The databases fold ASCII only, so a product is also a candidate if its name has other characters.
pub(in crate::store) fn push_search(query: &mut Builder, words: &[String]) {
    let (finds, characters) = match query.dialect() {
        Dialect::Sqlite => ("instr", "length"),
        Dialect::Postgres => ("strpos", "char_length"),
    };
    for word in words {
        query.push(format_args!(" AND (octet_length(name) > {characters}(name)"));
        if word.is_ascii() {
            query.push(format_args!(" OR {finds}(lower(name), ")).push_bind(word.clone());
            query.push(format_args!(") > 0 OR {finds}(lower(sku), ")).push_bind(word.clone());
            query.push(") > 0");
        }
        query.push(")");
    }
}
