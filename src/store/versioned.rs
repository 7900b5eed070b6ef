//! Rows that are no projections and have a version, such as products. A change of such a row is
//! part of an append: it is written in the transaction of the event that describes it, and only
//! over the previous version. The journal does not interpret the content of rows.

use super::both::Builder;
use super::found::FoundRow;
use super::row::{Columns, RowChange, Stored, Table, Value};
use super::{Error, LIST_MAX, Store, Tables, projection};
use crate::domain::time::Timestamp;
use crate::domain::versioned::Versioned;

/// A row with its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<T> {
    /// Its content.
    pub value: T,
    /// Its version, from 1, incremented by every change.
    pub version: i64,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Content that is stored in a table with a version. [`versioned_row!`](crate::versioned_row)
/// implements it.
pub trait VersionedRow: Versioned<Key: Stored> {
    /// The table: the columns of the row, [`VERSION`](super::row::VERSION) and
    /// [`UPDATED_AT`](super::row::UPDATED_AT).
    fn table() -> &'static Table;

    /// The values of the columns of the content, in order, without version and time.
    fn values(&self) -> impl Iterator<Item = Value<'_>>;

    /// Decodes the columns of the content, in order.
    ///
    /// # Errors
    /// [`Error::Row`] for invalid content.
    fn read(columns: &mut Columns<'_>) -> Result<Self, Error>;
}

/// Declares the table of a row with a version. Its columns are the named fields of the struct,
/// followed by `version` and `updated_at`; the first field is the key.
///
/// ```
/// use kontor::domain::product::Product;
/// use kontor::store::versioned::VersionedRow as _;
///
/// let columns = Product::table().columns().iter().map(|column| column.name);
/// assert_eq!(
///     columns.collect::<Vec<_>>(),
///     ["sku", "name", "description", "category", "prices", "tax_rate", "active", "restock_at",
///      "version", "updated_at"],
/// );
/// ```
#[macro_export]
macro_rules! versioned_row {
    ($Row:ident in $table:literal, key($key:ident) { $($field:ident),+ $(,)? }) => {
        impl $crate::store::versioned::VersionedRow for $Row {
            $crate::table_row! { @items $Row in $table, key($key) { $($field),+ } [
                $crate::store::row::VERSION,
                $crate::store::row::UPDATED_AT
            ] }
        }
    };
}

impl<T: VersionedRow> Row<T> {
    /// Decodes a row that was selected with the columns of its table.
    ///
    /// # Errors
    /// [`Error::Row`] for invalid content.
    pub fn decode(found: &FoundRow) -> Result<Self, Error> {
        let mut columns = Columns::new(found, T::table());
        let value = T::read(&mut columns)?;
        Ok(Self { value, version: columns.take()?, updated_at: columns.take()? })
    }

    /// The change that writes this row.
    #[must_use]
    pub fn change(&self) -> RowChange {
        let mut values: Vec<Value<'static>> = self.value.values().map(Value::into_owned).collect();
        values.extend([self.version.to_value(), self.updated_at.to_value()].map(Value::into_owned));
        RowChange::new(T::table(), self.version, values)
    }
}

/// The row with a key, never from a replica.
///
/// # Errors
/// [`Error`] of the store.
pub async fn find<T: VersionedRow>(
    tables: &dyn Tables,
    key: &T::Key,
) -> Result<Option<Row<T>>, Error> {
    let found = tables.find_row(T::table(), &[key.to_value()]).await?;
    found.as_ref().map(Row::decode).transpose()
}

/// The rows with these keys, as far as there are any, never from a replica: one query for up to
/// [`LIST_MAX`] of them.
///
/// # Errors
/// [`Error`] of the store.
pub async fn find_all<T: VersionedRow>(
    tables: &dyn Tables,
    keys: &[T::Key],
) -> Result<Vec<Row<T>>, Error> {
    let keys: Vec<Value<'_>> = keys.iter().map(Stored::to_value).collect();
    let found = tables.find_rows(T::table(), &keys).await?;
    found.iter().map(Row::decode).collect()
}

/// Rows in order of their keys after `after`, at most `limit`, never from a replica.
///
/// # Errors
/// [`Error`] of the store.
pub async fn list_behind<T: VersionedRow>(
    tables: &dyn Tables,
    after: Option<&T::Key>,
    limit: u32,
) -> Result<Vec<Row<T>>, Error> {
    let after = after.map(|key| [key.to_value()]);
    let after = after.as_ref().map(<[Value<'_>; 1]>::as_slice);
    let found = tables.rows_behind(T::table(), after, limit).await?;
    found.iter().map(Row::decode).collect()
}

/// The first rows that meet a condition, in order of their keys, or the one with this key, at most
/// `limit`; and the end of each shard of the journal, from the same snapshot of the database. Never
/// from a replica.
///
/// # Errors
/// [`Error`] of the store.
pub async fn list_at_end<T: VersionedRow>(
    store: &Store,
    (condition, keys): (&'static str, &[T::Key]),
    limit: u32,
) -> Result<(Vec<Row<T>>, Vec<(u16, i64)>), Error> {
    let (from, table) = (store.readers(), T::table());
    let mut list = Builder::new(from.dialect(), &table.select());
    list.push(" WHERE ").push(condition);
    for (index, key) in keys.iter().enumerate() {
        match index {
            0 => list.push(format_args!(" AND {} IN (", table.key().join(", "))),
            _ => list.push(", "),
        };
        list.push_bind(key.to_value().into_owned());
    }
    if !keys.is_empty() {
        list.push(")");
    }
    list.push(format_args!(" ORDER BY {} LIMIT +", table.key().join(", ")));
    list.push_bind(i64::from(limit.min(LIST_MAX)));
    let (found, ends) = projection::list_at_end(from, list).await?;
    Ok((found.iter().map(Row::decode).collect::<Result<_, _>>()?, ends))
}
