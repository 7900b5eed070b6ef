//! A witness: PostgreSQL itself records for every event which node wrote it, and which node owned
//! its shard at that time.
//!
//! Each node connects as a user of its own (`Options::proxies` of the cluster). The records are
//! written in the transaction of the events, by a trigger that only this test adds.

use crate::cluster::{Cluster, DATABASE};
use crate::{Error, blocking};

const WATCH: &str = "
CREATE TABLE witness (writer TEXT, owner TEXT, url TEXT, shard INT, epoch BIGINT, events BIGINT);
CREATE FUNCTION testify() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO witness
    SELECT session_user, s.owner, n.url, s.id, s.epoch, count(*)
    FROM written AS w JOIN shard AS s ON s.id = w.shard LEFT JOIN node AS n ON n.id = s.owner
    GROUP BY s.id, s.owner, s.epoch, n.url;
    RETURN NULL;
END $$;
CREATE TRIGGER testimony AFTER INSERT ON event REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION testify();
";

/// Starts recording.
///
/// # Errors
/// [`Error`]: PostgreSQL refuses.
pub fn begin(cluster: &Cluster) -> Result<(), Error> {
    blocking(|| cluster.postgres.sql(DATABASE, WATCH))?;
    Ok(())
}

/// The number of recorded events.
///
/// # Errors
/// [`Error`]: PostgreSQL fails.
pub fn events(cluster: &Cluster) -> Result<u64, Error> {
    number(cluster, "SELECT coalesce(sum(events), 0) FROM witness")
}

/// Descriptions of events that were written by a node that did not own their shard.
///
/// # Errors
/// [`Error`]: PostgreSQL fails.
pub fn intruders(cluster: &Cluster) -> Result<Vec<String>, Error> {
    let urls: Vec<String> =
        cluster.nodes.iter().map(|node| format!("('{}', '{}')", node.name(), node.url())).collect();
    let ask = format!(
        "SELECT writer, coalesce(w.url, owner), shard, epoch, sum(events) FROM witness AS w \
         LEFT JOIN (VALUES {}) AS known (name, url) ON known.name = writer \
         WHERE known.url IS DISTINCT FROM w.url GROUP BY 1, 2, 3, 4",
        urls.join(", ")
    );
    let rows = blocking(|| cluster.postgres.sql(DATABASE, &ask))?;
    let told = |row: &str| {
        let cells: Vec<&str> = row.split('|').collect();
        let [writer, owner, shard, epoch, events] = cells[..] else { return row.to_owned() };
        format!(
            "{writer} wrote {events} events of shard {shard}, which {owner} owned at epoch {epoch}"
        )
    };
    Ok(rows.lines().map(told).collect())
}

/// The owners of the shards.
#[derive(Clone, Copy, Debug)]
pub struct ShardCounts {
    /// The number of shards.
    pub all: u64,
    /// Shards whose owner has a valid lease.
    pub owned: u64,
    /// The number of owners.
    pub owners: u64,
    /// Shards whose current or last owner is the given node, even if its lease has ended.
    pub of_node: u64,
}

impl ShardCounts {
    /// Whether each shard has an owner.
    #[must_use]
    pub fn all_owned(self) -> bool {
        self.all > 0 && self.owned == self.all
    }
}

/// The owners of the shards, with the shards of the node at an address.
///
/// # Errors
/// [`Error`]: PostgreSQL fails.
pub fn shards(cluster: &Cluster, url: &str) -> Result<ShardCounts, Error> {
    let ask = format!(
        "WITH s AS (SELECT owner, owner <> '' AND lease_until > store_now() AS stands FROM shard) \
         SELECT count(*), count(*) FILTER (WHERE stands), \
         count(DISTINCT owner) FILTER (WHERE stands), count(*) FILTER (WHERE n.url = '{url}') \
         FROM s LEFT JOIN node AS n ON n.id = s.owner"
    );
    let told = blocking(|| cluster.postgres.sql(DATABASE, &ask))?;
    let numbers: Vec<u64> = told.split('|').filter_map(|cell| cell.parse().ok()).collect();
    match numbers[..] {
        [all, owned, owners, of_node] => Ok(ShardCounts { all, owned, owners, of_node }),
        _ => Err(Error::Failed(format!("PostgreSQL answers {told}"))),
    }
}

/// Diagnostics for a condition that is not met: the end of each node's log, the balancer's view,
/// the leases, and PostgreSQL's activity.
pub fn scene(cluster: &Cluster) -> String {
    let asks = [
        "SELECT concat_ws(' ', 'node', id, url, 'for', lease_until - store_now(), 'ms', \
         CASE WHEN draining THEN 'draining' END) FROM node ORDER BY id",
        "SELECT concat_ws(' ', count(*), 'shards of', owner, 'for at least', \
         min(lease_until - store_now()), 'ms') FROM shard GROUP BY owner ORDER BY owner",
        "SELECT concat_ws(' ', usename, pid, state, wait_event, \
         'behind ' || nullif(pg_blocking_pids(pid), '{}')::TEXT, now() - state_change, \
         left(query, 100)) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    ];
    let mut lines: Vec<String> = Vec::new();
    for node in &cluster.nodes {
        lines.push(format!("--- the end of {}'s log:\n{}", node.name(), node.log()));
    }
    lines.push("---".to_owned());
    for ask in asks {
        let told = blocking(|| cluster.postgres.sql(DATABASE, ask));
        lines.push(told.unwrap_or_else(|error| error.to_string()));
    }
    lines.push(match blocking(|| cluster.haproxy.up()) {
        Ok(up) => format!("the balancer sees the nodes as {up:?}"),
        Err(error) => error.to_string(),
    });
    lines.join("\n")
}

fn number(cluster: &Cluster, ask: &str) -> Result<u64, Error> {
    let told = blocking(|| cluster.postgres.sql(DATABASE, ask))?;
    told.parse().map_err(|_| Error::Failed(format!("PostgreSQL answers {told}")))
}
