//! Who may call a route: what the table of routes says, and how that is found out.
//!
//! Wings above have proofs of their own (the token of an order, a ticket for a socket): they stand
//! beside what they open. Signing in and out is not here.

use std::fmt;

use actix_web::HttpRequest;
use futures_util::future::LocalBoxFuture;

use super::authentication::{Authenticator, bearer};
use super::data::data;
use super::error::Error;
use super::principal::{NO_KEY, Principal, Scope, unauthorized};
use super::session;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// A key or a session with this scope, or `admin`.
    Key(Scope),
    /// Any key: what it may see is asked later.
    AnyKey,
    /// Whoever brings a proof that a wing above knows.
    Proof(&'static Proof),
    /// Whoever signs: the handler checks the signature of this sender.
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

/// A way to prove that one may call, beside a key with a scope.
pub struct Proof {
    /// Whom it lets in, in a few words.
    pub name: &'static str,
    /// Who calls, or why they may not.
    pub find: fn(&HttpRequest) -> LocalBoxFuture<'_, Result<Principal, Error>>,
    /// The security schemes of the API's document any of which will do; an empty one for none.
    pub schemes: &'static [&'static str],
    /// Statuses that every route with this proof may answer, each with its codes.
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

/// Who calls a route, if they may.
///
/// # Errors
/// 401 without a key, session or proof that is good; 403 where it is not enough.
pub async fn admit(access: Access, request: &HttpRequest) -> Result<Principal, Error> {
    let headers = request.headers();
    match access {
        Access::Public | Access::Signed(_) => Ok(Principal::Anyone),
        Access::Proof(proof) => (proof.find)(request).await,
        Access::Key(scope) => {
            let principal = data::<Authenticator>(request)?.principal(headers).await?;
            if matches!(principal, Principal::Session(_)) && !request.method().is_safe() {
                session::must_be_same_origin(headers)?;
            }
            principal.must(scope).map(|()| principal)
        }
        Access::AnyKey => {
            let principal = data::<Authenticator>(request)?.principal(headers).await?;
            match &principal {
                Principal::Anyone => return Err(unauthorized(NO_KEY)),
                Principal::Session(_) => session::must_be_same_origin(headers)?,
                Principal::Key(_) => {}
            }
            Ok(principal)
        }
    }
}

/// Lets anybody in; a key that comes along must be good.
///
/// # Errors
/// 401 for one that is not; why the store cannot tell.
pub async fn key_if_sent(request: &HttpRequest) -> Result<Principal, Error> {
    match bearer(request.headers())? {
        Some(text) => data::<Authenticator>(request)?.holder(text).await,
        None => Ok(Principal::Anyone),
    }
}
