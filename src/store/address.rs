//! The URL of a database. The URL may contain a password, and is always displayed without it.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use sqlx::postgres::PgConnectOptions;

use crate::domain::masked_url::masked_url;

/// The URL of a database; empty for none. Its password is masked when it is displayed, logged or
/// serialized.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// A URL from the configuration.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is the URL of a PostgreSQL database.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        self.0.starts_with("postgres://") || self.0.starts_with("postgresql://")
    }

    /// The host and port of the server; `None` if this is no URL of PostgreSQL, or the server
    /// listens on a Unix socket.
    #[must_use]
    pub fn server(&self) -> Option<(String, u16)> {
        let options: PgConnectOptions = self.0.parse().ok().filter(|_| self.is_postgres())?;
        let is_path = options.get_socket().is_some() || options.get_host().starts_with('/');
        (!is_path).then(|| (options.get_host().to_owned(), options.get_port()))
    }

    /// The whole URL, with its password: for connecting, and for child processes.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked_url(&self.0))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<&str> for DatabaseUrl {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl std::str::FromStr for DatabaseUrl {
    type Err = std::convert::Infallible;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        for (url, shown) in [
            ("", ""),
            ("postgres://db/shop", "postgres://db/shop"),
            ("postgres://anna@db/shop", "postgres://anna@db/shop"),
            ("postgres://anna:s3cret@db:5432/shop", "postgres://anna:***@db:5432/shop"),
            ("postgres://anna:s3/c@r:et@db/shop", "postgres://anna:***@db/shop"),
            (
                "postgres://db/shop?user=anna&password=s3cret&sslmode=require",
                "postgres://db/shop?user=anna&password=***&sslmode=require",
            ),
        ] {
            let address = DatabaseUrl::new(url);
            assert_eq!(address.to_string(), shown);
            let others = format!("{address:?}{}", serde_json::to_string(&address).unwrap());
            assert!(!others.contains("s3"), "{others}");
            assert_eq!(address.reveal(), url);
        }
    }
}
