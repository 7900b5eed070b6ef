//! Personal values, which are sealed: the domain hands them on and cannot read them. How they are
//! sealed and opened, and where the keys are, is in `store::personal`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::address::Address;
use super::time::Timestamp;

/// The digits of the id of a key, each with five bits.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// The characters of a [`KeyId`].
pub const KEY_ID_CHARS: usize = 20;

/// The id of the key with which a value is sealed: 20 letters and digits, which sort by the time at
/// which the key was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; KEY_ID_CHARS]);

impl KeyId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The id of a key that is made at this time, with the last 50 of these random bits.
    #[must_use]
    pub fn new(at: Timestamp, random: u64) -> Self {
        let at = u64::try_from(at.millis()).unwrap_or(0);
        let digit = |nth: usize| {
            let (number, nth) = if nth < 10 { (at, 9 - nth) } else { (random, 19 - nth) };
            DIGITS[usize::try_from((number >> (5 * nth)) & 31).unwrap_or(0)]
        };
        Self(std::array::from_fn(digit))
    }

    /// When the key was made.
    #[must_use]
    pub fn made_at(&self) -> Timestamp {
        let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte).unwrap_or(0);
        let millis =
            self.0.iter().take(10).fold(0, |number: i64, byte| {
                (number << 5) | i64::try_from(digit(*byte)).unwrap_or(0)
            });
        Timestamp::from_millis(millis)
    }
}

impl FromStr for KeyId {
    type Err = NotSealed;

    fn from_str(text: &str) -> Result<Self, NotSealed> {
        let bytes = text.as_bytes().try_into().map_err(|_| NotSealed)?;
        if is_key_id(text) { Ok(Self(bytes)) } else { Err(NotSealed) }
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.as_str())
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

fn is_key_id(text: &str) -> bool {
    let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() == KEY_ID_CHARS && text.bytes().all(right)
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is not a sealed value: a personal value in clear, or a damaged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a sealed value")]
pub struct NotSealed;

/// A personal value that is sealed: the id of its key, a dot, and the sealed bytes as base64url.
/// Whoever has the key can open it; nobody can once the key is destroyed.
pub struct Sealed<T> {
    text: Arc<str>,
    of: PhantomData<fn() -> T>,
}

impl<T> Sealed<T> {
    /// A value of these sealed bytes, as base64url.
    #[must_use]
    pub fn new(key: &KeyId, sealed: &str) -> Self {
        Self { text: format!("{}.{sealed}", key.as_str()).into(), of: PhantomData }
    }

    /// The value as it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The id of its key.
    #[must_use]
    pub fn key(&self) -> KeyId {
        KeyId(self.text.as_bytes().first_chunk().copied().unwrap_or_default())
    }

    /// Its sealed bytes, as base64url.
    #[must_use]
    pub fn sealed(&self) -> &str {
        self.text.get(KEY_ID_CHARS + 1..).unwrap_or_default()
    }
}

impl<T> Clone for Sealed<T> {
    fn clone(&self) -> Self {
        Self { text: Arc::clone(&self.text), of: PhantomData }
    }
}

impl<T> PartialEq for Sealed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<T> Eq for Sealed<T> {}

impl<T> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({})", self.key().as_str())
    }
}

impl<T> FromStr for Sealed<T> {
    type Err = NotSealed;

    fn from_str(text: &str) -> Result<Self, NotSealed> {
        let (key, sealed) = text.split_once('.').ok_or(NotSealed)?;
        let right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !is_key_id(key) || sealed.is_empty() || !sealed.bytes().all(right) {
            return Err(NotSealed);
        }
        Ok(Self { text: text.into(), of: PhantomData })
    }
}

impl<T> Serialize for Sealed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, T> Deserialize<'de> for Sealed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A postal address whose personal part is sealed. The country is in clear: taxes and deliveries
/// depend on it, and it names nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedAddress {
    /// The country, as an ISO 3166-1 alpha-2 code.
    pub country: String,
    /// The recipient's name, which lists show without the rest.
    pub name: Sealed<String>,
    /// All of the address.
    pub address: Sealed<Address>,
}

/// A new key, wrapped, to be stored with the events whose values it seals. It seals the values of one
/// command only, so that each order's can be forgotten on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    /// Its id.
    pub id: KeyId,
    /// The entity whose values it seals; it is in the associated data of each.
    pub entity: String,
    /// Whose values they are: the keyed hash of an email address; `None` if the command had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The key, sealed with the master key, as base64url.
    pub wrapped: String,
}

/// A sealed value for tests, which never open it.
#[cfg(test)]
pub fn any<T>(text: &str) -> Sealed<T> {
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("01k8x4m5n6p7q8r9s0t1.{letters}").parse().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_keys_sort_by_time() {
        let at = |millis| KeyId::new(Timestamp::from_millis(millis), 7);
        assert!(at(1_700_000_000_000) < at(1_700_000_000_001));
        assert!(at(0) < at(1) && at(31) < at(32));
        assert_eq!(at(0).as_str(), "00000000000000000007");
        assert_eq!(at(1_700_000_000_001).made_at().millis(), 1_700_000_000_001);
        assert_eq!(at(5).as_str().parse(), Ok(at(5)));
        assert_ne!(KeyId::new(Timestamp::from_millis(1), u64::MAX), at(1));
    }

    #[test]
    fn only_a_sealed_value_is_read() {
        let right = "01k8x4m5n6p7q8r9s0t1.AbC-_9";
        let sealed: Sealed<String> = right.parse().unwrap();
        assert_eq!((sealed.key().as_str(), sealed.sealed()), (&right[..20], "AbC-_9"));
        assert_eq!(serde_json::to_string(&sealed).unwrap(), format!("\"{right}\""));
        assert_eq!(format!("{sealed:?}"), "Sealed(01k8x4m5n6p7q8r9s0t1)");
        let wrong = [
            "",
            "ada@example.com",
            "01k8x4m5n6p7q8r9s0t1.",
            "01k8x4m5n6p7q8r9s0t1.a@b",
            "01k8x4m5n6p7q8r9s0.AbC",
            "01K8x4m5n6p7q8r9s0t1.AbC",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Sealed<String>>(), Err(NotSealed), "{text}");
            assert!(serde_json::from_value::<Sealed<String>>(text.into()).is_err(), "{text}");
        }
    }
}
