//! Rows of lists: what projections make of events. A batch of them, of any tables, is what a step
//! of a projection writes, into a database or into memory; and all of a table are read again, page
//! by page, by whoever checks them. Which rows there are is said beside each noun; what people list
//! and search is not here.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

use super::both::{Builder, Found, Writing};
use super::projection::list_at;
use super::row::{self, TableRow, Value};
use super::{Error, LIST_MAX, Store, Tables};

/// What tells rows of a table apart: the columns of its key, in the order of which they are read.
pub type Key = Vec<Value<'static>>;

/// A row's key.
#[must_use]
pub fn key<R: TableRow>(row: &R) -> Key {
    row.values().take(R::table().key().len()).map(Value::into_owned).collect()
}

/// Rows of a list in order of their keys behind `after`, at most `limit`, never from a replica.
///
/// # Errors
/// The store's.
pub async fn page<R: TableRow>(
    tables: &dyn Tables,
    after: Option<&Key>,
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

/// Rows on their way into their tables.
#[derive(Debug, Default)]
pub struct Batch {
    /// One for each table.
    tables: Vec<Box<dyn Rows>>,
}

impl Batch {
    /// A batch of these rows.
    #[must_use]
    pub fn of<R: TableRow + fmt::Debug>(rows: Vec<R>) -> Self {
        Self { tables: vec![Box::new(rows)] }
    }

    /// Adds a row, which is written over what it was.
    pub fn put<R: TableRow + fmt::Debug>(&mut self, row: R) {
        for table in &mut self.tables {
            let table: &mut dyn Any = table.as_mut();
            if let Some(rows) = table.downcast_mut::<Vec<R>>() {
                return rows.push(row);
            }
        }
        self.tables.push(Box::new(vec![row]));
    }

    pub(in crate::store) async fn write(&self, writing: &mut Writing) -> Result<(), sqlx::Error> {
        for rows in &self.tables {
            rows.write(writing).await?;
        }
        Ok(())
    }

    pub(in crate::store) fn keep(&self, lists: &mut Lists) {
        for rows in &self.tables {
            rows.keep(lists);
        }
    }
}

/// Rows of one table, whichever it is.
#[async_trait]
trait Rows: Any + fmt::Debug + Send + Sync {
    async fn write(&self, writing: &mut Writing) -> Result<(), sqlx::Error>;

    fn keep(&self, lists: &mut Lists);
}

#[async_trait]
impl<R: TableRow + fmt::Debug> Rows for Vec<R> {
    async fn write(&self, writing: &mut Writing) -> Result<(), sqlx::Error> {
        row::put(writing, self).await
    }

    fn keep(&self, lists: &mut Lists) {
        let list = lists.0.entry(R::table().name()).or_default();
        let values = |row: &R| row.values().map(Value::into_owned).collect();
        list.extend(self.iter().map(|row| (key(row), values(row))));
    }
}

/// The rows of all lists in memory, by their tables.
#[derive(Debug, Default)]
pub(in crate::store) struct Lists(BTreeMap<&'static str, BTreeMap<Key, Vec<Value<'static>>>>);

impl Lists {
    /// Rows of a table in order of their keys behind `after`; nothing if it has none.
    pub(in crate::store) fn behind(
        &self,
        table: &row::Table,
        after: Option<&[Value<'_>]>,
        limit: u32,
    ) -> Option<Vec<Found>> {
        let after: Option<Key> =
            after.map(|after| after.iter().cloned().map(Value::into_owned).collect());
        let behind = |key: &Key| after.as_ref().is_none_or(|after| key > after);
        let rows = self.0.get(table.name())?.iter().filter(|(key, _)| behind(key));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Some(rows.take(limit).map(|(_, values)| Found::Memory(values.clone())).collect())
    }
}
