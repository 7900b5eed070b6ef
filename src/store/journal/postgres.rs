//! The journal on PostgreSQL. It has many shards; its owner assigns the positions of a shard and
//! computes the digests of its events, and the row of the shard says where they continue.
//!
//! An append is one statement and one round trip: the function `journal_append`
//! (`migrations/postgres/0021_chain.sql`) locks the rows of the batch's shards, checks
//! their epochs and ends, refuses appends that do not continue an entity's sequence, inserts arrays of
//! events, and runs the statements of the versioned rows that the batch changes. PostgreSQL reports
//! that a statement is complete before it commits; only its message that it is ready for the next
//! statement (`ReadyForQuery`) proves the commit. `HeldConnection::fetch_optional` waits for that
//! message.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use sqlx::Postgres as Sqlx;
use sqlx::postgres::{PgArguments, PgDatabaseError};
use sqlx::query::Query;

#[cfg(debug_assertions)]
use super::crash_point;
use super::snapshot_seal::SnapshotSeals;
use super::{
    Append, AppendError, Chained, Epoch, Fence, Head, Journal, ReadError, Record, StateSnapshot,
    Timer, chain, checksum, fence_of, records, timer_changes, unreadable,
};
#[cfg(debug_assertions)]
use crate::crash;
use crate::domain::entity::EntityId;
use crate::domain::time::{Span, Timestamp};
use crate::store::found::FoundRow;
use crate::store::postgres::Database;
use crate::store::postgres::pool::refused;
use crate::store::refuses_a_row;
use crate::store::row::RowChange;

/// The journal in PostgreSQL.
#[derive(Clone)]
pub(in crate::store) struct PostgresJournal {
    database: Database,
    seals: SnapshotSeals,
}

impl PostgresJournal {
    pub(in crate::store) const fn new(database: Database, seals: SnapshotSeals) -> Self {
        Self { database, seals }
    }

    async fn fences(&self, query: Query<'_, Sqlx, PgArguments>) -> Result<Vec<Fence>, ReadError> {
        let mut held = self.database.writers().acquire().await.map_err(unreadable)?;
        let found = held.fetch_all(query).await.map_err(unreadable)?;
        let fence =
            |row: &FoundRow| Ok(Fence { shard: row.shard(0)?, epoch: Epoch(row.try_get(1)?) });
        let found: Result<Vec<Fence>, sqlx::Error> = found.iter().map(fence).collect();
        let mut found = found.map_err(unreadable)?;
        found.sort_by_key(|fence| fence.shard);
        Ok(found)
    }

    fn there_are(&self, shards: impl IntoIterator<Item = u16>) -> Result<(), ReadError> {
        match shards.into_iter().find(|shard| *shard >= self.database.shards()) {
            Some(shard) => Err(ReadError(format!("there is no shard {shard}"))),
            None => Ok(()),
        }
    }

    /// Appends a batch after the ends of the chains of its shards, which are read if they are not
    /// known.
    async fn append_after(
        &self,
        fences: &[Fence],
        known: Option<Vec<Head>>,
        expected: &ExpectedEvents<'_>,
        batch: &[Append],
    ) -> Result<Vec<Record>, Refusal> {
        let heads = match known {
            Some(heads) => heads,
            None => self.read_heads(fences).await?,
        };
        let places: HashMap<u16, usize> =
            fences.iter().zip(0..).map(|(fence, place)| (fence.shard, place)).collect();
        let mut last: Vec<i64> = heads.iter().map(|head| head.pos).collect();
        let events = records(self.shards(), batch, |shard| {
            let last = &mut last[places[&shard]];
            *last += 1;
            *last
        });
        let mut ends: Vec<(Head, Head)> = heads.iter().map(|head| (*head, *head)).collect();
        let digest = |event: &Record| ends[places[&event.shard]].1.add(event).0.to_vec();
        let digests = events.iter().map(digest).collect();
        let chained = (events.as_slice(), digests);
        let query = statement(self.shards(), fences, &ends, batch, expected, chained);
        // If no connection can be had, nothing was sent, so nothing was written.
        let connected = self.database.writers().acquire().await;
        let mut held = connected.map_err(|error| AppendError::Failed(error.to_string()))?;
        #[cfg(debug_assertions)]
        crash_point(crash::Side::Before, batch);
        held.fetch_optional(query).await.map_err(|error| failure(&error))?;
        drop(held);
        #[cfg(debug_assertions)]
        crash_point(crash::Side::After, batch);
        self.database.heads().put(fences, ends.into_iter().map(|(_, after)| after));
        Ok(events)
    }

    /// Reads the ends of the chains of these fences' shards, in order.
    async fn read_heads(&self, fences: &[Fence]) -> Result<Vec<Head>, AppendError> {
        let failed = |error: sqlx::Error| AppendError::Failed(error.to_string());
        let text = "SELECT s.last_pos, s.head FROM unnest($1::BIGINT[]) WITH ORDINALITY AS f (id, nth) \
                    JOIN shard AS s ON s.id = f.id ORDER BY f.nth";
        let (shards, _) = columns(fences);
        let found = self.database.readers().fetch_all(sqlx::query(text).bind(shards)).await;
        let found = found.map_err(failed)?;
        let mut heads = Vec::with_capacity(fences.len());
        for row in &found {
            let digest = chain::stored(row.try_get(1).map_err(failed)?);
            let digest =
                digest.ok_or_else(|| AppendError::Failed("a shard has no digest".to_owned()))?;
            heads.push(Head { pos: row.try_get(0).map_err(failed)?, digest });
        }
        match fences.get(heads.len()) {
            None => Ok(heads),
            Some(fence) => Err(AppendError::StaleEpoch { shard: fence.shard }),
        }
    }

    async fn read(&self, query: Query<'_, Sqlx, PgArguments>) -> Result<Vec<FoundRow>, ReadError> {
        self.database.readers().fetch_all(query).await.map_err(unreadable)
    }
}

/// The shards and the epochs of fences, as arrays for a statement.
fn columns(fences: &[Fence]) -> (Vec<i64>, Vec<i64>) {
    fences.iter().map(|fence| (i64::from(fence.shard), fence.epoch.0)).unzip()
}

/// The fences that a batch needs, in order of shard.
fn needed(shards: u16, fences: &[Fence], batch: &[Append]) -> Result<Vec<Fence>, AppendError> {
    let needed: BTreeSet<u16> = batch.iter().map(|append| append.entity.shard(shards)).collect();
    needed.into_iter().map(|shard| fence_of(fences, shard)).collect()
}

/// The events that decide whether a batch continues its entities, as arrays of entities and seqs:
/// those of `there` must exist, those of `free` must not.
#[derive(Default)]
struct ExpectedEvents<'a> {
    there: (Vec<&'a str>, Vec<i64>),
    free: (Vec<&'a str>, Vec<i64>),
}

impl<'a> ExpectedEvents<'a> {
    /// Collects these events; refuses an append that does not continue the previous append of the
    /// same entity in the batch.
    fn of(batch: &'a [Append]) -> Result<Self, AppendError> {
        let mut expected = Self::default();
        let mut seqs: HashMap<&str, i64> = HashMap::with_capacity(batch.len());
        for append in batch {
            let entity = append.entity.as_str();
            match seqs.get(entity) {
                Some(last_seq) if *last_seq != append.after_seq => {
                    return Err(AppendError::Conflict);
                }
                Some(_) => {}
                None => {
                    if append.after_seq > 0 {
                        expected.there.0.push(entity);
                        expected.there.1.push(append.after_seq);
                    }
                    // For an append with events, the unique index of events refuses a collision.
                    if append.events.is_empty() {
                        expected.free.0.push(entity);
                        expected.free.1.push(append.after_seq.saturating_add(1));
                    }
                }
            }
            let count = i64::try_from(append.events.len()).unwrap_or(i64::MAX);
            seqs.insert(entity, append.after_seq.saturating_add(count));
        }
        Ok(expected)
    }
}

/// The statement that appends a batch. `ends` are the ends of the chains of the fences' shards,
/// before and after it.
fn statement(
    shards: u16,
    fences: &[Fence],
    ends: &[(Head, Head)],
    batch: &[Append],
    expected: &ExpectedEvents<'_>,
    (events, digests): (&[Record], Vec<Vec<u8>>),
) -> Query<'static, Sqlx, PgArguments> {
    macro_rules! column {
        ($record:ident => $value:expr) => {
            events.iter().map(|$record| $value).collect::<Vec<_>>()
        };
    }
    let fence_shard: Vec<i32> = fences.iter().map(|fence| i32::from(fence.shard)).collect();
    let fence_epoch: Vec<i64> = fences.iter().map(|fence| fence.epoch.0).collect();
    let (set, clear) = timer_changes(batch);
    let (set_entity, set_due_at): (Vec<&str>, Vec<i64>) =
        set.iter().map(|(entity, due_at)| (*entity, due_at.millis())).unzip();
    let set_shard: Vec<i32> =
        set.iter().map(|(entity, _)| i32::from(EntityId::new(entity).shard(shards))).collect();
    let changes = || batch.iter().flat_map(|append| &append.rows);
    let row_text = |change: &RowChange| {
        let texts = &change.table().change_texts().postgres;
        texts.of(change.version()).to_string()
    };
    sqlx::query(
        "SELECT journal_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
         $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26)",
    )
    .bind(fence_shard)
    .bind(fence_epoch)
    .bind(ends.iter().map(|(before, _)| before.pos).collect::<Vec<_>>())
    .bind(ends.iter().map(|(_, after)| after.pos).collect::<Vec<_>>())
    .bind(ends.iter().map(|(_, after)| after.digest.0.to_vec()).collect::<Vec<_>>())
    .bind(expected.there.0.clone())
    .bind(expected.there.1.clone())
    .bind(expected.free.0.clone())
    .bind(expected.free.1.clone())
    .bind(column!(record => i32::from(record.shard)))
    .bind(column!(record => record.pos))
    .bind(column!(record => record.entity.as_str()))
    .bind(column!(record => record.seq))
    .bind(column!(record => &*record.kind))
    .bind(column!(record => i32::from(record.version)))
    .bind(column!(record => record.at.millis()))
    .bind(column!(record => &*record.cause))
    .bind(column!(record => &*record.data))
    .bind(column!(record => checksum::of(record)))
    .bind(digests)
    .bind(set_entity)
    .bind(set_shard)
    .bind(set_due_at)
    .bind(clear)
    .bind(changes().map(row_text).collect::<Vec<_>>())
    .bind(changes().map(|change| change.json().to_string()).collect::<Vec<_>>())
}

/// Why a batch was not written, or its outcome is unknown.
enum Refusal {
    /// A shard does not end where the batch begins. Nothing was written.
    Moved,
    Append(AppendError),
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        Self::Append(error)
    }
}

/// The [`Refusal`] for an error of the append statement.
fn failure(error: &sqlx::Error) -> Refusal {
    match error.as_database_error().and_then(|refusal| refusal.code()) {
        Some(code) if code == "KT003" => Refusal::Moved,
        _ => append_error(error).into(),
    }
}

/// The [`AppendError`] for an error of the append statement.
fn append_error(error: &sqlx::Error) -> AppendError {
    let refusal = match error {
        sqlx::Error::Database(refusal) if refused(error) => refusal,
        // The server stopped during the statement, or did not answer: it may have committed.
        sqlx::Error::Database(_)
        | sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => return AppendError::Unknown(error.to_string()),
        _ => return AppendError::Failed(error.to_string()),
    };
    let refusal: Option<&PgDatabaseError> = refusal.try_downcast_ref();
    let Some(refusal) = refusal else { return AppendError::Failed(error.to_string()) };
    match (refusal.code(), refusal.constraint()) {
        ("KT001", _) => {
            let shard = refusal.detail().and_then(|shard| shard.parse().ok());
            AppendError::StaleEpoch { shard: shard.unwrap_or(u16::MAX) }
        }
        ("KT002", _) | ("23505", Some("event_by_entity")) => AppendError::Conflict,
        // A versioned row was refused. A violated constraint of one of the journal's own tables is
        // a fault of the journal instead.
        (code, _) if refuses_a_row(code) && !refusal.table().is_some_and(is_of_journal) => {
            AppendError::Refused(error.to_string())
        }
        _ => AppendError::Failed(error.to_string()),
    }
}

fn is_of_journal(table: &str) -> bool {
    ["event", "shard", "timer"].contains(&table)
}

fn record(row: &FoundRow) -> Result<Record, sqlx::Error> {
    let wrong = |error: std::num::TryFromIntError| sqlx::Error::Decode(Box::new(error));
    let shard: i32 = row.try_get(1)?;
    let version: i32 = row.try_get(5)?;
    let mut record = Record {
        pos: row.try_get(0)?,
        shard: u16::try_from(shard).map_err(wrong)?,
        entity: EntityId::new(row.try_get::<&str>(2)?),
        seq: row.try_get(3)?,
        kind: row.try_get::<&str>(4)?.into(),
        version: u16::try_from(version).map_err(wrong)?,
        at: Timestamp::from_millis(row.try_get(6)?),
        cause: row.try_get::<&str>(7)?.into(),
        data: row.try_get::<&str>(8)?.into(),
        intact: true,
    };
    let written: Option<i64> = row.try_get(9)?;
    record.intact = written.is_some_and(|written| written == checksum::of(&record));
    Ok(record)
}

/// Writes a snapshot, unless there is a newer one.
pub(in crate::store) fn insert_snapshot(
    snapshot: &StateSnapshot,
    seal: i64,
) -> Query<'static, Sqlx, PgArguments> {
    sqlx::query(
        "INSERT INTO snapshot (entity, seq, state_version, data, sum) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (entity) DO UPDATE SET seq = excluded.seq, \
         state_version = excluded.state_version, data = excluded.data, sum = excluded.sum \
         WHERE excluded.seq >= snapshot.seq",
    )
    .bind(snapshot.entity.as_str())
    .bind(snapshot.seq)
    .bind(i64::from(snapshot.state_version))
    .bind(snapshot.data.as_str())
    .bind(seal)
}

/// A snapshot as it is stored.
fn snapshot(row: &FoundRow) -> Result<StateSnapshot, ReadError> {
    let version: i64 = row.try_get(2).map_err(unreadable)?;
    Ok(StateSnapshot {
        entity: EntityId::new(row.try_get(0).map_err(unreadable)?),
        seq: row.try_get(1).map_err(unreadable)?,
        state_version: u32::try_from(version).unwrap_or(u32::MAX),
        data: row.try_get(3).map_err(unreadable)?,
    })
}

fn all_records(rows: &[FoundRow]) -> Result<Vec<Record>, ReadError> {
    rows.iter().map(record).collect::<Result<_, _>>().map_err(unreadable)
}

fn timers(rows: &[FoundRow]) -> Result<Vec<Timer>, ReadError> {
    let timer = |row: &FoundRow| {
        Ok(Timer {
            entity: EntityId::new(row.try_get::<&str>(0)?),
            due_at: Timestamp::from_millis(row.try_get(1)?),
        })
    };
    rows.iter().map(timer).collect::<Result<_, sqlx::Error>>().map_err(unreadable)
}

#[async_trait]
impl Journal for PostgresJournal {
    fn shards(&self) -> u16 {
        self.database.shards()
    }

    async fn claim(
        &self,
        shards: &[u16],
        owner: &str,
        lease: Span,
    ) -> Result<Vec<Fence>, ReadError> {
        self.there_are(shards.iter().copied())?;
        // The rows are locked in order of shard, against deadlocks. PostgreSQL checks the condition
        // again once a row is locked, because another claim may have been first.
        let text = "WITH free AS (SELECT id FROM shard WHERE id = ANY($1) AND \
                    (owner IN ('', $2) OR lease_until <= store_now()) ORDER BY id FOR UPDATE) \
                    UPDATE shard SET owner = $2, epoch = epoch + 1, \
                    lease_until = store_now() + $3 FROM free WHERE shard.id = free.id \
                    RETURNING shard.id, shard.epoch";
        let shards: Vec<i64> = shards.iter().map(|shard| i64::from(*shard)).collect();
        self.fences(sqlx::query(text).bind(shards).bind(owner).bind(lease.millis())).await
    }

    async fn renew(&self, fences: &[Fence], lease: Span) -> Result<Vec<Fence>, ReadError> {
        self.there_are(fences.iter().map(|fence| fence.shard))?;
        let text = "WITH standing AS (SELECT s.id FROM shard AS s \
                    JOIN unnest($1::BIGINT[], $2::BIGINT[]) AS f (id, epoch) \
                    ON f.id = s.id AND f.epoch = s.epoch \
                    WHERE s.lease_until > store_now() ORDER BY s.id FOR UPDATE OF s) \
                    UPDATE shard SET lease_until = store_now() + $3 FROM standing \
                    WHERE shard.id = standing.id RETURNING shard.id, shard.epoch";
        let (shards, epochs) = columns(fences);
        self.fences(sqlx::query(text).bind(shards).bind(epochs).bind(lease.millis())).await
    }

    async fn release(&self, fences: &[Fence]) -> Result<(), ReadError> {
        self.there_are(fences.iter().map(|fence| fence.shard))?;
        let text = "WITH ours AS (SELECT s.id FROM shard AS s \
                    JOIN unnest($1::BIGINT[], $2::BIGINT[]) AS f (id, epoch) \
                    ON f.id = s.id AND f.epoch = s.epoch ORDER BY s.id FOR UPDATE OF s) \
                    UPDATE shard SET owner = '', lease_until = 0 FROM ours \
                    WHERE shard.id = ours.id RETURNING shard.id, shard.epoch";
        let (shards, epochs) = columns(fences);
        self.fences(sqlx::query(text).bind(shards).bind(epochs)).await.map(drop)
    }

    async fn append(&self, fences: &[Fence], batch: &[Append]) -> Result<Vec<Record>, AppendError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let fences = needed(self.shards(), fences, batch)?;
        let expected = ExpectedEvents::of(batch)?;
        let mut known = self.database.heads().take(&fences);
        loop {
            match self.append_after(&fences, known.take(), &expected, batch).await {
                Ok(events) => return Ok(events),
                Err(Refusal::Append(error)) => return Err(error),
                // Another append has been committed since the ends were read: they are read again.
                Err(Refusal::Moved) => {}
            }
        }
    }

    async fn read_entity(
        &self,
        entity: &EntityId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError> {
        let text = "SELECT pos, shard, entity, seq, kind, version, at, cause, data, sum FROM event \
                    WHERE entity = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let query = sqlx::query(text).bind(entity.as_str()).bind(after_seq).bind(i64::from(limit));
        all_records(&self.read(query).await?)
    }

    async fn read_entities(&self, upto: &[(EntityId, i64)]) -> Result<Vec<Record>, ReadError> {
        let text = "SELECT e.pos, e.shard, e.entity, e.seq, e.kind, e.version, e.at, e.cause, \
                    e.data, e.sum FROM unnest($1::TEXT[], $2::BIGINT[]) AS w (entity, seq) \
                    JOIN event AS e ON e.entity = w.entity AND e.seq <= w.seq \
                    ORDER BY e.entity, e.seq";
        let (entities, seqs): (Vec<&str>, Vec<i64>) =
            upto.iter().map(|(entity, seq)| (entity.as_str(), *seq)).unzip();
        all_records(&self.read(sqlx::query(text).bind(entities).bind(seqs)).await?)
    }

    async fn read_shard(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Record>, ReadError> {
        let text = "SELECT pos, shard, entity, seq, kind, version, at, cause, data, sum FROM event \
                    WHERE shard = $1 AND pos > $2 ORDER BY pos LIMIT $3";
        let query = sqlx::query(text).bind(i32::from(shard)).bind(after_pos).bind(i64::from(limit));
        all_records(&self.read(query).await?)
    }

    async fn read_chain(
        &self,
        shard: u16,
        after_pos: i64,
        limit: u32,
    ) -> Result<Vec<Chained>, ReadError> {
        let text = "SELECT pos, shard, entity, seq, kind, version, at, cause, data, sum, digest \
                    FROM event WHERE shard = $1 AND pos > $2 ORDER BY pos LIMIT $3";
        let query = sqlx::query(text).bind(i32::from(shard)).bind(after_pos).bind(i64::from(limit));
        let chained = |row: &FoundRow| {
            Ok(Chained { record: record(row)?, digest: chain::stored(row.try_get(10)?) })
        };
        let rows = self.read(query).await?;
        rows.iter().map(chained).collect::<Result<_, sqlx::Error>>().map_err(unreadable)
    }

    async fn last_pos(&self, shard: u16) -> Result<i64, ReadError> {
        self.there_are([shard])?;
        let query = sqlx::query("SELECT last_pos FROM shard WHERE id = $1").bind(i64::from(shard));
        let rows = self.read(query).await?;
        let row = rows.first().ok_or_else(|| ReadError(format!("there is no shard {shard}")))?;
        row.try_get(0).map_err(unreadable)
    }

    async fn due_timers(
        &self,
        shard: u16,
        until: Timestamp,
        after: Option<&Timer>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError> {
        let text = "SELECT entity, due_at FROM timer WHERE shard = $1 AND due_at <= $2 \
                    AND (due_at, entity) > ($3, $4) ORDER BY due_at, entity LIMIT $5";
        let query = sqlx::query(text)
            .bind(i32::from(shard))
            .bind(until.millis())
            .bind(after.map_or(i64::MIN, |after| after.due_at.millis()))
            .bind(after.map_or("", |after| after.entity.as_str()))
            .bind(i64::from(limit));
        timers(&self.read(query).await?)
    }

    async fn timers_of(
        &self,
        shard: u16,
        prefix: &str,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<Timer>, ReadError> {
        let text = "SELECT entity, due_at FROM timer WHERE entity >= $2 AND entity < $3 \
                    AND entity > $4 AND shard = $1 ORDER BY entity LIMIT $5";
        let query = sqlx::query(text)
            .bind(i32::from(shard))
            .bind(prefix)
            .bind(format!("{prefix}{}", char::MAX))
            .bind(after.map_or("", EntityId::as_str))
            .bind(i64::from(limit));
        timers(&self.read(query).await?)
    }

    async fn snapshot(&self, entity: &EntityId) -> Result<Option<StateSnapshot>, ReadError> {
        let text = "SELECT entity, seq, state_version, data, sum FROM snapshot WHERE entity = $1";
        let rows = self.read(sqlx::query(text).bind(entity.as_str())).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let seal = row.try_get(4).map_err(unreadable)?;
        Ok(self.seals.believed(snapshot(row)?, seal).await)
    }

    async fn snapshots(
        &self,
        after: Option<&EntityId>,
        limit: u32,
    ) -> Result<Vec<StateSnapshot>, ReadError> {
        let text = "SELECT entity, seq, state_version, data FROM snapshot \
                    WHERE entity COLLATE \"C\" > $1 ORDER BY entity COLLATE \"C\" LIMIT $2";
        let after = after.map_or("", EntityId::as_str);
        let rows = self.read(sqlx::query(text).bind(after).bind(i64::from(limit))).await?;
        rows.iter().map(snapshot).collect()
    }

    async fn put_snapshot(&self, snapshot: StateSnapshot) -> Result<(), ReadError> {
        let seal = self.seals.seal(&snapshot).await.map_err(unreadable)?;
        let query = insert_snapshot(&snapshot, seal);
        self.database.writers().execute(query).await.map(drop).map_err(unreadable)
    }
}
