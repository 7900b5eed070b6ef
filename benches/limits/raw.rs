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
    /// The ids of the entities, in the order in which they come to life.
    pub entities: Vec<Arc<str>>,
    /// How many of them get events in turn.
    pub alive: usize,
    /// How many events each gets before the next ones come.
    pub lifetime: usize,
    /// The event's kind.
    pub kind: Arc<str>,
    /// The cause as JSON.
    pub cause: Arc<str>,
    /// The event as JSON.
    pub data: Arc<str>,
}

/// What a table refuses.
#[derive(Clone, Copy)]
pub enum Fence {
    /// Nothing: rows go to its end.
    None,
    /// An event that stands there already, by a unique index on entity and seq.
    Doubles,
}

/// Rows a second, `batch` rows a commit in one statement.
pub async fn append(
    file: &Path,
    row: &Row,
    rows: usize,
    (batch, fence): (usize, Fence),
) -> Outcome<f64> {
    let mut connection = open(file).await?;
    let unique = if matches!(fence, Fence::None) { "" } else { ", UNIQUE (entity, seq)" };
    let table = format!(
        "CREATE TABLE event (pos INTEGER PRIMARY KEY, shard INTEGER NOT NULL, entity TEXT NOT NULL, \
         seq INTEGER NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL, at INTEGER NOT NULL, \
         cause TEXT NOT NULL, data TEXT NOT NULL{unique}) STRICT"
    );
    sqlx::query(AssertSqlSafe(table)).execute(&mut connection).await?;
    let places = vec!["(?,0,?,?,?,?,?,?,?)"; batch].join(",");
    let text: Arc<str> = format!(
        "INSERT INTO event (pos, shard, entity, seq, kind, version, at, cause, data) VALUES {places}"
    )
    .into();
    let begin = Instant::now();
    let turn = row.alive * row.lifetime;
    let mut written: usize = 0;
    for _ in 0..rows / batch {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone(&text)));
        for _ in 0..batch {
            let (round, of_round) = (written / turn, written % turn);
            let entity = &row.entities[round * row.alive + of_round % row.alive];
            query = query
                .bind(i64::try_from(written + 1)?)
                .bind(Arc::clone(entity))
                .bind(i64::try_from(of_round / row.alive + 1)?)
                .bind(Arc::clone(&row.kind))
                .bind(1_i64)
                .bind(1_700_000_000_000_i64)
                .bind(Arc::clone(&row.cause))
                .bind(Arc::clone(&row.data));
            written += 1;
        }
        query.execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    let rate = written as f64 / begin.elapsed().as_secs_f64();
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
