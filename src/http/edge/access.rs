//! Access control: who may call a route, as the list of routes says, and how a caller is
//! authenticated.
//!
//! Other parts of `http` define proofs of their own: a buyer's token in `api/token`, a ticket for a
//! socket next to its route. Sign-in and sign-out are in `operator`.

use std::fmt;

use actix_web::{HttpMessage as _, HttpRequest};
use futures_util::future::LocalBoxFuture;

use super::authentication::Authenticator;
use super::data::data;
use super::error::Error;
use super::principal::{NO_KEY, Principal, Scope, unauthorized};
use super::session;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// Callers with an API key or a session that has this scope or the scope `admin`.
    Key(Scope),
    /// Callers with any API key or session: the handler checks the scopes later.
    AnyKey,
    /// Callers with a proof that another part of `http` defines.
    Proof(&'static Proof),
    /// A sender that signs its requests: the handler verifies the signature.
    Signed(&'static str),
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("anybody"),
            Self::Key(scope) => f.write_str(scope.as_str()),
            Self::AnyKey => f.write_str("any key"),
            Self::Proof(proof) => f.write_str(proof.name),
            Self::Signed(sender) => write!(f, "signed by {sender}"),
        }
    }
}

/// A kind of authentication other than a scope of an API key or a session.
pub struct Proof {
    /// Whom it admits, in a few words.
    pub name: &'static str,
    /// Authenticates the caller, or refuses.
    pub find: fn(&HttpRequest) -> LocalBoxFuture<'_, Result<Principal, Error>>,
    /// The names of the alternative security schemes in the OpenAPI document; the empty name stands
    /// for no authentication.
    pub schemes: &'static [&'static str],
    /// Further error statuses that every route with this proof may answer, each with its error
    /// codes.
    pub problems: &'static [(&'static str, &'static str)],
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Proof {}

/// Admits a caller with a scope. The request keeps who was refused, for the log.
///
/// # Errors
/// 401 without a key or session, 403 without the scope.
pub fn authorize(
    request: &HttpRequest,
    principal: Principal,
    scope: Scope,
) -> Result<Principal, Error> {
    match principal.must(scope) {
        Ok(()) => Ok(principal),
        Err(refused) => {
            request.extensions_mut().insert(principal);
            Err(refused)
        }
    }
}

/// Refuses what a page of another origin asks for with a session. The request keeps whose session it
/// is, for the log.
///
/// # Errors
/// 403 `forbidden_origin`.
pub fn of_this_host(request: &HttpRequest, principal: &Principal) -> Result<(), Error> {
    session::must_be_same_origin(request.headers()).inspect_err(|_| {
        request.extensions_mut().insert(principal.clone());
    })
}

/// Authenticates and authorizes the caller of a route.
///
/// # Errors
/// 401 without a valid key, session or proof; 403 without the scope, or if a session cookie is sent
/// from a page of another origin.
pub async fn admit(access: Access, request: &HttpRequest) -> Result<Principal, Error> {
    let headers = request.headers();
    match access {
        Access::Public | Access::Signed(_) => Ok(Principal::Anyone),
        Access::Proof(proof) => (proof.find)(request).await,
        Access::Key(scope) => {
            let principal = data::<Authenticator>(request)?.principal(headers).await?;
            if matches!(principal, Principal::Session(_)) && !request.method().is_safe() {
                of_this_host(request, &principal)?;
            }
            authorize(request, principal, scope)
        }
        Access::AnyKey => {
            let principal = data::<Authenticator>(request)?.principal(headers).await?;
            match &principal {
                Principal::Anyone => return Err(unauthorized(NO_KEY)),
                Principal::Session(_) => of_this_host(request, &principal)?,
                Principal::Key(_) => {}
            }
            Ok(principal)
        }
    }
}
