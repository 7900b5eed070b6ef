//! What can go wrong between a client and a server: refusals (RFC 9457) and silence.
//!
//! What deliberately is not here: sending and sending again (`client`).

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
    /// The stable code; `http_<status>` when whatever answered does not speak problem+json.
    pub code: String,
    /// For people.
    pub detail: String,
    /// All faulty fields.
    pub errors: Vec<FieldError>,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// The whole document.
    pub document: Value,
}

/// One faulty field, as the server names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Its path, for example `lines[0].quantity`.
    pub field: String,
    /// What is wrong with it.
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

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// Nobody answered, and sending it again did not help.
    #[error("no answer from {url}: {reason}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// The whole chain of causes.
        reason: String,
    },
    /// The answer is not what the contract says.
    #[error("cannot read the answer of {url}: {reason}")]
    Answer {
        /// What was asked.
        url: String,
        /// Where it departs.
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

    /// Whether going on makes no sense: nobody answers, or the key does not do.
    #[must_use]
    pub fn ends_the_run(&self) -> bool {
        match self {
            Self::Problem(problem) => matches!(problem.status, 401 | 403 | 429 | 503),
            Self::Answer { .. } => false,
            _ => true,
        }
    }

    /// Whether sending it again, under the same key, may help.
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

    /// How long to wait before that: as planned, or longer if the server asks for it.
    #[must_use]
    pub fn wait(&self, planned: Option<Duration>) -> Option<Duration> {
        let asked = self.problem().and_then(|problem| problem.retry_after);
        match asked {
            Some(asked) => planned.map(|planned| planned.max(asked.min(RETRY_AFTER_MAX))),
            None => planned,
        }
    }
}

/// Reads a refusal; of whatever is not problem+json it keeps the beginning.
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
    fn a_problem_is_read_whole_and_other_pages_do_no_harm() {
        let bytes = br#"{"code":"out_of_stock","detail":"d","order":null,"lines":[{"sku":"a"}],
            "errors":[{"field":"f","message":"m"}]}"#;
        let found = read(409, None, bytes);
        assert_eq!((found.code.as_str(), found.errors.len()), ("out_of_stock", 1));
        assert_eq!(found.document["lines"][0]["sku"], "a");
        assert_eq!(read(502, None, b"<html>").code, "http_502");
    }
}
