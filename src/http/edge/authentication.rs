//! Who calls: the holder of a key, or somebody who is signed in. Both are remembered for a moment,
//! so that the store is not asked with every request.
//!
//! What a caller may do is in `principal`, and which route takes whom in `access`.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::header::{self, HeaderMap};
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::error::Error;
use super::principal::{BELIEVED, Principal, unauthorized};
use super::session::{self, Sessions};
use crate::actors::node::Node;
use crate::store::session::Row as Session;
use crate::store::{self, Store, key};

/// The most keys that are remembered.
const KEYS_MAX: usize = 10_000;

/// A key, and when the store was asked for it.
type CachedKey = (Arc<key::Row>, Instant);

/// Keys that were seen lately, by a digest of their text.
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

/// Finds out who calls.
pub struct Authenticator {
    node: Arc<Node>,
    store: Store,
    keys: Keys,
    sessions: Sessions,
}

impl Authenticator {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(node: Arc<Node>, store: Store) -> Self {
        Self { node, store, keys: Keys::default(), sessions: Sessions::default() }
    }

    /// Who makes a request, by its bearer key or, without one, its session's cookie. Whether the
    /// cookie may change something, which depends on the request's origin, is for the caller to
    /// check.
    ///
    /// # Errors
    /// 401 for a key that is not good; why the store cannot tell. A cookie that is not good counts
    /// as none.
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
    /// 401 for one that is not good; why the store cannot tell.
    pub async fn holder(&self, text: &str) -> Result<Principal, Error> {
        match self.keys.find(&self.store, text).await? {
            Some(row) => Ok(Principal::Key(row)),
            None => Err(unauthorized("the key is unknown or was revoked")),
        }
    }

    /// The session of a request's cookie, if it has one that is good.
    ///
    /// # Errors
    /// The store's.
    pub async fn signed_in(&self, headers: &HeaderMap) -> Result<Option<Arc<Session>>, Error> {
        let Some(secret) = session::cookie(headers) else {
            return Ok(None);
        };
        let (cache, now) = (&self.node.cache, self.node.clock.now());
        Ok(self.sessions.find(&self.store, cache, secret, now).await?)
    }

    /// Ends a session, and tells other nodes.
    ///
    /// # Errors
    /// The store's.
    pub async fn sign_out(&self, row: &Session) -> Result<(), Error> {
        self.store.end_session(&row.id).await?;
        self.sessions.end(&self.node.cache, &row.id).await;
        Ok(())
    }

    /// Whether a key is still not revoked, or a session has not ended: asked of the store, for
    /// what lasts longer than a request. A store that cannot tell says nothing against them.
    pub async fn is_still_valid(&self, principal: &Principal) -> bool {
        let found = match principal {
            Principal::Anyone => return false,
            Principal::Key(row) => self.store.key_works(&row.id).await,
            Principal::Session(row) => {
                self.store.session_lives(&row.id, self.node.clock.now()).await
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
