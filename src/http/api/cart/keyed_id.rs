//! How a cart is found again by the idempotency key that it was made under.
//!
//! A cart has no entity before it is made, so its id follows from the key: the 74 random bits
//! are a keyed digest of the key and the API key of its caller, if there is one, and the time in
//! front is the first millisecond of the hour. A first request looks in one read whether there is
//! a cart under the ids of the last 24 hours. Nothing is written but the cart, and a crash
//! changes nothing. Without our secret such an id cannot be guessed.
//!
//! An id is the right to use a cart, and buyers have nothing but their keys to tell them apart:
//! whoever sends a key again gets its cart. So a buyer's key must be long enough to be random.
//! An address would not do: behind a proxy all buyers have one, and a telephone has many.

use crate::domain::id::{CartId, Key};
use crate::domain::time::Timestamp;
use crate::http::edge::error::Error;
use crate::http::edge::secret::ServerSecret;

/// An hour, in milliseconds.
const HOUR_MS: i64 = 3600 * 1000;
/// For how many hours before the present one a cart is looked for.
const HOURS: i64 = 24;
/// The shortest key under which a buyer makes a cart.
const BUYERS_KEY_MIN: usize = 16;

/// Checks a key under which a cart is made.
///
/// # Errors
/// 422 for a buyer's key that is too short to be a secret.
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

/// The ids of the cart that is made under a key by an API key or a buyer: if it is made in this
/// hour, and if it was in one of the 24 before, the newest first.
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
