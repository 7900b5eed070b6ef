//! Pages of a table: rows in order of their keys, or the first rows together with the cursors of
//! their projection.
//!
//! `list_row` defines how rows are written; searches are in the files of the nouns.

use super::both::Builder;
use super::list_row::RowKey;
use super::projection::list_at;
use super::row::TableRow;
use super::{Error, LIST_MAX, Store, Tables};

/// Rows of a list in order of their keys, starting after `after`, at most `limit`; never from a
/// replica.
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

/// The first rows of a list in order of their keys, at most `limit`, and the cursors of the
/// projection that writes them, both from one snapshot of the database.
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
