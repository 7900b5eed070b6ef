//! The PostgreSQL side of a store: its connection pools, and the replica for lists. `open` opens
//! the database, `pool` manages connections; the statements of each table are in the table's own
//! file.

mod open;
pub(in crate::store) mod pool;
pub mod replica;

use std::sync::Arc;

use self::pool::Pool;
use self::replica::Replica;
use super::journal::chain::Heads;
use super::sizes::{Check, Sizes};
use super::{DatabaseUrl, Error};

/// An open database. Clones share its connections.
#[derive(Clone)]
pub(in crate::store) struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    address: DatabaseUrl,
    shards: u16,
    readers: Pool,
    writers: Pool,
    replica: Option<Replica>,
    heads: Heads,
}

impl Database {
    /// The URL of the database, which is displayed without its password.
    pub(in crate::store) fn address(&self) -> &DatabaseUrl {
        &self.inner.address
    }

    /// The number of shards of the store.
    pub(in crate::store) fn shards(&self) -> u16 {
        self.inner.shards
    }

    /// Connections that read from the primary, and so see the last commit.
    pub(in crate::store) fn readers(&self) -> &Pool {
        &self.inner.readers
    }

    /// Connections that write.
    pub(in crate::store) fn writers(&self) -> &Pool {
        &self.inner.writers
    }

    /// Connections for lists: those of the replica while it does not lag too much, otherwise those
    /// of [`Database::readers`].
    pub(in crate::store) fn lists(&self) -> &Pool {
        let replica = self.inner.replica.as_ref().and_then(Replica::pool);
        replica.unwrap_or(&self.inner.readers)
    }

    pub(in crate::store) fn replica(&self) -> Option<&Replica> {
        self.inner.replica.as_ref()
    }

    /// The ends of the journal's chains, as far as they are known.
    pub(in crate::store) fn heads(&self) -> &Heads {
        &self.inner.heads
    }

    pub(in crate::store) async fn close(&self) {
        if let Some(replica) = &self.inner.replica {
            replica.close().await;
        }
        self.inner.readers.close().await;
        self.inner.writers.close().await;
    }
}

/// Checks that the journal's tables agree; returns the faults.
pub(in crate::store) async fn check(
    database: &Database,
    check: Check,
) -> Result<Vec<String>, Error> {
    let mut faults = Vec::new();
    let ends = "SELECT id, last_pos, coalesce((SELECT max(pos) FROM event \
                WHERE event.shard = shard.id), 0) AS there FROM shard ORDER BY id";
    let mut shards = Vec::new();
    for row in database.readers().fetch_all(sqlx::query(ends)).await? {
        let (id, last_pos, there): (i64, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if there < last_pos {
            faults.push(format!("shard {id} should end at event {last_pos}, and ends at {there}"));
        }
        shards.push((id, last_pos));
    }
    if check == Check::Quick {
        return Ok(faults);
    }
    let count = "SELECT count(*) FROM event WHERE shard = $1 AND pos <= $2";
    for (id, last_pos) in shards {
        let query = sqlx::query(count).bind(id).bind(last_pos);
        let found = database.readers().fetch_optional(query).await?;
        let there: i64 = found.map_or(Ok(0), |found| found.try_get(0))?;
        if there != last_pos {
            faults.push(format!("shard {id} has {there} events where it should have {last_pos}"));
        }
    }
    Ok(faults)
}

/// The size of the database, and the number of events.
pub(in crate::store) async fn sizes(database: &Database) -> Result<Sizes, Error> {
    let text = "SELECT pg_database_size(current_database()), \
                (SELECT coalesce(sum(last_pos), 0)::BIGINT FROM shard)";
    let Some(row) = database.readers().fetch_optional(sqlx::query(text)).await? else {
        return Ok(Sizes::default());
    };
    let bytes: i64 = row.try_get(0)?;
    Ok(Sizes {
        database_bytes: u64::try_from(bytes).unwrap_or(0),
        events: row.try_get(1)?,
        ..Sizes::default()
    })
}
