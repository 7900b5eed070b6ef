//! Identifiers: prefixed, sortable by time, and validated when they are parsed.
//!
//! A cart and its order share one [`Key`]. Keys are not generated in `domain`, because that needs a
//! clock and randomness.

use std::fmt;
use std::str::FromStr;

use mti::prelude::TypeIdSuffix;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The common key of a cart and its order: a version 7 UUID with 74 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Uuid);

impl Key {
    /// Creates a key from a generated UUID.
    #[must_use]
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Its 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&TypeIdSuffix::from(self.0))
    }
}

impl FromStr for Key {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let suffix = TypeIdSuffix::from_str(text).map_err(|_| InvalidId)?;
        Ok(Self(suffix.to_uuid()))
    }
}

/// A text that is not an identifier of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an identifier of this kind")]
pub struct InvalidId;

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Key);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let key = text.strip_prefix(concat!($prefix, "_")).ok_or(InvalidId)?;
                key.parse().map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

typed_id!(
    /// The id of a cart; whoever knows it may use the cart.
    CartId,
    "cart"
);
typed_id!(
    /// The id of an order; it has the same key as the id of its cart.
    OrderId,
    "ord"
);

/// A stock keeping unit: 1 to 64 visible ASCII characters other than `/`; single spaces are allowed
/// between them. `.` and `..` are none, because clients leave them out of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Sku(std::sync::Arc<str>);

impl Sku {
    /// The maximum length of a SKU, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// The SKU as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Sku {
    type Err = InvalidSku;

    fn from_str(text: &str) -> Result<Self, InvalidSku> {
        let fits = !text.is_empty()
            && text.len() <= Self::MAX_BYTES
            && text.trim() == text
            && !matches!(text, "." | "..")
            && !text.contains("  ")
            && text.bytes().all(|byte| byte == b' ' || (byte.is_ascii_graphic() && byte != b'/'));
        if fits { Ok(Self(text.into())) } else { Err(InvalidSku) }
    }
}

impl<'de> Deserialize<'de> for Sku {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is not a SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to 64 visible ASCII characters other than '/', single spaces inside allowed; \
     not . or .."
)]
pub struct InvalidSku;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked() {
        let key = Key::new(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001));
        let cart = CartId(key).to_string();
        assert_eq!(cart.parse(), Ok(CartId(key)));
        assert_eq!(cart.parse::<OrderId>(), Err(InvalidId));
        assert_eq!(".".parse::<Sku>().and("..".parse::<Sku>()), Err(InvalidSku));
        assert!("...".parse::<Sku>().is_ok());
        for bad in ["", "cart_", "cart_0", "cart_zzzzzzzzzzzzzzzzzzzzzzzzzz", "ord_é"] {
            assert_eq!(bad.parse::<CartId>(), Err(InvalidId), "{bad}");
        }
    }

    #[test]
    fn skus_are_checked() {
        for good in ["85123A", "gift_0001_20", "BANK CHARGES", "a"] {
            assert!(good.parse::<Sku>().is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", " a", "a ", "a  b", "a/b", "a\nb", "ä", &long] {
            assert_eq!(bad.parse::<Sku>(), Err(InvalidSku), "{bad}");
        }
    }
}
