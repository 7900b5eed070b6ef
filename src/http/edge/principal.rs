//! Who calls, and what a key or session may do.
//!
//! Who a request's caller is gets found out in `authentication`; which route takes whom is in
//! `access`.

use std::sync::Arc;
use std::time::Duration;

use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;
use crate::store::key;
use crate::store::session::Row as Session;

/// How long a key or session is believed without asking the store. Other nodes are told what was
/// revoked; who is not told, or revoked by another program, asks again within a second.
pub const BELIEVED: Duration = Duration::from_millis(900);
/// What is said to a caller without a key.
pub const NO_KEY: &str = "an API key is required: Authorization: Bearer sk_…";

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

/// 401: who calls is not known.
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
