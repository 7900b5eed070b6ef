//! What every plain row with a version is: what one person edits, and nobody races for (a product, a
//! price list, a delivery zone). A change of it is an event that holds the whole row. What two callers
//! race for, or whose history is the point, is a [`Noun`](super::entity::Noun) instead.

use std::fmt::{Debug, Display};
use std::hash::Hash;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::entity::{self, EntityId};

/// A plain row with a version: the type that implements this is what it holds.
pub trait Versioned:
    Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The prefix of its ids, which is also its name in the journal and between nodes.
    const PREFIX: &'static str;
    /// What one of them is called outside: in the stream of events.
    const NAME: &'static str = Self::PREFIX;
    /// What many of them are called: the name of their part of the cache.
    const PLURAL: &'static str;
    /// The name of the command that writes it, for the journal.
    const PUT: &'static str;

    /// What tells its rows apart.
    type Key: Clone + Debug + Display + Eq + Hash + Ord + Send + Sync + 'static;

    /// Its key.
    fn key(&self) -> &Self::Key;

    /// The journal's id for a key.
    #[must_use]
    fn entity_id(key: &Self::Key) -> EntityId {
        EntityId::new(&format!("{}_{key}", Self::PREFIX))
    }
}

/// What has happened to a row: all of it, as it was written. Its version is the event's seq.
#[derive(
    Clone, Debug, PartialEq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Event<T> {
    /// It is there.
    Created(T),
    /// It is different.
    Updated(T),
}

impl<T> Event<T> {
    /// What the row holds since.
    #[must_use]
    pub fn into_value(self) -> T {
        let (Self::Created(value) | Self::Updated(value)) = self;
        value
    }
}

impl<T: Versioned> entity::Event for Event<T> {
    fn kind(&self) -> &'static str {
        self.into()
    }
}
