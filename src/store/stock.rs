//! Rows of stock levels, one per SKU and location: a projection. Decisions about stock are made by
//! the SKU's stock entity, never from these rows.

use std::fmt;
use std::str::FromStr;

use strum::{EnumString, IntoStaticStr, VariantArray};

use super::both::{Builder, Dialect, Readers, fetch_all, texts};
use super::found::FoundRow;
use super::row::TableRow as _;
use super::{Error, LIST_MAX, Store, product, projection};
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

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum Sort {
    /// By SKU and location.
    #[default]
    #[strum(serialize = "sku")]
    Sku,
    /// By SKU and location, the last first.
    #[strum(serialize = "-sku")]
    LastSku,
    /// By the time of the last change, the first changed first.
    #[strum(serialize = "updated_at")]
    FirstUpdated,
    /// By the time of the last change, the last changed first.
    #[strum(serialize = "-updated_at")]
    LastUpdated,
}

impl Sort {
    const fn by_update(self) -> bool {
        matches!(self, Self::FirstUpdated | Self::LastUpdated)
    }

    const fn descending(self) -> bool {
        matches!(self, Self::LastSku | Self::LastUpdated)
    }
}

/// The place of a level in lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPlace {
    /// When it last changed, which counts only in lists that are sorted by it.
    pub updated_at: Timestamp,
    /// Its SKU.
    pub sku: Sku,
    /// Its location.
    pub location: String,
}

impl From<&Row> for ListPlace {
    fn from(row: &Row) -> Self {
        Self { updated_at: row.updated_at, sku: row.sku.clone(), location: row.location.clone() }
    }
}

impl fmt::Display for ListPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.updated_at.millis(), self.sku, self.location)
    }
}

impl FromStr for ListPlace {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().ok_or(());
        let updated_at = Timestamp::from_millis(part()?.parse().map_err(|_| ())?);
        let sku = part()?.parse().map_err(|_| ())?;
        Ok(Self { updated_at, sku, location: part()?.to_owned() })
    }
}

/// The filter of a list of levels. A filter with several values matches levels that have one of
/// them; an empty one matches all. A level at a deleted location is listed only while it has units,
/// or incoming ones.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of these SKUs.
    pub sku: Vec<Sku>,
    /// Only SKUs of which each of these folded words is a part of the SKU or of the product's
    /// name.
    pub words: Vec<String>,
    /// Only levels with reserved units, or only those without.
    pub held: Option<bool>,
    /// Only at these locations.
    pub location: Vec<String>,
    /// Only levels with at most this many units available to sell.
    pub sellable_max: Option<i64>,
    /// Only levels that last changed at this time or later.
    pub updated_from: Option<Timestamp>,
    /// Only levels that last changed before this time.
    pub updated_to: Option<Timestamp>,
    /// The order of the list.
    pub sort: Sort,
    /// Only levels after this one, which is the last of the previous page.
    pub after: Option<ListPlace>,
    /// At most this many levels, up to [`LIST_MAX`].
    pub limit: u32,
}

impl Store {
    /// The levels of a SKU at all its locations, at most [`LIST_MAX`].
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn stock(&self, sku: &Sku) -> Result<Vec<Row>, Error> {
        let filter = Filter { sku: vec![sku.clone()], limit: LIST_MAX, ..Filter::default() };
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

    /// Levels in the order of `filter.sort`.
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
    if filter.words.is_empty() {
        return page(from, filter).await;
    }
    // Candidates, which may have the words, are read until enough of them do have them.
    let limit = filter.limit.min(LIST_MAX) as usize;
    let (mut found, mut next) = (Vec::new(), Filter { limit: LIST_MAX, ..filter.clone() });
    loop {
        let candidates = page(from, &next).await?;
        let full = candidates.len() == LIST_MAX as usize;
        next.after = candidates.last().map(ListPlace::from);
        let names = product::names(from, candidates.iter().map(|row| &row.sku)).await?;
        let has = |row: &Row| {
            let name = names.get(&row.sku).map_or("", String::as_str);
            product::contains(&filter.words, &row.sku, name)
        };
        let left = limit.saturating_sub(found.len());
        found.extend(candidates.into_iter().filter(has).take(left));
        if !full || found.len() >= limit {
            return Ok(found);
        }
    }
}

/// A page of levels, or of candidates for a search.
async fn page(from: Readers<'_>, filter: &Filter) -> Result<Vec<Row>, Error> {
    let found = select(filter, from.dialect()).fetch_all(from).await?;
    found.iter().map(Row::decode).collect()
}

/// The statement of a list. It has only the conditions that the filter sets, so that SQLite chooses
/// the right index. The index is read from the start of the page. A search looks for candidates
/// among the products. The time of the last change has no index, which every checkout would have to
/// write.
fn select(filter: &Filter, dialect: Dialect) -> Builder {
    let mut query = Builder::new(dialect, &Row::table().select());
    if filter.held == Some(true) {
        query.hint(" INDEXED BY stock_held");
    }
    query.push(match filter.held {
        Some(true) => " WHERE reserved > 0",
        Some(false) => " WHERE reserved = 0",
        None => " WHERE TRUE",
    });
    query.push(
        " AND (on_hand <> 0 OR incoming <> 0 \
         OR location NOT IN (SELECT id FROM location WHERE deleted))",
    );
    let (by_update, descending) = (filter.sort.by_update(), filter.sort.descending());
    if let Some(ListPlace { updated_at, sku, location }) = &filter.after {
        let than = if descending { "<" } else { ">" };
        let time = if by_update { "updated_at, " } else { "" };
        query.push(format_args!(" AND ({time}sku, location) {than} ("));
        if by_update {
            query.push_bind(updated_at.millis()).push(", ");
        }
        query.push_bind(sku.to_string()).push(", ").push_bind(location.clone()).push(")");
    }
    if !filter.words.is_empty() {
        query.push(" AND sku IN (SELECT sku FROM product WHERE TRUE");
        product::push_search(&mut query, &filter.words);
        query.push(")");
    }
    query.push_in("", "sku", &texts(&filter.sku));
    query.push_in("", "location", &filter.location);
    for (than, bound) in [(">=", filter.updated_from), ("<", filter.updated_to)] {
        if let Some(bound) = bound {
            query.push(format_args!(" AND updated_at {than} ")).push_bind(bound.millis());
        }
    }
    if let Some(max) = filter.sellable_max {
        query.push(" AND on_hand - reserved - allocated <= ").push_bind(max);
    }
    let direction = if descending { " DESC" } else { "" };
    let time = if by_update { format!("updated_at{direction}, ") } else { String::new() };
    query.push(format_args!(" ORDER BY {time}sku{direction}, location{direction} LIMIT +"));
    query.push_bind(i64::from(filter.limit.min(LIST_MAX)));
    query
}
