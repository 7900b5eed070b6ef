//! Idempotency keys at the edge: their shape, the first request with one that is still being
//! worked on, and how a cart is found again by the key that it was made under.
//!
//! What a key led to is remembered by the entity itself, in the events that it caused.
//!
//! A cart has no entity before it is made, so its id follows from the key: the 74 random bits
//! are a keyed digest of the key and the caller's address, and the time in front is the day's
//! first millisecond. A retry finds the cart under today's id or yesterday's. Without our secret
//! such an id cannot be guessed; a caller from another address gets another cart.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::header::HeaderMap;

use super::access::mac;
use super::error::Error;
use super::problem::Code;
use crate::domain::id::{CartId, Key};
use crate::domain::time::Timestamp;

/// A day, in milliseconds.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// The key of a request.
///
/// # Errors
/// 422 for one that is not 1 to 255 visible characters.
pub fn key_of(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let wrong = || Error::field("Idempotency-Key", "must have 1 to 255 visible ASCII characters");
    let text = value.to_str().map_err(|_| wrong())?;
    let good = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(Some(text.to_owned())) } else { Err(wrong()) }
}

/// The requests with a key that are being worked on.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Mutex<HashSet<String>>>);

impl InFlight {
    /// Notes a request until the guard is dropped.
    ///
    /// # Errors
    /// 409 while there is another one.
    pub fn begin(&self, whose: &str, path: &str, key: &str) -> Result<Guard, Error> {
        let name = format!("{whose} {path} {key}");
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.insert(name.clone()) {
            let detail = "the first request with this key is still being worked on";
            return Err(Error::new(Code::IdempotencyInFlight, detail));
        }
        Ok(Guard { of: self.clone(), name })
    }
}

/// A request with a key that is being worked on.
#[derive(Debug)]
pub struct Guard {
    of: InFlight,
    name: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.of.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// The ids of the cart that is made under a key: if it is made today, and if it was yesterday.
#[must_use]
pub fn cart_ids(secret: &[u8; 32], peer: &str, key: &str, now: Timestamp) -> [CartId; 2] {
    let digest = mac(secret, &["cart", peer, key]);
    let mut random = [0; 10];
    random.copy_from_slice(&digest[..10]);
    let today = now.millis().div_euclid(DAY_MS);
    [today, today - 1].map(|day| {
        let millis = u64::try_from(day * DAY_MS).unwrap_or(0);
        CartId(Key::new(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_to_the_same_cart_for_a_day() {
        let at = |hours: i64| Timestamp::from_millis(20_000 * DAY_MS + hours * 3_600_000);
        let ids = |key: &str, hours| cart_ids(&[1; 32], "::1", key, at(hours));
        let [first, _] = ids("k", 23);
        assert_eq!(ids("k", 1)[0], first);
        assert_eq!(ids("k", 46)[1], first, "yesterday's");
        assert!(!ids("k", 70).contains(&first));
        assert!(!ids("l", 23).contains(&first));
        assert!(!cart_ids(&[1; 32], "::2", "k", at(23)).contains(&first));
        assert_eq!(first.0.as_bytes()[6] >> 4, 7, "a version 7 UUID");
    }

    #[test]
    fn a_second_request_waits_for_the_first() {
        let all = InFlight::default();
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
