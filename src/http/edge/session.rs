//! Sessions: the cookie that identifies a browser's session, the cache of sessions, and the
//! same-origin check. Scopes of sessions are checked with those of keys, in `access`; sign-in and
//! sign-out are in `operator`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::{self, HeaderMap};
use quick_cache::sync;
use sha2::{Digest as _, Sha256};

use crate::cache::Cache;
use crate::domain::time::Timestamp;
use crate::http::edge::error::Error;
use crate::http::edge::principal::BELIEVED;
use crate::http::edge::problem::Code;
use crate::store::session::Row;
use crate::store::{self, Store};

/// The name of the cookie. Because of the prefix `__Host-`, a browser accepts the cookie only if it
/// is `Secure` and for this host and all paths.
pub const COOKIE: &str = "__Host-kontor";

/// TTL of a cached session.
const TTL: Duration = BELIEVED;
/// The maximum number of cached sessions.
const SESSIONS_MAX: usize = 10_000;

/// The name under which the end of a session is announced to all nodes.
fn revocation(id: &str) -> String {
    format!("session:{id}")
}

/// A session, and the time at which it was read from the store.
type CachedSession = (Arc<Row>, Instant);

/// Cached sessions, by a digest of their cookie.
pub struct Sessions(sync::Cache<[u8; 32], CachedSession>);

impl Default for Sessions {
    fn default() -> Self {
        Self(sync::Cache::new(SESSIONS_MAX))
    }
}

impl Sessions {
    /// The session of a cookie. If the session is read from the store, the time of its last use is
    /// recorded.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn find(
        &self,
        store: &Store,
        cache: &Cache,
        secret: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<Row>>, store::Error> {
        let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        if let Some((row, at)) = self.0.get(&digest)
            && at.elapsed() < TTL
            && !cache.revoked(&revocation(&row.id))
        {
            return Ok(Some(row).filter(|row| row.lives(now)));
        }
        let mut found = store.find_session(secret, now).await?;
        if let Some(row) = &mut found
            && let Err(error) = store.touch_session(row, now).await
        {
            tracing::warn!(%error, session = row.id, "cannot record the last use of a session");
        }
        let found = found.map(Arc::new);
        match &found {
            Some(row) => self.0.insert(digest, (row.clone(), Instant::now())),
            None => drop(self.0.remove(&digest)),
        }
        Ok(found)
    }

    /// Removes a session that has ended from the caches of this and other nodes.
    pub async fn end(&self, cache: &Cache, id: &str) {
        self.0.retain(|_, (row, _)| row.id != id);
        cache.revoke(&revocation(id), TTL * 2).await;
    }
}

/// The session cookie of a request.
#[must_use]
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE && !value.is_empty()).then_some(value))
}

/// Whether a page of this host made a request, as the browser reports in `Sec-Fetch-Site` or
/// `Origin`. `None` if neither header is there; for unsafe methods browsers always send one of
/// them.
#[must_use]
pub fn same_origin(headers: &HeaderMap) -> Option<bool> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("sec-fetch-site") {
        Some(site) => Some(site == "same-origin"),
        None => origin_is_host(headers),
    }
}

/// Whether a request's origin is its host; `None` if it has no origin.
#[must_use]
pub fn origin_is_host(headers: &HeaderMap) -> Option<bool> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text("origin")?;
    let host = text("host").unwrap_or("");
    let of_us = |scheme: &str, port: &str| {
        let theirs = origin.strip_prefix(scheme)?;
        let bare = |host: &str| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
        Some(!host.is_empty() && bare(theirs) == bare(host))
    };
    Some(of_us("https://", ":443").or_else(|| of_us("http://", ":80")).unwrap_or(false))
}

/// Refuses an unsafe request that was not made by a page of this host.
///
/// # Errors
/// 403 `forbidden_origin`.
pub fn must_be_same_origin(headers: &HeaderMap) -> Result<(), Error> {
    if same_origin(headers) == Some(true) {
        return Ok(());
    }
    let detail = "a change with a session cookie must come from a page of this host";
    Err(Error::new(Code::ForbiddenOrigin, detail))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in all.iter().map(pair) {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn same_origin_requires_browser_headers() {
        type Given = &'static [(&'static str, &'static str)];
        let table: &[(Given, Option<bool>)] = &[
            (&[("host", "shop.example")], None),
            (&[("host", "shop.example"), ("origin", "https://shop.example")], Some(true)),
            (&[("host", "shop.example:443"), ("origin", "https://Shop.example")], Some(true)),
            (&[("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:8080")], Some(true)),
            (&[("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:8081")], Some(false)),
            (&[("host", "shop.example"), ("origin", "https://shop.example.evil")], Some(false)),
            (&[("host", "shop.example"), ("origin", "null")], Some(false)),
            (&[("origin", "http://")], Some(false)),
            (&[("sec-fetch-site", "same-origin")], Some(true)),
            (&[("sec-fetch-site", "same-site")], Some(false)),
            (
                &[
                    ("host", "shop.example"),
                    ("origin", "https://shop.example"),
                    ("sec-fetch-site", "cross-site"),
                ],
                Some(false),
            ),
        ];
        for (given, expected) in table {
            assert_eq!(same_origin(&headers(given)), *expected, "{given:?}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let of = |texts: &[&str]| {
            let all: Vec<_> = texts.iter().map(|text| ("cookie", *text)).collect();
            cookie(&headers(&all)).map(str::to_owned)
        };
        assert_eq!(of(&["a=1; __Host-kontor=x=y; b"]).as_deref(), Some("x=y"));
        assert_eq!(of(&["a=1", "__Host-kontor=z"]).as_deref(), Some("z"));
        assert_eq!(of(&["x__Host-kontor=z; __Host-kontor="]), None);
    }
}
