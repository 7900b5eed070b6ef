//! Sessions of signed-in people, and sign-in links, each of which starts one session. The store
//! contains digests of their secrets; the secret itself is shown once, when it is created.
//!
//! A session ends 12 hours after its last use, 7 days after it began, or when the API key that it
//! was started with is revoked. Expired sessions are deleted at the next sign-in, expired links
//! when the next link is created.

use super::both::{Writing, change, execute, execute_returning, fetch_optional};
use super::found::FoundRow;
use super::key::{self, KeySecret, secret_digest};
use super::{Error, Store};
use crate::domain::time::{Span, Timestamp};

/// The longest duration of a session.
pub const LASTS: Span = Span::from_secs(7 * 24 * 3600);
/// The idle timeout of a session.
pub const IDLE: Span = Span::from_secs(12 * 3600);
/// The TTL of a sign-in link.
pub const LINK_LASTS: Span = Span::from_secs(15 * 60);
/// The TTL of the sign-in link of a first start.
pub const SET_UP_LASTS: Span = Span::from_secs(24 * 3600);
/// The precision of a session's last use: a later use within this time is not recorded.
const SEEN_EVERY: Span = Span::from_secs(60);
/// The most sessions; a further one replaces the session that was unused for longest.
const SESSIONS_MAX: u32 = 1_000;
/// The most sessions of one API key, so that it cannot replace the sessions of others.
const SESSIONS_OF_KEY_MAX: u32 = 50;
/// The most unused links; beyond this number, the links that expire first are deleted.
const LINKS_MAX: u32 = 1_000;
/// The longest secret that is looked up, in bytes.
const SECRET_MAX: usize = 128;

/// A `LIMIT` so high that it limits nothing, in both databases.
macro_rules! all {
    () => {
        "9223372036854775807"
    };
}

/// A session's row, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The id by which logs and causes name the session, 16 hexadecimal digits.
    pub id: String,
    /// The name of the API key or link that started it.
    pub name: String,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// The id of the API key that started it; `None` if a link did.
    pub api_key: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// Its last use, to the minute.
    pub seen_at: Timestamp,
    /// When it ends at the latest, however often it is used.
    pub expires_at: Timestamp,
}

impl Row {
    /// Whether it has neither expired nor been idle for too long.
    #[must_use]
    pub fn lives(&self, now: Timestamp) -> bool {
        now < self.expires_at && now < self.seen_at + IDLE
    }
}

impl Store {
    /// Creates a sign-in link with a TTL. Its token is returned only here.
    ///
    /// # Errors
    /// [`Error::Refused`] for a name or scopes that [`Store::create_key`] would refuse, or the
    /// store's errors.
    pub async fn create_link(
        &self,
        name: &str,
        scopes: &[String],
        now: Timestamp,
        lasts: Span,
    ) -> Result<KeySecret, Error> {
        key::check(name, scopes)?;
        let token = KeySecret::draw("");
        let text = "DELETE FROM sign_in_link WHERE expires_at <= $1";
        change!(self, sqlx::query(text).bind(now.millis()))?;
        let text = "INSERT INTO sign_in_link (hash, name, scopes, expires_at) \
                    VALUES ($1, $2, $3, $4)";
        change!(
            self,
            sqlx::query(text)
                .bind(secret_digest(token.reveal()))
                .bind(name)
                .bind(scopes.join(" "))
                .bind((now + lasts).millis())
        )?;
        let text = concat!(
            "DELETE FROM sign_in_link WHERE hash IN ",
            "(SELECT hash FROM sign_in_link ORDER BY expires_at DESC LIMIT ",
            all!(),
            " OFFSET +$1)"
        );
        change!(self, sqlx::query(text).bind(i64::from(LINKS_MAX)))?;
        Ok(token)
    }

    /// Whether a link is valid: unused and not expired.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn link_works(&self, token: &str, now: Timestamp) -> Result<bool, Error> {
        let text = "SELECT 1 FROM sign_in_link WHERE hash = $1 AND expires_at > $2";
        let found = fetch_optional!(
            self.readers(),
            sqlx::query(text).bind(secret_digest(token)).bind(now.millis())
        )?;
        Ok(found.is_some())
    }

    /// Uses a link and begins a session with its scopes, atomically; `None` if the link does not
    /// exist, was used, or has expired.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn sign_in_by_link(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Option<(Row, KeySecret)>, Error> {
        if token.len() > SECRET_MAX || !self.link_works(token, now).await? {
            return Ok(None);
        }
        let mut writing = self.begin().await?;
        let text =
            "DELETE FROM sign_in_link WHERE hash = $1 AND expires_at > $2 RETURNING name, scopes";
        let link = execute_returning!(
            writing,
            sqlx::query(text).bind(secret_digest(token)).bind(now.millis())
        )?;
        let Some(link) = link else {
            writing.commit().await?;
            return Ok(None);
        };
        let (row, secret) = new_session(link.try_get(0)?, split(link.try_get(1)?), None, now);
        insert(&mut writing, &row, &secret).await?;
        writing.commit().await?;
        Ok(Some((row, secret)))
    }

    /// Begins a session with the scopes of an API key, which the caller has verified.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn sign_in_by_key(
        &self,
        key: &key::Row,
        now: Timestamp,
    ) -> Result<(Row, KeySecret), Error> {
        let (row, secret) =
            new_session(key.name.clone(), key.scopes.clone(), Some(key.id.clone()), now);
        let mut writing = self.begin().await?;
        insert(&mut writing, &row, &secret).await?;
        writing.commit().await?;
        Ok((row, secret))
    }

    /// The session with this secret; `None` if there is none, or it has ended.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn find_session(&self, secret: &str, now: Timestamp) -> Result<Option<Row>, Error> {
        if secret.len() > SECRET_MAX {
            return Ok(None);
        }
        let text = "SELECT id, name, scopes, api_key, created_at, seen_at, expires_at FROM session \
                    WHERE hash = $1 AND (api_key IS NULL OR EXISTS (SELECT 1 FROM api_key AS of_key \
                    WHERE of_key.id = session.api_key AND of_key.revoked_at IS NULL))";
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(secret_digest(secret)))?;
        let found = found.as_ref().map(row).transpose()?;
        Ok(found.filter(|row| row.lives(now)))
    }

    /// Records the use of a session, at most once a minute. The record is not durable: after a
    /// power cut, the session may end a little earlier.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn touch_session(&self, row: &mut Row, now: Timestamp) -> Result<(), Error> {
        if now < row.seen_at + SEEN_EVERY {
            return Ok(());
        }
        row.seen_at = now;
        let mut relaxed = self.begin_relaxed().await?;
        let text = "UPDATE session SET seen_at = $2 WHERE id = $1 AND seen_at < $2";
        execute!(relaxed, sqlx::query(text).bind(row.id.as_str()).bind(now.millis()))?;
        relaxed.commit().await
    }

    /// The session with this id, if it has not ended.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn valid_session(&self, id: &str, now: Timestamp) -> Result<Option<Row>, Error> {
        let text = "SELECT id, name, scopes, api_key, created_at, seen_at, expires_at FROM session \
                    WHERE id = $1 AND (api_key IS NULL OR EXISTS (SELECT 1 FROM api_key AS of_key \
                    WHERE of_key.id = session.api_key AND of_key.revoked_at IS NULL))";
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(id))?;
        let found = found.as_ref().map(row).transpose()?;
        Ok(found.filter(|row| row.lives(now)))
    }

    /// Ends all sessions and deletes all unused links; returns the numbers of sessions and links.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn end_all_sessions(&self) -> Result<(u64, u64), Error> {
        let links = change!(self, sqlx::query("DELETE FROM sign_in_link"))?;
        Ok((change!(self, sqlx::query("DELETE FROM session"))?, links))
    }

    /// Ends a session; `false` if there is no session with this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn end_session(&self, id: &str) -> Result<bool, Error> {
        Ok(change!(self, sqlx::query("DELETE FROM session WHERE id = $1").bind(id))? > 0)
    }
}

fn new_session(
    name: String,
    scopes: Vec<String>,
    api_key: Option<String>,
    now: Timestamp,
) -> (Row, KeySecret) {
    let row = Row {
        id: key::new_id(),
        name,
        scopes,
        api_key,
        created_at: now,
        seen_at: now,
        expires_at: now + LASTS,
    };
    (row, KeySecret::draw(""))
}

/// Writes a session. Before that, deletes expired ones and, if there are too many in all or of its
/// API key, those that were unused for longest.
async fn insert(writing: &mut Writing, row: &Row, secret: &KeySecret) -> Result<(), Error> {
    let now = row.created_at.millis();
    let idle_since = (row.created_at - IDLE).millis();
    let text = "DELETE FROM session WHERE expires_at <= $1 OR seen_at <= $2";
    execute!(*writing, sqlx::query(text).bind(now).bind(idle_since))?;
    let text = "DELETE FROM sign_in_link WHERE expires_at <= $1";
    execute!(*writing, sqlx::query(text).bind(now))?;
    let text = concat!(
        "DELETE FROM session WHERE hash IN ",
        "(SELECT hash FROM session ORDER BY seen_at DESC LIMIT ",
        all!(),
        " OFFSET +$1)"
    );
    execute!(*writing, sqlx::query(text).bind(i64::from(SESSIONS_MAX) - 1))?;
    let text = concat!(
        "DELETE FROM session WHERE hash IN (SELECT hash FROM session WHERE api_key = $1 ",
        "ORDER BY seen_at DESC LIMIT ",
        all!(),
        " OFFSET +$2)"
    );
    let most = i64::from(SESSIONS_OF_KEY_MAX) - 1;
    execute!(*writing, sqlx::query(text).bind(row.api_key.as_deref()).bind(most))?;
    let text = "INSERT INTO session (hash, id, name, scopes, api_key, created_at, seen_at, \
                expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    execute!(
        *writing,
        sqlx::query(text)
            .bind(secret_digest(secret.reveal()))
            .bind(row.id.as_str())
            .bind(row.name.as_str())
            .bind(row.scopes.join(" "))
            .bind(row.api_key.as_deref())
            .bind(now)
            .bind(row.seen_at.millis())
            .bind(row.expires_at.millis())
    )?;
    Ok(())
}

fn split(scopes: &str) -> Vec<String> {
    scopes.split(' ').map(str::to_owned).collect()
}

fn row(found: &FoundRow) -> Result<Row, sqlx::Error> {
    Ok(Row {
        id: found.try_get(0)?,
        name: found.try_get(1)?,
        scopes: split(found.try_get(2)?),
        api_key: found.try_get(3)?,
        created_at: Timestamp::from_millis(found.try_get(4)?),
        seen_at: Timestamp::from_millis(found.try_get(5)?),
        expires_at: Timestamp::from_millis(found.try_get(6)?),
    })
}
