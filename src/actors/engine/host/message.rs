//! What travels between a caller, a shard and an entity.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::Error;
use crate::domain::entity::{Cause, Noun};
use crate::domain::time::Timestamp;
use crate::store::journal::AppendError;

/// A state as an answer is read off it.
#[derive(Debug)]
pub struct View<'a, N> {
    /// The state.
    pub state: &'a N,
    /// The seq of its last event: its version. 0 if nothing has ever happened to it.
    pub seq: i64,
    /// Whether the command was carried out before, under the same idempotency key.
    pub replayed: bool,
    /// Whether the command was left, because the entity has another version than it asks for.
    pub stale: bool,
    /// The noun's summary number as another node told it, whose state here is empty or an excerpt.
    pub(super) summary_number: Option<i64>,
}

impl<N: Noun> View<'_, N> {
    /// The noun's summary number ([`Noun::summary_number`]).
    #[must_use]
    pub fn summary_number(&self, now: Timestamp) -> i64 {
        self.summary_number.unwrap_or_else(|| self.state.summary_number(now))
    }
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// The outcome ([`Noun::settled`]).
    Settled,
    /// Another version than this one.
    Past(i64),
}

impl Until {
    /// Whether a state with this version is it.
    pub(super) fn met<N: Noun>(self, state: &N, seq: i64) -> bool {
        match self {
            Self::Settled => state.settled(),
            Self::Past(seen) => seq != seen,
        }
    }
}

/// An answer that is ready and waits for its events to be durable.
pub(super) type HeldAnswer<R> = Box<dyn FnOnce(Result<(), Error<R>>) + Send>;

/// Makes the answer of a state, or of an error, to be given when it is durable.
pub(super) type Reply<N> = Box<
    dyn for<'a> FnOnce(
            Result<View<'a, N>, Error<<N as Noun>::Rejection>>,
        ) -> HeldAnswer<<N as Noun>::Rejection>
        + Send,
>;

/// A reply that reads off the state and sends what it read.
pub(super) fn reply<N: Noun, T: Send + 'static>(
    read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    sender: oneshot::Sender<Result<T, Error<N::Rejection>>>,
) -> Reply<N> {
    Box::new(move |outcome| {
        let answer = outcome.map(read);
        Box::new(move |durable| {
            let _ = sender.send(durable.and(answer));
        })
    })
}

/// Notes that nobody waits any longer, when it is dropped before the answer came.
#[derive(Default)]
pub struct Abandon(Arc<AtomicBool>, bool);

impl Abandon {
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }

    pub(super) fn answered(mut self) {
        self.1 = true;
    }
}

impl Drop for Abandon {
    fn drop(&mut self) {
        if !self.1 {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// The right to have one command under way.
pub(super) struct Permit {
    _of_noun: OwnedSemaphorePermit,
    of_entity: Option<Arc<AtomicUsize>>,
}

impl Permit {
    pub(super) const fn new(of_noun: OwnedSemaphorePermit) -> Self {
        Self { _of_noun: of_noun, of_entity: None }
    }

    /// Counts it on its entity, too; `false` if there are `max` already.
    pub(super) fn count(&mut self, pending: &Arc<AtomicUsize>, max: usize) -> bool {
        if pending.fetch_add(1, Ordering::Relaxed) >= max {
            pending.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.of_entity = Some(pending.clone());
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(pending) = &self.of_entity {
            pending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A command, or without one a question, with all that belongs to it.
pub(super) struct Envelope<N: Noun> {
    pub command: Option<(N::Command, Cause)>,
    /// The version that the entity must have for the command to be carried out.
    pub if_seq: Option<i64>,
    pub sent: Instant,
    /// How long it may wait for its turn.
    pub patience: Duration,
    pub abandoned: Arc<AtomicBool>,
    pub reply: Option<Reply<N>>,
    pub permit: Option<Permit>,
}

impl<N: Noun> Envelope<N> {
    /// Answers that it could not be done.
    pub(super) fn refuse(self, error: Error<N::Rejection>) {
        if let Some(reply) = self.reply {
            reply(Err(error))(Ok(()));
        }
    }
}

/// What an entity finds in its mailbox.
pub(super) enum EntityMessage<N: Noun> {
    /// A command or a question.
    Do(Box<Envelope<N>>),
    /// Somebody waits for a state.
    Wait { until: Until, reply: Reply<N>, abandoned: Arc<AtomicBool> },
    /// Its events up to `seq` are durable.
    Written { incarnation: u64, seq: i64 },
    /// Some of its events are not, and will not be.
    Unwritten { incarnation: u64, error: AppendError },
    /// An effect was performed, or its performer died.
    Performed { incarnation: u64, effect: N::Effect },
    /// The pause after an effect that led to nothing is over.
    Resume { incarnation: u64, effect: N::Effect },
    /// Its timer is due, or it is to look whether there is something to do.
    Timer { due: bool },
    /// An operator lets it out of quarantine.
    Reread,
    /// Its shard would like it to leave memory.
    Sleep,
    /// Its shard goes to another node: it leaves as soon as all that it owes is given.
    Leave,
}

impl<N: Noun> EntityMessage<N> {
    /// Answers whoever is behind it that it could not be done.
    pub(super) fn refuse(self, error: Error<N::Rejection>) {
        match self {
            Self::Do(envelope) => envelope.refuse(error),
            Self::Wait { reply, .. } => reply(Err(error))(Ok(())),
            _ => {}
        }
    }
}
