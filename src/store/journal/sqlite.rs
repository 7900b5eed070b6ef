//! The journal on SQLite. It has one shard, and an event's position is its rowid.
//!
//! The cost of an append is the number of its statements, because each is a round trip to the
//! connection's thread: one statement checks the epoch, looks for gaps in the sequences of entities and
//! assigns positions, one or a few insert the events, at most a few write the timers, and one writes
//! each changed row. Only an append without events reads the journal by itself (`check_seqs`).
//! Collisions are refused by the table's unique index. A trigger for gaps would cost more: before one
//! runs, SQLite writes all rows of a statement into a temporary table.
//!
//! The `+` in `LIMIT +$3` is for speed: with a bare variable, SQLite plans by the value, and so
//! prepares the statement again at each execution.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use sqlx::query::QueryAs;
use sqlx::sqlite::{SqliteArguments, SqliteRow, SqliteValueRef};
use sqlx::{
    AssertSqlSafe, Connection as _, Row as _, Sqlite as Sqlx, SqliteConnection, TypeInfo as _,
    ValueRef as _,
};

#[cfg(debug_assertions)]
use super::crash_point;
use super::snapshot_seal::SnapshotSeals;
use super::{
    Append, AppendError, Chained, Digest, Epoch, Fence, Head, Journal, ReadError, Record,
    StateSnapshot, Timer, chain, checksum, fence_of, timer_changes, unreadable,
};
#[cfg(debug_assertions)]
use crate::crash;
use crate::domain::entity::EntityId;
use crate::domain::time::{Span, Timestamp};
use crate::store::both::sqlite_now;
use crate::store::bulk_write::{Binding, Texts, bind};
use crate::store::folder::Folder;
use crate::store::row::{RowChange, Value};

// `OR FAIL`: a refused statement is not undone by itself, for which SQLite would copy each page that
// it writes; the whole transaction is rolled back.
static INSERT_EVENTS: LazyLock<Texts> = LazyLock::new(|| {
    Texts::new(
        "INSERT OR FAIL INTO event \
         (pos, shard, entity, seq, kind, version, at, cause, data, sum, digest) VALUES ",
        "(?,0,?,?,?,?,?,?,?,?,?)",
        "",
    )
});
const MOVE_HEAD: &str =
    "UPDATE shard SET last_pos = ?, head = ? WHERE id = ? AND epoch = ? AND last_pos = ?";
/// The same if that many of these events are stored.
static MOVE_HEAD_AFTER: LazyLock<Texts> = LazyLock::new(|| {
    Texts::new(
        &format!("{MOVE_HEAD} AND ? = (SELECT count(*) FROM (VALUES "),
        "(?,?)",
        ") AS v CROSS JOIN event AS e ON e.entity = v.column1 AND e.seq = v.column2)",
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

/// The number of shards. One node owns the whole store, so more shards would only scatter the
/// writes over more pages.
const SHARDS: u16 = 1;

/// The journal in a data folder.
#[derive(Clone)]
pub(in crate::store) struct Sqlite {
    store: Folder,
    seals: SnapshotSeals,
}

impl Sqlite {
    pub(in crate::store) const fn new(store: Folder, seals: SnapshotSeals) -> Self {
        Self { store, seals }
    }

    /// Runs durably a statement that changes rows of shards; returns the resulting fences.
    async fn fences(
        &self,
        query: QueryAs<'_, Sqlx, (u16, i64), SqliteArguments>,
    ) -> Result<Vec<Fence>, ReadError> {
        let mut durable = self.store.lock_writer().await;
        let connection = durable.connection().await.map_err(unreadable)?;
        let found = query.fetch_all(connection).await.map_err(unreadable)?;
        let fence = |(shard, epoch)| Fence { shard, epoch: Epoch(epoch) };
        Ok(found.into_iter().map(fence).collect())
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

/// A failed append, and whether the connection is still usable.
struct Broken {
    error: AppendError,
    usable: bool,
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Append(error) => Self { error, usable: true },
            Refusal::Sql(error) => {
                // `SQLITE_CONSTRAINT_UNIQUE`: an event with this seq exists. A duplicate position has
                // another code: it is a fault of the journal, not a conflict.
                match code(&error) {
                    Some(2067) => Self { error: AppendError::Conflict, usable: true },
                    _ => Self { error: AppendError::Failed(error.to_string()), usable: false },
                }
            }
        }
    }
}

/// Writes a batch in a transaction of its own. `known` is the end of the chain, if it is known.
async fn transact(
    connection: &mut SqliteConnection,
    fence: Fence,
    known: Option<Head>,
    batch: &[Append],
) -> Result<(Vec<Record>, Head), Broken> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(Refusal::Sql)?;
    match write(&mut transaction, fence, known, batch).await {
        Ok(written) => match transaction.commit().await {
            Ok(()) => Ok(written),
            // The disk is full, so at least the commit frame, the last frame of the transaction in
            // the write-ahead log, was not written. Without it, recovery ignores the other frames.
            Err(error) if disk_full(&error) => {
                Err(Broken { error: AppendError::Failed(error.to_string()), usable: false })
            }
            // The write-ahead log may contain the whole transaction, unsynced. The transaction is
            // invisible now, but recovery after a crash could find it. So its outcome is unknown.
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

/// SQLite's extended error code, whose low byte is the primary code.
fn code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// Whether the disk is full (`SQLITE_FULL`).
fn disk_full(error: &sqlx::Error) -> bool {
    code(error) == Some(13)
}

/// Whether a row violates a constraint (`SQLITE_CONSTRAINT`).
fn breaks_a_constraint(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code & 0xff == 19)
}

/// The events of a batch after the end of the chain, with their digests, and the new end.
fn chained(mut head: Head, batch: &[Append]) -> (Vec<Record>, Vec<Digest>, Head) {
    let mut pos = head.pos;
    let records = super::records(SHARDS, batch, |_| {
        pos += 1;
        pos
    });
    let digests = records.iter().map(|record| head.add(record)).collect();
    (records, digests, head)
}

/// Reads the end of the chain.
async fn read_head(
    connection: &mut SqliteConnection,
    Fence { shard, epoch }: Fence,
) -> Result<Head, Refusal> {
    let row = sqlx::query("SELECT last_pos, head FROM shard WHERE id = $1 AND epoch = $2")
        .bind(shard)
        .bind(epoch.0)
        .fetch_optional(connection)
        .await?;
    let row = row.ok_or(Refusal::Append(AppendError::StaleEpoch { shard }))?;
    let digest = chain::stored(row.try_get(1)?).ok_or_else(|| {
        Refusal::Append(AppendError::Failed(format!("shard {shard} has no digest")))
    })?;
    Ok(Head { pos: row.try_get(0)?, digest })
}

/// Writes a batch inside a transaction. If the chain does not end where it is known to end, its end
/// is read.
async fn write(
    connection: &mut SqliteConnection,
    fence: Fence,
    known: Option<Head>,
    batch: &[Append],
) -> Result<(Vec<Record>, Head), Refusal> {
    let previous = previous_events(batch);
    let mut before = known;
    let (records, digests, head) = loop {
        let end = match before {
            Some(end) => end,
            None => read_head(connection, fence).await?,
        };
        let added = chained(end, batch);
        if move_head(connection, fence, end, &added.2, &previous).await? {
            break added;
        }
        if before.take().is_none() {
            // The epoch and the end of the chain were read: a previous event is missing.
            return Err(Refusal::Append(AppendError::Conflict));
        }
    };
    check_seqs(connection, batch).await?;
    let rows: Vec<(&Record, Digest)> = records.iter().zip(digests).collect();
    let inserted = INSERT_EVENTS.run(&mut *connection, &rows, bind_event).await?;
    if usize::try_from(inserted) != Ok(rows.len()) {
        let why = format!(
            "{inserted} of {} events were inserted; is there a trigger on the table of events that is \
             not of kontor?",
            rows.len()
        );
        return Err(Refusal::Append(AppendError::Failed(why)));
    }
    write_timers(connection, batch).await?;
    match write_rows(connection, batch).await {
        Ok(true) => Ok((records, head)),
        Ok(false) => Err(Refusal::Append(AppendError::Conflict)),
        Err(error) if breaks_a_constraint(&error) => {
            Err(Refusal::Append(AppendError::Refused(error.to_string())))
        }
        Err(error) => Err(Refusal::Sql(error)),
    }
}

/// Refuses, before anything is inserted, what the table does not detect: an append that does not
/// continue the previous append of the same entity in the batch, and an append without events whose
/// entity has newer events.
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

/// The last events, by entity and seq, of the entities to which a batch adds events, before the batch.
fn previous_events(batch: &[Append]) -> Vec<(String, i64)> {
    let mut seen = HashSet::with_capacity(batch.len());
    let adding = batch.iter().filter(|append| !append.events.is_empty());
    let first = adding.filter(|append| seen.insert(append.entity.as_str()) && append.after_seq > 0);
    first.map(|append| (append.entity.as_str().to_owned(), append.after_seq)).collect()
}

/// Moves the end of the chain; `false` if it has another epoch or end, or a previous event is missing.
async fn move_head(
    connection: &mut SqliteConnection,
    fence: Fence,
    end: Head,
    to: &Head,
    previous: &[(String, i64)],
) -> Result<bool, sqlx::Error> {
    let (mut from, mut rest) = (end.pos, previous);
    loop {
        let (text, count, some) = match rest.len() {
            0 => (MOVE_HEAD.into(), 0, 0),
            some => MOVE_HEAD_AFTER.with_room_for(some),
        };
        let (these, others) = rest.split_at(some);
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(to.pos).bind(to.digest.0.to_vec());
        query = query.bind(fence.shard).bind(fence.epoch.0).bind(from);
        if let Some(last) = these.last() {
            query = query.bind(i64::try_from(count).unwrap_or(0));
            // The last one stands for those that the text has room for and that do not exist.
            let filled = these.iter().chain(std::iter::repeat(last)).take(count);
            query =
                filled.fold(query, |query, (entity, seq)| query.bind(entity.clone()).bind(*seq));
        }
        if query.execute(&mut *connection).await?.rows_affected() != 1 {
            return Ok(false);
        }
        if others.is_empty() {
            return Ok(true);
        }
        (from, rest) = (to.pos, others);
    }
}

/// Writes the timer changes of the batch: the last one of each entity.
async fn write_timers(
    connection: &mut SqliteConnection,
    batch: &[Append],
) -> Result<(), sqlx::Error> {
    let (set, clear) = timer_changes(batch);
    SET_TIMERS
        .run(connection, &set, |query, (entity, due_at): &(&str, Timestamp)| {
            query.bind(*entity).bind(due_at.millis())
        })
        .await?;
    CLEAR_TIMERS.run(connection, &clear, |query, entity: &&str| query.bind(*entity)).await?;
    Ok(())
}

/// Writes the rows of the batch, each over its previous version; `false` if the stored version of
/// one is another. The new rows of a table share their statements.
async fn write_rows(
    connection: &mut SqliteConnection,
    batch: &[Append],
) -> Result<bool, sqlx::Error> {
    for rows in in_statements(batch.iter().flat_map(|append| &append.rows)) {
        let Some(first) = rows.first() else { continue };
        let texts = first.table().change_texts();
        let written = if first.is_new() {
            texts.sqlite_insert.run(connection, &rows, |query, row| bind_row(query, row)).await?
        } else {
            let query = sqlx::query(AssertSqlSafe(Arc::clone(&texts.sqlite_update)));
            bind_row(query, first).execute(&mut *connection).await?.rows_affected()
        };
        if usize::try_from(written).ok() != Some(rows.len()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The changes of each statement: the new rows of a table that no change of another of its rows
/// comes between, or one changed row. The rows of a table keep their order.
fn in_statements<'a>(changes: impl Iterator<Item = &'a RowChange>) -> Vec<Vec<&'a RowChange>> {
    let mut all: Vec<Vec<&RowChange>> = Vec::new();
    for change in changes {
        let of_table = |one: &&mut Vec<&RowChange>| {
            one.first().is_some_and(|row| std::ptr::eq(row.table(), change.table()))
        };
        match all.iter_mut().rev().find(of_table) {
            Some(last) if change.is_new() && last[0].is_new() => last.push(change),
            _ => all.push(vec![change]),
        }
    }
    all
}

fn bind_row(query: Binding, row: &RowChange) -> Binding {
    row.values().iter().map(Value::borrowed).fold(query, bind)
}

fn bind_event(query: Binding, (record, digest): &(&Record, Digest)) -> Binding {
    query
        .bind(record.pos)
        .bind(record.entity.as_str())
        .bind(record.seq)
        .bind(Arc::clone(&record.kind))
        .bind(record.version)
        .bind(record.at.millis())
        .bind(Arc::clone(&record.cause))
        .bind(Arc::clone(&record.data))
        .bind(checksum::of(record))
        .bind(digest.0.to_vec())
}

/// Decodes an event. A damaged one is no error but is marked (`intact`), so that the other events
/// of the same read remain readable.
///
/// A value of another type than its column's is damage, although it can be converted: SQLite finds
/// no text by a text that became a blob.
fn record(row: &SqliteRow) -> Record {
    let mut whole = true;
    let mut value = |column: usize, kind: &str| {
        let value = row.try_get_raw(column).ok();
        let value = value.filter(|value| value.type_info().name() == kind);
        whole &= value.is_some();
        value
    };
    let mut number = |column: usize| value(column, "INTEGER").map_or(0, decoded);
    let (pos, shard, seq) = (number(0), number(1), number(3));
    let (version, at, sum) = (number(5), number(6), number(9));
    let mut text = |column: usize| {
        let bytes: &[u8] = value(column, "TEXT").map_or(&[], decoded);
        String::from_utf8_lossy(bytes).into_owned()
    };
    let mut record = Record {
        pos,
        shard: u16::try_from(shard).unwrap_or(u16::MAX),
        entity: EntityId::new(&text(2)),
        seq,
        kind: text(4).into(),
        version: u16::try_from(version).unwrap_or(u16::MAX),
        at: Timestamp::from_millis(at),
        cause: text(7).into(),
        data: text(8).into(),
        intact: true,
    };
    record.intact = whole && sum == checksum::of(&record);
    record
}

/// A value of a type that was checked.
fn decoded<'r, T: sqlx::Decode<'r, sqlx::Sqlite> + Default>(value: SqliteValueRef<'r>) -> T {
    T::decode(value).unwrap_or_default()
}

/// A snapshot as it is stored; what has another type is empty.
fn snapshot(row: &SqliteRow) -> StateSnapshot {
    StateSnapshot {
        entity: EntityId::new(row.try_get(0).unwrap_or_default()),
        seq: row.try_get(1).unwrap_or_default(),
        state_version: row.try_get(2).unwrap_or_default(),
        data: row.try_get(3).unwrap_or_default(),
    }
}

fn timer(row: &SqliteRow) -> Result<Timer, sqlx::Error> {
    Ok(Timer {
        entity: EntityId::new(row.try_get(0)?),
        due_at: Timestamp::from_millis(row.try_get(1)?),
    })
}

#[async_trait]
impl Journal for Sqlite {
    fn shards(&self) -> u16 {
        SHARDS
    }

    async fn claim(
        &self,
        shards: &[u16],
        owner: &str,
        lease: Span,
    ) -> Result<Vec<Fence>, ReadError> {
        if let Some(shard) = shards.iter().find(|shard| **shard >= SHARDS) {
            return Err(ReadError(format!("there is no shard {shard}")));
        }
        let text = concat!(
            "UPDATE shard SET owner = $2, epoch = epoch + 1, lease_until = ",
            sqlite_now!(),
            " + $3 WHERE id = $1 AND (owner IN ('', $2) OR lease_until <= ",
            sqlite_now!(),
            ") RETURNING id, epoch"
        );
        let mut taken = Vec::new();
        for shard in shards {
            let query = sqlx::query_as(text).bind(shard).bind(owner).bind(lease.millis());
            taken.extend(self.fences(query).await?);
        }
        Ok(taken)
    }

    async fn renew(&self, fences: &[Fence], lease: Span) -> Result<Vec<Fence>, ReadError> {
        let text = concat!(
            "UPDATE shard SET lease_until = ",
            sqlite_now!(),
            " + $3 WHERE id = $1 AND epoch = $2 AND lease_until > ",
            sqlite_now!(),
            " RETURNING id, epoch"
        );
        let mut standing = Vec::new();
        for Fence { shard, epoch } in fences {
            let query = sqlx::query_as(text).bind(shard).bind(epoch.0).bind(lease.millis());
            standing.extend(self.fences(query).await?);
        }
        Ok(standing)
    }

    async fn release(&self, fences: &[Fence]) -> Result<(), ReadError> {
        let text = "UPDATE shard SET owner = '', lease_until = 0 WHERE id = $1 AND epoch = $2 \
                    RETURNING id, epoch";
        for Fence { shard, epoch } in fences {
            self.fences(sqlx::query_as(text).bind(shard).bind(epoch.0)).await?;
        }
        Ok(())
    }

    async fn append(&self, fences: &[Fence], batch: &[Append]) -> Result<Vec<Record>, AppendError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let fence = fence_of(fences, 0)?;
        let mut durable = self.store.lock_writer().await;
        // Known again only once the outcome is.
        let known = durable.head.take();
        let connection = match durable.connection().await {
            Ok(connection) => connection,
            Err(error) => return Err(AppendError::Failed(error.to_string())),
        };
        #[cfg(debug_assertions)]
        crash_point(crash::Side::Before, batch);
        match transact(connection, fence, known, batch).await {
            Ok((records, head)) => {
                durable.head = Some(head);
                #[cfg(debug_assertions)]
                crash_point(crash::Side::After, batch);
                Ok(records)
            }
            Err(Broken { error, usable }) => {
                if usable {
                    durable.head = known;
                } else {
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

    async fn read_entities(&self, upto: &[(EntityId, i64)]) -> Result<Vec<Record>, ReadError> {
        let wanted = upto.iter().map(|(entity, seq)| serde_json::json!([entity.as_str(), seq]));
        let wanted = serde_json::Value::from_iter(wanted).to_string();
        let rows = sqlx::query(
            "SELECT e.pos, e.shard, e.entity, e.seq, e.kind, e.version, e.at, e.cause, e.data, \
             e.sum FROM json_each($1) AS w CROSS JOIN event AS e \
             WHERE e.entity = w.value ->> 0 AND e.seq <= w.value ->> 1 ORDER BY e.entity, e.seq",
        )
        .bind(wanted)
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

    async fn read_chain(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Chained>, ReadError> {
        let rows = sqlx::query(
            "SELECT pos, shard, entity, seq, kind, version, at, cause, data, sum, digest FROM event \
             WHERE shard = $1 AND pos > $2 ORDER BY pos LIMIT +$3",
        )
        .bind(shard)
        .bind(after_pos)
        .bind(limit)
        .fetch_all(self.store.readers())
        .await
        .map_err(unreadable)?;
        let digest = |row: &SqliteRow| chain::stored(row.try_get_unchecked(10).unwrap_or_default());
        Ok(rows.iter().map(|row| Chained { record: record(row), digest: digest(row) }).collect())
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

    async fn snapshot(&self, entity: &EntityId) -> Result<Option<StateSnapshot>, ReadError> {
        let text = "SELECT entity, seq, state_version, data, sum FROM snapshot WHERE entity = $1";
        let row = sqlx::query(text).bind(entity.as_str()).fetch_optional(self.store.readers());
        let Some(row) = row.await.map_err(unreadable)? else { return Ok(None) };
        let seal = row.try_get(4).unwrap_or_default();
        Ok(self.seals.believed(snapshot(&row), seal).await)
    }

    async fn snapshots(
        &self,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<StateSnapshot>, ReadError> {
        let text = "SELECT entity, seq, state_version, data FROM snapshot WHERE entity > $1 \
                    ORDER BY entity LIMIT +$2";
        let query = sqlx::query(text).bind(after.map_or("", EntityId::as_str)).bind(limit);
        let rows = query.fetch_all(self.store.readers()).await.map_err(unreadable)?;
        Ok(rows.iter().map(snapshot).collect())
    }

    async fn put_snapshot(&self, snapshot: StateSnapshot) -> Result<(), ReadError> {
        let seal = self.seals.seal(&snapshot).await.map_err(unreadable)?;
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
        .bind(seal)
        .execute(write.connection().map_err(unreadable)?)
        .await
        .map_err(unreadable)?;
        write.commit().await.map_err(unreadable)
    }
}
