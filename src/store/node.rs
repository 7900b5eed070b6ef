//! The nodes that share a store, with their addresses. A node's own lease, which is not that of a
//! shard, is the time for which it counts as alive; its heartbeat renews it.

use super::both::{by_store_clock, change, execute, execute_returning, fetch_all, fetch_optional};
use super::found::FoundRow;
use super::{Error, LIST_MAX, Store};
use crate::domain::time::{Span, Timestamp};

/// A node's description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its name.
    pub id: String,
    /// The URL at which other nodes call it.
    pub url: String,
    /// The identity of its machine, which changes when the machine restarts. Two live processes
    /// cannot have the same machine and URL, because only one of them can listen there.
    pub machine: String,
    /// The version of its program.
    pub version: String,
    /// When the process started, by its own clock.
    pub started_at: Timestamp,
}

/// A node in the list of nodes: its description of itself, and what the store knows about it.
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

/// The row of a node is removed this long after the end of its lease.
const FORGOTTEN_AFTER: Span = Span::from_secs(24 * 3600);

impl Store {
    /// The time by the store's clock, which all nodes use; `None` for a store in a data folder,
    /// whose only node uses its own clock.
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

    /// Renews a node's lease, by the store's clock; returns whether it should drain. A restarted
    /// node does not drain any more. If another live process at another address or on another
    /// machine has the node's name, nothing is written and the answer is `None`. A row with the
    /// same address and machine is overwritten: it was written by this process, or by an earlier
    /// one that must be dead, because only one process can listen at an address.
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

    /// All nodes in order of their ids, including those whose leases ended less than a day ago.
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

    /// Sets whether a node drains; `false` if there is no node with this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn set_draining(&self, id: &str, draining: bool) -> Result<bool, Error> {
        let text = "UPDATE node SET draining = $2 WHERE id = $1";
        Ok(change!(self, sqlx::query(text).bind(id).bind(draining))? == 1)
    }

    /// Removes a node that is stopping, so that nobody waits for its lease to end; `false` if there
    /// is none. The row of a later process with the same name stays.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn remove_node(&self, node: &NodeRow) -> Result<bool, Error> {
        let text = "DELETE FROM node WHERE id = $1 AND started_at = $2";
        let started_at = node.started_at.millis();
        Ok(change!(self, sqlx::query(text).bind(node.id.as_str()).bind(started_at))? == 1)
    }

    /// Pins a shard to a node, or with `None` unpins it; `false` if there is no such shard.
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
