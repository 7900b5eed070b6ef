//! Handlers for what does not make progress: unfinished sagas, parked webhooks and entities in
//! quarantine, with their retries; and the state of this node, with its shards and lanes. The state
//! of all nodes is in `cluster`; dead letters are in `dead_letters`.

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::engine::host::{Gauge, Quarantined, Released};
use crate::actors::node::Node;
use crate::domain::entity::EntityId;
use crate::http::api::order::list::{self, AskedOrders};
use crate::http::api::order::schema;
use crate::http::api::order::shape::OrderListItem;
use crate::http::api::shape::Page;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, id};
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;
use crate::http::edge::query::{Query, cursor, cut};
use crate::http::operator::schema::NounName;
use crate::store::shard::Row;
use crate::store::webhook::{self, NEVER};

/// The maximum number of entities in quarantine that are shown.
const QUARANTINE_MAX: usize = 100;

/// A parked webhook, which matches nothing known yet; or a payment that the sweep found at the
/// provider and that belongs to no order.
#[derive(Debug, Serialize, ToSchema)]
pub struct ParkedWebhook {
    id: String,
    provider: String,
    notice_id: String,
    reason: String,
    attempts: i64,
    received_at: String,
    /// The time of the next retry; `null` if there will be none.
    next_try_at: Option<String>,
}

/// The result of retrying a webhook.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookRetry {
    taken: bool,
    /// The webhook, if it is still parked.
    webhook: Option<ParkedWebhook>,
}

/// An entity in quarantine.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuarantineShape {
    entity: String,
    reason: String,
    #[schema(value_type = schemas::Moment)]
    since: String,
}

/// The result of retrying an entity.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuarantineRetry {
    entity: String,
    /// Whether the entity is in quarantine again.
    quarantined: bool,
    reason: Option<String>,
}

/// A shard, and the lane that writes it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShardShape {
    shard: u16,
    /// The position of its last event.
    last_pos: i64,
    /// Appends that are queued or in flight.
    queued: usize,
    commits: u64,
    records: u64,
    /// Appends that were refused, or whose outcome is unknown.
    refused: u64,
}

/// The state of the entities of one noun.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostShape {
    #[schema(value_type = NounName)]
    noun: &'static str,
    /// Entities in memory.
    awake: usize,
    /// Commands and reads in progress.
    under_way: usize,
    failures: usize,
    quarantined: usize,
}

/// A node.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeShape {
    id: String,
    version: &'static str,
    ready: bool,
    shards: Vec<ShardShape>,
    hosts: Vec<HostShape>,
    /// Entities in quarantine, the first 100 by noun and id.
    quarantine: Vec<QuarantineShape>,
    /// The sum, over the node's shards, of the positions up to which rows of orders and stock are
    /// projected.
    projected: i64,
}

impl NodeShape {
    /// The id of the node.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// The node that serves the live socket.
#[derive(Debug, Serialize, ToSchema)]
pub struct Here {
    /// As in the answer of `GET /v1/admin/cluster`.
    pub here: NodeShape,
}

/// Lists orders with unfinished or stuck steps.
///
/// An order that is stopped only by an alert has no step to do: it is listed by
/// `GET /v1/admin/orders?status=stuck`, with all others that need an operator.
#[utoipa::path(get, path = "/v1/admin/sagas", tag = "ops",
    params(("sort" = inline(Option<schema::OrderSort>), Query),
        ("expand" = inline(Option<Vec<schema::OrderParts>>), Query, explode = false, description = "Parts of the orders to show"),
        ("Kontor-After" = Option<String>, Header, description = "`Kontor-Position` values of writes that the list must include"),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of orders, the newest placed first", body = Page<OrderListItem>)))]
pub async fn list_sagas(call: RequestParts, request: HttpRequest) -> Result<HttpResponse, Error> {
    let query = Query::of_list(&request, &["sort", "limit", "after"], &["expand"])?;
    list::page(&call, &request, query, &AskedOrders::unfinished()).await
}

/// Lists parked webhooks, and payments without an order.
#[utoipa::path(get, path = "/v1/admin/webhooks", tag = "ops",
    params(("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of webhooks", body = Page<ParkedWebhook>)))]
pub async fn list_parked_webhooks(
    call: RequestParts,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let mut query = Query::of(&request, &["limit", "after"])?;
    let (limit, after) = (query.limit(), query.after::<i64>("webhooks").unwrap_or(0));
    query.check()?;
    let mut rows = call.store().parked_webhooks(after, limit + 1).await?;
    let more = cut(&mut rows, limit);
    let last = rows.last().map(|row| cursor("webhooks", &row.id.to_string()));
    let data = rows.into_iter().map(ParkedWebhook::from);
    let page = Page::<ParkedWebhook> { data: data.collect(), next_cursor: last.filter(|_| more) };
    Ok(HttpResponse::Ok().json(page))
}

impl From<webhook::Row> for ParkedWebhook {
    fn from(row: webhook::Row) -> Self {
        let next = row.webhook.next_try_at;
        Self {
            id: row.id.to_string(),
            provider: row.webhook.provider,
            notice_id: row.webhook.notice_id,
            reason: row.webhook.reason,
            attempts: row.attempts,
            received_at: row.webhook.received_at.to_string(),
            next_try_at: (next < NEVER).then(|| next.to_string()),
        }
    }
}

/// Retries a parked webhook at once.
#[utoipa::path(post, path = "/v1/admin/webhooks/{id}/retry", tag = "ops",
    params(("id" = String, Path)),
    responses((status = 200, description = "The result", body = WebhookRetry)))]
pub async fn retry_parked_webhook(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id: i64 = id(&path, "webhook")?;
    let node = call.node();
    let taken = node.flows.webhooks.retry(id).await?.ok_or_else(|| Error::not_found("webhook"))?;
    let left = if taken { None } else { call.store().webhook(id).await? };
    let shape = WebhookRetry { taken, webhook: left.map(ParkedWebhook::from) };
    Ok(HttpResponse::Ok().json(shape))
}

/// Discards a parked webhook.
#[utoipa::path(delete, path = "/v1/admin/webhooks/{id}", tag = "ops",
    params(("id" = String, Path)),
    responses((status = 204, description = "Discarded")))]
pub async fn discard_parked_webhook(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id: i64 = id(&path, "webhook")?;
    if !call.store().remove_webhook(id).await? {
        return Err(Error::not_found("webhook"));
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Retries an entity in quarantine: reads its events again, and releases it if they can be read.
#[utoipa::path(post, path = "/v1/admin/quarantine/{entity}/retry", tag = "ops",
    params(("entity" = String, Path)),
    responses((status = 200, description = "The result", body = QuarantineRetry)))]
pub async fn retry_quarantined(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let (node, entity) = (call.node(), EntityId::new(&path));
    let released = match node.hosts().named(entity.prefix()) {
        Some(host) => host.release(&entity).await,
        None => Released::NotThere,
    };
    let reason = match released {
        Released::Well => None,
        Released::Again(why) => Some(why),
        Released::NotThere => return Err(Error::not_found("entity in quarantine")),
        Released::Unknown => return Err(Error::new(Code::TryAgain, "the outcome is unknown")),
    };
    let entity = entity.to_string();
    let shape = QuarantineRetry { entity, quarantined: reason.is_some(), reason };
    Ok(HttpResponse::Ok().json(shape))
}

/// The current state of this node, with the shards that it owns.
///
/// # Errors
/// The errors of the store.
pub async fn here(node: &Node, ready: bool) -> Result<NodeShape, Error> {
    let own: BTreeSet<u16> = node.lanes.owned().iter().map(|fence| fence.shard).collect();
    let rows = node.store.shards().await?.into_iter().filter(|row| own.contains(&row.id));
    let shard = |row: Row| {
        let lane = node.lanes.of(row.id);
        let counters = lane.counters();
        ShardShape {
            shard: row.id,
            last_pos: row.last_pos,
            queued: lane.depth(),
            commits: counters.commits,
            records: counters.records,
            refused: counters.refused,
        }
    };
    let shards = rows.map(shard).collect();
    let hosts = hosts(node).into_iter().map(|(noun, gauge)| HostShape {
        noun,
        awake: gauge.awake,
        under_way: gauge.under_way,
        failures: gauge.failures,
        quarantined: gauge.quarantined,
    });
    Ok(NodeShape {
        id: node.name().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        ready,
        shards,
        hosts: hosts.collect(),
        quarantine: quarantine(node),
        projected: node.projected(),
    })
}

/// The entities in quarantine, of all nouns, at most [`QUARANTINE_MAX`].
fn quarantine(node: &Node) -> Vec<QuarantineShape> {
    let all = node.hosts().iter().map(|host| host.quarantined(QUARANTINE_MAX));
    let show = |one: Quarantined| QuarantineShape {
        entity: one.entity.to_string(),
        reason: one.reason,
        since: one.since.to_string(),
    };
    all.flatten().take(QUARANTINE_MAX).map(show).collect()
}

/// The gauges of each noun's host, by the name of the noun.
#[must_use]
pub fn hosts(node: &Node) -> Vec<(&'static str, Gauge)> {
    node.hosts().iter().map(|host| (host.name(), host.gauge())).collect()
}
