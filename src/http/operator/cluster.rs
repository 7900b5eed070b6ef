//! Handlers that show all nodes and shards of a store and the services that they depend on, drain a
//! node, and move a shard to another node.
//!
//! The state of this node's lanes and hosts is in `entities`. These handlers do not move shards
//! themselves: they record a pin or a drained node in the store, and the nodes then hand over their
//! shards accordingly.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actors::engine::placement::{self, Holding, Member};
use crate::actors::node::Node;
use crate::actors::report::NodeReport;
use crate::cache::CacheState;
use crate::domain::time::Timestamp;
use crate::http::edge::call::{RequestParts, id};
use crate::http::edge::error::Error;
use crate::http::edge::input::Text;
use crate::http::edge::json_body::Json;
use crate::http::edge::problem::Code;
use crate::http::edge::query::Query;
use crate::http::operator::entities::{NodeShape, here};
use crate::http::operator::health::{ServiceStatus, Serving};
use crate::store::{Store, node, shard};

/// The maximum number of findings from the store and the services that are shown.
const FINDINGS_MAX: usize = 50;

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It owns shards, or may.
    Live,
    /// It hands its shards over, and gets no more.
    Draining,
    /// It has not renewed its lease.
    Dead,
}

/// A node, as recorded in the store.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ClusterNode {
    id: String,
    /// The URL at which other nodes reach the node.
    url: String,
    version: String,
    started_at: Option<String>,
    state: NodeState,
    /// The number of shards that the node owns.
    shards: usize,
    /// The remaining time until the node counts as dead unless it renews its lease, in
    /// milliseconds.
    lease_left_ms: Option<i64>,
    /// Whether another node could take over its shards.
    can_drain: bool,
    /// The number of entities in the node's memory, as reported by the node; `null` if it does not
    /// answer.
    awake: Option<usize>,
    /// The number of commands in progress, as reported by the node; `null` if it does not answer.
    under_way: Option<usize>,
    /// The number of entities in quarantine, as reported by the node; `null` if it does not answer.
    quarantined: Option<usize>,
}

/// A shard of the journal.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ClusterShard {
    id: u16,
    /// The node that owns the shard; `null` if no node does.
    owner: Option<String>,
    /// The epoch: how often the shard was claimed.
    epoch: i64,
    /// The remaining time of the owner's lease, in milliseconds.
    lease_left_ms: Option<i64>,
    /// The position of the shard's last event.
    last_pos: i64,
    /// The node to which an operator pinned the shard.
    pinned_to: Option<String>,
    /// The number of appends that are queued or in flight in the shard's lane, which other shards
    /// may share; `null` if the owner does not answer.
    lane_depth: Option<usize>,
    /// The number of events by which the shard's projections are behind the journal.
    projection_lag: i64,
    /// The number of events that are committed but not yet in the event stream; `null` without
    /// NATS, or if the shard's owner does not answer.
    relay_lag: Option<i64>,
}

/// A service that kontor depends on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Service {
    #[schema(example = "redis")]
    name: &'static str,
    status: ServiceStatus,
    detail: String,
}

/// The whole cluster; on SQLite, one node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Cluster)]
pub struct ClusterShape {
    /// The node that answers this request, in more detail.
    here: NodeShape,
    /// All nodes, including those that died within a day.
    nodes: Vec<ClusterNode>,
    shards: Vec<ClusterShard>,
    services: Vec<Service>,
    /// Problems that need attention.
    findings: Vec<String>,
}

/// The target of a move.
#[derive(Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveInput {
    /// The node's id.
    #[garde(dive)]
    to: Text<1, 200>,
    /// Only return the effect, without changing anything.
    #[serde(default)]
    #[garde(skip)]
    dry_run: bool,
}

/// The move of a shard from one node to another.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Move {
    shard: u16,
    /// The current owner; `null` if no node owns the shard.
    from: Option<String>,
    to: String,
}

/// The effect of moving a shard or draining a node.
#[derive(Debug, Serialize, ToSchema)]
pub struct MovePlan {
    /// All shards that move, including those that make room for others.
    moves: Vec<Move>,
    dry_run: bool,
}

/// Returns the state of all nodes, shards and services.
#[utoipa::path(get, path = "/v1/admin/cluster", tag = "ops",
    responses((status = 200, description = "The cluster", body = ClusterShape)))]
pub async fn show_cluster(
    call: RequestParts,
    serving: web::Data<Serving>,
) -> Result<HttpResponse, Error> {
    let (node, store, now) = (call.node(), call.store(), call.now());
    let (here, reports) = (here(node, serving.is_on()).await?, node.reports().await);
    let (rows, shards) = (call.store().nodes().await?, call.store().shards().await?);
    let cursors = node.projections.reached(store).await?;
    let shards = shards_of(shards, &cursors, &reports, store.is_shared(), now);
    let nodes = nodes_of(rows, &shards, &reports, &here, now);
    let services = services(node, store);
    let letters = call.store().dead_letters(0, 1).await?.len();
    let mut findings = findings(&nodes, &shards, &services, letters > 0);
    let silent = reports.iter().filter(|(_, report)| report.is_none());
    findings.extend(silent.map(|(node, _)| format!("node {node} does not answer this node")));
    if let Some(cluster) = &node.cluster {
        let of_bus = cluster.nats_problems().all().into_iter();
        findings.extend(of_bus.map(|(about, text)| format!("{about}: {text}")));
    }
    Ok(HttpResponse::Ok().json(ClusterShape { here, nodes, shards, services, findings }))
}

fn left(until: Timestamp, now: Timestamp) -> i64 {
    (until.millis() - now.millis()).max(0)
}

fn shards_of(
    rows: Vec<shard::Row>,
    cursors: &BTreeMap<u16, i64>,
    reports: &BTreeMap<String, Option<NodeReport>>,
    has_leases: bool,
    now: Timestamp,
) -> Vec<ClusterShard> {
    rows.into_iter()
        .map(|row| {
            let report = reports.get(&row.owner).and_then(Option::as_ref);
            let told = report.and_then(|report| report.shards.get(&row.id));
            let cursor = cursors.get(&row.id).copied().unwrap_or(0);
            ClusterShard {
                id: row.id,
                lease_left_ms: has_leases.then(|| left(row.lease_until, now)),
                owner: Some(row.owner).filter(|owner| !owner.is_empty()),
                epoch: row.epoch,
                last_pos: row.last_pos,
                pinned_to: row.pinned_to,
                lane_depth: told.map(|told| told.lane_depth),
                projection_lag: (row.last_pos - cursor).max(0),
                relay_lag: told.and_then(|told| told.relay_lag),
            }
        })
        .collect()
}

fn nodes_of(
    rows: Vec<node::Row>,
    shards: &[ClusterShard],
    reports: &BTreeMap<String, Option<NodeReport>>,
    here: &NodeShape,
    now: Timestamp,
) -> Vec<ClusterNode> {
    let told = |id: &str| reports.get(id).and_then(Option::as_ref);
    let owns = |id: &str| shards.iter().filter(|one| one.owner.as_deref() == Some(id)).count();
    let takers = rows.iter().filter(|row| row.lives && !row.draining).count();
    let node = |row: node::Row| ClusterNode {
        shards: owns(&row.node.id),
        state: match (row.lives, row.draining) {
            (false, _) => NodeState::Dead,
            (true, true) => NodeState::Draining,
            (true, false) => NodeState::Live,
        },
        lease_left_ms: Some(left(row.lease_until, now)),
        can_drain: row.draining || takers > 1,
        awake: told(&row.node.id).map(|told| told.awake),
        under_way: told(&row.node.id).map(|told| told.under_way),
        quarantined: told(&row.node.id).map(|told| told.quarantined),
        id: row.node.id,
        url: row.node.url,
        version: row.node.version,
        started_at: Some(row.node.started_at.to_string()),
    };
    let mut nodes: Vec<ClusterNode> = rows.into_iter().map(node).collect();
    if nodes.is_empty() {
        // A store that is used by one node only has no rows of nodes.
        nodes.push(ClusterNode {
            id: here.id().to_owned(),
            url: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: None,
            state: NodeState::Live,
            shards: owns(here.id()),
            lease_left_ms: None,
            can_drain: false,
            awake: told(here.id()).map(|told| told.awake),
            under_way: told(here.id()).map(|told| told.under_way),
            quarantined: told(here.id()).map(|told| told.quarantined),
        });
    }
    nodes
}

fn services(node: &Node, store: &Store) -> Vec<Service> {
    let name = if store.is_shared() { "postgresql" } else { "sqlite" };
    let mut all = vec![Service { name, status: ServiceStatus::Ok, detail: "answers".to_owned() }];
    if let Some(lag) = store.replica_lag() {
        let (status, detail) = match lag.behind {
            None => (
                ServiceStatus::Degraded,
                "does not respond; lists are read from the primary".to_owned(),
            ),
            Some(behind) => {
                let far = format!("{} ms behind", behind.as_millis());
                let status = if lag.is_read { ServiceStatus::Ok } else { ServiceStatus::Degraded };
                let read = if lag.is_read { "" } else { "; the primary is read" };
                (status, format!("{far}{read}"))
            }
        };
        all.push(Service { name: "replica", status, detail });
    }
    if let Some(nats) = node.cluster.as_ref().and_then(|cluster| cluster.nats()) {
        let (status, detail) = if nats.is_up() {
            (ServiceStatus::Ok, format!("connected to {}", nats.address()))
        } else {
            let why = nats.trouble().unwrap_or_else(|| "it does not respond".to_owned());
            (ServiceStatus::Degraded, format!("down: {why}; nodes call each other over HTTP"))
        };
        all.push(Service { name: "nats", status, detail });
    }
    let cache = &node.cache;
    let (name, status, detail) = match cache.state() {
        CacheState::Local => ("cache", ServiceStatus::Ok, "local to each node".to_owned()),
        CacheState::Ok => {
            let counts = cache.counts();
            ("redis", ServiceStatus::Ok, format!("{} hits, {} misses", counts.hits, counts.misses))
        }
        CacheState::Away(since) => {
            let detail = format!("down for {} s; each node uses a local cache", since.as_secs());
            ("redis", ServiceStatus::Degraded, detail)
        }
    };
    all.push(Service { name, status, detail });
    all
}

fn findings(
    nodes: &[ClusterNode],
    shards: &[ClusterShard],
    services: &[Service],
    letters: bool,
) -> Vec<String> {
    let mut all = Vec::new();
    let free: Vec<u16> =
        shards.iter().filter(|one| one.owner.is_none()).map(|one| one.id).collect();
    if let [first, rest @ ..] = &*free {
        all.push(match rest.len() {
            0 => format!("shard {first} has no owner"),
            more => format!("shard {first} and {more} others have no owner"),
        });
    }
    for node in nodes.iter().filter(|node| node.state == NodeState::Dead) {
        let owns = node.shards;
        let still =
            if owns > 0 { format!(", and still owns {owns} shards") } else { String::new() };
        all.push(format!("node {} is dead{still}", node.id));
    }
    let live = || nodes.iter().filter(|node| node.state != NodeState::Dead);
    let versions: BTreeSet<&str> = live().map(|node| node.version.as_str()).collect();
    if versions.len() > 1 {
        let versions: Vec<&str> = versions.into_iter().collect();
        all.push(format!("the nodes have different versions: {}", versions.join(", ")));
    }
    for shard in shards {
        if let Some(pin) = &shard.pinned_to
            && !live().any(|node| node.id == *pin)
        {
            all.push(format!("shard {} is pinned to {pin}, which is not running", shard.id));
        }
    }
    for service in services.iter().filter(|service| service.status != ServiceStatus::Ok) {
        all.push(format!("{}: {}", service.name, service.detail));
    }
    if letters {
        all.push("there are dead letters: see Attention".to_owned());
    }
    all.truncate(FINDINGS_MAX);
    all
}

/// The live nodes; and the owner and the pin of each shard.
async fn members_and_holdings(call: &RequestParts) -> Result<(Vec<Member>, Vec<Holding>), Error> {
    let (nodes, shards) = (call.store().nodes().await?, call.store().shards().await?);
    let alive = nodes.into_iter().filter(|row| row.lives);
    let member = |row: node::Row| Member { id: row.node.id, draining: row.draining, settled: true };
    let members: Vec<Member> = alive.map(member).collect();
    let holding = |row: shard::Row| Holding {
        shard: row.id,
        owner: Some(row.owner).filter(|owner| !owner.is_empty()),
        pinned_to: row.pinned_to,
    };
    Ok((members, shards.into_iter().map(holding).collect()))
}

/// The moves after which each shard is where it should be, as the nodes will also compute them.
fn plan(members: &[Member], holdings: &[Holding], dry_run: bool) -> MovePlan {
    let moves = placement::plan(members, holdings).into_iter();
    let moves = moves.map(|one| Move { shard: one.shard, from: one.from, to: one.to }).collect();
    MovePlan { moves, dry_run }
}

/// Drains a node: it hands its shards over to other nodes and takes no new ones.
#[utoipa::path(post, path = "/v1/admin/cluster/nodes/{id}/drain", tag = "ops",
    params(("id" = String, Path),
        ("dry_run" = Option<bool>, Query, description = "Only return the effect, without changing anything")),
    responses((status = 200, description = "The effect, or with `dry_run` the effect that it would have", body = MovePlan)))]
pub async fn drain_node(
    call: RequestParts,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let mut query = Query::of(&request, &["dry_run"])?;
    let dry_run = query.boolean("dry_run").unwrap_or(false);
    query.check()?;
    let (mut members, holdings) = members_and_holdings(&call).await?;
    let others = members.iter().any(|member| !member.draining && member.id != *path);
    if let Some(member) = members.iter_mut().find(|member| member.id == *path) {
        if !others {
            let detail = "no other node can take over its shards";
            return Err(Error::new(Code::WrongState, detail));
        }
        member.draining = true;
    } else if dry_run {
        return Err(Error::not_found("live node"));
    }
    if !dry_run {
        set_draining(&call, &path, true).await?;
    }
    Ok(HttpResponse::Ok().json(plan(&members, &holdings, dry_run)))
}

/// Ends the draining of a node: it may own shards again.
#[utoipa::path(post, path = "/v1/admin/cluster/nodes/{id}/undrain", tag = "ops",
    params(("id" = String, Path)),
    responses((status = 202, description = "The node takes its share of the shards within a few seconds")))]
pub async fn undrain_node(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    set_draining(&call, &path, false).await?;
    Ok(HttpResponse::Accepted().insert_header((header::LOCATION, "/v1/admin/cluster")).finish())
}

async fn set_draining(call: &RequestParts, node: &str, draining: bool) -> Result<(), Error> {
    if !call.store().set_draining(node, draining).await? {
        return Err(Error::not_found("node"));
    }
    tracing::info!(
        node,
        draining,
        by = call.principal().by(),
        "the draining of a node was \
                                                                switched"
    );
    tell(call);
    Ok(())
}

/// Asks all nodes to read pins and draining from the store at once.
fn tell(call: &RequestParts) {
    if let Some(cluster) = &call.node().cluster {
        cluster.look_again();
    }
}

/// Moves a shard to a node and pins it there, until it is unpinned or the node is absent.
#[utoipa::path(post, path = "/v1/admin/cluster/shards/{id}/move", tag = "ops",
    request_body = MoveInput, params(("id" = u16, Path)),
    responses((status = 200, description = "The effect, or with `dry_run` the effect that it would have", body = MovePlan)))]
pub async fn move_shard(
    call: RequestParts,
    path: web::Path<String>,
    body: Json<MoveInput>,
) -> Result<HttpResponse, Error> {
    let shard: u16 = id(&path, "shard")?;
    let MoveInput { to, dry_run } = body.value;
    let (members, mut holdings) = members_and_holdings(&call).await?;
    let holding = holdings.iter_mut().find(|holding| holding.shard == shard);
    let holding = holding.ok_or_else(|| Error::not_found("shard"))?;
    if !members.iter().any(|member| member.id == *to && !member.draining) {
        return Err(Error::field("to", "must be the id of a live node that is not draining"));
    }
    holding.pinned_to = Some(to.to_string());
    if !dry_run {
        if !call.store().pin_shard(shard, Some(&to)).await? {
            return Err(Error::not_found("shard"));
        }
        tracing::info!(shard, to = &*to, by = call.principal().by(), "a shard is pinned");
        tell(&call);
    }
    Ok(HttpResponse::Ok().json(plan(&members, &holdings, dry_run)))
}

/// Unpins a shard: any node may own it again.
#[utoipa::path(delete, path = "/v1/admin/cluster/shards/{id}/pin", tag = "ops",
    params(("id" = u16, Path)),
    responses((status = 204, description = "The shard is not pinned any more")))]
pub async fn unpin_shard(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let shard: u16 = id(&path, "shard")?;
    if !call.store().pin_shard(shard, None).await? {
        return Err(Error::not_found("shard"));
    }
    tracing::info!(shard, by = call.principal().by(), "a shard is unpinned");
    tell(&call);
    Ok(HttpResponse::NoContent().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, state: NodeState, version: &str) -> ClusterNode {
        ClusterNode {
            id: id.to_owned(),
            url: String::new(),
            version: version.to_owned(),
            started_at: None,
            state,
            shards: 2,
            lease_left_ms: None,
            can_drain: true,
            awake: None,
            under_way: None,
            quarantined: None,
        }
    }

    fn shard(id: u16, owner: Option<&str>, pinned_to: Option<&str>) -> ClusterShard {
        ClusterShard {
            id,
            owner: owner.map(str::to_owned),
            epoch: 1,
            lease_left_ms: None,
            last_pos: 0,
            pinned_to: pinned_to.map(str::to_owned),
            lane_depth: None,
            projection_lag: 0,
            relay_lag: None,
        }
    }

    #[test]
    fn cluster_problems_are_reported() {
        let nodes = [
            node("a", NodeState::Live, "1"),
            node("b", NodeState::Draining, "2"),
            node("c", NodeState::Dead, "1"),
        ];
        let shards = [
            shard(0, Some("a"), Some("a")),
            shard(1, None, Some("c")),
            shard(2, None, None),
            shard(3, Some("b"), None),
        ];
        let away =
            Service { name: "redis", status: ServiceStatus::Degraded, detail: "away".to_owned() };
        let found = findings(&nodes, &shards, &[away], true);
        let expected = [
            "shard 1 and 1 others have no owner",
            "node c is dead, and still owns 2 shards",
            "the nodes have different versions: 1, 2",
            "shard 1 is pinned to c, which is not running",
            "redis: away",
            "there are dead letters: see Attention",
        ];
        assert_eq!(found, expected);
        let well = findings(&nodes[..1], &shards[..1], &[], false);
        assert!(well.is_empty(), "{well:?}");
    }
}
