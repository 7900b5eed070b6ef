//! Pages of a list: all rows of a table read again in the order of their keys, or its first rows and
//! how far it has come.
//!
//! How rows come into their tables is in `list_row`; what people search is beside each noun.

use super::both::Builder;
use super::list_row::RowKey;
use super::projection::list_at;
use super::row::TableRow;
use super::{Error, LIST_MAX, Store, Tables};

/// Rows of a list in order of their keys behind `after`, at most `limit`, never from a replica.
///
/// # Errors
/// The store's.
pub async fn page<R: TableRow>(
    tables: &dyn Tables,
    after: Option<&RowKey>,
    limit: u32,
) -> Result<Vec<R>, Error> {
    let found = tables.rows_behind(R::table(), after.map(Vec::as_slice), limit).await?;
    found.iter().map(R::decode).collect()
}

/// The first rows of a list in order of their keys, at most `limit`, and how far a projection of them
/// has come in each shard, both at one moment.
///
/// # Errors
/// The store's.
pub async fn page_at<R: TableRow>(
    store: &Store,
    projection: &str,
    limit: u32,
) -> Result<(Vec<R>, Vec<(u16, i64)>), Error> {
    let from = store.readers();
    let mut list = Builder::new(from.dialect(), &R::table().select());
    list.push(format_args!(" ORDER BY {} LIMIT +", R::table().key().join(", ")));
    list.push_bind(i64::from(limit.min(LIST_MAX)));
    let (found, cursors) = list_at(from, list, projection).await?;
    Ok((found.iter().map(R::decode).collect::<Result<_, _>>()?, cursors))
}
