//! What every event-sourced noun is: a state, its commands, events and effects, and two pure
//! functions between them. The one generic host that runs them lives two floors up.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strum::VariantNames;

use super::time::Timestamp;

/// The journal's name for one entity: its noun's prefix, `_`, its key. Cart and order with one
/// key live on one shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EntityId(Arc<str>);

impl EntityId {
    /// An id from its text, as it stands in the journal.
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

    /// What follows the prefix.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.split_once('_').map_or(&*self.0, |(_, key)| key)
    }

    /// The id as a log may have it: knowing a cart's id is the right to use it, so only its end
    /// is shown.
    #[must_use]
    pub fn for_log(&self) -> String {
        match self.0.strip_prefix("cart_") {
            Some(key) => format!("cart_…{}", key.get(key.len().saturating_sub(6)..).unwrap_or("")),
            None => self.0.to_string(),
        }
    }

    /// The shard that this entity lives on, of `shards`. A store never changes this function.
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

/// Who asked for a change, and why: it stands beside every event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The principal: `buyer`, an API key's id, `saga`, `timer`, `provider`.
    pub by: String,
    /// The command's name.
    #[serde(rename = "cmd")]
    pub command: String,
    /// The request's id, when it came over HTTP.
    #[serde(rename = "req", default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The idempotency key that the caller sent, and what it stood on.
    #[serde(rename = "idem", default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Idempotency>,
}

/// A caller's idempotency key, with a digest of the request that it came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The key, 1 to 255 visible characters.
    #[serde(rename = "k")]
    pub key: String,
    /// A digest of method, path and body.
    #[serde(rename = "d")]
    pub digest: u64,
}

/// A fact, as it stands in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The shard of its entity.
    pub shard: u16,
    /// Its place in the shard, dense from 1, in order of commit.
    pub pos: i64,
    /// Whose event it is.
    pub entity: EntityId,
    /// Its place in the entity's life, dense from 1.
    pub seq: i64,
    /// The event's kind.
    pub kind: Arc<str>,
    /// The version of the kind's shape.
    pub version: u16,
    /// When it was decided, by the store's clock.
    pub at: Timestamp,
    /// Who and why: a [`Cause`] as JSON.
    pub cause: Arc<str>,
    /// The event as JSON.
    pub data: Arc<str>,
    /// Whether it is as it was written, as far as the store can tell; if not, nothing else in it
    /// can be believed.
    pub intact: bool,
}

impl Record {
    /// The cause, read from its JSON; a default one if it cannot be read.
    #[must_use]
    pub fn cause(&self) -> Cause {
        serde_json::from_str(&self.cause).unwrap_or_default()
    }
}

/// A noun: the type that implements this is its state, and the default is "not there yet".
pub trait Noun:
    Default + Clone + PartialEq + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The prefix of its ids, which is also its name in the journal.
    const PREFIX: &'static str;
    /// Its name outside: in metrics, to operators and in the stream of events.
    const NAME: &'static str = Self::PREFIX;
    /// The version of the state's shape; a snapshot of another version is ignored.
    const STATE_VERSION: u32;

    /// What can be asked of it. It may come from another node, as may the answer.
    type Command: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What has happened to it.
    type Event: Event;
    /// Why it refuses.
    type Rejection: std::error::Error + Clone + Serialize + DeserializeOwned + Send + 'static;
    /// What it wants done outside of itself.
    type Effect: Clone + fmt::Debug + PartialEq + Send + 'static;

    /// A command's name, in snake case, for the journal and the metrics.
    fn command_name(command: &Self::Command) -> &'static str;

    /// The events that a command leads to, or why it leads to none. No event means that there
    /// is nothing left to do: the command was carried out before.
    ///
    /// # Errors
    /// The noun's own rejection.
    fn decide(
        &self,
        command: &Self::Command,
        now: Timestamp,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// Folds an event in. Never fails: an event is a fact.
    fn evolve(&mut self, event: &Self::Event, at: Timestamp);

    /// What is still wanted outside, given all that has happened. The host performs each once
    /// its state is durable, and again after a crash, until an event says that it is done.
    fn effects(&self) -> Vec<Self::Effect> {
        Vec::new()
    }

    /// When to wake it with [`Noun::on_timer`] at the latest.
    fn timer(&self) -> Option<Timestamp> {
        None
    }

    /// Whether an armed timer that is no longer wanted is left to fire in vain, which is
    /// cheaper for a noun whose timers come and go with every command.
    const LAZY_TIMER: bool = false;

    /// What a timer that is due leads to.
    fn on_timer(&self, _now: Timestamp) -> Vec<Self::Event> {
        Vec::new()
    }

    /// Whether nothing more is expected to happen to it soon, so that it need not stay in memory.
    fn at_rest(&self) -> bool {
        false
    }

    /// Whether whoever waits for an outcome has it.
    fn settled(&self) -> bool {
        true
    }

    /// The one number that others ask it for without wanting to know the rest: what of a SKU can
    /// be sold. It is all that crosses to another node then.
    fn summary_number(&self, _now: Timestamp) -> i64 {
        0
    }

    /// What another node is told of the state that it asks for, or that its command led to: all, or
    /// for a noun that has much, as much as answers are read off. Its figure is told beside it.
    fn excerpt(_command: Option<&Self::Command>) -> Excerpt<Self> {
        Arc::new(|state, _now| state.clone())
    }

    /// About how many rows its state holds: what a snapshot of it costs.
    fn weight(&self) -> usize {
        1
    }
}

/// A copy of a state, or of a part of it.
pub type Excerpt<N> = Arc<dyn Fn(&N, Timestamp) -> N + Send + Sync>;

/// An event: its kind and version stand beside it in the journal, and its variants' names are all
/// the kinds that there are.
pub trait Event:
    VariantNames + Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// The name of this kind of event, in snake case.
    fn kind(&self) -> &'static str;

    /// The version of this kind's shape, from 1.
    fn version(&self) -> u16 {
        1
    }

    /// Lifts the data of an older version to the next one.
    fn upcast(_kind: &str, _version: u16, data: serde_json::Value) -> serde_json::Value {
        data
    }

    /// The newest version of a kind.
    fn newest(_kind: &str) -> u16 {
        1
    }
}
