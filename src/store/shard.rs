//! Who owns which shard of the journal, and where its last event is.

use super::{Error, Store};
use crate::domain::time::Timestamp;

/// A shard's row beside what its events say, read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The shard.
    pub id: u16,
    /// Who has claimed it.
    pub owner: String,
    /// How often it was claimed.
    pub epoch: i64,
    /// Until when it is claimed.
    pub lease_until: Timestamp,
    /// The position of its last event, as its row says.
    pub last_pos: i64,
    /// The highest position of its events, 0 if there are none.
    pub max_pos: i64,
}

impl Store {
    /// All shards, in order.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn shards(&self) -> Result<Vec<Row>, Error> {
        let found: Vec<(u16, String, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT id, owner, epoch, lease_until, last_pos, \
             ifnull((SELECT pos FROM event WHERE event.shard = shard.id ORDER BY pos DESC LIMIT 1), 0) \
             FROM shard ORDER BY id",
        )
        .fetch_all(self.readers())
        .await?;
        let row = |(id, owner, epoch, lease_until, last_pos, max_pos)| Row {
            id,
            owner,
            epoch,
            lease_until: Timestamp::from_millis(lease_until),
            last_pos,
            max_pos,
        };
        Ok(found.into_iter().map(row).collect())
    }
}
