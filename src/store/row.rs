//! Tables whose rows are declared: from one declaration come the list of columns, reading a row, and
//! the statements that write one or many, for both databases. Which lists a table is asked for, and
//! by which index they are found, stands in the table's own file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

use super::Error;
use super::both::{Builder, Found, Readers, Writing};
use super::many::{Binding, Texts};

pub use super::value::{Kind, Stored, Value, from_json, to_json};

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// A table whose columns are known by a declaration ([`table_row!`](crate::table_row)).
#[derive(Debug)]
pub struct Table {
    name: &'static str,
    columns: &'static [Column],
    key: &'static [&'static str],
    texts: OnceLock<PutTexts>,
}

/// The statements that write any number of rows over what they were.
#[derive(Debug)]
struct PutTexts {
    sqlite: Texts,
    postgres: Arc<str>,
}

impl Table {
    /// A table of these columns, the first of which are its key.
    ///
    /// # Panics
    /// Where it is compiled, if the columns do not begin with the key.
    #[must_use]
    pub const fn new(
        name: &'static str,
        columns: &'static [Column],
        key: &'static [&'static str],
    ) -> Self {
        let mut nth = 0;
        while nth < key.len() {
            assert!(same(columns[nth].name, key[nth]), "a table's columns begin with its key");
            nth += 1;
        }
        Self { name, columns, key, texts: OnceLock::new() }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its columns, in the order in which rows are read and written.
    #[must_use]
    pub const fn columns(&self) -> &'static [Column] {
        self.columns
    }

    /// The names of the columns that tell its rows apart, which are the first.
    #[must_use]
    pub const fn key(&self) -> &'static [&'static str] {
        self.key
    }

    /// All its columns, as a list in a statement.
    pub(in crate::store) fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        names.join(", ")
    }

    /// `SELECT` of all its columns, up to the name of the table.
    pub(in crate::store) fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.names(), self.name)
    }

    /// What is written over a row that is there. Not SQLite's `INSERT OR REPLACE`: that writes every
    /// index anew, this one those whose columns changed.
    fn over(&self) -> String {
        let rest = self.columns.iter().skip(self.key.len());
        let sets: Vec<String> =
            rest.map(|column| format!("{0} = excluded.{0}", column.name)).collect();
        format!(" ON CONFLICT ({}) DO UPDATE SET {}", self.key.join(", "), sets.join(", "))
    }

    /// `INSERT` of rows that are made of an array for each column.
    pub(in crate::store) fn insert_arrays(&self) -> String {
        let arrays: Vec<String> = self
            .columns
            .iter()
            .zip(1..)
            .map(|(column, nth)| format!("${nth}::{}[]", column.kind.postgres()))
            .collect();
        let (names, arrays) = (self.names(), arrays.join(", "));
        format!("INSERT INTO {} ({names}) SELECT * FROM unnest({arrays})", self.name)
    }

    fn texts(&self) -> &PutTexts {
        self.texts.get_or_init(|| {
            let head = format!("INSERT INTO {} ({}) VALUES ", self.name, self.names());
            let row = format!("({})", vec!["?"; self.columns.len()].join(","));
            let over = self.over();
            let postgres = format!("{}{over}", self.insert_arrays());
            PutTexts { sqlite: Texts::new(&head, &row, &over), postgres: postgres.into() }
        })
    }
}

impl Kind {
    /// What PostgreSQL calls it.
    const fn postgres(self) -> &'static str {
        match self {
            Self::Number => "BIGINT",
            Self::Text => "TEXT",
            Self::Flag => "BOOLEAN",
            Self::Bytes => "BYTEA",
        }
    }
}

/// Whether two names are the same, known when it is compiled.
const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// What a column of a row holds, by the field that it is kept in.
#[doc(hidden)]
#[must_use]
pub const fn kind_of<R, C: Stored>(_field: fn(&R) -> &C) -> Kind {
    C::KIND
}

/// A row of a declared table. [`table_row!`](crate::table_row) implements it.
pub trait TableRow: Sized + Send + Sync + 'static {
    /// The table.
    fn table() -> &'static Table;

    /// The values of all its columns, in order.
    fn values(&self) -> impl Iterator<Item = Value<'_>>;

    /// Reads the columns of a row, one after the other.
    ///
    /// # Errors
    /// [`Error::Row`] for what cannot be understood.
    fn read(columns: &mut Columns<'_>) -> Result<Self, Error>;

    /// Reads a row that was selected with the columns of its table.
    ///
    /// # Errors
    /// [`Error::Row`] for what cannot be understood.
    fn decode(found: &Found) -> Result<Self, Error> {
        Self::read(&mut Columns::new(found, Self::table()))
    }
}

/// The columns of a row, read one after the other.
pub struct Columns<'r> {
    found: &'r Found,
    table: &'static Table,
    nth: usize,
}

impl<'r> Columns<'r> {
    /// Those of a row that was selected with the columns of a table.
    #[must_use]
    pub const fn new(found: &'r Found, table: &'static Table) -> Self {
        Self { found, table, nth: 0 }
    }

    /// The next column.
    ///
    /// # Errors
    /// [`Error::Row`] for what cannot be understood.
    pub fn take<T: Stored>(&mut self) -> Result<T, Error> {
        let nth = self.nth;
        self.nth += 1;
        T::from_value(self.found.value(nth, T::KIND)?).map_err(|reason| {
            let column = self.table.columns.get(nth).map_or("?", |column| column.name);
            Error::Row { table: self.table.name, reason: format!("{column}: {reason}") }
        })
    }
}

/// Declares a row, and with it all that reads and writes it. The columns are the fields, in the order
/// of the declaration; `key` names the first of them, which tell rows apart. A field's type is one
/// that is [`Stored`](crate::store::row::Stored).
///
/// ```
/// use kontor::store::row::TableRow as _;
///
/// kontor::table_row! {
///     /// How often a page was asked for.
///     #[derive(Clone, Debug)]
///     pub struct PageCount in "page_count", key(page) {
///         /// The page.
///         pub page: String,
///         /// How often.
///         pub count: i64,
///     }
/// }
///
/// assert_eq!(PageCount::table().name(), "page_count");
/// assert_eq!(PageCount::table().columns().len(), 2);
/// ```
///
/// For a struct that stands elsewhere, its fields are named:
/// `table_row! { Job in "job", key(id) { id, kind, state } }`.
#[macro_export]
macro_rules! table_row {
    (
        $(#[$about:meta])*
        $vis:vis struct $Row:ident in $table:literal, key($($key:ident),+) {
            $($(#[$about_field:meta])* $field_vis:vis $field:ident: $type:ty),+ $(,)?
        }
    ) => {
        $(#[$about])*
        $vis struct $Row {
            $($(#[$about_field])* $field_vis $field: $type),+
        }

        $crate::table_row! { $Row in $table, key($($key),+) { $($field),+ } }
    };
    ($Row:ident in $table:literal, key($($key:ident),+) { $($field:ident),+ $(,)? }) => {
        impl $crate::store::row::TableRow for $Row {
            fn table() -> &'static $crate::store::row::Table {
                static TABLE: $crate::store::row::Table = $crate::store::row::Table::new(
                    $table,
                    &[$($crate::store::row::Column {
                        name: stringify!($field),
                        kind: $crate::store::row::kind_of(|row: &$Row| &row.$field),
                    }),+],
                    &[$(stringify!($key)),+],
                );
                &TABLE
            }

            fn values(&self) -> impl Iterator<Item = $crate::store::row::Value<'_>> {
                [$($crate::store::row::Stored::to_value(&self.$field)),+].into_iter()
            }

            fn read(
                columns: &mut $crate::store::row::Columns<'_>,
            ) -> Result<Self, $crate::store::Error> {
                Ok(Self { $($field: columns.take()?),+ })
            }
        }
    };
}

/// The row of a key, if it is there.
pub(in crate::store) async fn find(
    from: Readers<'_>,
    table: &'static Table,
    key: &[Value<'_>],
) -> Result<Option<Found>, Error> {
    let mut query = Builder::new(from.dialect(), &table.select());
    for (nth, (column, value)) in table.key.iter().zip(key).enumerate() {
        query.push(if nth == 0 { " WHERE " } else { " AND " }).push(column).push(" = ");
        query.push_bind(value.clone().into_owned());
    }
    Ok(query.fetch_all(from).await?.pop())
}

/// Writes rows over what they were.
pub(in crate::store) async fn put<R: TableRow>(
    writing: &mut Writing,
    rows: &[R],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let texts = R::table().texts();
    match writing {
        Writing::Sqlite(writing) => texts.sqlite.run(writing.connection()?, rows, bind_row).await,
        Writing::Postgres(transaction) => {
            let query = sqlx::query(AssertSqlSafe(Arc::clone(&texts.postgres)));
            transaction.execute(bind_arrays(query, rows)).await.map(drop)
        }
    }
}

fn bind_row<R: TableRow>(query: Binding, row: &R) -> Binding {
    row.values().fold(query, |query, value| match value {
        Value::Null => query.bind(None::<i64>),
        Value::Number(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Flag(flag) => query.bind(flag),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

/// Binds an array for each column. Of rows with the same key the last counts: one statement of
/// PostgreSQL writes a row once.
fn bind_arrays<R: TableRow>(
    query: Query<'static, Postgres, PgArguments>,
    rows: &[R],
) -> Query<'static, Postgres, PgArguments> {
    let table = R::table();
    let key = |row: &'_ R| row.values().take(table.key.len()).map(Value::into_owned).collect();
    let last: BTreeMap<Vec<Value<'static>>, &R> = rows.iter().map(|row| (key(row), row)).collect();
    let mut arrays: Vec<Array<'_>> =
        table.columns.iter().map(|column| Array::new(column.kind, last.len())).collect();
    for row in last.into_values() {
        arrays.iter_mut().zip(row.values()).for_each(|(array, value)| array.push(value));
    }
    arrays.into_iter().fold(query, |query, array| array.bind(query))
}

/// A column of many rows.
pub(in crate::store) enum Array<'a> {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<Cow<'a, str>>>),
    Flags(Vec<Option<bool>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl<'a> Array<'a> {
    pub(in crate::store) fn new(kind: Kind, rows: usize) -> Self {
        match kind {
            Kind::Number => Self::Numbers(Vec::with_capacity(rows)),
            Kind::Text => Self::Texts(Vec::with_capacity(rows)),
            Kind::Flag => Self::Flags(Vec::with_capacity(rows)),
            Kind::Bytes => Self::Bytes(Vec::with_capacity(rows)),
        }
    }

    /// Adds a value; one of another kind, which no declaration makes, is `NULL`.
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

/// What others wrote, without what no text in PostgreSQL can have.
fn storable(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text }
}
