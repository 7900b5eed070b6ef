//! Errors of requests: refusals (RFC 9457) and missing answers.
//!
//! Deliberately not here: sending and retries (`client`).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest `Retry-After` that is waited for.
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
    /// The delay that the server asks for.
    pub retry_after: Option<Duration>,
    /// The whole body.
    pub document: Value,
}

/// An invalid field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Its path, for example `lines[0].quantity`.
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
    /// The server refused.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// There was no answer, even after retries.
    #[error("no answer from {url}: {reason}")]
    Unreachable {
        /// The URL.
        url: String,
        /// All causes.
        reason: String,
    },
    /// The answer is malformed.
    #[error("cannot read the answer of {url}: {reason}")]
    Answer {
        /// The URL.
        url: String,
        /// The first fault.
        reason: String,
    },
    /// No http or https address, or one with a password in it.
    #[error("{0:?} is not the URL of a server: use http://host:port or https://host")]
    Address(String),
    /// The key has characters that no key has.
    #[error("the key is not valid: it has characters that cannot be sent")]
    Key,
    /// TLS could not be set up.
    #[error("cannot set up the client: {0}")]
    Setup(String),
}

impl Error {
    /// The refusal, if it is one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// The stable code of the refusal, or "" if it is none.
    #[must_use]
    pub fn code(&self) -> &str {
        self.problem().map_or("", |problem| problem.code.as_str())
    }

    /// Whether going on makes no sense: the server is unreachable, or the key is not sufficient.
    #[must_use]
    pub fn ends_the_run(&self) -> bool {
        match self {
            Self::Problem(problem) => matches!(problem.status, 401 | 403 | 429 | 503),
            Self::Answer { .. } => false,
            _ => true,
        }
    }

    /// Whether a retry with the same key may succeed.
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

    /// The delay before a retry: the planned one, or longer if the server asks for it.
    #[must_use]
    pub fn wait(&self, planned: Option<Duration>) -> Option<Duration> {
        let asked = self.problem().and_then(|problem| problem.retry_after);
        match asked {
            Some(asked) => planned.map(|planned| planned.max(asked.min(RETRY_AFTER_MAX))),
            None => planned,
        }
    }
}

/// Parses a refusal; of a body that is not problem+json, the beginning becomes the description.
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

/// An error and all its causes on one line.
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
