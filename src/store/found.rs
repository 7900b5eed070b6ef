//! A row that was read from SQLite, from PostgreSQL or from memory, and the values of its columns.
//!
//! Queries are in `both`.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Postgres, Row as _, Sqlite, Type};

use super::value::{ColumnKind, Value};

/// A row that was read.
pub enum FoundRow {
    /// From SQLite.
    Sqlite(SqliteRow),
    /// From PostgreSQL.
    Postgres(PgRow),
    /// Of memory: the values of all columns of its table, in order.
    Memory(Vec<Value<'static>>),
}

impl FoundRow {
    /// The value of a column.
    pub(in crate::store) fn try_get<'r, T>(&'r self, column: usize) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
            Self::Memory(_) => Err(sqlx::Error::ColumnNotFound("a typed column".to_owned())),
        }
    }

    /// The value of a column of this kind.
    pub(in crate::store) fn value(
        &self,
        column: usize,
        kind: ColumnKind,
    ) -> Result<Value<'_>, sqlx::Error> {
        if let Self::Memory(values) = self {
            let (index, len) = (column, values.len());
            let found = values.get(column).map(Value::borrowed);
            return found.ok_or(sqlx::Error::ColumnIndexOutOfBounds { index, len });
        }
        Ok(match kind {
            ColumnKind::Number => {
                self.try_get::<Option<i64>>(column)?.map_or(Value::Null, Value::Number)
            }
            ColumnKind::Text => {
                self.try_get::<Option<&str>>(column)?.map_or(Value::Null, Value::text)
            }
            ColumnKind::Flag => {
                self.try_get::<Option<bool>>(column)?.map_or(Value::Null, Value::Flag)
            }
            ColumnKind::Bytes => self
                .try_get::<Option<&[u8]>>(column)?
                .map_or(Value::Null, |bytes| Value::Bytes(bytes.into())),
        })
    }

    /// A column with the number of a shard.
    pub(in crate::store) fn shard(&self, column: usize) -> Result<u16, sqlx::Error> {
        let number: i64 = self.try_get(column)?;
        u16::try_from(number).map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

pub(in crate::store) fn sqlite_rows(rows: Vec<SqliteRow>) -> Vec<FoundRow> {
    rows.into_iter().map(FoundRow::Sqlite).collect()
}
