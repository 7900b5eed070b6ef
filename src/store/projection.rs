//! What every projection has: a cursor that moves in the transaction of its rows, and dead
//! letters for events that it could not take. Which events make which rows is not known here.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::{Error, LIST_MAX, Store, order, stock};
use crate::domain::entity::EntityId;
use crate::domain::time::Timestamp;

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

/// What one step of a projection writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step<'a> {
    /// Rows of orders, written over what they were.
    pub orders: &'a [order::Row],
    /// Rows of stock levels, written over what they were.
    pub stock: &'a [stock::Row],
    /// Events that could not be taken.
    pub dead: &'a [DeadLetter],
}

impl Store {
    /// The position of the last event of a shard that a projection has taken, 0 for none.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn cursor(&self, name: &str, shard: u16) -> Result<i64, Error> {
        Ok(cursor(&mut *self.readers().acquire().await?, name, shard).await?)
    }

    /// Writes a step and moves the cursor to `pos`, in one transaction; `false`, and nothing
    /// written, if the cursor is there or further already.
    ///
    /// # Errors
    /// [`Error`] of the store; nothing is written then.
    pub async fn commit_projection(
        &self,
        name: &str,
        shard: u16,
        pos: i64,
        step: Step<'_>,
    ) -> Result<bool, Error> {
        let mut write = self.begin_relaxed().await?;
        let moved = sqlx::query(
            "INSERT INTO projection (name, shard, pos) VALUES ($1, $2, $3) \
             ON CONFLICT (name, shard) DO UPDATE SET pos = excluded.pos \
             WHERE excluded.pos > projection.pos",
        )
        .bind(name)
        .bind(shard)
        .bind(pos)
        .execute(write.connection()?)
        .await?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        order::put(write.connection()?, step.orders).await?;
        stock::put(write.connection()?, step.stock).await?;
        for letter in step.dead {
            sqlx::query(
                "INSERT INTO dead_letter (projection, shard, pos, entity, reason, at) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (projection, shard, pos) \
                 DO UPDATE SET reason = excluded.reason, at = excluded.at",
            )
            .bind(letter.projection.as_str())
            .bind(letter.shard)
            .bind(letter.pos)
            .bind(letter.entity.as_str())
            .bind(letter.reason.as_str())
            .bind(letter.at.millis())
            .execute(write.connection()?)
            .await?;
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
        sqlx::query("DELETE FROM projection WHERE name = $1")
            .bind(name)
            .execute(write.connection()?)
            .await?;
        sqlx::query("DELETE FROM dead_letter WHERE projection = $1")
            .bind(name)
            .execute(write.connection()?)
            .await?;
        write.commit().await
    }

    /// Dead letters of all projections in order of their ids after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<DeadLetter>, Error> {
        let found = sqlx::query(
            "SELECT id, projection, shard, pos, entity, reason, at FROM dead_letter \
             WHERE id > $1 ORDER BY id LIMIT +$2",
        )
        .bind(after)
        .bind(limit.min(LIST_MAX))
        .fetch_all(self.readers())
        .await?;
        Ok(found.iter().map(dead_letter).collect::<Result<_, _>>()?)
    }

    /// Takes a dead letter away; `false` if there is none.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn delete_dead_letter(&self, id: i64) -> Result<bool, Error> {
        let query = sqlx::query("DELETE FROM dead_letter WHERE id = $1").bind(id);
        Ok(self.write(query).await? == 1)
    }
}

/// As [`Store::cursor`], on a connection that reads more at the same moment.
pub(in crate::store) async fn cursor(
    connection: &mut SqliteConnection,
    name: &str,
    shard: u16,
) -> Result<i64, sqlx::Error> {
    let pos: Option<i64> =
        sqlx::query_scalar("SELECT pos FROM projection WHERE name = $1 AND shard = $2")
            .bind(name)
            .bind(shard)
            .fetch_optional(connection)
            .await?;
    Ok(pos.unwrap_or(0))
}

fn dead_letter(found: &SqliteRow) -> Result<DeadLetter, sqlx::Error> {
    Ok(DeadLetter {
        id: found.try_get(0)?,
        projection: found.try_get(1)?,
        shard: found.try_get(2)?,
        pos: found.try_get(3)?,
        entity: EntityId::new(found.try_get(4)?),
        reason: found.try_get(5)?,
        at: Timestamp::from_millis(found.try_get(6)?),
    })
}
