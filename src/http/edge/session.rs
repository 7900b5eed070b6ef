//! Signing in and out, and who is signed in: a cookie that only a browser on this very host sends
//! back. What a session may do is checked where keys are checked, in `access`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse};
use quick_cache::sync;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::cache::Cache;
use crate::domain::time::Timestamp;
use crate::http::docs::schemas;
use crate::http::edge::access::{self, Principal, holder};
use crate::http::edge::call::Call;
use crate::http::edge::error::Error;
use crate::http::edge::json_body::Json;
use crate::http::edge::problem::Code;
use crate::http::edge::rate_limit;
use crate::http::edge::validate::text;
use crate::http::server::Shared;
use crate::store::session::{LASTS, Row};
use crate::store::{self, Store, key};

/// The cookie's name. With this prefix a browser takes it only as `Secure`, of this host alone
/// and for all paths.
pub const COOKIE: &str = "__Host-kontor";

/// How long a session is believed without asking the store.
const TTL: Duration = access::BELIEVED;
/// The most sessions that are remembered.
const SESSIONS_MAX: usize = 10_000;

/// What nodes are told when a session ends.
fn revocation(id: &str) -> String {
    format!("session:{id}")
}

/// A session, and when the store was asked for it.
type Seen = (Arc<Row>, Instant);

/// Sessions that were seen lately, by a digest of their cookie.
pub struct Sessions(sync::Cache<[u8; 32], Seen>);

impl Default for Sessions {
    fn default() -> Self {
        Self(sync::Cache::new(SESSIONS_MAX))
    }
}

impl Sessions {
    /// The session of a cookie, which is noted as used.
    ///
    /// # Errors
    /// The store's.
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
            tracing::warn!(%error, session = row.id, "it cannot be noted that a session is used");
        }
        let found = found.map(Arc::new);
        match &found {
            Some(row) => self.0.insert(digest, (row.clone(), Instant::now())),
            None => drop(self.0.remove(&digest)),
        }
        Ok(found)
    }

    fn forget(&self, id: &str) {
        self.0.retain(|_, (row, _)| row.id != id);
    }
}

/// The session's cookie in a request.
#[must_use]
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE && !value.is_empty()).then_some(value))
}

/// Whether a page of this very host made a request, as its browser says. `None` if it says
/// nothing, as no browser does that sends an unsafe method.
#[must_use]
pub fn same_origin(headers: &HeaderMap) -> Option<bool> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("sec-fetch-site") {
        Some(site) => Some(site == "same-origin"),
        None => origin_is_host(headers),
    }
}

/// Whether the origin that a request names is the host that it is for; `None` if it names none.
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

/// Refuses an unsafe request that no page of this host made.
///
/// # Errors
/// 403 `forbidden_origin`.
pub fn must_be_same_origin(headers: &HeaderMap) -> Result<(), Error> {
    if same_origin(headers) == Some(true) {
        return Ok(());
    }
    let detail = "a session's cookie changes something only from a page of this host";
    Err(Error::new(Code::ForbiddenOrigin, detail))
}

/// What signs in: one of the two; the document has it as [`schemas::SignIn`].
#[derive(Clone, Deserialize, garde::Validate)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The token of a one-time link.
    #[serde(default)]
    #[garde(inner(custom(text(1, 200))))]
    link: Option<String>,
    /// An API key.
    #[serde(default)]
    #[garde(inner(custom(text(1, 200))))]
    key: Option<String>,
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// Stands in the causes of events as `session:<id>`.
    id: String,
    /// The name of the key or link that signed in.
    name: String,
    scopes: Vec<String>,
    /// When it ends at the latest; 12 hours without use end it, too.
    expires_at: String,
}

impl Session {
    fn new(row: &Row) -> Self {
        Self {
            id: row.id.clone(),
            name: row.name.clone(),
            scopes: row.scopes.clone(),
            expires_at: row.expires_at.to_string(),
        }
    }
}

/// Signs in with a one-time link or an API key.
#[utoipa::path(post, path = "/v1/session", tag = "session", request_body = schemas::SignIn,
    responses((status = 201, description = "Who is signed in; the cookie is set", body = Session)))]
pub async fn create_session(
    call: Call,
    request: HttpRequest,
    body: Json<SignIn>,
) -> Result<HttpResponse, Error> {
    if same_origin(request.headers()) == Some(false) {
        must_be_same_origin(request.headers())?;
    }
    let (shared, from) = (call.shared(), call.shared().client(&request));
    let store = call.store();
    let begun = rate_limit::begin_try(shared.cache(), from).await;
    let counted = begun.is_ok();
    if let Err(too_many) = begun {
        // What cannot be guessed is let in, however often others behind the same proxy guess.
        let right = match &body.value {
            SignIn { link: Some(link), key: None } => store.link_works(link, call.now()).await?,
            SignIn { link: None, key: Some(text) } => found(shared, text).await?.is_some(),
            _ => false,
        };
        if !right {
            return Err(too_many);
        }
    }
    let made = match body.value {
        SignIn { link: Some(link), key: None } => store.sign_in_by_link(&link, call.now()).await?,
        SignIn { link: None, key: Some(text) } => match found(shared, &text).await? {
            Some(key) => Some(store.sign_in_by_key(&key, call.now()).await?),
            None => None,
        },
        _ => return Err(Error::field("", "must have either link or key")),
    };
    let Some((row, secret)) = made else {
        let detail = "the link or key is not known, was used or revoked, or is too old";
        return Err(Error::new(Code::Unauthorized, detail));
    };
    if counted {
        rate_limit::right_try(shared.cache(), from).await;
    }
    tracing::info!(session = row.id, name = row.name, scopes = ?row.scopes, "signed in");
    let age = LASTS.millis() / 1000;
    Ok(HttpResponse::Created()
        .insert_header((header::SET_COOKIE, set_cookie(secret.reveal(), age)))
        .json(Session::new(&row)))
}

async fn found(shared: &Shared, text: &str) -> Result<Option<Arc<key::Row>>, Error> {
    match holder(shared, text).await {
        Ok(Principal::Key(row)) => Ok(Some(row)),
        Ok(_) => Ok(None),
        Err(error) if error.code() == Code::Unauthorized => Ok(None),
        Err(error) => Err(error),
    }
}

/// Shows who is signed in.
#[utoipa::path(get, path = "/v1/session", tag = "session",
    responses((status = 200, description = "Who is signed in", body = Session)))]
pub async fn get_session(call: Call, request: HttpRequest) -> Result<HttpResponse, Error> {
    match signed_in(&call, request.headers()).await? {
        Some(row) => Ok(HttpResponse::Ok().json(Session::new(&row))),
        None => Err(Error::new(Code::Unauthorized, "nobody is signed in here")),
    }
}

/// Signs out. Without a session there is nothing to do.
#[utoipa::path(delete, path = "/v1/session", tag = "session",
    responses((status = 204, description = "Nobody is signed in; the cookie is cleared")))]
pub async fn delete_session(call: Call, request: HttpRequest) -> Result<HttpResponse, Error> {
    if let Some(row) = signed_in(&call, request.headers()).await? {
        must_be_same_origin(request.headers())?;
        call.store().end_session(&row.id).await?;
        call.shared().sessions.forget(&row.id);
        call.shared().cache().revoke(&revocation(&row.id), TTL * 2).await;
    }
    Ok(HttpResponse::NoContent().insert_header((header::SET_COOKIE, set_cookie("", 0))).finish())
}

async fn signed_in(call: &Call, headers: &HeaderMap) -> Result<Option<Arc<Row>>, Error> {
    match cookie(headers) {
        Some(secret) => Ok(call
            .shared()
            .sessions
            .find(call.store(), call.shared().cache(), secret, call.now())
            .await?),
        None => Ok(None),
    }
}

fn set_cookie(value: &str, age_secs: i64) -> String {
    format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={age_secs}")
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
    fn a_request_is_of_this_host_only_if_its_browser_says_so() {
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
