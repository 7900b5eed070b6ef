//! The definition of an event-sourced noun: a state, its commands, events and effects, and two pure
//! functions between them. The generic host that runs nouns is in `actors::engine`.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strum::VariantNames;

use super::sealed::NewKey;
use super::time::Timestamp;

/// The id of an entity in the journal: its noun's prefix, `_` and its entity key. A cart and an
/// order with the same entity key are in the same shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EntityId(Arc<str>);

impl EntityId {
    /// Creates an id from its text in the journal.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The noun's prefix: `ord`, `cart`, `sku`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.0.split_once('_').map_or("", |(prefix, _)| prefix)
    }

    /// The entity key: the text after the prefix.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.split_once('_').map_or(&*self.0, |(_, key)| key)
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
    /// The name of the principal's key or sign-in link; `None` if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// The command's name.
    #[serde(rename = "cmd")]
    pub command: String,
    /// The id of the HTTP request, if the command came over HTTP.
    #[serde(rename = "req", default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The caller's idempotency key and the digest of its request.
    #[serde(rename = "idem", default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Idempotency>,
}

/// Who issues a command, as far as it decides which commands they may issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// A buyer without a key.
    Buyer,
    /// Who has a key or a session.
    Staff,
    /// The shop itself: a saga, a timer, the sweep, or a payment provider's report.
    Shop,
}

impl Cause {
    /// Who has issued the command; `None` if the principal is none.
    #[must_use]
    pub fn issuer(&self) -> Option<Issuer> {
        let (kind, id) = self.by.split_once(':').map_or((&*self.by, None), |(a, b)| (a, Some(b)));
        match (kind, id.map(str::is_empty)) {
            ("buyer", None) => Some(Issuer::Buyer),
            ("key" | "session", Some(false)) => Some(Issuer::Staff),
            ("saga" | "timer" | "sweep", None) | ("provider", Some(false)) => Some(Issuer::Shop),
            _ => None,
        }
    }
}

/// A caller's idempotency key, with the digest of the request that it was sent with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The idempotency key, 1 to 255 visible characters.
    #[serde(rename = "k")]
    pub key: String,
    /// A digest of the request's method, path and body.
    #[serde(rename = "d")]
    pub digest: u64,
}

/// An event as it is stored in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The shard of its entity.
    pub shard: u16,
    /// The event's position in the shard, from 1 without gaps, in order of commit.
    pub pos: i64,
    /// The entity.
    pub entity: EntityId,
    /// The event's sequence number in the entity, from 1 without gaps.
    pub seq: i64,
    /// The event's kind.
    pub kind: Arc<str>,
    /// The version of the format of `data`.
    pub version: u16,
    /// When it was decided, by the store's clock.
    pub at: Timestamp,
    /// The [`Cause`] as JSON.
    pub cause: Arc<str>,
    /// The event as JSON.
    pub data: Arc<str>,
    /// Whether the event matches its checksum; also true if it was stored without a checksum. If
    /// false, the other fields are unreliable.
    pub intact: bool,
}

impl Record {
    /// The cause, parsed from JSON; the default if it cannot be parsed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        serde_json::from_str(&self.cause).unwrap_or_default()
    }
}

/// A noun: the type that implements this trait is the state of one entity; its default value is the
/// state of an entity that does not exist.
pub trait Noun:
    Default + Clone + PartialEq + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The prefix of the ids of its entities, which is also the noun's name in the journal.
    const PREFIX: &'static str;
    /// The noun's public name: in metrics, for operators and in the stream of events.
    const NAME: &'static str = Self::PREFIX;
    /// The version of the state's format; a snapshot in another version is ignored.
    const STATE_VERSION: u32;

    /// A command; serializable, because it may be sent from another node.
    type Command: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// An event.
    type Event: Event;
    /// The reason why the noun rejects a command.
    type Rejection: std::error::Error + Clone + Serialize + DeserializeOwned + Send + 'static;
    /// An effect: external work that an entity needs.
    type Effect: Clone + fmt::Debug + PartialEq + Send + 'static;

    /// Returns a command's name in snake case, for the journal and metrics.
    fn command_name(command: &Self::Command) -> &'static str;

    /// Whether somebody may issue a command. The API checks more, such as scopes and tokens; this is
    /// checked again by the owner of an entity when another node sends the command.
    fn may_issue(_issuer: Issuer, _command: &Self::Command) -> bool {
        true
    }

    /// Returns the events of a command. No events mean that nothing is left to do: the command was
    /// carried out before, or no longer applies.
    ///
    /// # Errors
    /// The noun's own rejection.
    fn decide(
        &self,
        command: &Self::Command,
        now: Timestamp,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// The key with which a command's personal values are sealed: it is stored in the transaction of
    /// the command's events.
    fn new_key(_command: &Self::Command) -> Option<&NewKey> {
        None
    }

    /// Applies an event to the state. It cannot fail, because the event has already happened.
    fn evolve(&mut self, event: &Self::Event, at: Timestamp);

    /// Returns the effects that the state requires. The host performs each effect once the state is
    /// durable, and again after a crash, until the state no longer requires it.
    fn effects(&self) -> Vec<Self::Effect> {
        Vec::new()
    }

    /// The time at which the host calls [`Noun::on_timer`]; it may also call it earlier.
    fn timer(&self) -> Option<Timestamp> {
        None
    }

    /// Whether a timer that is no longer needed stays armed and fires without effect. That is
    /// cheaper than disarming it if the noun's timer changes with every command.
    const LAZY_TIMER: bool = false;

    /// Returns the events of a due timer.
    fn on_timer(&self, _now: Timestamp) -> Vec<Self::Event> {
        Vec::new()
    }

    /// Whether the entity is finished: no more commands are expected soon, so it may be passivated
    /// early.
    fn is_finished(&self) -> bool {
        false
    }

    /// Whether the outcome is decided, so that a caller who waits for it can be answered.
    fn has_outcome(&self) -> bool {
        true
    }

    /// A number that some callers need instead of the whole state, such as the sellable units of a
    /// SKU. A node that asks for it gets only this number.
    fn summary_number(&self, _now: Timestamp) -> i64 {
        0
    }

    /// Returns the function that selects the part of the state which is sent to another node as the
    /// answer to a read or a command: by default the whole state; a noun with a large state sends
    /// only what callers need. The value of [`Noun::summary_number`] is sent with it.
    fn excerpt(_asker: Asker<'_, Self::Command>) -> Excerpt<Self> {
        Arc::new(|state, _now| state.clone())
    }

    /// The approximate number of elements in the state, as a measure of the cost of a snapshot.
    fn weight(&self) -> usize {
        1
    }
}

/// What an answer with the state of an entity is for.
#[derive(Clone, Debug)]
pub enum Asker<'a, C> {
    /// A caller who may need any of it.
    Anyone,
    /// A command that was carried out.
    Command(&'a C),
    /// A caller who needs only what it says about another entity.
    About(EntityId),
}

/// A function that copies a state, or a part of it.
pub type Excerpt<N> = Arc<dyn Fn(&N, Timestamp) -> N + Send + Sync>;

/// The event type of a noun: an enum whose variants are the kinds of events. The kind and the
/// version of each event are stored with it in the journal.
pub trait Event:
    VariantNames + Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// The event's kind, in snake case.
    fn kind(&self) -> &'static str;

    /// The version of the format in which this event is written, from 1.
    fn version(&self) -> u16 {
        1
    }

    /// Converts an event's JSON from an older version of its kind to the next version.
    fn upcast(_kind: &str, _version: u16, data: serde_json::Value) -> serde_json::Value {
        data
    }

    /// Returns the newest version of a kind.
    fn newest(_kind: &str) -> u16 {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_one_of_its_kinds_or_none() {
        let issuer = |by: &str| Cause { by: by.to_owned(), ..Cause::default() }.issuer();
        for (by, expected) in [
            ("buyer", Some(Issuer::Buyer)),
            ("key:1", Some(Issuer::Staff)),
            ("session:a:b", Some(Issuer::Staff)),
            ("saga", Some(Issuer::Shop)),
            ("timer", Some(Issuer::Shop)),
            ("sweep", Some(Issuer::Shop)),
            ("provider:sandbox", Some(Issuer::Shop)),
        ] {
            assert_eq!(issuer(by), expected, "{by}");
        }
        for by in
            ["", ":", "buyer:1", "key", "key:", "session", "saga:", "provider", "root", "Saga"]
        {
            assert_eq!(issuer(by), None, "{by:?}");
        }
    }
}
