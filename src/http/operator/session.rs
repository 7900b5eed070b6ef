//! Handlers that sign in, sign out, and show the current session. The session of later requests is
//! found by `edge::session`.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::edge::access::of_this_host;
use crate::http::edge::authentication::Authenticator;
use crate::http::edge::call::RequestParts;
use crate::http::edge::client_address::TrustedProxies;
use crate::http::edge::error::Error;
use crate::http::edge::json_body::Json;
use crate::http::edge::principal::Principal;
use crate::http::edge::problem::Code;
use crate::http::edge::rate_limit;
use crate::http::edge::security_log;
use crate::http::edge::session::{COOKIE, must_be_same_origin, same_origin};
use crate::http::operator::schema::{self, SignInSecret};
use crate::store::key;
use crate::store::session::{LASTS, Row};
use crate::telemetry::security::SecurityEvent;

/// The credentials of a sign-in: either `link` or `key`. The OpenAPI document has
/// [`schema::SignIn`] instead of this type.
#[derive(Clone, Deserialize, garde::Validate)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The token of a one-time link.
    #[serde(default)]
    #[garde(dive)]
    link: Option<SignInSecret>,
    /// An API key.
    #[serde(default)]
    #[garde(dive)]
    key: Option<SignInSecret>,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// The id, recorded as `session:<id>` in the cause of each event.
    id: String,
    /// The name of the key or link that started the session.
    name: String,
    #[schema(value_type = Vec<schema::ScopeName>)]
    scopes: Vec<String>,
    /// The latest end of the session; it ends earlier if it is not used for 12 hours.
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

/// Starts a session with a one-time link or an API key.
#[utoipa::path(post, path = "/v1/session", tag = "session", request_body = schema::SignIn,
    responses((status = 201, description = "The session; its cookie is set", body = Session)))]
pub async fn create_session(
    call: RequestParts,
    request: HttpRequest,
    callers: web::Data<Authenticator>,
    proxies: web::Data<TrustedProxies>,
    body: Json<SignIn>,
) -> Result<HttpResponse, Error> {
    if same_origin(request.headers()) == Some(false) {
        must_be_same_origin(request.headers())?;
    }
    let (store, cache, from) = (call.store(), &call.node().cache, proxies.client(&request));
    let begun = rate_limit::begin_try(cache, from).await;
    let counted = begun.is_ok();
    if let Err(too_many) = begun {
        // A valid link or key is accepted nevertheless: it cannot have been guessed, and the failed
        // attempts may have been made by others behind the same proxy.
        let right = match &body.value {
            SignIn { link: Some(link), key: None } => store.link_works(link, call.now()).await?,
            SignIn { link: None, key: Some(text) } => found(&callers, text).await?.is_some(),
            _ => false,
        };
        if !right {
            return Err(too_many);
        }
    }
    let made = match body.value {
        SignIn { link: Some(link), key: None } => store.sign_in_by_link(&link, call.now()).await?,
        SignIn { link: None, key: Some(text) } => match found(&callers, &text).await? {
            Some(key) => Some(store.sign_in_by_key(&key, call.now()).await?),
            None => None,
        },
        SignIn { link: Some(_), key: Some(_) } => {
            return Err(Error::field("key", "must not be given with link"));
        }
        SignIn { link: None, key: None } => {
            return Err(Error::field("link", "is required, unless key is given"));
        }
    };
    let Some((row, secret)) = made else {
        let detail = "the link or key is unknown, used, revoked or expired";
        return Err(Error::new(Code::Unauthorized, detail));
    };
    if counted {
        rate_limit::right_try(cache, from).await;
    }
    let shape = Session::new(&row);
    let about = format!("{} ({})", row.name, row.scopes.join(" "));
    let session = Principal::Session(Arc::new(row));
    security_log::log(SecurityEvent::SignedIn, &request, &session, &about);
    let age = LASTS.millis() / 1000;
    Ok(HttpResponse::Created()
        .insert_header((header::SET_COOKIE, set_cookie(secret.reveal(), age)))
        .json(shape))
}

async fn found(callers: &Authenticator, text: &str) -> Result<Option<Arc<key::Row>>, Error> {
    match callers.holder(text).await {
        Ok(Principal::Key(row)) => Ok(Some(row)),
        Ok(_) => Ok(None),
        Err(error) if error.code() == Code::Unauthorized => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the current session.
#[utoipa::path(get, path = "/v1/session", tag = "session",
    responses((status = 200, description = "The session", body = Session)))]
pub async fn get_session(
    _call: RequestParts,
    request: HttpRequest,
    callers: web::Data<Authenticator>,
) -> Result<HttpResponse, Error> {
    match callers.signed_in(request.headers()).await? {
        Some(row) => Ok(HttpResponse::Ok().json(Session::new(&row))),
        None => Err(Error::new(Code::Unauthorized, "there is no session")),
    }
}

/// Ends the current session. Succeeds without one, too.
#[utoipa::path(delete, path = "/v1/session", tag = "session",
    responses((status = 204, description = "Signed out; the cookie is cleared")))]
pub async fn delete_session(
    _call: RequestParts,
    request: HttpRequest,
    callers: web::Data<Authenticator>,
) -> Result<HttpResponse, Error> {
    if let Some(row) = callers.signed_in(request.headers()).await? {
        let session = Principal::Session(row.clone());
        of_this_host(&request, &session)?;
        callers.sign_out(&row).await?;
        security_log::log(SecurityEvent::SignedOut, &request, &session, &row.name);
    }
    Ok(HttpResponse::NoContent().insert_header((header::SET_COOKIE, set_cookie("", 0))).finish())
}

fn set_cookie(value: &str, age_secs: i64) -> String {
    format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={age_secs}")
}
