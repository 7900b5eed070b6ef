//! Handlers of dead letters: show a dead letter with its event, rebuild the rows of its entity,
//! discard it. A dead letter is the record of an event that a projection could not read, or whose
//! rows the database refused. The journal is never changed.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::engine::projections::{Healed, replay_entity};
use crate::http::api::shape::Page;
use crate::http::docs::schemas;
use crate::http::edge::call::{RequestParts, id};
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;
use crate::http::edge::query::{Query, cursor, cut};
use crate::store::projection::DeadLetter;

/// A dead letter: the record of an event that a projection could not read, or whose rows the
/// database refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterShape {
    id: String,
    projection: String,
    entity: String,
    shard: u16,
    pos: i64,
    reason: String,
    at: String,
}

/// The result of replaying a dead letter.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterReplay {
    entity: String,
    /// Whether the entity's rows are correct again.
    replayed: bool,
    /// The reason, if the replay failed.
    reason: Option<String>,
}

/// The event of a dead letter, as stored in the journal.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadEvent {
    /// The number of the event in its entity, from 1.
    seq: i64,
    kind: String,
    /// The version of this kind of event.
    version: u16,
    at: String,
    /// The cause, as stored.
    cause: String,
    /// The event's data, as stored.
    data: String,
    /// Whether the checksum matches.
    intact: bool,
}

/// A dead letter with its event.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterDetail {
    #[serde(flatten)]
    letter: DeadLetterShape,
    /// The event; `null` if the journal does not have it.
    event: Option<DeadEvent>,
}

impl From<DeadLetter> for DeadLetterShape {
    fn from(row: DeadLetter) -> Self {
        Self {
            id: row.id.to_string(),
            projection: row.projection,
            entity: row.entity.to_string(),
            shard: row.shard,
            pos: row.pos,
            reason: row.reason,
            at: row.at.to_string(),
        }
    }
}

/// Lists dead letters.
#[utoipa::path(get, path = "/v1/admin/dead-letters", tag = "ops",
    params(("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of dead letters", body = Page<DeadLetterShape>)))]
pub async fn list_dead_letters(
    call: RequestParts,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let mut query = Query::of(&request, &["limit", "after"])?;
    let (limit, after) = (query.limit(), query.after::<i64>("dead-letters").unwrap_or(0));
    query.check()?;
    let mut rows = call.store().dead_letters(after, limit + 1).await?;
    let more = cut(&mut rows, limit);
    let last = rows.last().map(|row| cursor("dead-letters", &row.id.to_string()));
    let data = rows.into_iter().map(DeadLetterShape::from);
    let page = Page::<DeadLetterShape> { data: data.collect(), next_cursor: last.filter(|_| more) };
    Ok(HttpResponse::Ok().json(page))
}

/// Returns a dead letter with its event.
#[utoipa::path(get, path = "/v1/admin/dead-letters/{id}", tag = "ops",
    params(("id" = String, Path)),
    responses((status = 200, description = "The dead letter", body = DeadLetterDetail)))]
pub async fn get_dead_letter(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id: i64 = id(&path, "dead letter")?;
    let letter = call.store().dead_letter(id).await?;
    let letter = letter.ok_or_else(|| Error::not_found("dead letter"))?;
    let found = call.store().journal().read_shard(letter.shard, letter.pos - 1, 1).await?;
    let event = found.into_iter().find(|record| record.pos == letter.pos);
    let event = event.map(|record| DeadEvent {
        seq: record.seq,
        kind: record.kind.to_string(),
        version: record.version,
        at: record.at.to_string(),
        cause: record.cause.to_string(),
        data: record.data.to_string(),
        intact: record.intact,
    });
    Ok(HttpResponse::Ok().json(DeadLetterDetail { letter: letter.into(), event }))
}

/// Rebuilds all rows of orders and stock, which also retries all dead letters.
#[utoipa::path(post, path = "/v1/admin/dead-letters/replay", tag = "ops",
    responses((status = 202, description = "The rebuild has started")))]
pub async fn replay_dead_letters(call: RequestParts) -> Result<HttpResponse, Error> {
    call.node().replay_rows().await?;
    // The lag of the rows of each shard shows how far the rebuild is.
    Ok(HttpResponse::Accepted().insert_header((header::LOCATION, "/v1/admin/cluster")).finish())
}

/// Rebuilds the rows of a dead letter's entity from all its events.
#[utoipa::path(post, path = "/v1/admin/dead-letters/{id}/replay", tag = "ops",
    params(("id" = String, Path)),
    responses((status = 200, description = "The result; on success all dead letters of the entity are removed", body = DeadLetterReplay)))]
pub async fn replay_dead_letter(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id: i64 = id(&path, "dead letter")?;
    let letter = call.store().dead_letter(id).await?;
    let entity = letter.ok_or_else(|| Error::not_found("dead letter"))?.entity;
    let node = call.node();
    let healed = replay_entity(node.store.as_ref(), &node.projections, &entity).await;
    let reason = match healed.map_err(Error::internal)? {
        Healed::Well => {
            // Replaying deletes the entity's dead letters of all current projections; this one may
            // belong to a projection that no longer exists.
            call.store().delete_dead_letter(id).await?;
            None
        }
        Healed::Again(reason) => Some(reason),
        Healed::Busy => {
            return Err(Error::new(Code::TryAgain, "its shard is too busy now: try again"));
        }
    };
    let entity = entity.to_string();
    let shape = DeadLetterReplay { entity, replayed: reason.is_none(), reason };
    Ok(HttpResponse::Ok().json(shape))
}

/// Discards a dead letter. It does not repair the rows: they are not updated before the next event
/// of the entity.
#[utoipa::path(delete, path = "/v1/admin/dead-letters/{id}", tag = "ops",
    params(("id" = String, Path)),
    responses((status = 204, description = "Discarded")))]
pub async fn discard_dead_letter(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let id: i64 = id(&path, "dead letter")?;
    if !call.store().delete_dead_letter(id).await? {
        return Err(Error::not_found("dead letter"));
    }
    Ok(HttpResponse::NoContent().finish())
}
