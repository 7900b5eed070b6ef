//! What every projection has: a cursor that moves in the transaction of its rows, and dead
//! letters for events that it could not take. Which events make which rows is not known here.

use super::both::{
    Builder, Found, Writing, change, execute, fetch_all, fetch_optional, sqlite_rows,
};
use super::postgres::pool::BEGIN_READING;
use super::{Error, LIST_MAX, Readers, Store, order, row, stock};
use crate::domain::entity::EntityId;
use crate::domain::time::Timestamp;

macro_rules! letters {
    () => {
        "SELECT id, projection, shard, pos, entity, reason, at FROM dead_letter"
    };
}

/// An event that a projection could not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number, 0 before it is written.
    pub id: i64,
    /// The projection that stumbled.
    pub projection: String,
    /// The event's shard.
    pub shard: u16,
    /// The event's position there.
    pub pos: i64,
    /// Whose event it is.
    pub entity: EntityId,
    /// What went wrong.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// How far a step leads a projection in one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The shard.
    pub shard: u16,
    /// Where the cursor has to stand: 0 at the very beginning.
    pub after: i64,
    /// Where it stands then.
    pub pos: i64,
}

/// What one step of a projection writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step<'a> {
    /// Rows of orders, written over what they were.
    pub orders: &'a [order::Row],
    /// Rows of stock levels, written over what they were.
    pub stock: &'a [stock::Row],
    /// Events that could not be taken.
    pub dead: &'a [DeadLetter],
    /// Those whose rows show all their events again: their dead letters are taken away.
    pub healed: &'a [EntityId],
}

impl Store {
    /// The position of the last event of a shard that a projection has taken, 0 for none.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn cursor(&self, name: &str, shard: u16) -> Result<i64, Error> {
        let text = "SELECT pos FROM projection WHERE name = $1 AND shard = $2";
        let found =
            fetch_optional!(self.readers(), sqlx::query(text).bind(name).bind(i64::from(shard)))?;
        Ok(found.map_or(Ok(0), |found| found.try_get(0))?)
    }

    /// The positions of the last events that a projection has taken, by shard, in order; shards
    /// of which it has taken none are left out.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn cursors(&self, name: &str) -> Result<Vec<(u16, i64)>, Error> {
        Ok(cursors(fetch_all!(self.readers(), sqlx::query(CURSORS).bind(name))?)?)
    }

    /// Writes a step and moves the cursors of its shards, all in one transaction; `false`, and
    /// nothing written, if one of them is not where the step begins.
    ///
    /// # Errors
    /// [`Error`] of the store; nothing is written then.
    pub async fn commit_projection(
        &self,
        name: &str,
        cursors: &[Cursor],
        step: Step<'_>,
    ) -> Result<bool, Error> {
        let mut write = self.begin_relaxed().await?;
        if !move_all(&mut write, name, cursors).await? {
            return Ok(false);
        }
        row::put(&mut write, step.orders).await?;
        row::put(&mut write, step.stock).await?;
        for letter in step.dead {
            let text = "INSERT INTO dead_letter (projection, shard, pos, entity, reason, at) \
                        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (projection, shard, pos) \
                        DO UPDATE SET reason = excluded.reason, at = excluded.at";
            execute!(
                write,
                sqlx::query(text)
                    .bind(letter.projection.as_str())
                    .bind(i64::from(letter.shard))
                    .bind(letter.pos)
                    .bind(letter.entity.as_str())
                    .bind(letter.reason.as_str())
                    .bind(letter.at.millis())
            )?;
        }
        for entity in step.healed {
            let text = "DELETE FROM dead_letter WHERE projection = $1 AND entity = $2";
            execute!(write, sqlx::query(text).bind(name).bind(entity.as_str()))?;
        }
        write.commit().await?;
        Ok(true)
    }

    /// Forgets how far a projection has come, and its dead letters: its rows are made again from
    /// the first event, over those that stand there.
    ///
    /// # Errors
    /// [`Error`] of the store; nothing is forgotten then.
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

    /// The dead letter of this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, Error> {
        let text = concat!(letters!(), " WHERE id = $1");
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(id))?;
        Ok(found.as_ref().map(dead_letter).transpose()?)
    }

    /// Those among `entities` that a projection has dead letters of.
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

    /// Takes a dead letter away; `false` if there is none.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn delete_dead_letter(&self, id: i64) -> Result<bool, Error> {
        let text = "DELETE FROM dead_letter WHERE id = $1";
        Ok(change!(self, sqlx::query(text).bind(id))? == 1)
    }
}

const CURSORS: &str = "SELECT shard, pos FROM projection WHERE name = $1 ORDER BY shard";

fn cursors(found: Vec<Found>) -> Result<Vec<(u16, i64)>, sqlx::Error> {
    found.iter().map(|found| Ok((found.shard(0)?, found.try_get(1)?))).collect()
}

/// A list, and how far a projection of its rows has come, both at one moment.
pub(in crate::store) async fn list_at(
    from: Readers<'_>,
    list: Builder,
    name: &str,
) -> Result<(Vec<Found>, Vec<(u16, i64)>), Error> {
    match from {
        Readers::Sqlite(pool) => {
            let mut read = pool.begin().await?;
            let at = sqlx::query(CURSORS).bind(name).fetch_all(&mut *read).await?;
            let found = list.sqlite().fetch_all(&mut *read).await?;
            read.rollback().await?;
            Ok((sqlite_rows(found), cursors(sqlite_rows(at))?))
        }
        Readers::Postgres(pool) => {
            let mut read = pool.begin(BEGIN_READING).await?;
            let at = read.fetch_all(sqlx::query(CURSORS).bind(name)).await?;
            let found = read.fetch_all(list.postgres()).await?;
            read.rollback().await?;
            Ok((found, cursors(at)?))
        }
    }
}

/// Moves all cursors of a step, if each stands where it should.
async fn move_all(
    writing: &mut Writing,
    name: &str,
    cursors: &[Cursor],
) -> Result<bool, sqlx::Error> {
    let Writing::Postgres(transaction) = writing else {
        for cursor in cursors {
            if !move_on(writing, name, *cursor).await? {
                return Ok(false);
            }
        }
        return Ok(true);
    };
    // There may be as many as shards, and each statement is a round trip.
    let shards: Vec<i64> = cursors.iter().map(|cursor| i64::from(cursor.shard)).collect();
    let after: Vec<i64> = cursors.iter().map(|cursor| cursor.after).collect();
    let pos: Vec<i64> = cursors.iter().map(|cursor| cursor.pos).collect();
    if after.contains(&0) {
        let text = "INSERT INTO projection (name, shard, pos) SELECT $1, c.shard, 0 \
                    FROM unnest($2::BIGINT[], $3::BIGINT[]) AS c (shard, after) \
                    WHERE c.after = 0 ON CONFLICT DO NOTHING";
        let query = sqlx::query(text).bind(name).bind(shards.clone()).bind(after.clone());
        transaction.execute(query).await?;
    }
    let text = "UPDATE projection AS p SET pos = c.pos \
                FROM unnest($2::BIGINT[], $3::BIGINT[], $4::BIGINT[]) AS c (shard, after, pos) \
                WHERE p.name = $1 AND p.shard = c.shard AND p.pos = c.after";
    let query = sqlx::query(text).bind(name).bind(shards).bind(after).bind(pos);
    Ok(usize::try_from(transaction.execute(query).await?).ok() == Some(cursors.len()))
}

/// Moves one cursor, if it stands where it should.
async fn move_on(writing: &mut Writing, name: &str, cursor: Cursor) -> Result<bool, sqlx::Error> {
    let text = if cursor.after == 0 {
        "INSERT INTO projection (name, shard, pos) VALUES ($1, $2, $3) \
         ON CONFLICT (name, shard) DO UPDATE SET pos = excluded.pos WHERE projection.pos = $4"
    } else {
        "UPDATE projection SET pos = $3 WHERE name = $1 AND shard = $2 AND pos = $4"
    };
    let moved = execute!(
        *writing,
        sqlx::query(text)
            .bind(name)
            .bind(i64::from(cursor.shard))
            .bind(cursor.pos)
            .bind(cursor.after)
    )?;
    Ok(moved == 1)
}

fn dead_letter(found: &Found) -> Result<DeadLetter, sqlx::Error> {
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
