//! Declared tables. From one declaration come the list of columns, the decoding of a row, and the
//! statements that write one row or many, for both databases. The queries of a table are in the
//! table's own file.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

use super::both::{Builder, Readers, Writing};
use super::bulk_write::{Array, Binding, Texts, bind};
use super::found::FoundRow;
use super::{Error, LIST_MAX};

pub use super::value::{ColumnKind, Stored, Value, from_json, to_json};

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: ColumnKind,
}

/// A table whose columns are declared ([`table_row!`](crate::table_row)).
#[derive(Debug)]
pub struct Table {
    name: &'static str,
    columns: &'static [Column],
    key: &'static [&'static str],
    /// The column without a change of which a stored row is not written again.
    if_changes: Option<&'static str>,
    /// The columns of which a change is rare ([`Batch::put_over`](super::list_row::Batch::put_over)).
    lasting: &'static [&'static str],
    put: OnceLock<PutTexts>,
    put_over: OnceLock<PutTexts>,
    change: OnceLock<ChangeTexts>,
}

/// The statements that write any number of rows, which replace stored rows with the same keys.
#[derive(Debug)]
struct PutTexts {
    sqlite: Texts,
    postgres: Arc<str>,
}

/// The statements that write a row over its previous version. They write nothing if the stored
/// version is another one.
#[derive(Debug)]
pub(in crate::store) struct ChangeTexts {
    /// The statements for SQLite that insert any number of new rows.
    pub(in crate::store) sqlite_insert: Texts,
    /// The statement for SQLite that changes a row, with a variable for each column.
    pub(in crate::store) sqlite_update: Arc<str>,
    /// The statements for PostgreSQL, whose one variable is the row as JSON.
    pub(in crate::store) postgres: ChangeText,
}

/// A statement for a new row, and one for a changed row.
#[derive(Debug)]
pub(in crate::store) struct ChangeText {
    insert: Arc<str>,
    update: Arc<str>,
}

impl ChangeText {
    /// The statement that writes this version: 1 is a new row.
    pub(in crate::store) fn of(&self, version: i64) -> &Arc<str> {
        if version == 1 { &self.insert } else { &self.update }
    }
}

impl Table {
    /// A table with these columns, the first of which are its key.
    ///
    /// # Panics
    /// At compile time, if the columns do not begin with the key.
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
        Self {
            name,
            columns,
            key,
            if_changes: None,
            lasting: &[],
            put: OnceLock::new(),
            put_over: OnceLock::new(),
            change: OnceLock::new(),
        }
    }

    /// The table, whose stored rows are replaced only if this column changes, which is never NULL.
    #[must_use]
    pub const fn if_changes(mut self, column: &'static str) -> Self {
        self.if_changes = Some(column);
        self
    }

    /// The table, with columns that keep their values while other columns of a row change, but for
    /// rare changes.
    #[must_use]
    pub const fn lasting(mut self, columns: &'static [&'static str]) -> Self {
        self.lasting = columns;
        self
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

    /// The names of its key columns, which are its first columns.
    #[must_use]
    pub const fn key(&self) -> &'static [&'static str] {
        self.key
    }

    /// The names of all its columns, separated by commas.
    pub(in crate::store) fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        names.join(", ")
    }

    /// `SELECT` of all its columns, up to the name of the table.
    pub(in crate::store) fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.names(), self.name)
    }

    /// The clause of an `INSERT` that replaces a stored row with the same key, but for the columns
    /// in `kept`. SQLite writes each index that has a column which is set, even to the same value.
    fn over(&self, kept: &[&str]) -> String {
        let rest = self.columns.iter().skip(self.key.len());
        let sets: Vec<String> = rest
            .filter(|column| !kept.contains(&column.name))
            .map(|column| format!("{0} = excluded.{0}", column.name))
            .collect();
        let name = self.name;
        let only =
            self.if_changes.map(|column| format!(" WHERE {name}.{column} <> excluded.{column}"));
        let (key, sets, only) = (self.key.join(", "), sets.join(", "), only.unwrap_or_default());
        format!(" ON CONFLICT ({key}) DO UPDATE SET {sets}{only}")
    }

    /// An `INSERT` of rows that are bound as one array per column, for PostgreSQL.
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

    fn put_texts(&self, over: bool) -> &PutTexts {
        let (texts, kept) =
            if over { (&self.put_over, self.lasting) } else { (&self.put, [].as_slice()) };
        texts.get_or_init(|| {
            let over = self.over(kept);
            let postgres = format!("{}{over}", self.insert_arrays());
            let sqlite = Texts::new(&self.insert_head("INSERT"), &self.variables(), &over);
            PutTexts { sqlite, postgres: postgres.into() }
        })
    }

    /// An `INSERT` for SQLite, up to the variables of the first row.
    fn insert_head(&self, insert: &str) -> String {
        format!("{insert} INTO {} ({}) VALUES ", self.name, self.names())
    }

    /// The variables of a row for SQLite.
    fn variables(&self) -> String {
        format!("({})", vec!["?"; self.columns.len()].join(","))
    }
}

/// Tables whose rows have a version.
impl Table {
    pub(in crate::store) fn change_texts(&self) -> &ChangeTexts {
        self.change.get_or_init(|| {
            let (name, names, key) = (self.name, self.names(), self.key.join(", "));
            let numbered = |nth: usize| format!("${}", nth + 1);
            let over = format!(" ON CONFLICT ({key}) DO NOTHING");
            let record = format!("jsonb_populate_record(NULL::{name}, $1)");
            // A refused statement is not undone by itself: its transaction is rolled back.
            let head = self.insert_head("INSERT OR FAIL");
            let sqlite_insert = Texts::new(&head, &self.variables(), &over);
            let of_record = |nth: usize| format!("r.{}", self.columns[nth].name);
            let from = format!(" FROM {record} AS r");
            let postgres = ChangeText {
                insert: format!("INSERT INTO {name} ({names}) SELECT {names} FROM {record}{over}")
                    .into(),
                update: self.update(&from, of_record).into(),
            };
            let sqlite_update = self.update("", numbered).into();
            ChangeTexts { sqlite_insert, sqlite_update, postgres }
        })
    }

    /// An `UPDATE` of the previous version, with `value` as the expression of each column.
    fn update(&self, from: &str, value: impl Fn(usize) -> String) -> String {
        let (mut sets, mut wheres) = (Vec::new(), Vec::new());
        for (nth, column) in self.columns.iter().enumerate() {
            let (name, value) = (column.name, value(nth));
            if nth < self.key.len() {
                wheres.push(format!("t.{name} = {value}"));
            } else {
                sets.push(format!("{name} = {value}"));
            }
            if name == VERSION.name {
                wheres.push(format!("t.{name} = {value} - 1"));
            }
        }
        let (sets, wheres) = (sets.join(", "), wheres.join(" AND "));
        format!("UPDATE {} AS t SET {sets}{from} WHERE {wheres}", self.name)
    }
}

/// The column of a row's version, after the row's own columns.
pub const VERSION: Column = Column { name: "version", kind: ColumnKind::Number };
/// The column of the time of the last change, which follows the version.
pub const UPDATED_AT: Column = Column { name: "updated_at", kind: ColumnKind::Number };

impl ColumnKind {
    /// The type in PostgreSQL.
    pub(in crate::store) const fn postgres(self) -> &'static str {
        match self {
            Self::Number => "BIGINT",
            Self::Text => "TEXT",
            Self::Flag => "BOOLEAN",
            Self::Bytes => "BYTEA",
        }
    }
}

/// Whether two names are equal, at compile time.
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

/// The type of the column that stores a field.
#[doc(hidden)]
#[must_use]
pub const fn kind_of<R, C: Stored>(_field: fn(&R) -> &C) -> ColumnKind {
    C::KIND
}

/// A row of a declared table. [`table_row!`](crate::table_row) implements it.
pub trait TableRow: Sized + Send + Sync + 'static {
    /// The table.
    fn table() -> &'static Table;

    /// The values of all its columns, in order.
    fn values(&self) -> impl Iterator<Item = Value<'_>>;

    /// Decodes the columns of a row, in order.
    ///
    /// # Errors
    /// [`Error::Row`] for invalid content.
    fn read(columns: &mut Columns<'_>) -> Result<Self, Error>;

    /// Decodes a row that was selected with the columns of its table.
    ///
    /// # Errors
    /// [`Error::Row`] for invalid content.
    fn decode(found: &FoundRow) -> Result<Self, Error> {
        Self::read(&mut Columns::new(found, Self::table()))
    }
}

/// The columns of a row, decoded in order.
pub struct Columns<'r> {
    found: &'r FoundRow,
    table: &'static Table,
    nth: usize,
}

impl<'r> Columns<'r> {
    /// The columns of a row that was selected from a table.
    #[must_use]
    pub const fn new(found: &'r FoundRow, table: &'static Table) -> Self {
        Self { found, table, nth: 0 }
    }

    /// Decodes the next column.
    ///
    /// # Errors
    /// [`Error::Row`] for invalid content.
    pub fn take<T: Stored>(&mut self) -> Result<T, Error> {
        let nth = self.nth;
        self.nth += 1;
        T::from_value(self.found.value(nth, T::KIND)?).map_err(|reason| {
            let column = self.table.columns.get(nth).map_or("?", |column| column.name);
            Error::Row { table: self.table.name, reason: format!("{column}: {reason}") }
        })
    }
}

/// A row to be written with the events that describe its change.
#[derive(Clone, Debug)]
pub struct RowChange {
    table: &'static Table,
    version: i64,
    /// The values of all columns of the table, in order.
    values: Vec<Value<'static>>,
}

impl RowChange {
    /// The change that writes a version of a row, with a value for each column of its table.
    #[must_use]
    pub const fn new(table: &'static Table, version: i64, values: Vec<Value<'static>>) -> Self {
        Self { table, version, values }
    }

    /// Its table.
    #[must_use]
    pub const fn table(&self) -> &'static Table {
        self.table
    }

    /// The version that it writes: 1 creates the row; otherwise the stored version must be the one
    /// before.
    #[must_use]
    pub const fn version(&self) -> i64 {
        self.version
    }

    /// Whether it creates the row.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.version == 1
    }

    /// The key of the row.
    #[must_use]
    pub fn key(&self) -> &[Value<'static>] {
        self.values.get(..self.table.key().len()).unwrap_or_default()
    }

    /// The values of all columns of the table, in order.
    #[must_use]
    pub fn values(&self) -> &[Value<'static>] {
        &self.values
    }

    /// The row as JSON, for the statements of PostgreSQL.
    pub(in crate::store) fn json(&self) -> serde_json::Value {
        let columns = self.table.columns.iter().map(|column| column.name.to_owned());
        columns.zip(self.values.iter().map(Value::json)).collect::<serde_json::Map<_, _>>().into()
    }

    /// The approximate size of the row, in bytes.
    pub(in crate::store) fn bytes(&self) -> usize {
        let of = |value: &Value<'_>| match value {
            Value::Text(text) => 16 + text.len(),
            Value::Bytes(bytes) => 16 + bytes.len(),
            Value::Null | Value::Number(_) | Value::Flag(_) => 16,
        };
        self.values.iter().map(of).sum()
    }
}

/// Declares a row, and implements [`TableRow`](crate::store::row::TableRow), which reads and writes
/// it. The columns are the fields, in the order of the declaration; `key` repeats the first fields,
/// which are the key of the table. With `if_changes`, a stored row is replaced only if this field
/// changes; `lasting` names the columns that [`Batch::put_over`](crate::store::list_row::Batch::put_over)
/// leaves alone. The type of a field must be [`Stored`](crate::store::row::Stored).
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
/// For a struct that is declared elsewhere, name only its fields:
/// `table_row! { Job in "job", key(id) { id, kind, state } }`.
#[macro_export]
macro_rules! table_row {
    (
        $(#[$about:meta])*
        $vis:vis struct $Row:ident in $table:literal, key($($key:ident),+)
        $(, if_changes($changes:ident))? $(, lasting($($lasting:ident),+))? {
            $($(#[$about_field:meta])* $field_vis:vis $field:ident: $type:ty),+ $(,)?
        }
    ) => {
        $(#[$about])*
        $vis struct $Row {
            $($(#[$about_field])* $field_vis $field: $type),+
        }

        $crate::table_row! {
            $Row in $table, key($($key),+) $(, if_changes($changes))? $(, lasting($($lasting),+))?
            { $($field),+ }
        }
    };
    (
        $Row:ident in $table:literal, key($($key:ident),+) $(, if_changes($changes:ident))?
        $(, lasting($($lasting:ident),+))? { $($field:ident),+ $(,)? }
    ) => {
        impl $crate::store::row::TableRow for $Row {
            $crate::table_row! {
                @items $Row in $table, key($($key),+) $(, if_changes($changes))?
                $(, lasting($($lasting),+))? { $($field),+ } []
            }
        }
    };
    // The items of the trait, for a table that may have more columns after those of the row
    // (`versioned_row!`).
    (
        @items $Row:ident in $table:literal, key($($key:ident),+) $(, if_changes($changes:ident))?
        $(, lasting($($lasting:ident),+))? { $($field:ident),+ } [$($more:expr),*]
    ) => {
        fn table() -> &'static $crate::store::row::Table {
            static TABLE: $crate::store::row::Table = $crate::store::row::Table::new(
                $table,
                &[
                    $($crate::store::row::Column {
                        name: stringify!($field),
                        kind: $crate::store::row::kind_of(|row: &$Row| &row.$field),
                    },)+
                    $($more),*
                ],
                &[$(stringify!($key)),+],
            )
            $(.if_changes(stringify!($changes)))?
            $(.lasting(&[$(stringify!($lasting)),+]))?;
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
    };
}

/// The row with a key, if there is one.
pub(in crate::store) async fn find(
    from: Readers<'_>,
    table: &'static Table,
    key: &[Value<'_>],
) -> Result<Option<FoundRow>, Error> {
    let mut query = Builder::new(from.dialect(), &table.select());
    for (nth, (column, value)) in table.key.iter().zip(key).enumerate() {
        query.push(if nth == 0 { " WHERE " } else { " AND " }).push(column).push(" = ");
        query.push_bind(value.clone().into_owned());
    }
    Ok(query.fetch_all(from).await?.pop())
}

/// The rows with these keys, of a table with one key column, as far as there are any.
pub(in crate::store) async fn find_all(
    from: Readers<'_>,
    table: &'static Table,
    keys: &[Value<'_>],
) -> Result<Vec<FoundRow>, Error> {
    let mut found = Vec::with_capacity(keys.len());
    for keys in keys.chunks(LIST_MAX as usize) {
        let mut query = Builder::new(from.dialect(), &table.select());
        query.push(" WHERE ").push(table.key.join(", ")).push(" IN (");
        for (nth, key) in keys.iter().enumerate() {
            query.push(if nth == 0 { "" } else { ", " }).push_bind(key.clone().into_owned());
        }
        query.push(")");
        found.extend(query.fetch_all(from).await?);
    }
    Ok(found)
}

/// Rows in order of their keys, starting after `after`, at most `limit`.
pub(in crate::store) async fn list_behind(
    from: Readers<'_>,
    table: &'static Table,
    after: Option<&[Value<'_>]>,
    limit: u32,
) -> Result<Vec<FoundRow>, Error> {
    let mut query = Builder::new(from.dialect(), &table.select());
    let key = table.key.join(", ");
    if let Some(after) = after {
        query.push(format_args!(" WHERE ({key}) > ("));
        for (nth, value) in after.iter().enumerate() {
            query.push(if nth == 0 { "" } else { ", " }).push_bind(value.clone().into_owned());
        }
        query.push(")");
    }
    query.push(format_args!(" ORDER BY {key} LIMIT +"));
    query.push_bind(i64::from(limit.min(LIST_MAX)));
    Ok(query.fetch_all(from).await?)
}

/// Writes rows, which replace stored rows with the same keys; with `over`, but for their lasting
/// columns.
pub(in crate::store) async fn put<R: TableRow>(
    writing: &mut Writing,
    rows: &[R],
    over: bool,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let texts = R::table().put_texts(over);
    match writing {
        Writing::Sqlite(writing) => {
            texts.sqlite.run(writing.connection()?, rows, bind_row).await.map(drop)
        }
        Writing::Postgres(transaction) => {
            let query = sqlx::query(AssertSqlSafe(Arc::clone(&texts.postgres)));
            transaction.execute(bind_arrays(query, rows)).await.map(drop)
        }
    }
}

fn bind_row<R: TableRow>(query: Binding, row: &R) -> Binding {
    row.values().fold(query, bind)
}

/// Binds one array per column. Of rows with the same key, only the last one is bound, because a
/// statement of PostgreSQL must not write a row twice.
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

#[cfg(test)]
mod tests {
    use super::super::versioned::VersionedRow;
    use super::*;
    use crate::domain::product::Product;

    crate::table_row! {
        struct PageCount in "page_count", key(page, day) {
            page: String,
            day: i64,
            count: Option<i64>,
        }
    }

    #[test]
    fn a_declaration_makes_the_statements_of_both_databases() {
        let table = PageCount::table();
        assert_eq!(table.select(), "SELECT page, day, count FROM page_count");
        assert_eq!(
            &*table.put_texts(false).postgres,
            "INSERT INTO page_count (page, day, count) \
             SELECT * FROM unnest($1::TEXT[], $2::BIGINT[], $3::BIGINT[]) \
             ON CONFLICT (page, day) DO UPDATE SET count = excluded.count"
        );
        let texts = Product::table().change_texts();
        let names = "sku, name, description, category, prices, tax_rate, active, restock_at, \
                     version, updated_at";
        let row = "(?,?,?,?,?,?,?,?,?,?)";
        assert_eq!(
            texts.sqlite_insert.of(2),
            Some(
                format!(
                    "INSERT OR FAIL INTO product ({names}) VALUES {row},{row} \
                     ON CONFLICT (sku) DO NOTHING"
                )
                .as_str()
            )
        );
        assert_eq!(
            &*texts.sqlite_update,
            "UPDATE product AS t SET name = $2, description = $3, category = $4, prices = $5, \
             tax_rate = $6, active = $7, restock_at = $8, version = $9, updated_at = $10 \
             WHERE t.sku = $1 AND t.version = $9 - 1"
        );
        assert_eq!(
            **texts.postgres.of(1),
            format!(
                "INSERT INTO product ({names}) \
                 SELECT {names} FROM jsonb_populate_record(NULL::product, $1) \
                 ON CONFLICT (sku) DO NOTHING"
            )
        );
    }

    #[test]
    fn declared_row_round_trips() {
        let row = PageCount { page: "/".to_owned(), day: 7, count: None };
        let values: Vec<Value<'static>> = row.values().map(Value::into_owned).collect();
        assert_eq!(values, [Value::text("/"), Value::Number(7), Value::Null]);
        let again = PageCount::decode(&FoundRow::Memory(values)).unwrap();
        assert_eq!((again.page.as_str(), again.day, again.count), ("/", 7, None));
        let short = FoundRow::Memory(vec![Value::Number(1), Value::Number(7), Value::Null]);
        let error = PageCount::decode(&short).map(drop).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a row of page_count is invalid: page: Number(1) is not a valid text"
        );
    }
}
