//! Statements that write many rows. For SQLite, each execution through sqlx costs two switches
//! between threads, so one statement writes many rows; and each text is prepared once per
//! connection, so only some numbers of rows have a text. For PostgreSQL, the rows are bound as one
//! array per column (`unnest`).

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Postgres, Sqlite, SqliteConnection};

use super::value::{ColumnKind, Value};

/// A statement whose variables are being bound.
pub(in crate::store) type Binding = Query<'static, Sqlite, SqliteArguments>;

/// The most variables of one statement, far below SQLite's 32,766.
const VARIABLES_MAX: usize = 2_560;
/// Up to this number of rows, each number has a text of its own.
const EXACT_MAX: usize = 24;

/// The texts of a statement for 1, 2, 3 .. 24 rows, and for 48, 96 .. rows, up to
/// [`VARIABLES_MAX`]. Their variables are `?`, without numbers: sqlx looks up numbered ones one by
/// one, in time that is quadratic in their number.
#[derive(Debug)]
pub(in crate::store) struct Texts {
    /// Numbers of rows and their texts, the largest first.
    by_rows: Vec<(usize, Arc<str>)>,
}

impl Texts {
    /// The texts of `head row,row,row tail`.
    pub(in crate::store) fn new(head: &str, row: &str, tail: &str) -> Self {
        let variables = row.matches('?').count().max(1);
        let larger = std::iter::successors(Some(EXACT_MAX * 2), |rows| Some(rows * 2));
        let larger = larger.take_while(|rows| rows * variables <= VARIABLES_MAX);
        let mut sizes: Vec<usize> = (1..=EXACT_MAX).chain(larger).collect();
        sizes.reverse();
        let text = |rows: usize| format!("{head}{}{tail}", vec![row; rows].join(",")).into();
        Self { by_rows: sizes.into_iter().map(|rows| (rows, text(rows))).collect() }
    }

    /// Writes all rows, in as few executions as the texts allow. Returns how many rows were written.
    pub(in crate::store) async fn run<T>(
        &self,
        connection: &mut SqliteConnection,
        mut rows: &[T],
        bind: fn(Binding, &T) -> Binding,
    ) -> Result<u64, sqlx::Error> {
        let mut written = 0;
        while let Some((count, text)) = self.by_rows.iter().find(|(count, _)| *count <= rows.len())
        {
            let (piece, rest) = rows.split_at(*count);
            let query = sqlx::query(AssertSqlSafe(Arc::clone(text)));
            let done = piece.iter().fold(query, bind).execute(&mut *connection).await?;
            written += done.rows_affected();
            rows = rest;
        }
        Ok(written)
    }

    /// The smallest text with room for so many rows, or else the largest one; with its number of rows,
    /// and how many of those asked for it takes.
    pub(in crate::store) fn with_room_for(&self, rows: usize) -> (Arc<str>, usize, usize) {
        let with_room = self.by_rows.iter().rev().find(|(count, _)| *count >= rows);
        let found = with_room.or_else(|| self.by_rows.first());
        found.map_or_else(
            || (Arc::from(""), 0, 0),
            |(count, text)| (Arc::clone(text), *count, rows.min(*count)),
        )
    }

    /// The text for a number of rows, if there is one.
    #[cfg(test)]
    pub(in crate::store) fn of(&self, rows: usize) -> Option<&str> {
        self.by_rows.iter().find(|(count, _)| *count == rows).map(|(_, text)| &**text)
    }
}

/// Binds a value.
pub(in crate::store) fn bind(query: Binding, value: Value<'_>) -> Binding {
    match value {
        Value::Null => query.bind(None::<i64>),
        Value::Number(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Flag(flag) => query.bind(flag),
        Value::Bytes(bytes) => query.bind(bytes),
    }
}

/// A column of many rows, for PostgreSQL.
pub(in crate::store) enum Array<'a> {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<Cow<'a, str>>>),
    Flags(Vec<Option<bool>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl<'a> Array<'a> {
    pub(in crate::store) fn new(kind: ColumnKind, rows: usize) -> Self {
        match kind {
            ColumnKind::Number => Self::Numbers(Vec::with_capacity(rows)),
            ColumnKind::Text => Self::Texts(Vec::with_capacity(rows)),
            ColumnKind::Flag => Self::Flags(Vec::with_capacity(rows)),
            ColumnKind::Bytes => Self::Bytes(Vec::with_capacity(rows)),
        }
    }

    /// Adds a value. A value of another kind, which cannot occur in a declared table, becomes
    /// `NULL`.
    pub(in crate::store) fn push(&mut self, value: Value<'a>) {
        match (self, value) {
            (Self::Numbers(all), Value::Number(number)) => all.push(Some(number)),
            (Self::Texts(all), Value::Text(text)) => all.push(Some(storable(text))),
            (Self::Flags(all), Value::Flag(flag)) => all.push(Some(flag)),
            (Self::Bytes(all), Value::Bytes(bytes)) => all.push(Some(bytes.into_owned())),
            (Self::Numbers(all), _) => all.push(None),
            (Self::Texts(all), _) => all.push(None),
            (Self::Flags(all), _) => all.push(None),
            (Self::Bytes(all), _) => all.push(None),
        }
    }

    pub(in crate::store) fn bind(
        self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Query<'static, Postgres, PgArguments> {
        match self {
            Self::Numbers(all) => query.bind(all),
            Self::Texts(all) => query.bind(all),
            Self::Flags(all) => query.bind(all),
            Self::Bytes(all) => query.bind(all),
        }
    }
}

/// A text in which the NUL character, which PostgreSQL cannot store, is replaced by U+FFFD.
fn storable(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_split_into_few_statements() {
        let texts = Texts::new("X ", "(?,?)", " Y");
        let pieces = |mut rows: usize| {
            let mut pieces = Vec::new();
            while let Some((count, _)) = texts.by_rows.iter().find(|(count, _)| *count <= rows) {
                pieces.push(*count);
                rows -= count;
            }
            pieces
        };
        assert_eq!(pieces(0), [0; 0]);
        assert_eq!(pieces(17), [17]);
        assert_eq!(pieces(100), [96, 4]);
        assert_eq!(pieces(1_000), [768, 192, 24, 16]);
        for (rows, size, taken) in [(1, 1, 1), (24, 24, 24), (25, 48, 25), (99_999, 768, 768)] {
            let (text, found, some) = texts.with_room_for(rows);
            assert_eq!((found, some), (size, taken));
            assert_eq!(Some(&*text), texts.of(size));
        }
        assert!(
            texts.by_rows.iter().any(|(rows, text)| *rows == 2 && &**text == "X (?,?),(?,?) Y")
        );
    }
}
