//! The nodes that share a store: where each is reached, and until when it is known to live. Which
//! of them should have which shard is decided elsewhere.

use super::both::{change, execute, execute_returning, fetch_all, fetch_optional, sqlite_now};
use super::found::FoundRow;
use super::{Error, LIST_MAX, Store};
use crate::domain::time::{Span, Timestamp};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its name, new for each time that it starts.
    pub id: String,
    /// Where other nodes reach it.
    pub url: String,
    /// On which machine it runs, since that was started: there only one process can listen at an
    /// address.
    pub machine: String,
    /// The version of its program.
    pub version: String,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
}

/// A node as it stands in its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it says of itself.
    pub node: NodeRow,
    /// Until when it is known to live, by the store's clock.
    pub lease_until: Timestamp,
    /// Whether it should give its shards away and take no more.
    pub draining: bool,
    /// Whether it lives, by the store's clock.
    pub lives: bool,
}

/// A node that has been dead for so long is forgotten.
const FORGOTTEN_AFTER: Span = Span::from_secs(24 * 3600);

/// A statement's text, with the store's clock in it.
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
    /// The time that all nodes of a store go by; nothing where there is one, which goes by its own.
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

    /// Notes that a node lives, for as long as `lease` from now by the store's clock; answers
    /// whether it should drain. One that starts again does not drain any more. Nothing is noted
    /// and answered while another process of its name lives at another address, or on another
    /// machine: of one at its own, which only one can listen at, it takes the place.
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

    /// All nodes in order of their ids, those that have died within a day included.
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

    /// Lets a node drain, or take shards again; `false` if there is none of this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn set_draining(&self, id: &str, draining: bool) -> Result<bool, Error> {
        let text = "UPDATE node SET draining = $2 WHERE id = $1";
        Ok(change!(self, sqlx::query(text).bind(id).bind(draining))? == 1)
    }

    /// Takes a node away that has stopped, so that nobody waits for its lease to end; `false` if
    /// it is not there. Another process of its name stays.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn remove_node(&self, node: &NodeRow) -> Result<bool, Error> {
        let text = "DELETE FROM node WHERE id = $1 AND started_at = $2";
        let started_at = node.started_at.millis();
        Ok(change!(self, sqlx::query(text).bind(node.id.as_str()).bind(started_at))? == 1)
    }

    /// Says which node should have a shard, or with `None` that any may; `false` if there is no
    /// such shard.
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
