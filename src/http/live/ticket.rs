//! Tickets for clients that cannot send a header or a cookie when they open a socket. A ticket
//! opens one socket, on any node, within 30 seconds, if its key or session is still valid then.

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;
use crate::http::edge::principal::{NO_KEY, Principal, unauthorized};
use crate::http::edge::problem::Code;
use crate::store::live_ticket::{OWNER_TICKETS_MAX, TicketHolder};

/// A ticket that opens one socket.
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveTicket {
    /// The ticket, to be sent as `?ticket=`.
    ticket: String,
    /// The time at which the ticket expires.
    expires_at: String,
}

/// Creates a ticket that opens one live socket, on any node, within 30 seconds.
#[utoipa::path(post, path = "/v1/admin/live/tickets", tag = "live",
    responses((status = 201, description = "The ticket", body = LiveTicket)))]
pub async fn create_live_ticket(call: RequestParts) -> Result<HttpResponse, Error> {
    let principal = call.principal();
    let holder = match principal {
        Principal::Anyone => return Err(unauthorized(NO_KEY)),
        Principal::Key(row) => TicketHolder::ApiKey(row.id.clone()),
        Principal::Session(row) => TicketHolder::Session(row.id.clone()),
    };
    let issued = call.store().issue_live_ticket(principal.owner(), &holder).await?;
    let (ticket, expires_at) = issued.ok_or_else(|| {
        let detail = format!(
            "there are too many unused tickets: a key with its sessions may have \
             {OWNER_TICKETS_MAX}; use them, or wait 30 s until they expire"
        );
        Error::new(Code::TooManyRequests, detail)
    })?;
    let ticket = ticket.reveal().to_owned();
    let expires_at = expires_at.to_string();
    Ok(HttpResponse::Created().json(LiveTicket { ticket, expires_at }))
}
