//! Tickets for clients that cannot send a header or a cookie when they open a socket. A ticket
//! opens one socket within 30 seconds. Tickets are kept in memory, so a ticket is only valid at the
//! node that issued it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::Live;
use crate::domain::time::Span;
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;
use crate::http::edge::principal::Principal;
use crate::http::edge::problem::Code;

const LIFE_SECS: u32 = 30;
/// The maximum number of unused tickets.
const TICKETS_MAX: usize = 10_000;
/// The maximum number of unused tickets of one API key (with its sessions) or session.
const KEY_TICKETS_MAX: usize = 100;

/// Unused tickets, by a digest of their text.
#[derive(Default)]
pub struct Tickets(Mutex<HashMap<[u8; 32], (Principal, Instant)>>);

impl Tickets {
    /// Issues a ticket; `None` if there are too many unused ones, in all or of this caller.
    fn give(&self, principal: Principal) -> Option<String> {
        let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let now = Instant::now();
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.retain(|_, (_, until)| *until > now);
        let theirs = tickets.values().filter(|(who, _)| who.owner() == principal.owner()).count();
        if tickets.len() >= TICKETS_MAX || theirs >= KEY_TICKETS_MAX {
            return None;
        }
        let until = now + Duration::from_secs(LIFE_SECS.into());
        tickets.insert(Sha256::digest(text.as_bytes()).into(), (principal, until));
        Some(text)
    }

    /// Uses up a ticket; returns the caller to whom it was issued if it was valid.
    pub fn redeem(&self, text: &str) -> Option<Principal> {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (principal, until) = tickets.remove(&digest)?;
        (until > Instant::now()).then_some(principal)
    }
}

/// A ticket that opens one socket.
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveTicket {
    /// The ticket, to be sent as `?ticket=`.
    ticket: String,
    /// The time at which the ticket expires.
    expires_at: String,
}

/// Creates a ticket that opens one live socket within 30 seconds.
#[utoipa::path(post, path = "/v1/admin/live/tickets", tag = "live",
    responses((status = 201, description = "The ticket", body = LiveTicket)))]
pub async fn create_live_ticket(
    call: RequestParts,
    live: web::Data<Live>,
) -> Result<HttpResponse, Error> {
    let ticket = live.tickets.give(call.principal().clone());
    let full = || Error::new(Code::TooManyRequests, "there are too many tickets");
    let ticket = ticket.ok_or_else(full)?;
    let expires_at = (call.now() + Span::from_secs(LIFE_SECS.into())).to_string();
    Ok(HttpResponse::Created().json(LiveTicket { ticket, expires_at }))
}
