//! Where units lie and how many there are of each sort. What an order has of them is not here.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// Where goods lie: 1 to 32 of `a-z0-9-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Location(Arc<str>);

impl Location {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 32 of a-z, 0-9 and '-'")]
pub struct InvalidLocation;

impl FromStr for Location {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(letter) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidLocation)
        }
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The units of one SKU at one location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Units in the house, reserved and allocated ones included.
    pub on_hand: i64,
    /// Units under a hold that lapses.
    pub reserved: i64,
    /// Units that belong to a paid order.
    pub allocated: i64,
    /// Units that are on their way.
    pub incoming: i64,
    /// Units that were shipped and did not come back.
    pub sold: i64,
    /// All units that ever came in, less those written off: `on_hand + sold` at any time.
    pub received: i64,
}

impl Level {
    /// Units that can be promised to a buyer.
    #[must_use]
    pub const fn sellable(&self) -> i64 {
        self.on_hand - self.reserved - self.allocated
    }

    /// Whether the numbers can be true: none negative, and nothing from nowhere.
    #[must_use]
    pub const fn sound(&self) -> bool {
        self.sellable() >= 0
            && self.reserved >= 0
            && self.allocated >= 0
            && self.sold >= 0
            && self.incoming >= 0
            && self.on_hand + self.sold == self.received
    }
}

/// So many units at a location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationUnits {
    /// Where.
    #[serde(rename = "loc")]
    pub location: Location,
    /// How many.
    #[serde(rename = "qty")]
    pub quantity: i64,
}
