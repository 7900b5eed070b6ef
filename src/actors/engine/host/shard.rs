//! The supervisor of the entities of one noun in one shard that are in memory.
//!
//! It starts entities, forwards messages to them, passivates idle ones, and restarts failed ones
//! after a growing pause. An entity that fails more than `failures_max` times in a row is
//! quarantined; failures to read the journal are not counted. The supervisor never waits for an
//! entity.

use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::entity::{Entity, Start};
use super::message::EntityMessage;
use super::route::ShardMessage;
use super::shard_lease::ShardLease;
use super::{Buffer, Error, Host};
use crate::domain::entity::{EntityId, Noun};
use crate::store::journal::ReadError;

/// How often idle entities are looked for.
const TICK: Duration = Duration::from_secs(1);
/// Idle time of a finished entity before it is passivated: the buyer's page and a fast provider's
/// webhook ask for it within this time. It is short because a busy shop finishes thousands of
/// entities a second, which occupy memory until then.
const REST: Duration = Duration::from_millis(300);
/// Time without a failure after which an entity counts as healthy.
const HEALTHY: Duration = Duration::from_secs(60);
/// The pause after the first failure; each next one in a row is twice as long.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Arguments of a new shard.
#[derive(Clone)]
pub(super) struct ShardOpening<N: Noun> {
    pub host: Host<N>,
    pub lease: ShardLease,
}

/// The supervisor's actor behavior.
pub(super) struct Shard<N>(PhantomData<fn() -> N>);

impl<N> Shard<N> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

/// The stage of an entity's life.
enum Stage<N: Noun> {
    /// It takes messages.
    Live,
    /// It is being passivated; new messages are buffered for its next start.
    Draining(Buffer<N>),
    /// It has failed and is restarted soon; new messages are buffered.
    Resting(Buffer<N>),
    /// It has failed too often, or its history is invalid.
    Quarantined(String),
}

struct Slot<N: Noun> {
    actor: Option<ActorRef<EntityMessage<N>>>,
    stage: Stage<N>,
    used: Instant,
    /// Idle time before passivation.
    idle: Duration,
    pending: Arc<AtomicUsize>,
    /// Failures in a row, not counting failed reads of the journal.
    failures: u32,
    /// Failed reads of the journal in a row.
    unread: u32,
    failed: Option<Instant>,
}

pub(super) struct ShardState<N: Noun> {
    host: Host<N>,
    slots: HashMap<EntityId, Slot<N>>,
    names: HashMap<ActorId, EntityId>,
    /// Entities that finished, with when they did or when they were last seen in use.
    finished: VecDeque<(Instant, EntityId)>,
    lease: ShardLease,
    /// Receives the notice that the shard is empty, once it is being handed over.
    closing: Option<oneshot::Sender<()>>,
    closed: bool,
    counted: usize,
}

/// Entities that a stopped shard leaves behind no longer count as in memory.
impl<N: Noun> Drop for ShardState<N> {
    fn drop(&mut self) {
        self.host.shared.awake.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

impl<N: Noun> Actor for Shard<N> {
    type Msg = ShardMessage<N>;
    type State = ShardState<N>;
    type Arguments = ShardOpening<N>;

    async fn pre_start(
        &self,
        myself: ActorRef<ShardMessage<N>>,
        ShardOpening { host, lease }: ShardOpening<N>,
    ) -> Result<ShardState<N>, ActorProcessingErr> {
        drop(myself.send_interval(TICK, || ShardMessage::Tick));
        Ok(ShardState {
            host,
            slots: HashMap::new(),
            names: HashMap::new(),
            finished: VecDeque::new(),
            lease,
            closing: None,
            closed: false,
            counted: 0,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMessage<N>>,
        message: ShardMessage<N>,
        state: &mut ShardState<N>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMessage::To { entity, fresh, message } => {
                state.route(&myself, entity, fresh, message).await?;
            }
            ShardMessage::StillBusy(entity) => state.stay(&entity),
            ShardMessage::AtRest(entity) => state.rest(entity),
            ShardMessage::Absent(entity) => state.absent(&entity),
            ShardMessage::Present(entity) => {
                if let Some(slot) = state.slots.get_mut(&entity) {
                    slot.used = Instant::now();
                }
            }
            ShardMessage::Restart(entity) => state.revive(&myself, entity).await?,
            ShardMessage::Release(entity) => state.release(&myself, entity).await?,
            ShardMessage::Tick => state.tick(),
            ShardMessage::Close(done) => state.close(done),
        }
        state.end(&myself);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ShardMessage<N>>,
        event: SupervisionEvent,
        state: &mut ShardState<N>,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(who, _, _) => {
                if let Some(entity) = state.names.remove(&who.get_id()) {
                    state.gone(&myself, entity).await?;
                }
            }
            SupervisionEvent::ActorFailed(who, why) => {
                if let Some(entity) = state.names.remove(&who.get_id()) {
                    let unread = why.is::<ReadError>();
                    state.failed(&myself, entity, &why.to_string(), unread);
                }
            }
            _ => {}
        }
        state.end(&myself);
        Ok(())
    }
}

impl<N: Noun> ShardState<N> {
    /// Accepts nothing more, and passivates all entities.
    fn close(&mut self, done: oneshot::Sender<()>) {
        self.closing = Some(done);
        self.closed = true;
        let mut all: Vec<_> = self.slots.iter_mut().collect();
        all.sort_unstable_by_key(|(entity, _)| *entity);
        for (_, slot) in all {
            match std::mem::replace(&mut slot.stage, Stage::Draining(Buffer::new())) {
                Stage::Draining(buffer) | Stage::Resting(buffer) => {
                    for message in buffer {
                        message.refuse(Error::Moved);
                    }
                }
                Stage::Live | Stage::Quarantined(_) => {}
            }
            if let Some(actor) = &slot.actor {
                let _ = actor.cast(EntityMessage::Leave);
            }
        }
        self.slots.retain(|_, slot| slot.actor.is_some());
        self.count();
    }

    /// Stops the shard once it is closed and empty.
    fn end(&mut self, myself: &ActorRef<ShardMessage<N>>) {
        if self.slots.is_empty()
            && let Some(done) = self.closing.take()
        {
            // An error means that nobody waits any more.
            let _gone = done.send(());
            myself.stop(None);
        }
    }

    async fn route(
        &mut self,
        myself: &ActorRef<ShardMessage<N>>,
        entity: EntityId,
        fresh: bool,
        mut message: EntityMessage<N>,
    ) -> Result<(), ActorProcessingErr> {
        if self.closed {
            message.refuse(Error::Moved);
            return Ok(());
        }
        let max = self.host.shared.options.entity_commands_max;
        let Some(slot) = self.slots.get_mut(&entity) else {
            let mut slot = Slot {
                actor: None,
                stage: Stage::Live,
                used: Instant::now(),
                idle: Duration::from_secs(self.host.shared.options.idle_secs),
                pending: Arc::default(),
                failures: 0,
                unread: 0,
                failed: None,
            };
            slot.admit(&mut message, max);
            let actor = self.spawn(myself, &entity, fresh, Buffer::from([message])).await?;
            slot.actor = Some(actor);
            self.slots.insert(entity, slot);
            self.count();
            return Ok(());
        };
        slot.used = Instant::now();
        if !slot.admit(&mut message, max) {
            message.refuse(Error::Busy);
            return Ok(());
        }
        match &mut slot.stage {
            Stage::Live => {
                if let Some(actor) = &slot.actor
                    && let Err(ractor::MessagingErr::SendErr(message)) = actor.cast(message)
                {
                    // The entity is stopping; its supervision event has not arrived yet.
                    slot.stage = Stage::Draining(Buffer::from([message]));
                }
            }
            Stage::Draining(buffer) | Stage::Resting(buffer) => buffer.push_back(message),
            Stage::Quarantined(why) => message.refuse(Error::Quarantined(why.clone())),
        }
        Ok(())
    }

    async fn spawn(
        &mut self,
        myself: &ActorRef<ShardMessage<N>>,
        entity: &EntityId,
        fresh: bool,
        first: Buffer<N>,
    ) -> Result<ActorRef<EntityMessage<N>>, ActorProcessingErr> {
        let start = Start {
            entity: entity.clone(),
            host: self.host.clone(),
            shard: myself.clone(),
            fresh,
            lease: self.lease.clone(),
        };
        let (actor, _) = Actor::spawn_linked(None, Entity::new(), start, myself.get_cell()).await?;
        self.names.insert(actor.get_id(), entity.clone());
        for message in first {
            let _ = actor.cast(message);
        }
        Ok(actor)
    }

    /// An entity was passivated: it is started again at once if messages were buffered meanwhile.
    async fn gone(
        &mut self,
        myself: &ActorRef<ShardMessage<N>>,
        entity: EntityId,
    ) -> Result<(), ActorProcessingErr> {
        let Some(slot) = self.slots.get_mut(&entity) else {
            return Ok(());
        };
        slot.actor = None;
        match std::mem::replace(&mut slot.stage, Stage::Live) {
            Stage::Draining(buffer) if !buffer.is_empty() && !self.closed => {
                let actor = self.spawn(myself, &entity, false, buffer).await?;
                if let Some(slot) = self.slots.get_mut(&entity) {
                    slot.actor = Some(actor);
                }
            }
            _ => {
                self.slots.remove(&entity);
            }
        }
        self.count();
        Ok(())
    }

    /// An entity has failed: it is restarted after a pause, and quarantined after too many
    /// failures. If only the journal could not be read (`unread`), the failure does not count
    /// towards quarantine.
    fn failed(
        &mut self,
        myself: &ActorRef<ShardMessage<N>>,
        entity: EntityId,
        why: &str,
        unread: bool,
    ) {
        let shared = &self.host.shared;
        shared.failures.fetch_add(1, Ordering::Relaxed);
        let Some(slot) = self.slots.get_mut(&entity) else {
            return;
        };
        if slot.failed.is_some_and(|at| at.elapsed() > HEALTHY) {
            (slot.failures, slot.unread) = (0, 0);
        }
        if unread {
            slot.unread += 1;
        } else {
            (slot.failures, slot.unread) = (slot.failures + 1, 0);
        }
        slot.failed = Some(Instant::now());
        slot.actor = None;
        let buffer = match std::mem::replace(&mut slot.stage, Stage::Live) {
            Stage::Draining(buffer) | Stage::Resting(buffer) => buffer,
            Stage::Live | Stage::Quarantined(_) => Buffer::new(),
        };
        if self.closed {
            self.slots.remove(&entity);
            return;
        }
        if !unread && slot.failures > shared.options.failures_max {
            tracing::error!(
                entity = entity.as_str(),
                why,
                "entity in quarantine: it failed too \
                                                             often"
            );
            shared.quarantine.note(&entity, why, shared.clock.now());
            for message in buffer {
                message.refuse(Error::Quarantined(why.to_owned()));
            }
            slot.stage = Stage::Quarantined(why.to_owned());
            return;
        }
        tracing::warn!(
            entity = entity.as_str(),
            why,
            failures = slot.failures,
            "an entity failed and is restarted"
        );
        slot.stage = Stage::Resting(buffer);
        let times = (slot.failures + slot.unread).min(10);
        let pause = (PAUSE * (1 << times)).min(PAUSE_MAX);
        drop(myself.send_after(pause, move || ShardMessage::Restart(entity)));
    }

    async fn revive(
        &mut self,
        myself: &ActorRef<ShardMessage<N>>,
        entity: EntityId,
    ) -> Result<(), ActorProcessingErr> {
        let Some(slot) = self.slots.get_mut(&entity) else {
            return Ok(());
        };
        if let Stage::Resting(mut buffer) = std::mem::replace(&mut slot.stage, Stage::Live) {
            buffer.push_back(EntityMessage::Timer { due: false });
            let actor = self.spawn(myself, &entity, false, buffer).await?;
            if let Some(slot) = self.slots.get_mut(&entity) {
                slot.actor = Some(actor);
            }
        }
        Ok(())
    }

    /// Releases an entity from quarantine: one that failed too often is started anew, one whose
    /// history is invalid reads it again.
    async fn release(
        &mut self,
        myself: &ActorRef<ShardMessage<N>>,
        entity: EntityId,
    ) -> Result<(), ActorProcessingErr> {
        let again = EntityMessage::Timer { due: false };
        match self.slots.get_mut(&entity).map(|slot| (&slot.actor, &mut slot.stage)) {
            Some((Some(actor), Stage::Live)) => {
                let _ = actor.cast(EntityMessage::RoundTrip);
                return Ok(());
            }
            Some((_, Stage::Draining(buffer) | Stage::Resting(buffer))) => {
                buffer.push_back(again);
                return Ok(());
            }
            _ => {}
        }
        self.slots.remove(&entity);
        self.route(myself, entity, false, again).await
    }

    /// The entity has work after all and stays in memory: it gets its buffered messages.
    fn stay(&mut self, entity: &EntityId) {
        if let Some(slot) = self.slots.get_mut(entity)
            && matches!(slot.stage, Stage::Draining(_))
            && let Stage::Draining(buffer) = std::mem::replace(&mut slot.stage, Stage::Live)
        {
            slot.used = Instant::now();
            for message in buffer {
                if let Some(actor) = &slot.actor {
                    let _ = actor.cast(message);
                }
            }
        }
    }

    /// The entity is passivated at the next tick, unless it is used until then.
    fn absent(&mut self, entity: &EntityId) {
        if let Some(slot) = self.slots.get_mut(entity)
            && let Some(long_ago) = slot.used.checked_sub(slot.idle)
        {
            slot.used = long_ago;
        }
    }

    /// An entity is finished: it is passivated early. Those that finished before it are looked at
    /// now, so that a busy shard does not keep them until the next tick.
    fn rest(&mut self, entity: EntityId) {
        if let Some(slot) = self.slots.get_mut(&entity) {
            slot.idle = slot.idle.min(REST);
            self.finished.push_back((Instant::now(), entity));
        }
        while let Some((_, entity)) = self.finished.pop_front_if(|(at, _)| at.elapsed() >= REST) {
            match self.slots.get_mut(&entity) {
                Some(slot) if slot.is_idle() => slot.passivate(),
                Some(slot) if matches!(slot.stage, Stage::Live) => {
                    self.finished.push_back((Instant::now(), entity));
                }
                _ => {}
            }
        }
    }

    /// Asks idle entities to stop, in an order that does not depend on the hash map.
    fn tick(&mut self) {
        self.finished.retain(|(at, _)| at.elapsed() < REST);
        let mut idle: Vec<_> = self.slots.iter_mut().filter(|(_, slot)| slot.is_idle()).collect();
        idle.sort_unstable_by_key(|(entity, _)| *entity);
        for (_, slot) in idle {
            slot.passivate();
        }
    }

    fn count(&mut self) {
        let (before, now) =
            (std::mem::replace(&mut self.counted, self.slots.len()), self.slots.len());
        let awake = &self.host.shared.awake;
        awake.fetch_add(now, Ordering::Relaxed);
        awake.fetch_sub(before, Ordering::Relaxed);
    }
}

impl<N: Noun> Slot<N> {
    fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Live) && self.used.elapsed() >= self.idle
    }

    /// Asks the entity to stop; messages are buffered until it has stopped.
    fn passivate(&mut self) {
        if let Some(actor) = &self.actor
            && actor.cast(EntityMessage::Sleep).is_ok()
        {
            self.stage = Stage::Draining(Buffer::new());
        }
    }

    /// Counts a message that needs a permit; `false` if the entity has too many.
    fn admit(&self, message: &mut EntityMessage<N>, max: usize) -> bool {
        match message {
            EntityMessage::Do(envelope) => match &mut envelope.permit {
                Some(permit) => permit.count(&self.pending, max),
                None => true,
            },
            _ => true,
        }
    }
}
