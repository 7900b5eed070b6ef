//! Plain rows with a version: data that operators edit and that are rarely changed concurrently (a
//! product, a price list, a delivery zone). A change is an event that contains the whole row. Data
//! that are often changed concurrently, or whose history matters, are a
//! [`Noun`](super::entity::Noun) instead.

use std::fmt::{Debug, Display};
use std::hash::Hash;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::entity::{self, EntityId};
use crate::seeded_fault::{self, SeededFault};

/// A plain row with a version: the type that implements this trait is the row's content.
pub trait Versioned:
    Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The prefix of the ids of its rows, which is also its name in the journal and between nodes.
    const PREFIX: &'static str;
    /// The public name of one row, in the stream of events.
    const NAME: &'static str = Self::PREFIX;
    /// The plural of the name, which is also the name of its space in the cache.
    const PLURAL: &'static str;
    /// The name of the command that writes a row, for the journal.
    const PUT: &'static str;

    /// The type of a row's key, such as a SKU.
    type Key: Clone + Debug + Display + Eq + Hash + Ord + Send + Sync + 'static;

    /// The row's key.
    fn key(&self) -> &Self::Key;

    /// Whether the row stands for something that was deleted.
    fn is_deleted(&self) -> bool {
        false
    }

    /// The journal's id for the row with this key.
    #[must_use]
    fn entity_id(key: &Self::Key) -> EntityId {
        EntityId::new(&format!("{}_{key}", Self::PREFIX))
    }
}

/// An event of a row, with the row's whole new content. The row's version is the event's sequence
/// number.
#[derive(
    Clone, Debug, PartialEq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Event<T> {
    /// The row was created.
    Created(T),
    /// The row was changed.
    Updated(T),
    /// What the row stands for was deleted; the row stays, and says so.
    Deleted(T),
}

impl<T> Event<T> {
    /// The content of the row after the event.
    #[must_use]
    pub fn into_value(self) -> T {
        let (Self::Created(value) | Self::Updated(value) | Self::Deleted(value)) = self;
        value
    }
}

impl<T: Versioned> Event<T> {
    /// The event by which a row gets a new content; `before` is its content before, if it had any.
    #[must_use]
    pub fn of(before: Option<&T>, value: T) -> Self {
        if value.is_deleted() && !seeded_fault::active(SeededFault::DeletedAsUpdated) {
            return Self::Deleted(value);
        }
        match before {
            Some(before) if !before.is_deleted() => Self::Updated(value),
            _ => Self::Created(value),
        }
    }
}

impl<T: Versioned> entity::Event for Event<T> {
    fn kind(&self) -> &'static str {
        self.into()
    }
}
