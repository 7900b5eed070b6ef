//! The caller of a request, and the scopes of keys and sessions.
//!
//! `authentication` finds the caller; `access` decides who may call a route.

use std::sync::Arc;
use std::time::Duration;

use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;
use crate::store::key;
use crate::store::session::Row as Session;

/// The TTL of a cached key or session. Revoked keys are noticed only after it. The end of a session
/// is also announced to the other nodes, but a node may miss the announcement.
pub const BELIEVED: Duration = Duration::from_millis(900);
/// The message for a caller without a key.
pub const NO_KEY: &str = "an API key is required: Authorization: Bearer sk_…";

/// The scope that includes all others.
pub const ADMIN: &str = "admin";

/// A permission of an API key or a session.
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
    #[strum(serialize = "people:erase")]
    PeopleErase,
    #[strum(serialize = "ops")]
    Ops,
}

impl Scope {
    /// The scope's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The caller.
#[derive(Clone, Debug, Default)]
pub enum Principal {
    /// A caller without an API key or a session.
    #[default]
    Anyone,
    /// The holder of a key.
    Key(Arc<key::Row>),
    /// A signed-in person.
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

    /// The id that the caller's limits are counted under. Sessions that were started with an API
    /// key count together with the key.
    #[must_use]
    pub fn owner(&self) -> &str {
        match self {
            Self::Session(row) => row.api_key.as_deref().unwrap_or(&row.id),
            _ => self.id().unwrap_or(""),
        }
    }

    /// The caller's name in the journal.
    #[must_use]
    pub fn by(&self) -> String {
        match self {
            Self::Anyone => "buyer".to_owned(),
            Self::Key(row) => format!("key:{}", row.id),
            Self::Session(row) => format!("session:{}", row.id),
        }
    }

    /// The name of the caller's key or sign-in link, which people know the caller by.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Anyone => None,
            Self::Key(row) => Some(&row.name),
            Self::Session(row) => Some(&row.name),
        }
    }

    /// Whether the caller has a scope; the scope `admin` includes all others.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        let scopes = match self {
            Self::Anyone => return false,
            Self::Key(row) => &row.scopes,
            Self::Session(row) => &row.scopes,
        };
        scopes.iter().any(|has| has == ADMIN || has == scope.as_str())
    }

    /// Refuses a caller without a scope.
    ///
    /// # Errors
    /// 401 without a key or session, 403 without the scope.
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

/// 401: the caller is not authenticated.
#[must_use]
pub fn unauthorized(detail: &'static str) -> Error {
    Error::new(Code::Unauthorized, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

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
