//! Who may call what: API keys and sessions with scopes, the order's token, and the one place that
//! enforces what the table of routes says. Signing in and out is in `session`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::domain::id::OrderId;
use crate::http::edge::error::Error;
use crate::http::edge::json_body;
use crate::http::edge::load_shedding::{Admitted, Class};
use crate::http::edge::problem::Code;
use crate::http::edge::rate_limit::{self, Counted};
use crate::http::edge::session;
use crate::http::routes::Route;
use crate::http::server::Shared;
use crate::store::session::Row as Session;
use crate::store::{self, Store, key};

/// How long a key or session is believed without asking the store. Other nodes are told what was
/// revoked; who is not told, or revoked by another program, asks again within a second.
pub const BELIEVED: Duration = Duration::from_millis(900);
/// The most keys that are remembered.
const KEYS_MAX: usize = 10_000;
const NO_KEY: &str = "this takes an API key: Authorization: Bearer sk_…";

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Scope {
    #[strum(serialize = "orders:read")]
    OrdersRead,
    #[strum(serialize = "orders:write")]
    OrdersWrite,
    #[strum(serialize = "products:read")]
    ProductsRead,
    #[strum(serialize = "products:write")]
    ProductsWrite,
    #[strum(serialize = "stock:read")]
    StockRead,
    #[strum(serialize = "stock:write")]
    StockWrite,
    #[strum(serialize = "settings:write")]
    SettingsWrite,
    #[strum(serialize = "ops")]
    Ops,
}

impl Scope {
    /// The scope as a key names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// Whoever knows the cart's id. A key may come along, and must be a good one then.
    Cart,
    /// Whoever has the order's token.
    Order,
    /// A key or a session with this scope, or `admin`.
    Key(Scope),
    /// Any key: what it may see is asked later.
    AnyKey,
    /// Whoever may open a live socket: any key, or a ticket.
    Live,
    /// The provider, by its signature.
    Webhook,
    /// Another node of the cluster, by its signature.
    Node,
}

/// Who calls.
#[derive(Clone, Debug, Default)]
pub enum Principal {
    /// Somebody without a key.
    #[default]
    Anyone,
    /// The holder of a key.
    Key(Arc<key::Row>),
    /// Somebody who is signed in.
    Session(Arc<Session>),
}

impl Principal {
    /// The key's or session's id.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Anyone => None,
            Self::Key(row) => Some(&row.id),
            Self::Session(row) => Some(&row.id),
        }
    }

    /// Whose share of what is bounded a caller takes: all sessions of a key take from the key's.
    #[must_use]
    pub fn owner(&self) -> &str {
        match self {
            Self::Session(row) => row.api_key.as_deref().unwrap_or(&row.id),
            _ => self.id().unwrap_or(""),
        }
    }

    /// Who calls, as the journal names them.
    #[must_use]
    pub fn by(&self) -> String {
        match self {
            Self::Anyone => "buyer".to_owned(),
            Self::Key(row) => format!("key:{}", row.id),
            Self::Session(row) => format!("session:{}", row.id),
        }
    }

    /// Whether the caller has a scope.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        let scopes = match self {
            Self::Anyone => return false,
            Self::Key(row) => &row.scopes,
            Self::Session(row) => &row.scopes,
        };
        scopes.iter().any(|has| has == "admin" || has == scope.as_str())
    }

    /// Refuses a caller without a scope.
    ///
    /// # Errors
    /// 401 without a key or session, 403 with one that lacks the scope.
    pub fn must(&self, scope: Scope) -> Result<(), Error> {
        if self.may(scope) {
            return Ok(());
        }
        let what = match self {
            Self::Anyone => {
                return Err(unauthorized(NO_KEY));
            }
            Self::Key(_) => "key",
            Self::Session(_) => "session",
        };
        let detail = format!("the {what} lacks the scope {}", scope.as_str());
        Err(Error::new(Code::Forbidden, detail))
    }
}

fn unauthorized(detail: &'static str) -> Error {
    Error::new(Code::Unauthorized, detail)
}

/// A key, and when the store was asked for it.
type Seen = (Arc<key::Row>, Instant);

/// Keys that were seen lately, by a digest of their text.
pub struct Keys(Cache<[u8; 32], Seen>);

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

/// The right of an order's buyer to read it.
#[must_use]
pub fn order_token(secret: &[u8; 32], order: OrderId) -> String {
    URL_SAFE_NO_PAD.encode(mac(secret, &["order", &order.to_string()]))
}

/// Whether a text is the token of an order; how long that takes tells nothing of the token.
#[must_use]
pub fn opens(secret: &[u8; 32], order: OrderId, given: &str) -> bool {
    order_token(secret, order).as_bytes().ct_eq(given.as_bytes()).into()
}

/// A keyed digest of texts.
#[must_use]
pub fn mac(secret: &[u8; 32], texts: &[&str]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        // A key of any length is taken.
        return [0; 32];
    };
    for text in texts {
        mac.update(&(text.len() as u64).to_be_bytes());
        mac.update(text.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

/// Lets a request through to its handler if the table says so.
///
/// # Errors
/// None: a refusal is an answer.
pub async fn enforce(
    route: &'static Route,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    request.extensions_mut().insert(crate::http::server::Operation(route.operation));
    let shared = request.app_data::<web::Data<Shared>>().cloned();
    let refused = match enter(route, &request, shared.as_ref().map(web::Data::get_ref)).await {
        Ok(entered) => {
            request.extensions_mut().insert(entered.principal);
            let mut response = next.call(request).await?;
            if let Some(counted) = entered.counted {
                counted.tell(response.headers_mut());
            }
            return Ok(response);
        }
        Err(error) => error,
    };
    let mut request = request;
    json_body::skip(&mut request.take_payload()).await;
    Ok(request.error_response(refused))
}

/// A request that was let in.
struct Entered<'a> {
    principal: Principal,
    counted: Option<Counted>,
    _place: Admitted<'a>,
}

/// Finds who asks, and a place for the request: at the door until that is known, then among its
/// own. Then it is counted against what its client may send.
async fn enter<'a>(
    route: &Route,
    request: &ServiceRequest,
    shared: Option<&'a Shared>,
) -> Result<Entered<'a>, Error> {
    let full = || {
        if let Some(shared) = shared {
            shared.metrics.refuse(route.class);
        }
        Error::new(Code::Overloaded, "there is too much to do; nothing was done")
    };
    let shared = shared.ok_or_else(full)?;
    let admission = &shared.admission;
    let (principal, place) = if route.class == Class::Operate {
        let at_door = admission.knock().ok_or_else(full)?;
        match admit(route.access, request).await? {
            Principal::Anyone => (Principal::Anyone, at_door),
            known => (known, admission.admit(route.class).ok_or_else(full)?),
        }
    } else {
        let place = admission.admit(route.class).ok_or_else(full)?;
        (admit(route.access, request).await?, place)
    };
    let counted = match route.access {
        // Providers send what has happened, however much that is.
        Access::Webhook | Access::Node => None,
        _ => {
            let (now, from) = (shared.node.runtime.current(), shared.client(request.request()));
            let counted =
                rate_limit::count(shared.cache(), &now.rates, route.class, &principal, from);
            counted.await.inspect_err(|_| shared.metrics.limit(route.class))?
        }
    };
    Ok(Entered { principal, counted, _place: place })
}

async fn admit(access: Access, request: &ServiceRequest) -> Result<Principal, Error> {
    let Some(shared) = request.app_data::<web::Data<Shared>>().cloned() else {
        return Err(Error::new(Code::Internal, "the request could not be carried out"));
    };
    match access {
        Access::Public | Access::Webhook => Ok(Principal::Anyone),
        Access::Node if shared.calls.is_some() => Ok(Principal::Anyone),
        Access::Node => Err(Error::not_found("cluster")),
        Access::Cart => match bearer(request.headers())? {
            Some(text) => holder(&shared, text).await,
            None => Ok(Principal::Anyone),
        },
        Access::Key(scope) => {
            let principal = principal(&shared, request.headers()).await?;
            if matches!(principal, Principal::Session(_)) && !request.method().is_safe() {
                session::must_be_same_origin(request.headers())?;
            }
            principal.must(scope).map(|()| principal)
        }
        Access::AnyKey => {
            let principal = principal(&shared, request.headers()).await?;
            match &principal {
                Principal::Anyone => return Err(unauthorized(NO_KEY)),
                Principal::Session(_) => session::must_be_same_origin(request.headers())?,
                Principal::Key(_) => {}
            }
            Ok(principal)
        }
        Access::Live => {
            crate::http::live::socket::principal_of_socket(&shared, request.request()).await
        }
        Access::Order => {
            let order = crate::http::edge::call::id(request.match_info().query("id"), "order")?;
            let query = crate::http::edge::query::Query::of(request.request(), &["token"])?;
            let given = match bearer(request.headers())? {
                Some(text) => text,
                None => query.text("token").unwrap_or(""),
            };
            if opens(&shared.secret, order, given) {
                Ok(Principal::Anyone)
            } else {
                Err(unauthorized("this takes the order's token, as checkout answered it"))
            }
        }
    }
}

/// Who makes a request, by its bearer key or, without one, its session's cookie. Whether the
/// cookie may change something, which depends on the request's origin, is for the caller to check.
///
/// # Errors
/// 401 for a key that is not good; why the store cannot tell. A cookie that is not good counts as
/// none.
pub async fn principal(shared: &Shared, headers: &HeaderMap) -> Result<Principal, Error> {
    if let Some(text) = bearer(headers)? {
        return holder(shared, text).await;
    }
    let Some(secret) = session::cookie(headers) else {
        return Ok(Principal::Anyone);
    };
    let found = {
        let (store, now) = (&shared.store, shared.node.clock.now());
        shared.sessions.find(store, shared.cache(), secret, now).await?
    };
    Ok(found.map_or(Principal::Anyone, Principal::Session))
}

/// The holder of an API key.
///
/// # Errors
/// 401 for one that is not good; why the store cannot tell.
pub async fn holder(shared: &Shared, text: &str) -> Result<Principal, Error> {
    match shared.keys.find(&shared.store, text).await? {
        Some(row) => Ok(Principal::Key(row)),
        None => Err(unauthorized("the key is not known, or was revoked")),
    }
}

/// Whether a key is still not revoked, or a session has not ended: asked of the store, for what
/// lasts longer than a request. A store that cannot tell says nothing against them.
pub async fn still_good(shared: &Shared, principal: &Principal) -> bool {
    let (store, now) = (&shared.store, shared.node.clock.now());
    let found = match principal {
        Principal::Anyone => return false,
        Principal::Key(row) => store.key_works(&row.id).await,
        Principal::Session(row) => store.session_lives(&row.id, now).await,
    };
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "it cannot be told whether a caller is still good");
        true
    })
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
        _ => Err(unauthorized("Authorization must be Bearer and a token")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::Key;
    use crate::domain::time::Timestamp;

    #[test]
    fn a_token_opens_one_order_only() {
        let order = |n| OrderId(Key::new(uuid::Uuid::from_u128(n)));
        let token = order_token(&[7; 32], order(1));
        assert_eq!(token.len(), 43);
        assert_eq!(token, order_token(&[7; 32], order(1)));
        assert_ne!(token, order_token(&[7; 32], order(2)));
        assert_ne!(token, order_token(&[8; 32], order(1)));
        assert_ne!(mac(&[7; 32], &["ab", "c"]), mac(&[7; 32], &["a", "bc"]));
    }

    #[test]
    fn a_scope_is_not_another() {
        let key = |scope: &str| {
            Principal::Key(Arc::new(key::Row {
                id: "1".into(),
                name: "n".into(),
                scopes: vec![scope.into()],
                created_at: Timestamp::default(),
                revoked_at: None,
            }))
        };
        assert!(key("orders:read").may(Scope::OrdersRead));
        assert!(!key("orders:read").may(Scope::OrdersWrite));
        assert!(key("admin").may(Scope::Ops));
        let code = |principal: Principal| principal.must(Scope::Ops).map_err(|e| e.code());
        assert_eq!(code(Principal::Anyone), Err(Code::Unauthorized));
        assert_eq!(code(key("orders:read")), Err(Code::Forbidden));
    }
}
