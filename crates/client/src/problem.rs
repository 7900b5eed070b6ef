//! Errors of requests: refusals of the server (RFC 9457), and requests without a readable answer.
//!
//! Deliberately not here: sending and retries (`client`).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest delay before a retry, whatever `Retry-After` asks for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// A server's refusal (RFC 9457).
#[derive(Clone, Debug)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The stable code; `http_<status>` if the answer is not problem+json.
    pub code: String,
    /// A description, for people.
    pub detail: String,
    /// All invalid fields.
    pub errors: Vec<FieldError>,
    /// The delay that the server asks for before a retry.
    pub retry_after: Option<Duration>,
    /// The whole body.
    pub document: Value,
}

/// An invalid field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// The field's path, for example `lines[0].quantity`.
    pub field: String,
    /// The rule that the field breaks.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.status, self.detail)?;
        for error in self.errors.iter().take(5) {
            write!(f, "; {} {}", error.field, error.message)?;
        }
        Ok(())
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused the request.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// There was no answer, even after retries.
    #[error("no answer from {url}: {reason}")]
    Unreachable {
        /// The method and the path.
        url: String,
        /// The error, with all its causes.
        reason: String,
    },
    /// The answer is malformed.
    #[error("cannot read the answer of {url}: {reason}")]
    Answer {
        /// The method and the path.
        url: String,
        /// Why it cannot be parsed.
        reason: String,
    },
    /// The address is not an HTTP or HTTPS URL, or has a user name, a password, a query or a
    /// fragment.
    #[error("{0:?} is not the URL of a server: use http://host:port or https://host")]
    Address(String),
    /// The API key has characters that cannot be sent in a header.
    #[error("the key is not valid: it has characters that cannot be sent")]
    Key,
    /// TLS could not be set up, or the request's body could not be serialized.
    #[error("cannot set up the client: {0}")]
    Setup(String),
}

impl Error {
    /// The server's refusal; `None` for other errors.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// The stable code of the server's refusal; empty for other errors.
    #[must_use]
    pub fn code(&self) -> &str {
        self.problem().map_or("", |problem| problem.code.as_str())
    }

    /// Whether other requests would fail as well: the server is unreachable or overloaded, or the
    /// API key is invalid or lacks a scope.
    #[must_use]
    pub fn ends_the_run(&self) -> bool {
        match self {
            Self::Problem(problem) => matches!(problem.status, 401 | 403 | 429 | 503),
            Self::Answer { .. } => false,
            _ => true,
        }
    }

    /// Whether a retry with the same idempotency key may succeed.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Problem(problem) => {
                matches!(problem.status, 429 | 502 | 503 | 504)
                    || matches!(
                        problem.code.as_str(),
                        "idempotency_in_flight" | "checkout_in_progress"
                    )
            }
            _ => false,
        }
    }

    /// The delay before a retry: the planned one, or up to 30 seconds if the server asks for a
    /// longer one; `None` if no retry is planned.
    #[must_use]
    pub fn wait(&self, planned: Option<Duration>) -> Option<Duration> {
        let asked = self.problem().and_then(|problem| problem.retry_after);
        match asked {
            Some(asked) => planned.map(|planned| planned.max(asked.min(RETRY_AFTER_MAX))),
            None => planned,
        }
    }
}

/// Parses a refusal. If the body is not problem+json, its first 200 bytes become the description.
pub(crate) fn read(status: u16, retry_after: Option<Duration>, bytes: &[u8]) -> Problem {
    let document: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let text = |name: &str| document.get(name).and_then(Value::as_str).map(str::to_owned);
    let errors = document
        .get("errors")
        .and_then(|errors| serde_json::from_value(errors.clone()).ok())
        .unwrap_or_default();
    let start = || String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    Problem {
        status,
        code: text("code").unwrap_or_else(|| format!("http_{status}")),
        detail: text("detail").or_else(|| text("title")).unwrap_or_else(start),
        errors,
        retry_after,
        document,
    }
}

/// Describes an error and all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_json_is_parsed_and_other_bodies_are_tolerated() {
        let bytes = br#"{"code":"out_of_stock","detail":"d","order":null,"lines":[{"sku":"a"}],
            "errors":[{"field":"f","message":"m"}]}"#;
        let found = read(409, None, bytes);
        assert_eq!((found.code.as_str(), found.errors.len()), ("out_of_stock", 1));
        assert_eq!(found.document["lines"][0]["sku"], "a");
        assert_eq!(read(502, None, b"<html>").code, "http_502");
    }
}
