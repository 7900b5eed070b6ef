//! The one generic host that runs every event-sourced noun.
//!
//! A command takes a permit, goes to its shard's supervisor and on to the entity's own mailbox.
//! There it is decided, its events are applied at once and queued for the journal, and whatever
//! is owed to anybody (an answer, an effect) waits until they are durable. What the events mean
//! is not known here.

mod entity;
mod message;
mod quarantine;
mod shard;
mod waits;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use ractor::{Actor, ActorCell, ActorRef};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

pub use entity::{decode, load, load_within};
pub use message::View;
pub use quarantine::{Quarantined, Released};

use super::clock::Clock;
use crate::domain::entity::{Cause, EntityId, Noun};
use crate::store::journal::lane::Lane;
use crate::store::journal::{Append, Journal, NewEvent};
use message::{Abandon, Envelope, Message, Permit};
use quarantine::Quarantine;
use shard::{Route, Shard};
use waits::Waits;

/// The limits of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Commands and questions under way at once, over all entities of a noun.
    pub commands_max: usize,
    /// Commands and questions under way at once on one entity.
    pub entity_commands_max: usize,
    /// Events of one entity that are not durable yet.
    pub undurable_max: usize,
    /// How long an entity may idle before it leaves memory, in seconds.
    pub idle_secs: u64,
    /// How long a command may wait for its turn, in milliseconds.
    pub command_timeout_ms: u64,
    /// Events after which a snapshot is kept.
    pub snapshot_every: i64,
    /// How long to wait before an effect that led to nothing is tried again, in milliseconds.
    pub effect_pause_ms: u64,
    /// Failures in a row after which an entity is no longer restarted.
    pub failures_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            commands_max: 20_000,
            entity_commands_max: 10_000,
            undurable_max: 1_024,
            idle_secs: 60,
            command_timeout_ms: 10_000,
            snapshot_every: 500,
            effect_pause_ms: 1_000,
            failures_max: 3,
        }
    }
}

/// Why a command got no answer from its noun, or which one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error<R> {
    /// The noun refuses.
    #[error("{0}")]
    Rejected(R),
    /// Too much is under way; nothing was done.
    #[error("too many requests are under way")]
    Busy,
    /// It waited too long for its turn; nothing was done.
    #[error("the command waited too long")]
    TimedOut,
    /// It may or may not have been carried out: the same command again is safe.
    #[error("the outcome is not known: try again")]
    TryAgain,
    /// The store could not write; nothing was done.
    #[error("the store cannot write: {0}")]
    Storage(String),
    /// The entity's history cannot be read; an operator has to look.
    #[error("the entity is in quarantine: {0}")]
    Quarantined(String),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
}

/// Performs the effects of a noun: a flow's file next to this one implements it.
#[async_trait]
pub trait Flow<N: Noun>: Send + Sync + 'static {
    /// Performs an effect and tells the entity what came of it. It is done when this returns;
    /// if the entity still wants it then, it is performed once more after a pause.
    async fn perform(&self, entity: &EntityId, effect: N::Effect, tell: Teller<N>);
}

/// A flow for nouns that want nothing.
pub struct NoFlow;

#[async_trait]
impl<N: Noun<Effect = std::convert::Infallible>> Flow<N> for NoFlow {
    async fn perform(&self, _: &EntityId, effect: N::Effect, _: Teller<N>) {
        match effect {}
    }
}

/// Brings results back to the entity that an effect is performed for.
pub struct Teller<N: Noun> {
    host: Host<N>,
    entity: EntityId,
    by: Arc<str>,
}

impl<N: Noun> Teller<N> {
    /// Tells the entity. It needs no permit, and is not answered.
    pub fn tell(&self, command: N::Command) {
        let cause = Cause { by: self.by.to_string(), ..Cause::default() };
        self.host.tell(&self.entity, command, cause);
    }
}

/// What all entities of a noun share.
struct Shared<N: Noun> {
    journal: Arc<dyn Journal>,
    lanes: Vec<Lane>,
    clock: Clock,
    options: Options,
    flow: RwLock<Option<Arc<dyn Flow<N>>>>,
    shards: RwLock<Vec<ActorRef<Route<N>>>>,
    permits: Arc<Semaphore>,
    awake: AtomicUsize,
    failures: AtomicUsize,
    waits: Waits,
    quarantine: Quarantine,
}

/// The way to all entities of one noun. Cheap to clone.
pub struct Host<N: Noun> {
    shared: Arc<Shared<N>>,
}

impl<N: Noun> Clone for Host<N> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

/// How a host is doing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauge {
    /// Entities in memory.
    pub awake: usize,
    /// Commands and questions under way.
    pub under_way: usize,
    /// Entities that failed and were restarted, since the start.
    pub failures: usize,
    /// Entities in quarantine.
    pub quarantined: usize,
}

impl<N: Noun> Host<N> {
    /// Starts a supervisor for each shard, under `supervisor`.
    ///
    /// # Errors
    /// [`ractor::SpawnErr`] when an actor cannot be started.
    pub async fn start(
        journal: Arc<dyn Journal>,
        lanes: Vec<Lane>,
        clock: Clock,
        options: Options,
        supervisor: ActorCell,
    ) -> Result<Self, ractor::SpawnErr> {
        let permits = Arc::new(Semaphore::new(options.commands_max));
        let host = Self {
            shared: Arc::new(Shared {
                journal,
                lanes,
                clock,
                options,
                flow: RwLock::new(None),
                shards: RwLock::new(Vec::new()),
                permits,
                awake: AtomicUsize::new(0),
                failures: AtomicUsize::new(0),
                waits: Waits::default(),
                quarantine: Quarantine::default(),
            }),
        };
        for _ in 0..host.shared.lanes.len() {
            let (shard, _) =
                Actor::spawn_linked(None, Shard::new(), host.clone(), supervisor.clone()).await?;
            write(&host.shared.shards).push(shard);
        }
        Ok(host)
    }

    /// Says who performs the effects of this noun. Until then they wait.
    pub fn set_flow(&self, flow: Arc<dyn Flow<N>>) {
        *write(&self.shared.flow) = Some(flow);
    }

    /// Starts a shard's supervisor again after it failed; `false` if the cell is not one of them.
    pub(super) async fn restart(&self, failed: &ActorCell, supervisor: ActorCell) -> bool {
        let place =
            read(&self.shared.shards).iter().position(|one| one.get_id() == failed.get_id());
        let Some(place) = place else {
            return false;
        };
        if let Ok((shard, _)) =
            Actor::spawn_linked(None, Shard::new(), self.clone(), supervisor).await
        {
            write(&self.shared.shards)[place] = shard;
        }
        true
    }

    /// Sends a command and reads the answer off the state that it led to, once that is durable.
    ///
    /// # Errors
    /// [`Error::Rejected`] with the noun's reason, or why there is no answer.
    pub async fn ask<T: Send + 'static>(
        &self,
        entity: &EntityId,
        command: N::Command,
        cause: Cause,
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        self.send(entity, Some((command, cause)), (false, None), read).await
    }

    /// Like [`Host::ask`], on the condition that the entity has the version `if_seq`. If it has
    /// another one, nothing is done and the answer is `Err` with that version.
    ///
    /// # Errors
    /// As [`Host::ask`].
    pub async fn ask_if<T: Send + 'static>(
        &self,
        entity: &EntityId,
        if_seq: Option<i64>,
        command: N::Command,
        cause: Cause,
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<Result<T, i64>, Error<N::Rejection>> {
        let read = |view: View<'_, N>| if view.stale { Err(view.seq) } else { Ok(read(view)) };
        self.send(entity, Some((command, cause)), (false, if_seq), read).await
    }

    /// Like [`Host::ask`], for an entity that does not exist yet: its history is not read. If it
    /// does exist after all, nothing is done and the answer is [`Error::TryAgain`].
    ///
    /// # Errors
    /// As [`Host::ask`].
    pub async fn create<T: Send + 'static>(
        &self,
        entity: &EntityId,
        command: N::Command,
        cause: Cause,
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        self.send(entity, Some((command, cause)), (true, None), read).await
    }

    /// Reads off the present state, once it is durable.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn look<T: Send + 'static>(
        &self,
        entity: &EntityId,
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        self.send(entity, None, (false, None), read).await
    }

    /// Waits until the durable state is `ready`, at most `patience`; then reads off it, ready or
    /// not.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn wait<T: Send + 'static>(
        &self,
        entity: &EntityId,
        patience: Duration,
        ready: impl Fn(&N) -> bool + Send + 'static,
        read: impl Fn(View<'_, N>) -> T + Send + Sync + Clone + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        let (sender, receiver) = oneshot::channel();
        let late = read.clone();
        let reply = message::reply(read, sender);
        let abandon = Abandon::default();
        let abandoned = abandon.flag();
        self.route(entity, false, Message::Wait { ready: Box::new(ready), reply, abandoned })?;
        match tokio::time::timeout(patience, receiver).await {
            Ok(answer) => answer.unwrap_or(Err(Error::TryAgain)),
            Err(_) => self.look(entity, late).await,
        }
    }

    async fn send<T: Send + 'static>(
        &self,
        entity: &EntityId,
        command: Option<(N::Command, Cause)>,
        (fresh, if_seq): (bool, Option<i64>),
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        let permit = self.shared.permits.clone().try_acquire_owned().map_err(|_| Error::Busy)?;
        let (sender, receiver) = oneshot::channel();
        let patience = Duration::from_millis(self.shared.options.command_timeout_ms);
        let abandon = Abandon::default();
        let envelope = Envelope {
            command,
            if_seq,
            sent: Instant::now(),
            patience,
            abandoned: abandon.flag(),
            reply: Some(message::reply(read, sender)),
            permit: Some(Permit::new(permit)),
        };
        self.route(entity, fresh, Message::Do(Box::new(envelope)))?;
        // Its turn has come by then, or it is dropped; what takes longer is the disk.
        let Ok(Ok(answer)) = tokio::time::timeout(patience, receiver).await else {
            return Err(Error::TryAgain);
        };
        abandon.answered();
        answer
    }

    /// Sends a command that needs no permit and gets no answer: what an effect led to.
    pub fn tell(&self, entity: &EntityId, command: N::Command, cause: Cause) {
        let envelope = Envelope {
            command: Some((command, cause)),
            if_seq: None,
            sent: Instant::now(),
            patience: Duration::from_secs(3600),
            abandoned: Arc::default(),
            reply: None,
            permit: None,
        };
        let sent: Result<(), Error<N::Rejection>> =
            self.route(entity, false, Message::Do(Box::new(envelope)));
        if sent.is_err() {
            tracing::debug!(%entity, "the shard is gone; the entity will ask again");
        }
    }

    /// Wakes an entity, so that it goes on with what it has to do; with `due`, because the row
    /// of its timer is.
    pub fn wake(&self, entity: &EntityId, due: bool) {
        let _: Result<(), Error<N::Rejection>> = self.route(entity, false, Message::Timer { due });
    }

    /// How it is doing.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        let shared = &self.shared;
        Gauge {
            awake: shared.awake.load(Ordering::Relaxed),
            under_way: shared.options.commands_max - shared.permits.available_permits(),
            failures: shared.failures.load(Ordering::Relaxed),
            quarantined: shared.quarantine.len(),
        }
    }

    /// How long commands and questions waited for their turn on average, since this was last
    /// asked; zero if there were only a few.
    pub fn take_wait(&self) -> Duration {
        self.shared.waits.take()
    }

    fn route<E>(
        &self,
        entity: &EntityId,
        fresh: bool,
        message: Message<N>,
    ) -> Result<(), Error<E>> {
        let shards = read(&self.shared.shards);
        let shard = usize::from(entity.shard(self.shared.journal.shards()));
        let to = shards.get(shard).ok_or(Error::TryAgain)?;
        to.cast(Route::To { entity: entity.clone(), fresh, message }).map_err(|_| Error::TryAgain)
    }

    fn lane(&self, entity: &EntityId) -> Option<&Lane> {
        self.shared.lanes.get(usize::from(entity.shard(self.shared.journal.shards())))
    }

    fn teller(&self, entity: &EntityId, by: &str) -> Teller<N> {
        Teller { host: self.clone(), entity: entity.clone(), by: by.into() }
    }
}

/// A lock that a panic elsewhere cannot poison for good: what it guards is always whole.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

type Buffer<N> = VecDeque<Message<N>>;
