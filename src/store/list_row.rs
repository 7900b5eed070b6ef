//! Rows of lists, which projections compute from events. A projection writes a batch of rows, of
//! any tables, into a database or into memory. The rows are declared in the files of the nouns
//! (`order`, `stock`), which also have the lists and searches for people; `list_page` reads whole
//! tables.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

use super::both::Writing;
use super::found::FoundRow;
use super::row::{self, TableRow, Value};

/// The key of a row: the values of its key columns, which define the order of the table.
pub type RowKey = Vec<Value<'static>>;

/// A row's key.
#[must_use]
pub fn key<R: TableRow>(row: &R) -> RowKey {
    row.values().take(R::table().key().len()).map(Value::into_owned).collect()
}

/// Rows to be written, of any number of tables.
#[derive(Debug, Default)]
pub struct Batch {
    /// The rows, one entry per table.
    tables: Vec<Box<dyn Rows>>,
}

impl Batch {
    /// A batch with these rows.
    #[must_use]
    pub fn of<R: TableRow + fmt::Debug>(rows: Vec<R>) -> Self {
        Self { tables: vec![Box::new(TableRows::<R, false>(rows))] }
    }

    /// Adds a row, which will replace the stored row with the same key.
    pub fn put<R: TableRow + fmt::Debug>(&mut self, row: R) {
        self.add::<R, false>(row);
    }

    /// Adds a row whose stored version, if there is one, has the same values in the columns that the
    /// table declares as lasting. They are written only if there is none.
    pub fn put_over<R: TableRow + fmt::Debug>(&mut self, row: R) {
        self.add::<R, true>(row);
    }

    fn add<R: TableRow + fmt::Debug, const OVER: bool>(&mut self, row: R) {
        for table in &mut self.tables {
            let table: &mut dyn Any = table.as_mut();
            if let Some(TableRows(rows)) = table.downcast_mut::<TableRows<R, OVER>>() {
                return rows.push(row);
            }
        }
        self.tables.push(Box::new(TableRows::<R, OVER>(vec![row])));
    }

    /// The number of rows of each table, for [`Batch::truncate`].
    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.tables.iter().map(|rows| rows.length()).collect()
    }

    /// Removes the rows that were added after [`Batch::lengths`] returned `lengths`.
    pub(crate) fn truncate(&mut self, lengths: &[usize]) {
        self.tables.truncate(lengths.len());
        for (rows, length) in self.tables.iter_mut().zip(lengths) {
            rows.shorten(*length);
        }
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

/// The rows of one table, whatever their type.
#[async_trait]
trait Rows: Any + fmt::Debug + Send + Sync {
    async fn write(&self, writing: &mut Writing) -> Result<(), sqlx::Error>;

    fn keep(&self, lists: &mut Lists);

    fn length(&self) -> usize;

    fn shorten(&mut self, length: usize);
}

/// Rows of a table; with `OVER`, stored rows keep their lasting columns.
#[derive(Debug)]
struct TableRows<R, const OVER: bool>(Vec<R>);

#[async_trait]
impl<R: TableRow + fmt::Debug, const OVER: bool> Rows for TableRows<R, OVER> {
    async fn write(&self, writing: &mut Writing) -> Result<(), sqlx::Error> {
        row::put(writing, &self.0, OVER).await
    }

    fn keep(&self, lists: &mut Lists) {
        let list = lists.0.entry(R::table().name()).or_default();
        let values = |row: &R| row.values().map(Value::into_owned).collect();
        list.extend(self.0.iter().map(|row| (key(row), values(row))));
    }

    fn length(&self) -> usize {
        self.0.len()
    }

    fn shorten(&mut self, length: usize) {
        self.0.truncate(length);
    }
}

/// The rows of all lists in memory, by table.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Lists(BTreeMap<&'static str, BTreeMap<RowKey, Vec<Value<'static>>>>);

impl Lists {
    /// The row of a table with this key.
    pub(in crate::store) fn find(&self, table: &row::Table, key: &[Value<'_>]) -> Option<FoundRow> {
        let key: RowKey = key.iter().cloned().map(Value::into_owned).collect();
        self.0.get(table.name())?.get(&key).cloned().map(FoundRow::Memory)
    }

    /// Rows of a table, in order of their keys, starting after `after`; `None` if there is no such
    /// table.
    pub(in crate::store) fn behind(
        &self,
        table: &row::Table,
        after: Option<&[Value<'_>]>,
        limit: u32,
    ) -> Option<Vec<FoundRow>> {
        let after: Option<RowKey> =
            after.map(|after| after.iter().cloned().map(Value::into_owned).collect());
        let behind = |key: &RowKey| after.as_ref().is_none_or(|after| key > after);
        let rows = self.0.get(table.name())?.iter().filter(|(key, _)| behind(key));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Some(rows.take(limit).map(|(_, values)| FoundRow::Memory(values.clone())).collect())
    }
}
