//! The nodes that share a store: their addresses and leases. Placement of shards is decided
//! elsewhere.

use super::both::{change, execute, execute_returning, fetch_all, fetch_optional, sqlite_now};
use super::found::FoundRow;
use super::{Error, LIST_MAX, Store};
use crate::domain::time::{Span, Timestamp};

/// A node's description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its name.
    pub id: String,
    /// The address for calls of other nodes.
    pub url: String,
    /// Its machine since the machine's start: only one process there can listen at an address.
    pub machine: String,
    /// The version of its program.
    pub version: String,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
}

/// A node's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its description of itself.
    pub node: NodeRow,
    /// The end of its lease, by the store's clock.
    pub lease_until: Timestamp,
    /// Whether it should hand over its shards and get no new ones.
    pub draining: bool,
    /// Whether its lease is valid, by the store's clock.
    pub lives: bool,
}

/// A node that has been dead this long is removed.
const FORGOTTEN_AFTER: Span = Span::from_secs(24 * 3600);

/// The text of a statement, with the store's clock.
macro_rules! by_store_clock {
    ($is_shared:expr, $head:literal $(, $tail:literal)*) => {
        if $is_shared {
            concat!($head $(, "store_now()", $tail)*)
        } else {
            concat!($head $(, sqlite_now!(), $tail)*)
        }
    };
}

impl Store {
    /// The clock that all nodes of a store use; `None` for a single node, which uses its own.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn time(&self) -> Result<Option<Timestamp>, Error> {
        if !self.is_shared() {
            return Ok(None);
        }
        let found = fetch_optional!(self.readers(), sqlx::query("SELECT store_now()"))?;
        let millis = found.map(|found| found.try_get(0)).transpose()?;
        Ok(millis.map(Timestamp::from_millis))
    }

    /// Renews a node's lease, by the store's clock; returns whether it should drain. A node that
    /// has restarted does not drain any more. If another live process has its name, at another
    /// address or on another machine, nothing is written and the answer is `None`; a process at the
    /// same address, where only one can listen, is replaced.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn heartbeat(&self, node: &NodeRow, lease: Span) -> Result<Option<bool>, Error> {
        let text = by_store_clock!(
            self.is_shared(),
            "INSERT INTO node (id, url, machine, version, started_at, lease_until, draining) \
             VALUES ($1, $2, $6, $3, $4, ",
            " + $5, FALSE) ON CONFLICT (id) DO UPDATE SET url = excluded.url, \
             machine = excluded.machine, version = excluded.version, \
             started_at = excluded.started_at, lease_until = excluded.lease_until, \
             draining = node.draining AND node.started_at = excluded.started_at \
             WHERE (node.url = excluded.url AND node.machine = excluded.machine) \
             OR node.lease_until <= ",
            " RETURNING draining"
        );
        let forget =
            by_store_clock!(self.is_shared(), "DELETE FROM node WHERE lease_until < ", " - $1");
        let mut writing = self.begin_relaxed().await?;
        let found = execute_returning!(
            writing,
            sqlx::query(text)
                .bind(node.id.as_str())
                .bind(node.url.as_str())
                .bind(node.version.as_str())
                .bind(node.started_at.millis())
                .bind(lease.millis())
                .bind(node.machine.as_str())
        )?;
        execute!(writing, sqlx::query(forget).bind(FORGOTTEN_AFTER.millis()))?;
        writing.commit().await?;
        Ok(found.map(|found| found.try_get(0)).transpose()?)
    }

    /// All nodes in order of their ids, including those that died within a day.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn nodes(&self) -> Result<Vec<Row>, Error> {
        let text = by_store_clock!(
            self.is_shared(),
            "SELECT id, url, machine, version, started_at, lease_until, draining, lease_until > ",
            " FROM node ORDER BY id LIMIT +$1"
        );
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(i64::from(LIST_MAX)))?;
        Ok(found.iter().map(row).collect::<Result<_, _>>()?)
    }

    /// Sets whether a node drains; `false` if there is none with this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn set_draining(&self, id: &str, draining: bool) -> Result<bool, Error> {
        let text = "UPDATE node SET draining = $2 WHERE id = $1";
        Ok(change!(self, sqlx::query(text).bind(id).bind(draining))? == 1)
    }

    /// Removes a node that has stopped, so that nobody waits for its lease to end; `false` if there
    /// is none. Another process with its name stays.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn remove_node(&self, node: &NodeRow) -> Result<bool, Error> {
        let text = "DELETE FROM node WHERE id = $1 AND started_at = $2";
        let started_at = node.started_at.millis();
        Ok(change!(self, sqlx::query(text).bind(node.id.as_str()).bind(started_at))? == 1)
    }

    /// Pins a shard to a node, or with `None` to no node; `false` if there is no such shard.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn pin_shard(&self, shard: u16, node: Option<&str>) -> Result<bool, Error> {
        let text = "UPDATE shard SET pinned_to = $2 WHERE id = $1";
        Ok(change!(self, sqlx::query(text).bind(i64::from(shard)).bind(node))? == 1)
    }
}

fn row(found: &FoundRow) -> Result<Row, sqlx::Error> {
    Ok(Row {
        node: NodeRow {
            id: found.try_get(0)?,
            url: found.try_get(1)?,
            machine: found.try_get(2)?,
            version: found.try_get(3)?,
            started_at: Timestamp::from_millis(found.try_get(4)?),
        },
        lease_until: Timestamp::from_millis(found.try_get(5)?),
        draining: found.try_get(6)?,
        lives: found.try_get(7)?,
    })
}
