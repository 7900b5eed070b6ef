//! The shards of the journal: owner, epoch, lease and last position.

use super::both::fetch_all;
use super::found::FoundRow;
use super::journal::{Digest, chain};
use super::{Error, Store};
use crate::domain::time::Timestamp;

/// A shard's row, and the highest position of its events, read in one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The shard.
    pub id: u16,
    /// The name of its owner; empty if it has none.
    pub owner: String,
    /// Its epoch, which increases with each claim.
    pub epoch: i64,
    /// The end of its lease.
    pub lease_until: Timestamp,
    /// The node to which an operator has pinned it.
    pub pinned_to: Option<String>,
    /// The position of its last event, according to the row of the shard.
    pub last_pos: i64,
    /// The highest position of its events in the journal, 0 if there are none.
    pub max_pos: i64,
    /// The digest of its last event, according to the row of the shard; `None` if it is none.
    pub head: Option<Digest>,
}

impl Store {
    /// All shards, in order.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn shards(&self) -> Result<Vec<Row>, Error> {
        let text = "SELECT id, owner, epoch, lease_until, pinned_to, last_pos, coalesce((SELECT pos \
                    FROM event WHERE event.shard = shard.id ORDER BY pos DESC LIMIT 1), 0), \
                    head FROM shard ORDER BY id";
        let found = fetch_all!(self.readers(), sqlx::query(text))?;
        Ok(found.iter().map(row).collect::<Result<_, _>>()?)
    }
}

fn row(found: &FoundRow) -> Result<Row, sqlx::Error> {
    Ok(Row {
        id: found.shard(0)?,
        owner: found.try_get(1)?,
        epoch: found.try_get(2)?,
        lease_until: Timestamp::from_millis(found.try_get(3)?),
        pinned_to: found.try_get(4)?,
        last_pos: found.try_get(5)?,
        max_pos: found.try_get(6)?,
        head: chain::stored(found.try_get(7)?),
    })
}
