//! The id of a cart that is created with an idempotency key: it is derived from the key, so that a
//! retry finds the cart.
//!
//! The idempotency keys of other requests are found in the events of their entity, but a cart has
//! no events before it is created. Its id is a UUIDv7: the 74 random bits are a keyed digest of the
//! idempotency key and the id of the caller's API key, if there is one; the time is the beginning
//! of the hour. A request looks, in one query, for a cart with the id of this hour or of one of the
//! 24 hours before. Nothing but the cart is written, so a crash in between does no harm. Without
//! the server's secret nobody can compute such an id.
//!
//! Buyers without an API key differ only in their idempotency keys: whoever sends the same key gets
//! the same cart, and its token. So a buyer's key must be long enough to be random. The IP address
//! cannot tell buyers apart: those behind one proxy share an address, and that of a phone changes.

use crate::domain::id::{CartId, Key};
use crate::domain::time::Timestamp;
use crate::http::edge::error::Error;
use crate::http::edge::secret::ServerSecret;

/// An hour, in milliseconds.
const HOUR_MS: i64 = 3600 * 1000;
/// The number of hours before the current one for which a cart is looked for.
const HOURS: i64 = 24;
/// The minimum length of the idempotency key with which a caller without an API key creates a cart,
/// in bytes.
const BUYERS_KEY_MIN: usize = 16;

/// Checks the idempotency key of a request that creates a cart; `by` is the id of the caller's API
/// key.
///
/// # Errors
/// 422 if the caller has no API key and the idempotency key is too short to be a secret.
pub fn check_cart_key(key: &str, by: Option<&str>) -> Result<(), Error> {
    if by.is_some() || key.len() >= BUYERS_KEY_MIN {
        return Ok(());
    }
    let rule = format!(
        "must have at least {BUYERS_KEY_MIN} random characters here (such as a UUID): anyone \
         who sends the same key gets the same cart"
    );
    Err(Error::field("Idempotency-Key", rule))
}

/// The possible ids of the cart of an idempotency key: the id that the cart gets if it is created
/// in this hour, followed by the ids of the 24 hours before, newest first. `by` is the id of the
/// caller's API key.
#[must_use]
pub fn cart_ids(secret: &ServerSecret, by: Option<&str>, key: &str, now: Timestamp) -> Vec<CartId> {
    let digest = match by {
        Some(by) => secret.mac(&["cart", "key", by, key]),
        None => secret.mac(&["cart", "buyer", key]),
    };
    let mut random = [0; 10];
    random.copy_from_slice(&digest[..10]);
    let present = now.millis().div_euclid(HOUR_MS);
    let id = |hour: i64| {
        let millis = u64::try_from(hour * HOUR_MS).unwrap_or(0);
        CartId(Key::new(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()))
    };
    (0..=HOURS).map(|ago| id(present - ago)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::edge::problem::Code;

    #[test]
    fn a_key_leads_to_the_same_cart_for_a_day() {
        let at = |minutes: i64| Timestamp::from_millis(480_000 * HOUR_MS + minutes * 60_000);
        let ids =
            |key: &str, minutes| cart_ids(&ServerSecret::new([1; 32]), None, key, at(minutes));
        let first = ids("k", 59)[0];
        assert_eq!(ids("k", 0)[0], first);
        assert_eq!(ids("k", 60)[1], first, "of the hour before");
        assert!(ids("k", 59 + 24 * 60).contains(&first), "a day later");
        assert!(!ids("k", 26 * 60).contains(&first));
        assert!(ids("k", 60)[0] > first, "ids grow with the hours");
        assert!(!ids("l", 59).contains(&first));
        for by in ["a", "b"] {
            let others = cart_ids(&ServerSecret::new([1; 32]), Some(by), "k", at(59));
            assert!(!others.contains(&first), "{by}");
        }
        assert_eq!(first.0.as_bytes()[6] >> 4, 7, "a version 7 UUID");
    }

    #[test]
    fn a_buyer_needs_a_key_that_can_be_a_secret() {
        let code = check_cart_key("cart-1", None).map_err(|error| error.code());
        assert_eq!(code, Err(Code::InvalidRequest));
        assert!(check_cart_key("0123456789abcdef", None).is_ok());
        assert!(check_cart_key("cart-1", Some("an API key")).is_ok());
    }
}
