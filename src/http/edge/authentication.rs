//! Authentication: by an API key, or by a session cookie. Keys and sessions are cached for less
//! than a second, so that not every request reads the store.
//!
//! Scopes are in `principal`; `access` decides who may call a route.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::header::{self, HeaderMap};
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::error::Error;
use super::principal::{BELIEVED, Principal, unauthorized};
use super::session::{self, Sessions};
use crate::actors::node::Node;
use crate::store::live_ticket::TicketHolder;
use crate::store::session::Row as Session;
use crate::store::{self, Store, key};

/// The maximum number of cached keys.
const KEYS_MAX: usize = 10_000;

/// A key, and the time at which it was read from the store.
type CachedKey = (Arc<key::Row>, Instant);

/// Cached keys, by a digest of their text.
struct Keys(Cache<[u8; 32], CachedKey>);

impl Default for Keys {
    fn default() -> Self {
        Self(Cache::new(KEYS_MAX))
    }
}

impl Keys {
    async fn find(&self, store: &Store, text: &str) -> Result<Option<Arc<key::Row>>, store::Error> {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        if let Some((row, at)) = self.0.get(&digest)
            && at.elapsed() < BELIEVED
        {
            return Ok(Some(row));
        }
        let found = store.find_key(text).await?.map(Arc::new);
        match &found {
            Some(row) => self.0.insert(digest, (row.clone(), Instant::now())),
            None => drop(self.0.remove(&digest)),
        }
        Ok(found)
    }
}

/// Authenticates callers.
pub struct Authenticator {
    node: Arc<Node>,
    store: Store,
    keys: Keys,
    sessions: Sessions,
}

impl Authenticator {
    /// An authenticator with an empty cache.
    #[must_use]
    pub fn new(node: Arc<Node>, store: Store) -> Self {
        Self { node, store, keys: Keys::default(), sessions: Sessions::default() }
    }

    /// The caller of a request, by its API key or, without one, by its session cookie. For a
    /// session, whoever calls this function must also check the request's origin before the request
    /// may change anything.
    ///
    /// # Errors
    /// 401 for an invalid key; the store's errors. An invalid cookie counts as none.
    pub async fn principal(&self, headers: &HeaderMap) -> Result<Principal, Error> {
        if let Some(text) = bearer(headers)? {
            return self.holder(text).await;
        }
        let found = self.signed_in(headers).await?;
        Ok(found.map_or(Principal::Anyone, Principal::Session))
    }

    /// The holder of an API key.
    ///
    /// # Errors
    /// 401 for an invalid key; the store's errors.
    pub async fn holder(&self, text: &str) -> Result<Principal, Error> {
        match self.keys.find(&self.store, text).await? {
            Some(row) => Ok(Principal::Key(row)),
            None => Err(unauthorized("the key is unknown or was revoked")),
        }
    }

    /// The caller to whom a live ticket was issued, which is used up. `None` if the ticket is
    /// invalid, or the caller's key was revoked or session has ended.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn holder_of_ticket(&self, ticket: &str) -> Result<Option<Principal>, Error> {
        Ok(match self.store.use_live_ticket(ticket).await? {
            Some(TicketHolder::ApiKey(id)) => {
                self.store.valid_key(&id).await?.map(|row| Principal::Key(Arc::new(row)))
            }
            Some(TicketHolder::Session(id)) => {
                let found = self.store.valid_session(&id, self.node.clock.now()).await?;
                found.map(|row| Principal::Session(Arc::new(row)))
            }
            None => None,
        })
    }

    /// The session of a request's cookie, if it is valid.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn signed_in(&self, headers: &HeaderMap) -> Result<Option<Arc<Session>>, Error> {
        let Some(secret) = session::cookie(headers) else {
            return Ok(None);
        };
        let (cache, now) = (&self.node.cache, self.node.clock.now());
        Ok(self.sessions.find(&self.store, cache, secret, now).await?)
    }

    /// Ends a session, and informs other nodes.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn sign_out(&self, row: &Session) -> Result<(), Error> {
        self.store.end_session(&row.id).await?;
        self.sessions.end(&self.node.cache, &row.id).await;
        Ok(())
    }

    /// Reads from the store whether the caller's key is not revoked, or the session has not ended:
    /// for connections that outlive a request. If the store fails, the caller stays admitted.
    pub async fn is_still_valid(&self, principal: &Principal) -> bool {
        let found = match principal {
            Principal::Anyone => return false,
            Principal::Key(row) => self.store.valid_key(&row.id).await.map(|found| found.is_some()),
            Principal::Session(row) => {
                let found = self.store.valid_session(&row.id, self.node.clock.now()).await;
                found.map(|found| found.is_some())
            }
        };
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot check whether a key or session is still valid");
            true
        })
    }
}

/// The token of an `Authorization` header.
///
/// # Errors
/// 401 for anything but `Bearer` and a token.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let parts = value.to_str().ok().and_then(|text| text.split_once(' '));
    match parts {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(unauthorized("Authorization must be `Bearer` followed by a token")),
    }
}
