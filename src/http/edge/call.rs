//! A request without its body: caller, request id, idempotency key, and the condition in
//! `If-Match`.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::http::{Method, StatusCode};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse, web};
use serde::Serialize;

use crate::actors::node::Node;
use crate::domain::entity::{Cause, Idempotency};
use crate::domain::time::Timestamp;
use crate::http::edge::data::data;
use crate::http::edge::error::Error;
use crate::http::edge::faults::{PartOfRequest, RequestFaults};
use crate::http::edge::idempotency::{self, Guard, RequestsInFlight};
use crate::http::edge::if_match::IfMatch;
use crate::http::edge::principal::Principal;
use crate::http::edge::secret::ServerSecret;
use crate::store::Store;

/// The id of a request, received or generated.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// A request, without its body.
pub struct RequestParts {
    node: web::Data<Node>,
    store: web::Data<Store>,
    secret: web::Data<ServerSecret>,
    request_id: Arc<str>,
    principal: Principal,
    key: Option<String>,
    /// The condition of a write.
    pub if_match: IfMatch,
    _guard: Option<Guard>,
}

impl FromRequest for RequestParts {
    type Error = Error;
    type Future = PartOfRequest<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        PartOfRequest::new(request, Self::of(request))
    }
}

impl RequestParts {
    fn of(request: &HttpRequest) -> Result<Self, Error> {
        let node = data::<Node>(request)?.clone();
        let store = data::<Store>(request)?.clone();
        let secret = data::<ServerSecret>(request)?.clone();
        let (request_id, principal) = {
            let extensions = request.extensions();
            let id = extensions.get::<RequestId>().map_or_else(|| "".into(), |id| id.0.clone());
            (id, extensions.get::<Principal>().cloned().unwrap_or_default())
        };
        let mut faults = RequestFaults::default();
        let key = match *request.method() {
            Method::POST => faults.note(idempotency::key_of(request.headers())),
            _ => None,
        };
        let if_match = faults.note(IfMatch::of(request.headers()));
        faults.leave(request);
        let guard = match &key {
            Some(key) => {
                let whose = principal.id().unwrap_or("");
                Some(data::<RequestsInFlight>(request)?.begin(whose, request.path(), key)?)
            }
            None => None,
        };
        Ok(Self { node, store, secret, request_id, principal, key, if_match, _guard: guard })
    }

    /// The server's node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The server's secret.
    #[must_use]
    pub fn secret(&self) -> &ServerSecret {
        &self.secret
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.node.clock.now()
    }

    /// The caller.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The idempotency key.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// A keyed hash of the idempotency key: what is stored of it. Whoever reads the key itself could
    /// send it, and would get the answer to the first request.
    #[must_use]
    pub fn hashed_key(&self) -> Option<String> {
        let key = self.key.as_deref()?;
        Some(hex::encode(&self.secret.mac(&["idempotency key", key])[..16]))
    }

    /// The cause of a change, for the journal. `digest` is the digest of method, path and body.
    #[must_use]
    pub fn cause(&self, digest: u64) -> Cause {
        Cause {
            by: self.principal.by(),
            name: self.principal.name().map(Arc::from),
            command: String::new(),
            request: Some(self.request_id.to_string()),
            idempotency: self.hashed_key().map(|key| Idempotency { key, digest }),
        }
    }
}

/// An answer whose `ETag` is a version.
#[must_use]
pub fn versioned(status: StatusCode, version: i64, body: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::ETAG, format!("\"{version}\""))).json(body)
}

/// The answer for a created resource, with its version and `Location`.
#[must_use]
pub fn created(version: i64, place: &str, body: &impl Serialize) -> HttpResponse {
    located(StatusCode::CREATED, version, place, body)
}

/// An answer with a version and the path of its resource.
#[must_use]
pub fn located(
    status: StatusCode,
    version: i64,
    place: &str,
    body: &impl Serialize,
) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::ETAG, format!("\"{version}\"")))
        .insert_header((header::LOCATION, place))
        .json(body)
}

/// Parses an id in a path.
///
/// # Errors
/// 404 for a text that is not an id: no such entity can exist.
pub fn id<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::not_found(what))
}
