//! One entity in memory: the only writer of its events.
//!
//! The entity applies decided events at once, queues them for the journal, and goes on without
//! waiting. Answers and effects are held back until the lane reports that the events are durable.
//! If they cannot be written, the entity discards its state and replays its history. The future of
//! this rare replay is boxed: an entity's task occupies as much memory as the largest future in it,
//! and there may be many entities in memory.

mod history;

use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;

use super::message::{EntityMessage, Envelope, HeldAnswer, Reply, Until, View};
use super::route::ShardMessage;
use super::{Append, Error, Host, NewEvent, ShardLease};
use crate::domain::entity::{Cause, EntityId, Event, Noun};
use crate::domain::time::{Span, Timestamp};
use crate::seeded_fault::{self, SeededFault};
use crate::store::journal::{AppendError, TimerChange};
use crate::store::personal::key_row;
use crate::store::row::RowChange;

pub use history::{decode, kept};

/// TTL of an idempotency key in an entity's memory.
const KEY_MEMORY: Span = Span::from_secs(24 * 3600);
/// The most idempotency keys that one entity remembers.
const KEYS_MAX: usize = 1_000;
/// The most callers that wait for a state of one entity.
const WAITERS_MAX: usize = 1_000;
/// The pause before a timer fires again that has fired with an effect, and is still due because
/// there is more to do.
const TIMER_PAUSE: Span = Span::from_secs(10);
/// The pause before a timer fires again that has fired without any effect, and is still due.
const VAIN_TIMER_PAUSE: Span = Span::from_secs(300);
/// The assumed time of an armed timer whose row's time is unknown: later than any time that a state
/// can require, so the next change of the state sets the row.
const UNKNOWN: Timestamp = Timestamp::from_millis(i64::MAX);

/// Arguments of a new entity.
pub(super) struct Start<N: Noun> {
    pub entity: EntityId,
    pub host: Host<N>,
    pub shard: ActorRef<ShardMessage<N>>,
    pub fresh: bool,
    pub lease: ShardLease,
}

/// The entity's actor behavior.
pub(super) struct Entity<N>(PhantomData<fn() -> N>);

impl<N> Entity<N> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

/// A caller that waits for a state.
struct Waiter<N: Noun> {
    until: Until,
    reply: Reply<N>,
    abandoned: Arc<AtomicBool>,
}

pub(super) struct LoadedEntity<N: Noun> {
    id: EntityId,
    host: Host<N>,
    shard: ActorRef<ShardMessage<N>>,
    fresh: bool,
    incarnation: u64,
    broken: Option<String>,
    state: N,
    seq: i64,
    durable: i64,
    armed: Option<Timestamp>,
    keys: HashMap<String, (u64, Timestamp)>,
    held: VecDeque<(i64, HeldAnswer<N::Rejection>)>,
    waiters: Vec<Waiter<N>>,
    started: Vec<N::Effect>,
    performing: Vec<Performing>,
    snapshot_seq: i64,
    lease: ShardLease,
    leaving: bool,
}

/// An effect in progress. It is aborted when the entity stops; the entity's next start performs it
/// again.
struct Performing(AbortHandle);

impl Drop for Performing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<N: Noun> Actor for Entity<N> {
    type Msg = EntityMessage<N>;
    type State = LoadedEntity<N>;
    type Arguments = Start<N>;

    async fn pre_start(
        &self,
        _myself: ActorRef<EntityMessage<N>>,
        start: Start<N>,
    ) -> Result<LoadedEntity<N>, ActorProcessingErr> {
        Ok(LoadedEntity {
            id: start.entity,
            host: start.host,
            shard: start.shard,
            fresh: start.fresh,
            incarnation: 0,
            broken: None,
            state: N::default(),
            seq: 0,
            durable: 0,
            armed: None,
            keys: HashMap::new(),
            held: VecDeque::new(),
            waiters: Vec::new(),
            started: Vec::new(),
            performing: Vec::new(),
            snapshot_seq: 0,
            lease: start.lease,
            leaving: false,
        })
    }

    async fn post_start(
        &self,
        _myself: ActorRef<EntityMessage<N>>,
        entity: &mut LoadedEntity<N>,
    ) -> Result<(), ActorProcessingErr> {
        let lane = entity.host.lane(&entity.id).clone();
        if lane.poisoned(&entity.id) {
            Box::pin(lane.flush()).await;
            lane.forgive(&entity.id);
        }
        if !entity.fresh {
            Box::pin(entity.replay()).await?;
            if entity.seq == 0 {
                entity.shard.cast(ShardMessage::Absent(entity.id.clone()))?;
            } else {
                entity.host.shared.woken.fetch_add(1, Ordering::Relaxed);
            }
            entity.rest();
        }
        entity.perform();
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<EntityMessage<N>>,
        message: EntityMessage<N>,
        entity: &mut LoadedEntity<N>,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(why) = &entity.broken
            && !matches!(
                message,
                EntityMessage::Sleep | EntityMessage::Leave | EntityMessage::RoundTrip
            )
        {
            message.refuse(Error::Quarantined(why.clone()));
            return Ok(());
        }
        match message {
            message @ (EntityMessage::Do(_) | EntityMessage::Wait { .. }) if entity.leaving => {
                message.refuse(Error::Moved);
            }
            EntityMessage::Do(envelope) => entity.receive(&myself, *envelope),
            EntityMessage::Wait { until, reply, abandoned } => {
                entity.waiters.retain(|waiter| !waiter.abandoned.load(Ordering::Relaxed));
                if entity.waiters.len() >= WAITERS_MAX {
                    reply(Err(Error::Busy))(Ok(()));
                    return Ok(());
                }
                entity.waiters.push(Waiter { until, reply, abandoned });
                entity.answer_waiters();
            }
            EntityMessage::Written { incarnation, seq } if incarnation == entity.incarnation => {
                entity.written(seq);
            }
            EntityMessage::Unwritten { incarnation, .. }
                if incarnation == entity.incarnation
                    && seeded_fault::active(SeededFault::StateKeptAfterRefusal) =>
            {
                entity.written(entity.seq);
            }
            EntityMessage::Unwritten { incarnation, error }
                if incarnation == entity.incarnation =>
            {
                Box::pin(entity.reset(&error)).await?;
                entity.perform();
            }
            EntityMessage::Performed { incarnation, effect }
                if incarnation == entity.incarnation =>
            {
                entity.performed(&myself, effect);
            }
            EntityMessage::Written { .. }
            | EntityMessage::Unwritten { .. }
            | EntityMessage::Performed { .. } => {}
            EntityMessage::Resume { incarnation, effect } => {
                if incarnation == entity.incarnation {
                    entity.started.retain(|started| *started != effect);
                    entity.perform();
                }
            }
            EntityMessage::Timer { due } => entity.timer(&myself, due),
            EntityMessage::RoundTrip => {
                if entity.broken.take().is_some() {
                    Box::pin(entity.replay()).await?;
                    entity.perform();
                }
            }
            EntityMessage::Sleep => {
                if entity.quiet() {
                    if seeded_fault::active(SeededFault::TimerLostAtPassivation) {
                        entity.lose_timer(&myself);
                    }
                    myself.drain()?;
                } else {
                    entity.shard.cast(ShardMessage::StillBusy(entity.id.clone()))?;
                }
            }
            EntityMessage::Leave => entity.leave(),
        }
        if entity.leaving && entity.quiet() {
            myself.drain()?;
        }
        Ok(())
    }
}

impl<N: Noun> LoadedEntity<N> {
    /// Whether no answer, effect or append is outstanding.
    fn quiet(&self) -> bool {
        self.seq == self.durable
            && self.held.is_empty()
            && self.waiters.is_empty()
            && self.started.is_empty()
    }

    fn view(&self, replayed: bool) -> View<'_, N> {
        View { state: &self.state, seq: self.seq, replayed, stale: false, summary_number: None }
    }

    /// The entity's shard is handed over: the new owner performs the entity's effects again, and
    /// its waiting callers ask the new owner.
    fn leave(&mut self) {
        self.leaving = true;
        self.performing.clear();
        self.started.clear();
        for waiter in self.waiters.drain(..) {
            (waiter.reply)(Err(Error::Moved))(Ok(()));
        }
    }

    fn receive(&mut self, myself: &ActorRef<EntityMessage<N>>, envelope: Envelope<N>) {
        let waited = envelope.sent.elapsed();
        if envelope.permit.is_some() {
            self.host.shared.waits.note(waited);
        }
        if waited > envelope.patience {
            return envelope.refuse(Error::TimedOut);
        }
        if envelope.abandoned.load(Ordering::Relaxed) {
            return;
        }
        if !self.lease.is_valid() {
            return envelope.refuse(Error::Moved);
        }
        let Envelope { command, if_seq, reply, permit, .. } = envelope;
        let stale = command.as_ref().is_some_and(|(_, cause)| self.stale(if_seq, cause));
        let outcome = match command {
            Some((command, cause)) if !stale => {
                self.command(myself, &command, cause, permit.is_none())
            }
            _ => Ok(false),
        };
        drop(permit);
        if seeded_fault::active(SeededFault::EffectBeforeDurable) {
            self.perform();
        }
        if let Some(reply) = reply {
            let held = match outcome {
                Ok(replayed) => reply(Ok(View { stale, ..self.view(replayed) })),
                Err(error) => reply(Err(error)),
            };
            self.hold(held);
        }
    }

    /// Whether a command expects another version of the entity. A repeated command, which was
    /// carried out before under the same idempotency key, is not stale: it gets its first outcome.
    fn stale(&self, if_seq: Option<i64>, cause: &Cause) -> bool {
        if_seq.is_some_and(|seq| seq != self.seq) && self.known(cause).is_none()
    }

    /// The digest of the request that the same caller sent with the same idempotency key within the
    /// last 24 hours; `None` if there was none.
    fn known(&self, cause: &Cause) -> Option<u64> {
        let (digest, at) = self.keys.get(&key_of(cause)?)?;
        (*at + KEY_MEMORY > self.host.shared.clock.now()).then_some(*digest)
    }

    /// Decides a command; `true` if it was carried out before under the same idempotency key.
    fn command(
        &mut self,
        myself: &ActorRef<EntityMessage<N>>,
        command: &N::Command,
        mut cause: Cause,
        internal: bool,
    ) -> Result<bool, Error<N::Rejection>> {
        let now = self.host.shared.clock.now();
        if let Some(known) = self.known(&cause) {
            let same = cause.idempotency.as_ref().is_some_and(|one| one.digest == known);
            return if same { Ok(true) } else { Err(Error::KeyReused) };
        }
        let undurable = usize::try_from(self.seq - self.durable).unwrap_or(usize::MAX);
        if undurable >= self.host.shared.options.undurable_max && !internal {
            return Err(Error::Busy);
        }
        let events = self.state.decide(command, now).map_err(Error::Rejected)?;
        if events.is_empty() {
            return Ok(false);
        }
        N::command_name(command).clone_into(&mut cause.command);
        let rows = N::new_key(command).map(key_row).into_iter().collect();
        self.apply(myself, &events, (&cause, now), rows).map_err(Error::Storage)?;
        Ok(false)
    }

    /// Applies events at once, and queues them for the journal.
    fn apply(
        &mut self,
        myself: &ActorRef<EntityMessage<N>>,
        events: &[N::Event],
        (cause, now): (&Cause, Timestamp),
        rows: Vec<RowChange>,
    ) -> Result<(), String> {
        let mut stored = Vec::with_capacity(events.len());
        for event in events {
            let data = serde_json::to_string(event).map_err(|error| error.to_string())?;
            let (kind, version) = (event.kind(), event.version());
            stored.push(NewEvent { kind, version, data: data.into() });
        }
        let after_seq = self.seq;
        if after_seq == 0 && !self.fresh {
            let _ = self.shard.cast(ShardMessage::Present(self.id.clone()));
        }
        for event in events {
            self.state.evolve(event, now);
            self.seq += 1;
        }
        self.remember(cause, now);
        let cause = serde_json::to_string(cause).map_err(|error| error.to_string())?;
        let timer = self.timer_change();
        self.append(
            myself,
            Append {
                entity: self.id.clone(),
                after_seq,
                events: stored,
                at: now,
                cause: cause.into(),
                timer,
                rows,
            },
        );
        Ok(())
    }

    fn append(&mut self, myself: &ActorRef<EntityMessage<N>>, append: Append) {
        let (me, incarnation, seq) = (myself.clone(), self.incarnation, self.seq);
        let done = move |outcome: Result<(), AppendError>| {
            let _ = me.cast(match outcome {
                Ok(()) => EntityMessage::Written { incarnation, seq },
                Err(error) => EntityMessage::Unwritten { incarnation, error },
            });
        };
        if self.host.lane(&self.id).enqueue(append, Box::new(done)).is_err() {
            // Events that were queued before may still be written, so the outcome is unknown.
            let error = AppendError::Unknown("the journal's queue is full".into());
            let _ = myself.cast(EntityMessage::Unwritten { incarnation: self.incarnation, error });
        }
    }

    /// The change of the timer row that the state requires. A timer that is armed for an earlier
    /// time than is wanted is not moved: it fires once without effect.
    fn timer_change(&mut self) -> Option<TimerChange> {
        match (self.state.timer(), self.armed) {
            (Some(at), armed) if armed.is_none_or(|armed| armed > at) => {
                self.armed = Some(at);
                if armed.is_none() && seeded_fault::active(SeededFault::TimerNeverSet) {
                    return None;
                }
                Some(TimerChange::Set(at))
            }
            (None, Some(_)) if !N::LAZY_TIMER => {
                self.armed = None;
                Some(TimerChange::Clear)
            }
            _ => None,
        }
    }

    /// Clears the timer's row, which is a bug: this implements
    /// [`SeededFault::TimerLostAtPassivation`].
    fn lose_timer(&mut self, myself: &ActorRef<EntityMessage<N>>) {
        let (entity, after_seq, at) = (self.id.clone(), self.seq, self.host.shared.clock.now());
        let timer = Some(TimerChange::Clear);
        let (events, cause) = (Vec::new(), "{}".into());
        self.append(
            myself,
            Append { entity, after_seq, events, at, cause, timer, rows: Vec::new() },
        );
    }

    /// The change of the timer row after it has fired: it never stays due, or it would fire again
    /// at once.
    fn timer_fired(&mut self, now: Timestamp, in_vain: bool) -> TimerChange {
        let pause = if in_vain { VAIN_TIMER_PAUSE } else { TIMER_PAUSE };
        self.armed = self.state.timer().map(|at| if at <= now { now + pause } else { at });
        self.armed.map_or(TimerChange::Clear, TimerChange::Set)
    }

    fn timer(&mut self, myself: &ActorRef<EntityMessage<N>>, due: bool) {
        let now = self.host.shared.clock.now();
        let events = self.state.on_timer(now);
        let cause = Cause { by: "timer".into(), command: "timer".into(), ..Cause::default() };
        if !events.is_empty()
            && let Err(error) = self.apply(myself, &events, (&cause, now), Vec::new())
        {
            tracing::error!(entity = self.id.as_str(), error, "cannot write the events of a timer");
        }
        if due {
            let timer = Some(self.timer_fired(now, events.is_empty()));
            self.append(
                myself,
                Append {
                    entity: self.id.clone(),
                    after_seq: self.seq,
                    events: Vec::new(),
                    at: now,
                    cause: "{}".into(),
                    timer,
                    rows: Vec::new(),
                },
            );
        }
        self.perform();
    }

    fn remember(&mut self, cause: &Cause, now: Timestamp) {
        if seeded_fault::active(SeededFault::KeysForgotten) {
            return;
        }
        if let (Some(idempotency), Some(key)) = (&cause.idempotency, key_of(cause)) {
            if self.keys.len() >= KEYS_MAX {
                self.keys.retain(|_, (_, at)| *at + KEY_MEMORY > now);
            }
            if self.keys.len() >= KEYS_MAX {
                let oldest = self.keys.iter().min_by_key(|(_, (_, at))| *at);
                if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                    self.keys.remove(&key);
                }
            }
            self.keys.insert(key, (idempotency.digest, now));
        }
    }

    /// Gives an answer as soon as all events of the state from which it was read are durable.
    fn hold(&mut self, held: HeldAnswer<N::Rejection>) {
        if self.durable >= self.seq || seeded_fault::active(SeededFault::ReplyBeforeDurable) {
            held(Ok(()));
        } else {
            self.held.push_back((self.seq, held));
        }
    }

    fn written(&mut self, seq: i64) {
        self.durable = self.durable.max(seq);
        while self.held.front().is_some_and(|(seq, _)| *seq <= self.durable) {
            if let Some((_, held)) = self.held.pop_front() {
                held(Ok(()));
            }
        }
        if self.durable == self.seq {
            self.answer_waiters();
            self.perform();
            self.keep_snapshot();
            self.rest();
        }
    }

    /// Tells the shard that this entity may be passivated early.
    fn rest(&self) {
        if self.state.is_finished() && self.quiet() {
            let _ = self.shard.cast(ShardMessage::AtRest(self.id.clone()));
        }
    }

    fn answer_waiters(&mut self) {
        if self.durable < self.seq || !self.lease.is_valid() {
            return;
        }
        let state = &self.state;
        let seq = self.seq;
        let met = |waiter: &mut Waiter<N>| waiter.until.met(state, seq);
        let ready: Vec<_> = self.waiters.extract_if(.., met).collect();
        for waiter in ready {
            (waiter.reply)(Ok(self.view(false)))(Ok(()));
        }
    }

    /// Starts the effects that the durable state requires and that are not in progress.
    fn perform(&mut self) {
        let early = seeded_fault::active(SeededFault::EffectBeforeDurable);
        if (self.durable < self.seq && !early) || self.broken.is_some() {
            return;
        }
        if self.leaving || !self.lease.is_valid() {
            return;
        }
        let Some(flow) = self.host.flow() else {
            return;
        };
        for effect in self.state.effects() {
            if self.started.contains(&effect) {
                continue;
            }
            self.started.push(effect.clone());
            let teller = self.host.teller(&self.id, "saga");
            let (flow, entity) = (flow.clone(), self.id.clone());
            let over = EffectEnd {
                host: self.host.clone(),
                entity: self.id.clone(),
                incarnation: self.incarnation,
                effect: Some(effect.clone()),
            };
            let performing = tokio::spawn(async move {
                flow.perform(&entity, effect, teller).await;
                drop(over);
            });
            self.performing.retain(|task| !task.0.is_finished());
            self.performing.push(Performing(performing.abort_handle()));
        }
    }

    /// An effect has ended. Its result has arrived before this message; if the state still requires
    /// the effect, it is performed again after a pause.
    fn performed(&mut self, myself: &ActorRef<EntityMessage<N>>, effect: N::Effect) {
        if !self.started.contains(&effect) {
            return;
        }
        if self.state.effects().contains(&effect) {
            let pause = Duration::from_millis(self.host.shared.options.effect_pause_ms);
            let incarnation = self.incarnation;
            drop(myself.send_after(pause, move || EntityMessage::Resume { incarnation, effect }));
        } else {
            self.started.retain(|started| *started != effect);
            self.perform();
            self.rest();
        }
    }

    /// Discards the state and replays the history: events that were not written never happened.
    async fn reset(&mut self, error: &AppendError) -> Result<(), ActorProcessingErr> {
        tracing::warn!(entity = self.id.as_str(), %error, "events were not written; replaying \
                                                            the entity's history");
        self.incarnation += 1;
        let answer = match error {
            AppendError::Failed(why) | AppendError::Refused(why) => Error::Storage(why.clone()),
            _ => Error::TryAgain,
        };
        for (_, held) in self.held.drain(..) {
            held(Err(answer.clone()));
        }
        for waiter in self.waiters.drain(..) {
            (waiter.reply)(Err(answer.clone()))(Ok(()));
        }
        self.started.clear();
        self.performing.clear();
        let lane = self.host.lane(&self.id).clone();
        lane.flush().await;
        lane.forgive(&self.id);
        self.replay().await
    }
}

/// The idempotency key in the scope of its caller: the same key of another caller is another key.
fn key_of(cause: &Cause) -> Option<String> {
    let idempotency = cause.idempotency.as_ref()?;
    Some(format!("{} {}", cause.by, idempotency.key))
}

/// Reports the end of an effect, whatever its outcome. It takes the same route as the effect's
/// results, so it arrives after them.
struct EffectEnd<N: Noun> {
    host: Host<N>,
    entity: EntityId,
    incarnation: u64,
    effect: Option<N::Effect>,
}

impl<N: Noun> Drop for EffectEnd<N> {
    fn drop(&mut self) {
        if let Some(effect) = self.effect.take() {
            let message = EntityMessage::Performed { incarnation: self.incarnation, effect };
            let _: Result<(), Error<N::Rejection>> = self.host.route(&self.entity, false, message);
        }
    }
}
