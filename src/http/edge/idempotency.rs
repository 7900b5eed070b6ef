//! Idempotency keys of requests: their validation, and the requests with a key that are in progress
//! on this node.
//!
//! The outcome of a request with a key is not kept here: the entity finds the key in the events
//! that the request caused.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::header::HeaderMap;

use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;

/// The idempotency key of a request.
///
/// # Errors
/// 422 for a key that does not have 1 to 255 visible ASCII characters.
pub fn key_of(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let wrong = || Error::field("Idempotency-Key", "must have 1 to 255 visible ASCII characters");
    let text = value.to_str().map_err(|_| wrong())?;
    let good = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(Some(text.to_owned())) } else { Err(wrong()) }
}

/// The requests with a key that are in progress.
#[derive(Clone, Debug, Default)]
pub struct RequestsInFlight(Arc<Mutex<HashSet<String>>>);

impl RequestsInFlight {
    /// Registers a request until the guard is dropped.
    ///
    /// # Errors
    /// 409 while another request of this caller to this path with this key is in progress.
    pub fn begin(&self, whose: &str, path: &str, key: &str) -> Result<Guard, Error> {
        let name = format!("{whose} {path} {key}");
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.insert(name.clone()) {
            let detail = "the first request with this key is still in progress";
            return Err(Error::new(Code::IdempotencyInFlight, detail));
        }
        Ok(Guard { of: self.clone(), name })
    }
}

/// Keeps a request registered until it is dropped.
#[derive(Debug)]
pub struct Guard {
    of: RequestsInFlight,
    name: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.of.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_request_waits_for_the_first() {
        let all = RequestsInFlight::default();
        let guard = all.begin("a", "/p", "k").unwrap();
        assert_eq!(all.begin("a", "/p", "k").unwrap_err().code(), Code::IdempotencyInFlight);
        assert!(all.begin("b", "/p", "k").is_ok());
        drop(guard);
        assert!(all.begin("a", "/p", "k").is_ok());
    }

    #[test]
    fn keys_are_checked() {
        use actix_web::http::header::{HeaderName, HeaderValue};
        let read = |text: &[u8]| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_bytes(text).unwrap();
            headers.insert(HeaderName::from_static("idempotency-key"), value);
            key_of(&headers).map_err(|error| error.code())
        };
        assert_eq!(read(b"abc-1"), Ok(Some("abc-1".into())));
        for bad in [&b""[..], b"a b", b"\xff", &[b'x'; 256]] {
            assert_eq!(read(bad), Err(Code::InvalidRequest));
        }
    }
}
