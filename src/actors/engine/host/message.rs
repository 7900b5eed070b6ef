//! The messages between a caller, a shard and an entity.

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

/// A state of an entity, as it is shown to a caller that reads an answer from it.
#[derive(Debug)]
pub struct View<'a, N> {
    /// The state.
    pub state: &'a N,
    /// The seq of its last event, which is its version; 0 if it has no events.
    pub seq: i64,
    /// Whether the command was carried out before, under the same idempotency key.
    pub replayed: bool,
    /// Whether the command was not carried out because the entity has another version than the
    /// command expects.
    pub stale: bool,
    /// The value of [`Noun::summary_number`] as another node answered it; the state here is then
    /// empty or incomplete.
    pub(super) summary_number: Option<i64>,
}

impl<N: Noun> View<'_, N> {
    /// The one number that other entities ask for ([`Noun::summary_number`]).
    #[must_use]
    pub fn summary_number(&self, now: Timestamp) -> i64 {
        self.summary_number.unwrap_or_else(|| self.state.summary_number(now))
    }
}

/// The condition that a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// The command has its final outcome ([`Noun::has_outcome`]).
    Settled,
    /// Any version other than this one.
    Past(i64),
}

impl Until {
    /// Whether a state with this version meets the condition.
    pub(super) fn met<N: Noun>(self, state: &N, seq: i64) -> bool {
        match self {
            Self::Settled => state.has_outcome(),
            Self::Past(seen) => seq != seen,
        }
    }
}

/// An answer that is held back until its events are durable.
pub(super) type HeldAnswer<R> = Box<dyn FnOnce(Result<(), Error<R>>) + Send>;

/// Makes an answer from a state or an error; the answer is given when the events are durable.
pub(super) type Reply<N> = Box<
    dyn for<'a> FnOnce(
            Result<View<'a, N>, Error<<N as Noun>::Rejection>>,
        ) -> HeldAnswer<<N as Noun>::Rejection>
        + Send,
>;

/// A reply that reads the answer from the state and sends it.
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

/// Marks the caller as gone if this value is dropped before the answer has arrived.
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

/// The permit of one command in progress.
pub(super) struct Permit {
    _of_noun: OwnedSemaphorePermit,
    of_entity: Option<Arc<AtomicUsize>>,
}

impl Permit {
    pub(super) const fn new(of_noun: OwnedSemaphorePermit) -> Self {
        Self { _of_noun: of_noun, of_entity: None }
    }

    /// Also counts the command among those of its entity; `false` if the entity already has `max`.
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

/// A command, or a read if there is none, with its context.
pub(super) struct Envelope<N: Noun> {
    pub command: Option<(N::Command, Cause)>,
    /// The version that the entity must have for the command to be carried out.
    pub if_seq: Option<i64>,
    pub sent: Instant,
    /// The longest wait in the mailbox.
    pub patience: Duration,
    pub abandoned: Arc<AtomicBool>,
    pub reply: Option<Reply<N>>,
    pub permit: Option<Permit>,
}

impl<N: Noun> Envelope<N> {
    /// Answers with an error.
    pub(super) fn refuse(self, error: Error<N::Rejection>) {
        if let Some(reply) = self.reply {
            reply(Err(error))(Ok(()));
        }
    }
}

/// A message in an entity's mailbox.
pub(super) enum EntityMessage<N: Noun> {
    /// A command or a read.
    Do(Box<Envelope<N>>),
    /// A caller waits for a state.
    Wait { until: Until, reply: Reply<N>, abandoned: Arc<AtomicBool> },
    /// The entity's events up to `seq` are durable.
    Written { incarnation: u64, seq: i64 },
    /// Some of the entity's events were not written, and will not be.
    Unwritten { incarnation: u64, error: AppendError },
    /// An effect has ended, or the task that performed it has died.
    Performed { incarnation: u64, effect: N::Effect },
    /// The pause after an effect without a result is over.
    Resume { incarnation: u64, effect: N::Effect },
    /// The entity's timer is due, or the entity is to check whether it has work.
    Timer { due: bool },
    /// An operator releases the entity from quarantine.
    RoundTrip,
    /// The shard wants to passivate the entity.
    Sleep,
    /// The shard is handed over: the entity stops as soon as its outstanding answers are given.
    Leave,
}

impl<N: Noun> EntityMessage<N> {
    /// Answers the caller with an error, if there is one.
    pub(super) fn refuse(self, error: Error<N::Rejection>) {
        match self {
            Self::Do(envelope) => envelope.refuse(error),
            Self::Wait { reply, .. } => reply(Err(error))(Ok(())),
            _ => {}
        }
    }
}
