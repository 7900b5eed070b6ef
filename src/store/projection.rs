//! The bookkeeping of all projections: their cursors, which move in the transaction that writes the
//! rows, and the dead letters of events that a projection could not process. The projections are
//! defined in `actors`; their rows are in `list_row`.

use super::both::{Builder, Writing, change, execute, fetch_all, fetch_optional};
use super::found::{FoundRow, sqlite_rows};
use super::list_row::Batch;
use super::postgres::pool::BEGIN_READING;
use super::{Error, LIST_MAX, Readers, Store};
use crate::domain::entity::EntityId;
use crate::domain::time::Timestamp;

macro_rules! letters {
    () => {
        "SELECT id, projection, shard, pos, entity, reason, at FROM dead_letter"
    };
}

/// An event that a projection could not process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id, assigned by the database; 0 before it is written.
    pub id: i64,
    /// The projection.
    pub projection: String,
    /// The event's shard.
    pub shard: u16,
    /// The event's position in the shard.
    pub pos: i64,
    /// The event's entity.
    pub entity: EntityId,
    /// Why the event could not be processed.
    pub reason: String,
    /// When that happened.
    pub at: Timestamp,
}

/// The progress of a projection in one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The shard.
    pub shard: u16,
    /// The cursor's expected position; 0 if the projection has processed no event of the shard.
    pub after: i64,
    /// The cursor's new position.
    pub pos: i64,
}

/// The writes of one projection for one batch of events.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProjectionBatch<'a> {
    /// The projection.
    pub projection: &'a str,
    /// The moves of its cursors, one per shard.
    pub cursors: &'a [Cursor],
    /// Rows, which replace stored rows with the same keys.
    pub rows: Option<&'a Batch>,
    /// Dead letters of events that could not be processed.
    pub dead: &'a [DeadLetter],
    /// Entities whose rows now contain all their events, including those that had failed: their
    /// dead letters are deleted.
    pub healed: &'a [EntityId],
}

impl Store {
    /// The cursor of a projection in a shard: the position of the last event that it has processed,
    /// 0 if none.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn cursor(&self, name: &str, shard: u16) -> Result<i64, Error> {
        let text = "SELECT pos FROM projection WHERE name = $1 AND shard = $2";
        let found =
            fetch_optional!(self.readers(), sqlx::query(text).bind(name).bind(i64::from(shard)))?;
        Ok(found.map_or(Ok(0), |found| found.try_get(0))?)
    }

    /// The cursors of a projection, in order of shard. A shard of which it has processed no event
    /// is left out.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn cursors(&self, name: &str) -> Result<Vec<(u16, i64)>, Error> {
        Ok(cursors(fetch_all!(self.readers(), sqlx::query(CURSORS).bind(name))?)?)
    }

    /// Writes the rows and dead letters of some projections and moves all their cursors, in one
    /// transaction; `false`, with nothing written, if a cursor is not at its expected position.
    ///
    /// # Errors
    /// [`Error`] of the store. Nothing is written then, unless the outcome of the commit is
    /// unknown.
    pub async fn commit_projections(&self, batches: &[ProjectionBatch<'_>]) -> Result<bool, Error> {
        let mut write = self.begin_relaxed().await?;
        if !move_all(&mut write, batches).await? {
            return Ok(false);
        }
        for batch in batches {
            if let Some(rows) = batch.rows {
                rows.write(&mut write).await?;
            }
            write_letters(&mut write, batch).await?;
        }
        write.commit().await?;
        Ok(true)
    }

    /// Deletes a projection's cursors and dead letters, so that it reads all events again and
    /// overwrites its rows (a rebuild).
    ///
    /// # Errors
    /// [`Error`] of the store. Nothing is deleted then, unless the outcome of the commit is
    /// unknown.
    pub async fn reset_projection(&self, name: &str) -> Result<(), Error> {
        let mut write = self.begin_relaxed().await?;
        execute!(write, sqlx::query("DELETE FROM projection WHERE name = $1").bind(name))?;
        execute!(write, sqlx::query("DELETE FROM dead_letter WHERE projection = $1").bind(name))?;
        write.commit().await
    }

    /// Dead letters of all projections in order of their ids after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<DeadLetter>, Error> {
        let text = concat!(letters!(), " WHERE id > $1 ORDER BY id LIMIT +$2");
        let limit = i64::from(limit.min(LIST_MAX));
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(after).bind(limit))?;
        Ok(found.iter().map(dead_letter).collect::<Result<_, _>>()?)
    }

    /// The dead letter with this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, Error> {
        let text = concat!(letters!(), " WHERE id = $1");
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(id))?;
        Ok(found.as_ref().map(dead_letter).transpose()?)
    }

    /// The entities among `entities` that have dead letters of a projection.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn parked(&self, name: &str, entities: &[EntityId]) -> Result<Vec<EntityId>, Error> {
        let mut parked = Vec::new();
        for entity in entities {
            let text = "SELECT id FROM dead_letter WHERE projection = $1 AND entity = $2 LIMIT 1";
            let there = fetch_optional!(
                self.readers(),
                sqlx::query(text).bind(name).bind(entity.as_str())
            )?;
            if there.is_some() {
                parked.push(entity.clone());
            }
        }
        Ok(parked)
    }

    /// All entities that have dead letters of a projection.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn all_parked(&self, name: &str) -> Result<Vec<EntityId>, Error> {
        let text = "SELECT DISTINCT entity FROM dead_letter WHERE projection = $1";
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(name))?;
        let entity = |found: &FoundRow| Ok(EntityId::new(found.try_get::<&str>(0)?));
        Ok(found.iter().map(entity).collect::<Result<_, sqlx::Error>>()?)
    }

    /// Deletes a dead letter; `false` if there is none.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn delete_dead_letter(&self, id: i64) -> Result<bool, Error> {
        let text = "DELETE FROM dead_letter WHERE id = $1";
        Ok(change!(self, sqlx::query(text).bind(id))? == 1)
    }
}

const CURSORS: &str = "SELECT shard, pos FROM projection WHERE name = $1 ORDER BY shard";
/// The ends of the journal, which rows that are written with their events have reached.
const ENDS: &str = "SELECT id, last_pos FROM shard ORDER BY id";

fn cursors(found: Vec<FoundRow>) -> Result<Vec<(u16, i64)>, sqlx::Error> {
    found.iter().map(|found| Ok((found.shard(0)?, found.try_get(1)?))).collect()
}

/// A list of rows that are written with their events, and the ends of the journal, both from one
/// snapshot of the database.
pub(in crate::store) async fn list_at_end(
    from: Readers<'_>,
    list: Builder,
) -> Result<(Vec<FoundRow>, Vec<(u16, i64)>), Error> {
    list_with(from, list, Builder::new(from.dialect(), ENDS)).await
}

/// A list and the cursors of its projection, both from one snapshot of the database.
pub(in crate::store) async fn list_at(
    from: Readers<'_>,
    list: Builder,
    name: &str,
) -> Result<(Vec<FoundRow>, Vec<(u16, i64)>), Error> {
    let mut at = Builder::new(from.dialect(), "SELECT shard, pos FROM projection WHERE name = ");
    at.push_bind(name.to_owned()).push(" ORDER BY shard");
    list_with(from, list, at).await
}

async fn list_with(
    from: Readers<'_>,
    list: Builder,
    at: Builder,
) -> Result<(Vec<FoundRow>, Vec<(u16, i64)>), Error> {
    match from {
        Readers::Sqlite(pool) => {
            let mut read = pool.begin().await?;
            let at = at.sqlite().fetch_all(&mut *read).await?;
            let found = list.sqlite().fetch_all(&mut *read).await?;
            read.rollback().await?;
            Ok((sqlite_rows(found), cursors(sqlite_rows(at))?))
        }
        Readers::Postgres(pool) => {
            let mut read = pool.begin(BEGIN_READING).await?;
            let at = read.fetch_all(at.postgres()).await?;
            let found = read.fetch_all(list.postgres()).await?;
            read.rollback().await?;
            Ok((found, cursors(at)?))
        }
    }
}

/// Moves all cursors, if each is at its expected position; otherwise returns `false`. There may be
/// as many cursors as shards times projections, and each statement costs a switch to another thread
/// or a round trip, so one statement moves all.
async fn move_all(
    writing: &mut Writing,
    batches: &[ProjectionBatch<'_>],
) -> Result<bool, sqlx::Error> {
    let mut all = Vec::new();
    for batch in batches {
        all.extend(batch.cursors.iter().map(|cursor| (batch.projection, *cursor)));
    }
    let new: Vec<_> = all.iter().filter(|(_, cursor)| cursor.after == 0).copied().collect();
    if !new.is_empty() {
        move_with(writing, BEGIN_CURSORS, &new).await?;
    }
    let moved = move_with(writing, MOVE_CURSORS, &all).await?;
    Ok(usize::try_from(moved).ok() == Some(all.len()))
}

/// A statement about many cursors, which are bound as one JSON text in SQLite, and as four arrays
/// in PostgreSQL.
struct OfCursors {
    sqlite: &'static str,
    postgres: &'static str,
}

const BEGIN_CURSORS: OfCursors = OfCursors {
    sqlite: "INSERT INTO projection (name, shard, pos) SELECT value ->> 0, value ->> 1, 0 \
             FROM json_each($1) WHERE TRUE ON CONFLICT DO NOTHING",
    postgres: "INSERT INTO projection (name, shard, pos) SELECT c.name, c.shard, 0 \
               FROM unnest($1::TEXT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[]) \
               AS c (name, shard, after, pos) ON CONFLICT DO NOTHING",
};

const MOVE_CURSORS: OfCursors = OfCursors {
    sqlite: "UPDATE projection SET pos = c.pos FROM (SELECT value ->> 0 AS name, \
             value ->> 1 AS shard, value ->> 2 AS after, value ->> 3 AS pos FROM json_each($1)) \
             AS c WHERE projection.name = c.name AND projection.shard = c.shard \
             AND projection.pos = c.after",
    postgres: "UPDATE projection AS p SET pos = c.pos \
               FROM unnest($1::TEXT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[]) \
               AS c (name, shard, after, pos) \
               WHERE p.name = c.name AND p.shard = c.shard AND p.pos = c.after",
};

/// Runs a statement about cursors; returns the number of cursors that it changed.
async fn move_with(
    writing: &mut Writing,
    text: OfCursors,
    cursors: &[(&str, Cursor)],
) -> Result<u64, sqlx::Error> {
    match writing {
        Writing::Sqlite(writing) => {
            let one =
                |(name, at): &(&str, Cursor)| serde_json::json!([name, at.shard, at.after, at.pos]);
            let all = serde_json::Value::from_iter(cursors.iter().map(one)).to_string();
            let done = sqlx::query(text.sqlite).bind(all).execute(writing.connection()?).await?;
            Ok(done.rows_affected())
        }
        Writing::Postgres(transaction) => {
            let names: Vec<&str> = cursors.iter().map(|(name, _)| *name).collect();
            let column = |of: fn(&Cursor) -> i64| -> Vec<i64> {
                cursors.iter().map(|(_, cursor)| of(cursor)).collect()
            };
            let query = sqlx::query(text.postgres)
                .bind(names)
                .bind(column(|cursor| i64::from(cursor.shard)))
                .bind(column(|cursor| cursor.after))
                .bind(column(|cursor| cursor.pos));
            transaction.execute(query).await
        }
    }
}

/// Writes new dead letters, and deletes those of healed entities.
async fn write_letters(
    writing: &mut Writing,
    batch: &ProjectionBatch<'_>,
) -> Result<(), sqlx::Error> {
    for letter in batch.dead {
        let text = "INSERT INTO dead_letter (projection, shard, pos, entity, reason, at) \
                    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (projection, shard, pos) \
                    DO UPDATE SET reason = excluded.reason, at = excluded.at";
        execute!(
            *writing,
            sqlx::query(text)
                .bind(letter.projection.as_str())
                .bind(i64::from(letter.shard))
                .bind(letter.pos)
                .bind(letter.entity.as_str())
                .bind(letter.reason.as_str())
                .bind(letter.at.millis())
        )?;
    }
    for entity in batch.healed {
        let text = "DELETE FROM dead_letter WHERE projection = $1 AND entity = $2";
        execute!(*writing, sqlx::query(text).bind(batch.projection).bind(entity.as_str()))?;
    }
    Ok(())
}

fn dead_letter(found: &FoundRow) -> Result<DeadLetter, sqlx::Error> {
    Ok(DeadLetter {
        id: found.try_get(0)?,
        projection: found.try_get(1)?,
        shard: found.shard(2)?,
        pos: found.try_get(3)?,
        entity: EntityId::new(found.try_get::<&str>(4)?),
        reason: found.try_get(5)?,
        at: Timestamp::from_millis(found.try_get(6)?),
    })
}
