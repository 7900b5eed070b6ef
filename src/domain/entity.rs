//! The definition of an event-sourced noun: a state, its commands, events and effects, and two pure
//! functions between them. The generic host that runs nouns is in `actors::engine`.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strum::VariantNames;

use super::time::Timestamp;

/// The id of an entity in the journal: its noun's prefix, `_`, its key. A cart and an order with
/// the same key are in the same shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EntityId(Arc<str>);

impl EntityId {
    /// An id from its text in the journal.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The noun's prefix: `ord`, `cart`, `sku`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.0.split_once('_').map_or("", |(prefix, _)| prefix)
    }

    /// The key, after the prefix.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.split_once('_').map_or(&*self.0, |(_, key)| key)
    }

    /// The id for logs: whoever knows a cart's id may use it, so only its end is shown.
    #[must_use]
    pub fn for_log(&self) -> String {
        match self.0.strip_prefix("cart_") {
            Some(key) => format!("cart_…{}", key.get(key.len().saturating_sub(6)..).unwrap_or("")),
            None => self.0.to_string(),
        }
    }

    /// The shard of this entity, if the store has `shards` shards. This function must never change:
    /// existing stores depend on it.
    #[must_use]
    pub fn shard(&self, shards: u16) -> u16 {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in self.key().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        u16::try_from(hash % u64::from(shards.max(1))).unwrap_or(0)
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The cause of a change: it is stored with every event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The principal: `buyer`, `key:…`, `session:…`, `saga`, `timer`, `provider:…`, `sweep`.
    pub by: String,
    /// The command's name.
    #[serde(rename = "cmd")]
    pub command: String,
    /// The request id, if it came over HTTP.
    #[serde(rename = "req", default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The caller's idempotency key and the digest of its request.
    #[serde(rename = "idem", default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Idempotency>,
}

/// A caller's idempotency key, with the digest of the request that it was sent with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The key, 1 to 255 visible characters.
    #[serde(rename = "k")]
    pub key: String,
    /// A digest of method, path and body.
    #[serde(rename = "d")]
    pub digest: u64,
}

/// An event as it is stored in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The shard of its entity.
    pub shard: u16,
    /// Its position in the shard, from 1 without gaps, in order of commit.
    pub pos: i64,
    /// The entity.
    pub entity: EntityId,
    /// Its sequence number in the entity, from 1 without gaps.
    pub seq: i64,
    /// The event's kind.
    pub kind: Arc<str>,
    /// The version of the kind.
    pub version: u16,
    /// When it was decided, by the store's clock.
    pub at: Timestamp,
    /// The [`Cause`] as JSON.
    pub cause: Arc<str>,
    /// The event as JSON.
    pub data: Arc<str>,
    /// Whether it matches its checksum; also true if it was stored without one. If false, its other
    /// fields are unreliable.
    pub intact: bool,
}

impl Record {
    /// The cause, parsed from JSON; the default if it cannot be parsed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        serde_json::from_str(&self.cause).unwrap_or_default()
    }
}

/// A noun: the type that implements this is its state; the default is the state of an entity that
/// does not exist.
pub trait Noun:
    Default + Clone + PartialEq + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The prefix of its ids, which is its name in the journal.
    const PREFIX: &'static str;
    /// Its public name: in metrics, for operators and in the stream of events.
    const NAME: &'static str = Self::PREFIX;
    /// The version of the state; a snapshot of another version is ignored.
    const STATE_VERSION: u32;

    /// A command. Commands, like answers, may come from other nodes.
    type Command: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// An event.
    type Event: Event;
    /// Why it rejects a command.
    type Rejection: std::error::Error + Clone + Serialize + DeserializeOwned + Send + 'static;
    /// An external effect.
    type Effect: Clone + fmt::Debug + PartialEq + Send + 'static;

    /// A command's name in snake case, for the journal and metrics.
    fn command_name(command: &Self::Command) -> &'static str;

    /// The events that a command gives. No events mean that nothing is left to do: the command was
    /// carried out before, or no longer applies.
    ///
    /// # Errors
    /// The noun's own rejection.
    fn decide(
        &self,
        command: &Self::Command,
        now: Timestamp,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// Folds an event. Never fails: an event has happened.
    fn evolve(&mut self, event: &Self::Event, at: Timestamp);

    /// The effects that the state requires. The host performs each once the state is durable, and
    /// again after a crash, until an event removes it.
    fn effects(&self) -> Vec<Self::Effect> {
        Vec::new()
    }

    /// The time by which [`Noun::on_timer`] must be called; it may also be called earlier.
    fn timer(&self) -> Option<Timestamp> {
        None
    }

    /// Whether an armed timer that is no longer needed is left to fire without effect. That is
    /// cheaper for a noun whose timer changes with every command.
    const LAZY_TIMER: bool = false;

    /// The events of a due timer.
    fn on_timer(&self, _now: Timestamp) -> Vec<Self::Event> {
        Vec::new()
    }

    /// Whether it is finished: no more commands are expected soon, so it may be passivated early.
    fn at_rest(&self) -> bool {
        false
    }

    /// Whether a caller that waits for the outcome can be answered.
    fn settled(&self) -> bool {
        true
    }

    /// The one number that other entities ask for without needing the state: the units of a SKU
    /// that are available to sell. Only this number is sent to another node then.
    fn summary_number(&self, _now: Timestamp) -> i64 {
        0
    }

    /// The part of the state that is sent to another node as the answer to a read or a command: by
    /// default all of it; of a large state, the part that answers need. The value of
    /// [`Noun::summary_number`] is sent with it.
    fn excerpt(_command: Option<&Self::Command>) -> Excerpt<Self> {
        Arc::new(|state, _now| state.clone())
    }

    /// The approximate number of elements in the state, as a measure of the cost of a snapshot.
    fn weight(&self) -> usize {
        1
    }
}

/// Copies a state, or a part of it.
pub type Excerpt<N> = Arc<dyn Fn(&N, Timestamp) -> N + Send + Sync>;

/// An event. Its kind and version are stored with it in the journal; the names of its variants are
/// its kinds.
pub trait Event:
    VariantNames + Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// The event's kind, in snake case.
    fn kind(&self) -> &'static str;

    /// The version of this kind, from 1.
    fn version(&self) -> u16 {
        1
    }

    /// Upcasts the data of an older version to the next one.
    fn upcast(_kind: &str, _version: u16, data: serde_json::Value) -> serde_json::Value {
        data
    }

    /// The newest version of a kind.
    fn newest(_kind: &str) -> u16 {
        1
    }
}
