//! The generic host that runs every event-sourced noun.
//!
//! A command takes a permit, goes to its shard's supervisor and then to the entity's mailbox. The
//! entity decides it, applies its events at once and queues them for the journal. Answers and
//! effects wait until the events are durable. The host does not know what the events mean.
//!
//! A node runs the entities of the shards that it owns (`running_shards`); a command for another
//! shard is sent to that shard's owner (`remote`). Placement of shards is in `placement`.

mod entity;
mod message;
mod quarantine;
mod remote;
mod route;
mod running_shards;
mod shard;
mod shard_lease;
mod waits;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use garde::Validate;
use ractor::ActorCell;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

pub use entity::{decode, kept};
pub use message::{Until, View};
pub use quarantine::{Quarantined, Released};
pub use remote::{RemoteEntities, RemoteFailure};
pub use shard_lease::ShardLease;

use super::clock::Clock;
use crate::domain::entity::{Cause, EntityId, Noun, Record};
use crate::domain::limits::within;
use crate::store::journal::lane::Lane;
use crate::store::journal::lanes::Lanes;
use crate::store::journal::{Append, Journal, NewEvent};
use message::{Abandon, EntityMessage, Envelope, Permit};
use quarantine::Quarantine;
use remote::{WAIT, Want};
use route::ShardMessage;
use running_shards::RunningShards;
use waits::Waits;

/// The limits of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The most commands and reads in progress at once, over all entities of a noun.
    #[garde(custom(within(1..=10_000_000)))]
    pub commands_max: usize,
    /// The most commands and reads in progress at once on one entity.
    #[garde(custom(within(1..=10_000_000)))]
    pub entity_commands_max: usize,
    /// The most events of one entity that are not durable yet.
    #[garde(custom(within(1..=1_000_000)))]
    pub undurable_max: usize,
    /// Idle time after which an entity is passivated, in seconds.
    #[garde(custom(within(1..=86_400)))]
    pub idle_secs: u64,
    /// The longest wait of a command in the mailbox, in milliseconds.
    #[garde(custom(within(1..=600_000)))]
    pub command_timeout_ms: u64,
    /// The number of events after which a snapshot is written.
    #[garde(custom(within(1..=1_000_000)))]
    pub snapshot_every: i64,
    /// The pause before an effect that ended without a result is performed again, in milliseconds.
    #[garde(custom(within(1..=3_600_000)))]
    pub effect_pause_ms: u64,
    /// Failures in a row after which an entity is quarantined.
    #[garde(custom(within(1..=1_000)))]
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

/// Why a command failed: the noun's rejection, or a failure of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error<R> {
    /// The noun rejects the command.
    #[error("{0}")]
    Rejected(R),
    /// Too many commands are in progress; nothing was done.
    #[error("too many requests are in progress")]
    Busy,
    /// The command waited too long in the mailbox; nothing was done.
    #[error("the command waited too long")]
    TimedOut,
    /// The outcome is unknown: sending the same command again is safe.
    #[error("the outcome is unknown: try again")]
    TryAgain,
    /// The store could not write; nothing was done.
    #[error("the store cannot write: {0}")]
    Storage(String),
    /// The entity is in quarantine, because its history cannot be read or it failed too often; an
    /// operator must release it.
    #[error("the entity is in quarantine: {0}")]
    Quarantined(String),
    /// The shard is being handed over to another node; nothing was done.
    #[error("the shard is being handed over")]
    Moved,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
}

/// The longest wait for a new owner of a shard before the next attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// The external effects of a noun.
#[async_trait]
pub trait Flow<N: Noun>: Send + Sync + 'static {
    /// Performs an effect and sends its results to the entity through `tell`. If the entity's state
    /// still requires the effect when this returns, it is performed again after a pause.
    async fn perform(&self, entity: &EntityId, effect: N::Effect, tell: Teller<N>);

    /// Receives an event of the noun that this node has made durable, before any waiting caller
    /// does. It runs on the lane and must not block.
    fn committed(&self, _record: &Record) {}

    /// Resumes pending work of a shard that this node has opened.
    async fn opened(&self, _host: &Host<N>, _shard: u16) {}
}

/// The cause of commands that a flow sends to other entities, on behalf of the entity whose effect
/// it performs.
#[must_use]
pub fn saga() -> Cause {
    Cause { by: "saga".into(), ..Cause::default() }
}

/// The flow of nouns without effects.
pub struct NoFlow;

#[async_trait]
impl<N: Noun<Effect = std::convert::Infallible>> Flow<N> for NoFlow {
    async fn perform(&self, _: &EntityId, effect: N::Effect, _: Teller<N>) {
        match effect {}
    }
}

/// Sends results to the entity for which an effect is performed.
pub struct Teller<N: Noun> {
    host: Host<N>,
    entity: EntityId,
    by: Arc<str>,
}

impl<N: Noun> Teller<N> {
    /// Sends a command to the entity, without a permit and without an answer.
    pub fn tell(&self, command: N::Command) {
        let cause = Cause { by: self.by.to_string(), ..Cause::default() };
        self.host.tell(&self.entity, command, cause);
    }

    /// Reads from the entity's current state, as [`Host::read`] does.
    ///
    /// # Errors
    /// As [`Host::read`].
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        self.host.read(&self.entity, read).await
    }
}

/// State shared by all entities of a noun.
struct Shared<N: Noun> {
    journal: Arc<dyn Journal>,
    lanes: Lanes,
    clock: Clock,
    options: Options,
    flow: RwLock<Option<Arc<dyn Flow<N>>>>,
    running: RunningShards<N>,
    remote: RwLock<Option<Arc<dyn RemoteEntities>>>,
    supervisor: ActorCell,
    permits: Arc<Semaphore>,
    awake: AtomicUsize,
    woken: AtomicUsize,
    failures: AtomicUsize,
    waits: Waits,
    quarantine: Quarantine,
}

/// A handle to all entities of one noun. Cheap to clone.
pub struct Host<N: Noun> {
    shared: Arc<Shared<N>>,
}

impl<N: Noun> Clone for Host<N> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

/// Load and health of a host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauge {
    /// Entities in memory.
    pub awake: usize,
    /// Entities that were read from the journal into memory, since the start.
    pub woken: usize,
    /// Commands and reads in progress.
    pub under_way: usize,
    /// Entities that failed and were restarted, since the start.
    pub failures: usize,
    /// Entities in quarantine.
    pub quarantined: usize,
}

impl<N: Noun> Host<N> {
    /// A host without shards: [`Host::open`] adds them. Its actors are supervised by `supervisor`.
    #[must_use]
    pub fn new(
        journal: Arc<dyn Journal>,
        lanes: Lanes,
        clock: Clock,
        options: Options,
        supervisor: ActorCell,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(options.commands_max));
        Self {
            shared: Arc::new(Shared {
                running: RunningShards::new(journal.shards()),
                journal,
                lanes,
                clock,
                options,
                flow: RwLock::new(None),
                remote: RwLock::new(None),
                supervisor,
                permits,
                awake: AtomicUsize::new(0),
                woken: AtomicUsize::new(0),
                failures: AtomicUsize::new(0),
                waits: Waits::default(),
                quarantine: Quarantine::default(),
            }),
        }
    }

    /// Sets how the entities of other nodes are reached. Until then they cannot be.
    pub fn set_remote(&self, remote: Arc<dyn RemoteEntities>) {
        *write(&self.shared.remote) = Some(remote);
    }

    /// Sets the flow that performs the effects of this noun. Until then effects wait.
    pub fn set_flow(&self, flow: Arc<dyn Flow<N>>) {
        *write(&self.shared.flow) = Some(flow);
    }

    /// Drops the flow: a flow may refer to hosts whose flows refer to this host, and such a cycle
    /// would never be freed.
    pub fn forget_flow(&self) {
        *write(&self.shared.flow) = None;
    }

    /// The flow that performs the effects.
    pub(super) fn flow(&self) -> Option<Arc<dyn Flow<N>>> {
        read_lock(&self.shared.flow).clone()
    }

    /// Sends a command and reads the answer from the resulting state, once it is durable.
    ///
    /// # Errors
    /// [`Error::Rejected`] with the noun's reason, or a failure of the host.
    pub async fn ask<T: Send + 'static>(
        &self,
        entity: &EntityId,
        command: N::Command,
        cause: Cause,
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        self.send(entity, Asked::command(command, cause), read).await
    }

    /// Sends a command and waits until its events are durable.
    ///
    /// # Errors
    /// As [`Host::ask`].
    pub async fn carry_out(
        &self,
        entity: &EntityId,
        command: N::Command,
        cause: Cause,
    ) -> Result<(), Error<N::Rejection>> {
        let asked = Asked { want: Want::Nothing, ..Asked::command(command, cause) };
        self.send(entity, asked, |_| ()).await
    }

    /// Like [`Host::ask`], if the entity has the version `if_seq`. If it has another version,
    /// nothing is done and the answer is `Err` with that version.
    ///
    /// # Errors
    /// As [`Host::ask`].
    pub async fn ask_at_version<T: Send + 'static>(
        &self,
        entity: &EntityId,
        if_seq: Option<i64>,
        command: N::Command,
        cause: Cause,
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<Result<T, i64>, Error<N::Rejection>> {
        let read = |view: View<'_, N>| if view.stale { Err(view.seq) } else { Ok(read(view)) };
        self.send(entity, Asked { if_seq, ..Asked::command(command, cause) }, read).await
    }

    /// Like [`Host::ask`], for a new entity: its history is not read. If it does exist, nothing is
    /// done and the answer is [`Error::TryAgain`].
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
        self.send(entity, Asked { fresh: true, ..Asked::command(command, cause) }, read).await
    }

    /// Reads from the current state, once it is durable.
    ///
    /// # Errors
    /// A failure of the host.
    pub async fn read<T: Send + 'static>(
        &self,
        entity: &EntityId,
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        self.send(entity, Asked::question(Want::State), read).await
    }

    /// Reads from the current state, once it is durable, what it says about another entity: an
    /// answer from another node has no more of it ([`Noun::excerpt`]).
    ///
    /// # Errors
    /// A failure of the host.
    pub async fn read_about<T: Send + 'static>(
        &self,
        entity: &EntityId,
        other: &EntityId,
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        self.send(entity, Asked::question(Want::About(other.as_str().to_owned())), read).await
    }

    /// The one number that other entities ask for ([`Noun::summary_number`]), once the state from
    /// which it is computed is durable.
    ///
    /// # Errors
    /// A failure of the host.
    pub async fn summary_number(&self, entity: &EntityId) -> Result<i64, Error<N::Rejection>> {
        let clock = self.shared.clock.clone();
        let read = move |view: View<'_, N>| view.summary_number(clock.now());
        self.send(entity, Asked::question(Want::SummaryNumber), read).await
    }

    /// Waits until the durable state meets a condition, at most `patience`; then reads from it,
    /// whether the condition is met or not.
    ///
    /// # Errors
    /// A failure of the host.
    pub async fn wait<T: Send + 'static>(
        &self,
        entity: &EntityId,
        patience: Duration,
        until: Until,
        read: impl Fn(View<'_, N>) -> T + Send + Sync + Clone + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        let remote = read_lock(&self.shared.remote).clone();
        let Some(remote) = remote else {
            return self.wait_here(entity, patience, until, read).await;
        };
        let deadline = Instant::now() + patience;
        let mut last = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = if self.has(entity) {
                self.wait_here(entity, left, until, read.clone()).await
            } else {
                let asked = Asked { wait: Some(until), ..Asked::question(Want::State) };
                let read = read.clone();
                let told = |view: View<'_, N>| (until.met(view.state, view.seq), read(view));
                match self.ask_remote(remote.as_ref(), entity, &asked, left.min(WAIT), told).await {
                    Ok((false, told)) if Instant::now() < deadline => {
                        last = Some(told);
                        continue;
                    }
                    answer => answer.map(|(_, told)| told),
                }
            };
            let again = match answer {
                Err(Error::Moved | Error::TryAgain) => true,
                // The wait goes on if another node has already answered an earlier part of it.
                Err(Error::Busy) => last.is_some(),
                _ => false,
            };
            match answer {
                _ if again && Instant::now() < deadline => {
                    remote.changed(self.pause(deadline)).await;
                }
                Err(error) if again => {
                    let moved = matches!(error, Error::Moved);
                    let error = if moved { Error::TryAgain } else { error };
                    return last.ok_or(error);
                }
                answer => return answer,
            }
        }
    }

    async fn wait_here<T: Send + 'static>(
        &self,
        entity: &EntityId,
        patience: Duration,
        until: Until,
        read: impl Fn(View<'_, N>) -> T + Send + Sync + Clone + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        let (sender, receiver) = oneshot::channel();
        let late = read.clone();
        let reply = message::reply(read, sender);
        let abandon = Abandon::default();
        let abandoned = abandon.flag();
        self.route(entity, false, EntityMessage::Wait { until, reply, abandoned })?;
        match tokio::time::timeout(patience, receiver).await {
            Ok(answer) => answer.unwrap_or(Err(Error::TryAgain)),
            Err(_) => self.send_here(entity, Asked::question(Want::State), late).await,
        }
    }

    /// Sends a command to the entity's node, and again if the shard moves meanwhile.
    async fn send<T: Send + 'static>(
        &self,
        entity: &EntityId,
        mut asked: Asked<N>,
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        let remote = read_lock(&self.shared.remote).clone();
        let Some(remote) = remote else {
            return self.send_here(entity, asked, read).await;
        };
        let deadline =
            Instant::now() + Duration::from_millis(self.shared.options.command_timeout_ms);
        // `read` is called at most once, because an attempt that ends with one of the errors
        // retried below has not called it.
        let read = Arc::new(Mutex::new(Some(read)));
        loop {
            let once = read.clone();
            let read = move |view: View<'_, N>| {
                let read = once.lock().unwrap_or_else(PoisonError::into_inner).take();
                read.map(|read| read(view))
            };
            let here = self.has(entity);
            let answer = if here {
                self.send_here(entity, asked.clone(), read).await
            } else {
                asked.name(&self.shared.clock);
                let left = deadline.saturating_duration_since(Instant::now());
                self.ask_remote(remote.as_ref(), entity, &asked, left, read).await
            };
            match answer {
                Ok(answer) => return answer.ok_or(Error::TryAgain),
                Err(Error::Moved) if Instant::now() < deadline => {
                    remote.changed(self.pause(deadline)).await;
                }
                // The attempt without an answer may have created the entity, so its history has to
                // be read from now on. The command has an idempotency key, or may be repeated
                // without harm.
                Err(Error::TryAgain) if !here && Instant::now() < deadline => {
                    asked.fresh = false;
                    remote.changed(self.pause(deadline)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn send_here<T: Send + 'static>(
        &self,
        entity: &EntityId,
        asked: Asked<N>,
        read: impl FnOnce(View<'_, N>) -> T + Send + 'static,
    ) -> Result<T, Error<N::Rejection>> {
        let permit = self.shared.permits.clone().try_acquire_owned().map_err(|_| Error::Busy)?;
        let (sender, receiver) = oneshot::channel();
        let patience = Duration::from_millis(self.shared.options.command_timeout_ms);
        let abandon = Abandon::default();
        let envelope = Envelope {
            command: asked.command,
            if_seq: asked.if_seq,
            sent: Instant::now(),
            patience,
            abandoned: abandon.flag(),
            reply: Some(message::reply(read, sender)),
            permit: Some(Permit::new(permit)),
        };
        self.route(entity, asked.fresh, EntityMessage::Do(Box::new(envelope)))?;
        // When `patience` is over, the command has either left the mailbox or will be refused
        // there; a longer wait would be for the disk.
        let Ok(Ok(answer)) = tokio::time::timeout(patience, receiver).await else {
            return Err(Error::TryAgain);
        };
        abandon.answered();
        answer
    }

    /// How long to wait for a new owner of a shard before the next attempt.
    fn pause(&self, deadline: Instant) -> Duration {
        deadline.saturating_duration_since(Instant::now()).min(PAUSE)
    }

    /// Sends a command that needs no permit and gets no answer: the result of an effect.
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
            self.route(entity, false, EntityMessage::Do(Box::new(envelope)));
        if sent.is_err() {
            tracing::debug!(
                entity = entity.as_str(),
                "the shard is closed; the entity will send its request again"
            );
        }
    }

    /// Wakes an entity so that it resumes its pending work; `due` says that its timer row is due.
    pub fn wake(&self, entity: &EntityId, due: bool) {
        let _: Result<(), Error<N::Rejection>> =
            self.route(entity, false, EntityMessage::Timer { due });
    }

    /// Load and health of this host.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        let shared = &self.shared;
        Gauge {
            awake: shared.awake.load(Ordering::Relaxed),
            woken: shared.woken.load(Ordering::Relaxed),
            under_way: shared.options.commands_max - shared.permits.available_permits(),
            failures: shared.failures.load(Ordering::Relaxed),
            quarantined: shared.quarantine.len(),
        }
    }

    /// The mean wait of commands and reads in the mailbox since the last call; zero if there were
    /// only a few.
    pub fn take_wait(&self) -> Duration {
        self.shared.waits.take_mean()
    }

    fn route<E>(
        &self,
        entity: &EntityId,
        fresh: bool,
        message: EntityMessage<N>,
    ) -> Result<(), Error<E>> {
        let shard = entity.shard(self.shared.journal.shards());
        let to = ShardMessage::To { entity: entity.clone(), fresh, message };
        if self.shared.running.cast(shard, to) { Ok(()) } else { Err(Error::Moved) }
    }

    /// Whether an entity belongs to this shard, whichever node runs it.
    #[must_use]
    pub fn lives_on(&self, entity: &EntityId, shard: u16) -> bool {
        entity.shard(self.shared.journal.shards()) == shard
    }

    /// Whether this node runs an entity.
    fn has(&self, entity: &EntityId) -> bool {
        self.shared.running.has(entity.shard(self.shared.journal.shards()))
    }

    fn lane(&self, entity: &EntityId) -> &Lane {
        self.shared.lanes.of_entity(entity)
    }

    fn teller(&self, entity: &EntityId, by: &str) -> Teller<N> {
        Teller { host: self.clone(), entity: entity.clone(), by: by.into() }
    }
}

/// A request to an entity: a command, or a read if there is none.
#[derive(Clone)]
struct Asked<N: Noun> {
    command: Option<(N::Command, Cause)>,
    /// The version that the entity must have.
    if_seq: Option<i64>,
    /// The entity is new.
    fresh: bool,
    want: Want,
    wait: Option<Until>,
}

impl<N: Noun> Asked<N> {
    const fn command(command: N::Command, cause: Cause) -> Self {
        let command = Some((command, cause));
        Self { command, if_seq: None, fresh: false, want: Want::State, wait: None }
    }

    const fn question(want: Want) -> Self {
        Self { command: None, if_seq: None, fresh: false, want, wait: None }
    }
}

/// Takes the lock even if another thread has panicked while holding it: the guarded value is always
/// consistent.
fn read_lock<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

type Buffer<N> = VecDeque<EntityMessage<N>>;
