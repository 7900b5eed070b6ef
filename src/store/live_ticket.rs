//! Tickets for live sockets. A ticket is issued to the holder of an API key or to a session, and
//! opens one socket, on any node, within 30 seconds. The store contains a digest of it, which is
//! deleted when the ticket is used: so no two nodes accept the same ticket. Expired tickets are
//! deleted when the next one is issued.

use super::both::{by_store_clock, execute, execute_returning};
use super::key::{KeySecret, secret_digest};
use super::{Error, Store};
use crate::domain::time::{Span, Timestamp};

/// The TTL of a ticket, by the store's clock.
pub const TICKET_LASTS: Span = Span::from_secs(30);
/// The most unused tickets of one API key (with its sessions) or session.
pub const OWNER_TICKETS_MAX: i64 = 100;
/// The most unused tickets. Tickets that are issued at the same moment may exceed both limits.
const TICKETS_MAX: i64 = 10_000;

/// To whom a ticket was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TicketHolder {
    /// The holder of the API key with this id.
    ApiKey(String),
    /// The session with this id.
    Session(String),
}

impl Store {
    /// Issues a ticket, which counts for `owner`; returns it with the time at which it expires.
    /// `None` if there are too many unused tickets, of the owner or in all.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn issue_live_ticket(
        &self,
        owner: &str,
        holder: &TicketHolder,
    ) -> Result<Option<(KeySecret, Timestamp)>, Error> {
        let (api_key, session) = match holder {
            TicketHolder::ApiKey(id) => (Some(id.as_str()), None),
            TicketHolder::Session(id) => (None, Some(id.as_str())),
        };
        let ticket = KeySecret::draw("");
        // A power cut may take a ticket that was just issued.
        let mut relaxed = self.begin_relaxed().await?;
        let text =
            by_store_clock!(self.is_shared(), "DELETE FROM live_ticket WHERE expires_at <= ", "");
        execute!(relaxed, sqlx::query(text))?;
        let text = by_store_clock!(
            self.is_shared(),
            "INSERT INTO live_ticket (hash, owner, api_key, session, expires_at) \
             SELECT $1, $2, $3, $4, $5 + ",
            " WHERE (SELECT count(*) FROM live_ticket WHERE owner = $2) < $6 \
             AND (SELECT count(*) FROM live_ticket) < $7 RETURNING expires_at"
        );
        let issued = execute_returning!(
            relaxed,
            sqlx::query(text)
                .bind(secret_digest(ticket.reveal()))
                .bind(owner)
                .bind(api_key)
                .bind(session)
                .bind(TICKET_LASTS.millis())
                .bind(OWNER_TICKETS_MAX)
                .bind(TICKETS_MAX)
        )?;
        relaxed.commit().await?;
        let expires_at = issued.map(|issued| issued.try_get(0)).transpose()?;
        Ok(expires_at.map(|at| (ticket, Timestamp::from_millis(at))))
    }

    /// Uses a ticket up; returns to whom it was issued. `None` if there is no such ticket, or it
    /// was used, or has expired.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn use_live_ticket(&self, ticket: &str) -> Result<Option<TicketHolder>, Error> {
        let text = by_store_clock!(
            self.is_shared(),
            "DELETE FROM live_ticket WHERE hash = $1 AND expires_at > ",
            " RETURNING api_key, session"
        );
        let mut writing = self.begin().await?;
        let used = execute_returning!(writing, sqlx::query(text).bind(secret_digest(ticket)))?;
        writing.commit().await?;
        let Some(used) = used else { return Ok(None) };
        let (api_key, session): (Option<String>, Option<String>) =
            (used.try_get(0)?, used.try_get(1)?);
        Ok(api_key.map(TicketHolder::ApiKey).or_else(|| session.map(TicketHolder::Session)))
    }
}
