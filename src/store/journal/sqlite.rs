//! The journal on SQLite: one shard, whose positions are the rowids of its table.
//!
//! What an append costs is statements, each a round trip to the connection's thread: one that
//! checks the epoch and hands out positions, one or a few multi-row inserts, one for the timers.
//! Nothing is read on this path. That an append continues its entity's events is refused by the
//! table itself: a unique index for what stands there, a trigger for a gap.
//!
//! `LIMIT +$3`: SQLite plans by the value of a bare variable there, and so prepares the statement
//! anew at each execution.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::{Append, AppendError, Epoch, Journal, ReadError, Record, Snapshot, Timer, TimerChange};
#[cfg(debug_assertions)]
use crate::crash;
use crate::domain::entity::EntityId;
use crate::domain::time::Timestamp;
use crate::store::many::{Binding, Texts};
use crate::store::{Error, Store, product};

static INSERT_EVENTS: LazyLock<Texts> = LazyLock::new(|| {
    Texts::new(
        "INSERT INTO event (pos, shard, entity, seq, kind, version, at, cause, data, sum) VALUES ",
        "(?,0,?,?,?,?,?,?,?,?)",
        "",
    )
});
static SET_TIMERS: LazyLock<Texts> = LazyLock::new(|| {
    Texts::new(
        "INSERT INTO timer (entity, shard, due_at) VALUES ",
        "(?,0,?)",
        " ON CONFLICT (entity) DO UPDATE SET due_at = excluded.due_at",
    )
});
static CLEAR_TIMERS: LazyLock<Texts> =
    LazyLock::new(|| Texts::new("DELETE FROM timer WHERE entity IN (", "?", ")"));

/// The journal of a [`Store`].
#[derive(Clone, Debug)]
pub struct Sqlite {
    store: Store,
}

impl Sqlite {
    /// The journal in an open store.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }
}

/// Why a transaction ended without its commit.
enum Refusal {
    Append(AppendError),
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// An append that did not succeed, and whether the connection is still good.
struct Broken {
    error: AppendError,
    usable: bool,
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Append(error) => Self { error, usable: true },
            Refusal::Sql(error) => {
                let code = error.as_database_error().and_then(|error| error.code());
                // SQLITE_CONSTRAINT_UNIQUE, SQLITE_CONSTRAINT_TRIGGER: an event stands there, or
                // the one before is missing. A position taken twice is none of an entity's fault.
                match code.as_deref() {
                    Some("2067" | "1811") => Self { error: AppendError::Conflict, usable: true },
                    _ => Self { error: AppendError::Failed(error.to_string()), usable: false },
                }
            }
        }
    }
}

/// Writes a batch in a transaction of its own.
async fn transact(
    connection: &mut SqliteConnection,
    shard: u16,
    epoch: Epoch,
    batch: &[Append],
) -> Result<Vec<Record>, Broken> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(Refusal::Sql)?;
    match write(&mut transaction, shard, epoch, batch).await {
        Ok(records) => match transaction.commit().await {
            Ok(()) => Ok(records),
            // A full disk took less than the commit frame, which is the last of the transaction:
            // without it no recovery finds the rest.
            Err(error) if disk_full(&error) => {
                Err(Broken { error: AppendError::Failed(error.to_string()), usable: false })
            }
            // The log may hold the whole transaction, unsynced: invisible now, it could be found
            // by the recovery after a crash. So it cannot be called unwritten.
            Err(error) => {
                Err(Broken { error: AppendError::Unknown(error.to_string()), usable: false })
            }
        },
        Err(refusal) => {
            let mut broken = Broken::from(refusal);
            broken.usable &= transaction.rollback().await.is_ok();
            Err(broken)
        }
    }
}

/// Whether the disk had no room (`SQLITE_FULL`).
fn disk_full(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "13")
}

/// Writes a batch inside of a transaction.
async fn write(
    connection: &mut SqliteConnection,
    shard: u16,
    epoch: Epoch,
    batch: &[Append],
) -> Result<Vec<Record>, Refusal> {
    let count: usize = batch.iter().map(|append| append.events.len()).sum();
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let last_pos: Option<i64> = sqlx::query_scalar(
        "UPDATE shard SET last_pos = last_pos + $3 WHERE id = $1 AND epoch = $2 RETURNING last_pos",
    )
    .bind(shard)
    .bind(epoch.0)
    .bind(count)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(last_pos) = last_pos else {
        return Err(Refusal::Append(AppendError::StaleEpoch { shard }));
    };
    check_seqs(connection, batch).await?;
    let records = super::records(shard, last_pos - count, batch);
    INSERT_EVENTS.run(&mut *connection, &records, bind_event).await?;
    write_timers(connection, batch).await?;
    for append in batch {
        if let Some(row) = &append.row
            && !product::upsert(connection, row, append.at).await?
        {
            return Err(Refusal::Append(AppendError::Conflict));
        }
    }
    Ok(records)
}

/// Refuses an append that does not continue its entity's earlier one in the batch, and one
/// without events whose entity has moved on: the table sees neither. Before anything is inserted.
async fn check_seqs(connection: &mut SqliteConnection, batch: &[Append]) -> Result<(), Refusal> {
    let mut seqs: HashMap<&str, i64> = HashMap::with_capacity(batch.len());
    for append in batch {
        let entity = append.entity.as_str();
        let last_seq = match seqs.get(entity) {
            Some(last_seq) => *last_seq,
            None if !append.events.is_empty() => append.after_seq,
            None => {
                sqlx::query_scalar("SELECT ifnull(max(seq), 0) FROM event WHERE entity = $1")
                    .bind(entity)
                    .fetch_one(&mut *connection)
                    .await?
            }
        };
        if last_seq != append.after_seq {
            return Err(Refusal::Append(AppendError::Conflict));
        }
        let count = i64::try_from(append.events.len()).unwrap_or(i64::MAX);
        seqs.insert(entity, last_seq.saturating_add(count));
    }
    Ok(())
}

/// Writes what becomes of the batch's timers: the last word of each entity.
async fn write_timers(
    connection: &mut SqliteConnection,
    batch: &[Append],
) -> Result<(), sqlx::Error> {
    let mut changes = HashMap::new();
    for append in batch {
        if let Some(change) = append.timer {
            changes.insert(append.entity.as_str(), change);
        }
    }
    let mut set = Vec::new();
    let mut clear = Vec::new();
    for (entity, change) in changes {
        match change {
            TimerChange::Set(due_at) => set.push((entity, due_at)),
            TimerChange::Clear => clear.push(entity),
        }
    }
    SET_TIMERS
        .run(connection, &set, |query, (entity, due_at): &(&str, Timestamp)| {
            query.bind(*entity).bind(due_at.millis())
        })
        .await?;
    CLEAR_TIMERS.run(connection, &clear, |query, entity: &&str| query.bind(*entity)).await
}

fn bind_event(query: Binding, record: &Record) -> Binding {
    query
        .bind(record.pos)
        .bind(record.entity.as_str())
        .bind(record.seq)
        .bind(Arc::clone(&record.kind))
        .bind(record.version)
        .bind(record.at.millis())
        .bind(Arc::clone(&record.cause))
        .bind(Arc::clone(&record.data))
        .bind(checksum(record))
}

/// What is written beside an event, so that a bit that flips later is seen.
fn checksum(record: &Record) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    for number in [record.shard.into(), record.pos, record.seq, record.version.into()] {
        sum.update(&number.to_le_bytes());
    }
    sum.update(&record.at.millis().to_le_bytes());
    for text in [record.entity.as_str(), &record.kind, &record.cause, &record.data] {
        sum.update(text.as_bytes());
        // No text has this byte: what moves from one to the next is seen.
        sum.update(&[0xff]);
    }
    sum.finalize().into()
}

fn unreadable(error: impl Into<Error>) -> ReadError {
    let error = error.into();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    ReadError(format!("{error}{}", cause.unwrap_or_default()))
}

/// A row as it stands, damaged or not: what else is on its page must still be readable.
fn record(row: &SqliteRow) -> Record {
    let number = |column: usize| row.try_get_unchecked::<i64, _>(column).unwrap_or_default();
    let mut whole = true;
    let mut text = |column: usize| {
        let bytes = row.try_get_unchecked::<&[u8], _>(column).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes);
        whole &= matches!(text, std::borrow::Cow::Borrowed(_));
        text.into_owned()
    };
    let mut record = Record {
        pos: number(0),
        shard: u16::try_from(number(1)).unwrap_or(u16::MAX),
        entity: EntityId::new(&text(2)),
        seq: number(3),
        kind: text(4).into(),
        version: u16::try_from(number(5)).unwrap_or(u16::MAX),
        at: Timestamp::from_millis(number(6)),
        cause: text(7).into(),
        data: text(8).into(),
        intact: true,
    };
    let sum = row.try_get_unchecked::<Option<i64>, _>(9);
    record.intact = match sum {
        Ok(Some(sum)) => sum == checksum(&record),
        // Written before there were checksums: all that can be told is that its texts are texts.
        Ok(None) => whole,
        Err(_) => false,
    };
    record
}

/// A snapshot's row, if it is as it was written: it is a cache, and one that is damaged is none.
fn snapshot(entity: &EntityId, row: &SqliteRow) -> Option<Snapshot> {
    let snapshot = Snapshot {
        entity: entity.clone(),
        seq: row.try_get(0).ok()?,
        state_version: row.try_get(1).ok()?,
        data: row.try_get(2).ok()?,
    };
    let sum: Option<i64> = row.try_get(3).ok()?;
    sum.is_none_or(|sum| sum == snapshot_checksum(&snapshot)).then_some(snapshot)
}

fn snapshot_checksum(snapshot: &Snapshot) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&snapshot.seq.to_le_bytes());
    sum.update(&snapshot.state_version.to_le_bytes());
    sum.update(snapshot.entity.as_str().as_bytes());
    sum.update(snapshot.data.as_bytes());
    sum.finalize().into()
}

fn timer(row: &SqliteRow) -> Result<Timer, sqlx::Error> {
    Ok(Timer {
        entity: EntityId::new(row.try_get(0)?),
        due_at: Timestamp::from_millis(row.try_get(1)?),
    })
}

/// Lets a test kill the process here.
#[cfg(debug_assertions)]
fn crash_point(side: crash::Side, batch: &[Append]) {
    for append in batch {
        for event in &append.events {
            crash::reached(side, append.entity.prefix(), event.kind);
        }
    }
}

#[async_trait]
impl Journal for Sqlite {
    fn shards(&self) -> u16 {
        1
    }

    async fn claim(
        &self,
        shard: u16,
        owner: &str,
        lease_until: Timestamp,
    ) -> Result<Epoch, ReadError> {
        let mut durable = self.store.durable().await;
        let connection = durable.connection().await.map_err(unreadable)?;
        let epoch: Option<i64> = sqlx::query_scalar(
            "UPDATE shard SET owner = $2, lease_until = $3, epoch = epoch + 1 WHERE id = $1 \
             RETURNING epoch",
        )
        .bind(shard)
        .bind(owner)
        .bind(lease_until.millis())
        .fetch_optional(connection)
        .await
        .map_err(unreadable)?;
        epoch.map(Epoch).ok_or_else(|| ReadError(format!("there is no shard {shard}")))
    }

    async fn append(
        &self,
        shard: u16,
        epoch: Epoch,
        batch: &[Append],
    ) -> Result<Vec<Record>, AppendError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut durable = self.store.durable().await;
        let connection = match durable.connection().await {
            Ok(connection) => connection,
            Err(error) => return Err(AppendError::Failed(error.to_string())),
        };
        #[cfg(debug_assertions)]
        crash_point(crash::Side::Before, batch);
        match transact(connection, shard, epoch, batch).await {
            Ok(records) => {
                #[cfg(debug_assertions)]
                crash_point(crash::Side::After, batch);
                Ok(records)
            }
            Err(Broken { error, usable }) => {
                if !usable {
                    durable.discard().await;
                }
                Err(error)
            }
        }
    }

    async fn read_entity(
        &self,
        entity: &EntityId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError> {
        let rows = sqlx::query(
            "SELECT pos, shard, entity, seq, kind, version, at, cause, data, sum FROM event \
             WHERE entity = $1 AND seq > $2 ORDER BY seq LIMIT +$3",
        )
        .bind(entity.as_str())
        .bind(after_seq)
        .bind(limit)
        .fetch_all(self.store.readers())
        .await
        .map_err(unreadable)?;
        Ok(rows.iter().map(record).collect())
    }

    async fn read_shard(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError> {
        let rows = sqlx::query(
            "SELECT pos, shard, entity, seq, kind, version, at, cause, data, sum FROM event \
             WHERE pos > $2 AND shard = $1 ORDER BY pos LIMIT +$3",
        )
        .bind(shard)
        .bind(after_pos)
        .bind(limit)
        .fetch_all(self.store.readers())
        .await
        .map_err(unreadable)?;
        Ok(rows.iter().map(record).collect())
    }

    async fn last_pos(&self, shard: u16) -> Result<i64, ReadError> {
        sqlx::query_scalar("SELECT last_pos FROM shard WHERE id = $1")
            .bind(shard)
            .fetch_optional(self.store.readers())
            .await
            .map_err(unreadable)?
            .ok_or_else(|| ReadError(format!("there is no shard {shard}")))
    }

    async fn due_timers(
        &self,
        shard: u16,
        until: Timestamp,
        after: Option<&Timer>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError> {
        let rows = sqlx::query(
            "SELECT entity, due_at FROM timer WHERE shard = $1 AND due_at <= $2 \
             AND (due_at, entity) > ($3, $4) ORDER BY due_at, entity LIMIT +$5",
        )
        .bind(shard)
        .bind(until.millis())
        .bind(after.map_or(i64::MIN, |after| after.due_at.millis()))
        .bind(after.map_or("", |after| after.entity.as_str()))
        .bind(limit)
        .fetch_all(self.store.readers())
        .await
        .map_err(unreadable)?;
        rows.iter().map(timer).collect::<Result<_, _>>().map_err(unreadable)
    }

    async fn timers_of(
        &self,
        shard: u16,
        prefix: &str,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError> {
        let rows = sqlx::query(
            "SELECT entity, due_at FROM timer \
             WHERE entity >= $2 AND entity < $3 AND entity > $4 AND shard = $1 \
             ORDER BY entity LIMIT +$5",
        )
        .bind(shard)
        .bind(prefix)
        .bind(format!("{prefix}{}", char::MAX))
        .bind(after.map_or("", EntityId::as_str))
        .bind(limit)
        .fetch_all(self.store.readers())
        .await
        .map_err(unreadable)?;
        rows.iter().map(timer).collect::<Result<_, _>>().map_err(unreadable)
    }

    async fn snapshot(&self, entity: &EntityId) -> Result<Option<Snapshot>, ReadError> {
        let row =
            sqlx::query("SELECT seq, state_version, data, sum FROM snapshot WHERE entity = $1")
                .bind(entity.as_str())
                .fetch_optional(self.store.readers())
                .await
                .map_err(unreadable)?;
        let Some(row) = row else { return Ok(None) };
        let found = snapshot(entity, &row);
        if found.is_none() {
            tracing::warn!(entity = entity.for_log(), "a snapshot is damaged and not believed");
        }
        Ok(found)
    }

    async fn put_snapshot(&self, snapshot: Snapshot) -> Result<(), ReadError> {
        let mut write = self.store.begin_relaxed().await.map_err(unreadable)?;
        sqlx::query(
            "INSERT INTO snapshot (entity, seq, state_version, data, sum) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (entity) DO UPDATE SET seq = excluded.seq, \
             state_version = excluded.state_version, data = excluded.data, sum = excluded.sum \
             WHERE excluded.seq >= snapshot.seq",
        )
        .bind(snapshot.entity.as_str())
        .bind(snapshot.seq)
        .bind(snapshot.state_version)
        .bind(&*snapshot.data)
        .bind(snapshot_checksum(&snapshot))
        .execute(write.connection().map_err(unreadable)?)
        .await
        .map_err(unreadable)?;
        write.commit().await.map_err(unreadable)
    }
}
