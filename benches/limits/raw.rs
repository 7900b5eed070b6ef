//! The raw limits: SQLite through sqlx, opened as the store opens it, doing the least that keeps
//! the same bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection};

use crate::Outcome;

/// The settings of the store's durable connection.
pub async fn open(file: &Path) -> Outcome<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .foreign_keys(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", "67108864")
        .pragma("cache_size", "-65536")
        .pragma("mmap_size", "0")
        .pragma("temp_store", "MEMORY")
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging();
    Ok(options.connect().await?)
}

/// A row as the journal has it.
pub struct Row {
    /// The entity's id.
    pub entity: Arc<str>,
    /// The event's kind.
    pub kind: Arc<str>,
    /// The cause as JSON.
    pub cause: Arc<str>,
    /// The event as JSON.
    pub data: Arc<str>,
}

/// Rows a second into a table without any index, `batch` rows a commit in one statement.
pub async fn append(file: &Path, row: &Row, rows: usize, batch: usize) -> Outcome<f64> {
    let mut connection = open(file).await?;
    sqlx::query(
        "CREATE TABLE event (pos INTEGER PRIMARY KEY, shard INTEGER NOT NULL, entity TEXT NOT NULL, \
         seq INTEGER NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL, \
         cause TEXT NOT NULL, data TEXT NOT NULL) STRICT",
    )
    .execute(&mut connection)
    .await?;
    let places = vec!["(?,0,?,?,?,?,?,?,?)"; batch].join(",");
    let text: Arc<str> = format!(
        "INSERT INTO event (pos, shard, entity, seq, kind, version, at, cause, data) VALUES {places}"
    )
    .into();
    let begin = Instant::now();
    let mut pos: i64 = 0;
    for _ in 0..rows / batch {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone(&text)));
        for _ in 0..batch {
            pos += 1;
            query = query
                .bind(pos)
                .bind(Arc::clone(&row.entity))
                .bind(pos)
                .bind(Arc::clone(&row.kind))
                .bind(1_i64)
                .bind(1_700_000_000_000_i64)
                .bind(Arc::clone(&row.cause))
                .bind(Arc::clone(&row.data));
        }
        query.execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    let rate = pos as f64 / begin.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(rate)
}

/// Units a second that are sold by one UPDATE in a commit each.
pub async fn sell(file: &Path, units: usize) -> Outcome<f64> {
    let mut connection = open(file).await?;
    sqlx::query("CREATE TABLE stock (sku TEXT NOT NULL PRIMARY KEY, qty INTEGER NOT NULL) STRICT")
        .execute(&mut connection)
        .await?;
    sqlx::query("INSERT INTO stock (sku, qty) VALUES ('HOT', 1000000000)")
        .execute(&mut connection)
        .await?;
    let begin = Instant::now();
    for _ in 0..units {
        let sold = sqlx::query("UPDATE stock SET qty = qty - 1 WHERE sku = $1 AND qty > 0")
            .bind("HOT")
            .execute(&mut connection)
            .await?;
        if sold.rows_affected() != 1 {
            return Err("nothing was sold".into());
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of units")]
    let rate = units as f64 / begin.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(rate)
}
