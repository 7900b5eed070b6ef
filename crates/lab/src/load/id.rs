//! Ids of carts and orders in a compact form, for millions of them.
//!
//! A cart and its order have the same id except for the prefix. Deliberately not here: the
//! structure of ids, which only the server knows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// The common part of a cart's id and its order's id: 26 characters, which sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CartKey([u8; 26]);

impl CartKey {
    /// Parses it after a prefix; `None` if the text is not such an id.
    fn after(prefix: &str, text: &str) -> Option<Self> {
        let key = text.strip_prefix(prefix)?.as_bytes();
        key.iter().all(u8::is_ascii_alphanumeric).then(|| key.try_into().ok().map(Self))?
    }
}

impl fmt::Display for CartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| fmt::Write::write_char(f, char::from(*byte)))
    }
}

/// A cart's id: `cart_` and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CartId(pub CartKey);

/// An order's id: `ord_` and the key of its cart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderId(pub CartKey);

/// A text that is not an id of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an identifier of this kind")]
pub struct InvalidId;

impl FromStr for CartId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        CartKey::after("cart_", text).map(Self).ok_or(InvalidId)
    }
}

impl FromStr for OrderId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        CartKey::after("ord_", text).map(Self).ok_or(InvalidId)
    }
}

impl fmt::Display for CartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cart_{}", self.0)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ord_{}", self.0)
    }
}

impl<'de> Deserialize<'de> for OrderId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_the_key_of_its_cart() {
        let cart: CartId = "cart_01jd0000000000000000000001".parse().unwrap();
        assert_eq!(OrderId(cart.0).to_string(), "ord_01jd0000000000000000000001");
        assert_eq!(cart.to_string().parse(), Ok(cart));
        for bad in ["", "cart_", "ord_01jd0000000000000000000001", "cart_01jd/00000000000000000001"]
        {
            assert_eq!(bad.parse::<CartId>(), Err(InvalidId), "{bad}");
        }
    }
}
