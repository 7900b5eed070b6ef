//! Statements that run on both databases, each written once. `$1`, `coalesce`, `RETURNING` and `ON
//! CONFLICT .. DO UPDATE` are the same in both; a `+` before a bound number (`LIMIT +$2`) keeps
//! SQLite from planning the statement again at each execution, and has no effect in PostgreSQL.
//! Where the dialects differ, the file of the table has a variant for each.
//!
//! Bound values must have a type that both databases support: `i64` or `i32`, not `u16` or `u32`.

use std::fmt;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Postgres, Sqlite, SqlitePool};

use super::found::{FoundRow, sqlite_rows};
use super::postgres::pool::{Pool, Transaction};
use super::value::Value;
use super::{bulk_write, folder};

/// The connections to read with.
#[derive(Clone, Copy)]
pub(in crate::store) enum Readers<'a> {
    Sqlite(&'a SqlitePool),
    Postgres(&'a Pool),
}

/// A write transaction. If it is dropped before its commit, it is rolled back.
pub(in crate::store) enum Writing {
    Sqlite(folder::FolderTransaction),
    Postgres(Transaction),
}

impl Writing {
    pub(in crate::store) async fn commit(self) -> Result<(), super::Error> {
        match self {
            Self::Sqlite(writing) => writing.commit().await,
            Self::Postgres(transaction) => Ok(transaction.commit().await?),
        }
    }
}

/// All rows of a query: `fetch_all!(readers, sqlx::query(..).bind(..))`.
macro_rules! fetch_all {
    ($from:expr, $query:expr) => {
        match $from {
            $crate::store::both::Readers::Sqlite(pool) => {
                $query.fetch_all(pool).await.map($crate::store::found::sqlite_rows)
            }
            $crate::store::both::Readers::Postgres(pool) => pool.fetch_all($query).await,
        }
    };
}

/// The first row of a query, if there is one.
macro_rules! fetch_optional {
    ($from:expr, $query:expr) => {
        match $from {
            $crate::store::both::Readers::Sqlite(pool) => {
                let found = $query.fetch_optional(pool).await;
                found.map(|row| row.map($crate::store::found::FoundRow::Sqlite))
            }
            $crate::store::both::Readers::Postgres(pool) => pool.fetch_optional($query).await,
        }
    };
}

/// Runs one statement durably in a transaction of its own; returns the number of changed rows.
macro_rules! change {
    ($store:expr, $query:expr) => {
        match &$store.backend {
            $crate::store::Backend::Sqlite(folder) => folder.write($query).await,
            $crate::store::Backend::Postgres(database) => {
                database.writers().execute($query).await.map_err($crate::store::Error::from)
            }
        }
    };
}

/// Runs a statement inside a transaction; returns the number of changed rows.
macro_rules! execute {
    ($writing:expr, $query:expr) => {
        match &mut $writing {
            $crate::store::both::Writing::Sqlite(writing) => match writing.connection() {
                Ok(connection) => $query.execute(connection).await.map(|done| done.rows_affected()),
                Err(error) => Err(error),
            },
            $crate::store::both::Writing::Postgres(transaction) => {
                transaction.execute($query).await
            }
        }
    };
}

/// The row that a statement returns inside a transaction, if there is one.
macro_rules! execute_returning {
    ($writing:expr, $query:expr) => {
        match &mut $writing {
            $crate::store::both::Writing::Sqlite(writing) => match writing.connection() {
                Ok(connection) => {
                    let found = $query.fetch_optional(connection).await;
                    found.map(|row| row.map($crate::store::found::FoundRow::Sqlite))
                }
                Err(error) => Err(error),
            },
            $crate::store::both::Writing::Postgres(transaction) => {
                transaction.fetch_optional($query).await
            }
        }
    };
}

/// The clock of a SQLite store, in milliseconds since 1970. In PostgreSQL it is the function
/// `store_now`.
macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}

/// The text of a statement that reads the store's clock, in the dialect of the store.
macro_rules! by_store_clock {
    ($is_shared:expr, $head:literal $(, $tail:literal)*) => {
        if $is_shared {
            concat!($head $(, "store_now()", $tail)*)
        } else {
            concat!($head $(, $crate::store::both::sqlite_now!(), $tail)*)
        }
    };
}

pub(in crate::store) use {
    by_store_clock, change, execute, execute_returning, fetch_all, fetch_optional, sqlite_now,
};

/// The dialect of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Dialect {
    Sqlite,
    Postgres,
}

/// Values as they are stored in a column of texts.
pub(in crate::store) fn texts(values: &[impl fmt::Display]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

impl Readers<'_> {
    pub(in crate::store) const fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }
}

/// A query that is built from parts.
#[derive(Clone, Debug)]
pub(in crate::store) struct Builder {
    dialect: Dialect,
    text: String,
    values: Vec<Value<'static>>,
}

impl Builder {
    pub(in crate::store) fn new(dialect: Dialect, text: &str) -> Self {
        Self { dialect, text: text.to_owned(), values: Vec::new() }
    }

    pub(in crate::store) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(in crate::store) fn push(&mut self, text: impl fmt::Display) -> &mut Self {
        self.text.push_str(&text.to_string());
        self
    }

    /// Puts the statement between two texts.
    pub(in crate::store) fn enclose(&mut self, before: &str, after: &str) {
        self.text = format!("{before}{}{after}", self.text);
    }

    /// Adds a text for SQLite only: a hint to its query planner.
    pub(in crate::store) fn hint(&mut self, text: &str) -> &mut Self {
        if self.dialect == Dialect::Sqlite {
            self.text.push_str(text);
        }
        self
    }

    pub(in crate::store) fn push_bind(&mut self, value: impl Into<Value<'static>>) -> &mut Self {
        self.values.push(value.into());
        let nth = self.values.len();
        self.push(format_args!("${nth}"))
    }

    /// Adds the condition that a column has one of these values, unless there are none. The hint is
    /// for SQLite only.
    pub(in crate::store) fn push_in<T: Clone + Into<Value<'static>>>(
        &mut self,
        hint: &str,
        column: &str,
        values: &[T],
    ) {
        let [first, others @ ..] = values else { return };
        self.push(" AND ").hint(hint).push(column);
        self.push(if others.is_empty() { " = " } else { " IN (" }).push_bind(first.clone());
        for other in others {
            self.push(", ").push_bind(other.clone());
        }
        self.push(if others.is_empty() { "" } else { ")" });
    }

    #[cfg(test)]
    pub(in crate::store) fn text(&self) -> &str {
        &self.text
    }

    pub(in crate::store) async fn fetch_all(
        self,
        from: Readers<'_>,
    ) -> Result<Vec<FoundRow>, sqlx::Error> {
        match from {
            Readers::Sqlite(pool) => {
                let rows = self.sqlite().fetch_all(pool).await;
                rows.map(sqlite_rows)
            }
            Readers::Postgres(pool) => pool.fetch_all(self.postgres()).await,
        }
    }

    pub(in crate::store) fn sqlite(self) -> Query<'static, Sqlite, SqliteArguments> {
        self.values.into_iter().fold(sqlx::query(AssertSqlSafe(self.text)), bulk_write::bind)
    }

    pub(in crate::store) fn postgres(self) -> Query<'static, Postgres, PgArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Null => query.bind(None::<i64>),
            Value::Number(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
            Value::Flag(flag) => query.bind(flag),
            Value::Bytes(bytes) => query.bind(bytes),
        })
    }
}
