//! A running projection: its recently folded states, the rows of the batch in progress, and the
//! changes to publish. The projector decides which events come next, and writes the rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;

use super::news::News;
use super::projection::{FoldedEvent, Keyed, Projection};
use crate::actors::engine::changes::ChangeSet;
use crate::actors::engine::fold::{Fold as _, Folded, load_within};
use crate::domain::entity::{EntityId, Record};
use crate::store::journal::{Journal, ReadError};
use crate::store::list_row::Batch;
use crate::store::personal::Keys;
use crate::store::{self, Tables};

/// The number of folded entities in memory above which finished ones are first evicted.
const RESTING_MAX: usize = 1_000;
/// The most folded entities in memory; above this number, all are evicted.
const FOLDED_MAX: usize = 20_000;

/// The outcome of folding an event.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::actors::engine) enum EventOutcome {
    /// The event is folded.
    Folded,
    /// The event, or an earlier one of its entity, cannot be read or is refused, for this reason.
    Unreadable(String),
    /// More earlier events of the entity would have to be read than are allowed.
    TooMuch,
}

/// A running projection of any type.
#[async_trait]
pub(in crate::actors::engine) trait RunningProjection:
    Send + Sync
{
    /// Whether the projection reads the events of an entity.
    fn listens_to(&self, entity: &EntityId) -> bool;

    /// Whether events before this one have to be read first.
    fn misses(&self, record: &Record) -> bool;

    /// Reads and folds the events of the entity before this one, at most `left`, and subtracts
    /// their number from `left`.
    async fn read_before(
        &mut self,
        journal: &dyn Journal,
        record: &Record,
        left: &mut i64,
    ) -> Result<EventOutcome, ReadError>;

    /// Folds an event whose predecessors are folded; with `tell`, collects its change.
    fn take(&mut self, record: &Record, tell: bool) -> Result<(), String>;

    /// Looks up the keys of the personal values of all entities that the batch has changed.
    async fn look_up_keys(&mut self, store: &dyn Tables) -> Result<(), store::Error>;

    /// Adds the rows of all entities that the batch has changed.
    fn gather(&mut self);

    /// The rows of the batch.
    fn batch(&self) -> &Batch;

    /// The changes of a shard in the batch; `None` if the projection has no live feed.
    fn news(&mut self, shard: u16) -> Option<Box<dyn ChangeSet>>;

    /// Begins a new batch after the previous one was written.
    fn done(&mut self);

    /// Begins a new batch, and discards the states that the previous one has changed, because it
    /// was not written.
    fn undo(&mut self);

    /// Evicts all entities for which `keep` returns `false`.
    fn retain(&mut self, keep: &dyn Fn(&EntityId) -> bool);

    /// The number of folded entities in memory.
    fn entities(&self) -> usize;
}

impl dyn RunningProjection {
    /// Folds an event, after reading those before it if they are not in memory.
    pub(in crate::actors::engine) async fn fold(
        &mut self,
        journal: &dyn Journal,
        record: &Record,
        tell: bool,
        left: &mut i64,
    ) -> Result<EventOutcome, ReadError> {
        if self.misses(record) {
            let before = self.read_before(journal, record, left).await?;
            if before != EventOutcome::Folded {
                return Ok(before);
            }
        }
        Ok(self.take(record, tell).map_or_else(EventOutcome::Unreadable, |()| EventOutcome::Folded))
    }
}

/// A running projection.
pub(super) struct Runner<P: Projection> {
    projection: Arc<P>,
    folded: HashMap<EntityId, Folded<P::State>>,
    /// The number of folded entities above which finished ones are evicted next.
    resting_max: usize,
    /// The entities that the batch in progress has changed, with the hash of the state before it.
    changed: BTreeMap<EntityId, Option<u64>>,
    batch: Batch,
    keys: Option<Keys>,
    news: Option<Box<dyn News<P::State>>>,
}

impl<P: Projection> Runner<P> {
    pub(super) fn new(projection: Arc<P>, news: Option<Box<dyn News<P::State>>>) -> Self {
        Self {
            projection,
            folded: HashMap::new(),
            resting_max: RESTING_MAX,
            changed: BTreeMap::new(),
            batch: Batch::default(),
            keys: None,
            news,
        }
    }

    /// Evicts finished entities, if there are many.
    fn forget_resting(&mut self) {
        if self.folded.len() > self.resting_max {
            self.folded.retain(|_, one| !P::is_finished(&one.state));
            // If most of them are unfinished, the next eviction does not follow at the very next
            // batch.
            self.resting_max = (2 * self.folded.len()).clamp(RESTING_MAX, FOLDED_MAX);
        }
        if self.folded.len() > FOLDED_MAX {
            self.folded.clear();
        }
    }

    fn begin_step(&mut self) {
        self.changed.clear();
        self.batch = Batch::default();
        self.keys = None;
        if let Some(news) = &mut self.news {
            news.clear();
        }
    }
}

#[async_trait]
impl<P: Projection> RunningProjection for Runner<P> {
    fn listens_to(&self, entity: &EntityId) -> bool {
        P::PREFIXES.contains(&entity.prefix())
    }

    fn misses(&self, record: &Record) -> bool {
        let known = || self.folded.get(&record.entity).map_or(0, |one| one.seq);
        let needs_history = !P::State::STATELESS && !P::State::WHOLE_EVENTS;
        needs_history && known() + 1 < record.seq
    }

    async fn read_before(
        &mut self,
        journal: &dyn Journal,
        record: &Record,
        left: &mut i64,
    ) -> Result<EventOutcome, ReadError> {
        let loaded = load_within(journal, &record.entity, record.seq - 1, left).await?;
        Ok(match loaded {
            Some(Ok(folded)) => {
                self.folded.insert(record.entity.clone(), folded);
                EventOutcome::Folded
            }
            Some(Err(why)) => EventOutcome::Unreadable(why),
            None => EventOutcome::TooMuch,
        })
    }

    fn take(&mut self, record: &Record, tell: bool) -> Result<(), String> {
        let mut fresh;
        let one = if P::State::STATELESS {
            fresh = Folded { seq: record.seq - 1, ..Folded::default() };
            &mut fresh
        } else {
            self.folded.entry(record.entity.clone()).or_default()
        };
        if P::State::WHOLE_EVENTS {
            one.seq = one.seq.max(record.seq - 1);
        }
        if record.seq <= one.seq {
            return Ok(());
        }
        let event = one.read(record)?;
        let after = if P::EACH_EVENT {
            let (mut after, lengths) = (one.clone(), self.batch.lengths());
            after.fold(record, &event);
            let (before, state) = (&one.state, &after.state);
            let shown = FoldedEvent { record, event: &event, before, after: state };
            if let Err(why) = self.projection.event(&shown, &mut self.batch) {
                // The rows that the event has added are removed from the batch.
                self.batch.truncate(&lengths);
                return Err(why);
            }
            Some(after)
        } else {
            None
        };
        if tell && let Some(news) = &mut self.news {
            news.note(&one.state, record);
        }
        if !self.changed.contains_key(&record.entity) {
            let before = (one.seq > 0).then(|| P::rare_hash(&one.state));
            self.changed.insert(record.entity.clone(), before);
        }
        match after {
            Some(after) => *one = after,
            None => one.fold(record, &event),
        }
        Ok(())
    }

    async fn look_up_keys(&mut self, store: &dyn Tables) -> Result<(), store::Error> {
        if !P::KEYED || self.changed.is_empty() {
            return Ok(());
        }
        let shown = self.news.as_ref().is_some_and(|news| !news.is_empty());
        let mut ids = BTreeSet::new();
        for entity in self.changed.keys() {
            if let Some(one) = self.folded.get(entity) {
                P::key_ids(&one.state, shown, &mut ids);
            }
        }
        self.keys = Some(store.personal_keys(&ids).await?);
        Ok(())
    }

    fn gather(&mut self) {
        for (entity, before) in &self.changed {
            if let Some(folded) = self.folded.get(entity) {
                let keyed = Keyed { folded, keys: self.keys.as_ref(), before: *before };
                self.projection.rows(entity, &keyed, &mut self.batch);
            }
        }
    }

    fn batch(&self) -> &Batch {
        &self.batch
    }

    fn news(&mut self, shard: u16) -> Option<Box<dyn ChangeSet>> {
        let keys = self.keys.as_ref();
        self.news.as_mut().map(|news| news.take(shard, &self.folded, keys))
    }

    fn done(&mut self) {
        self.begin_step();
        self.forget_resting();
    }

    fn undo(&mut self) {
        for entity in self.changed.keys() {
            self.folded.remove(entity);
        }
        self.begin_step();
    }

    fn retain(&mut self, keep: &dyn Fn(&EntityId) -> bool) {
        self.folded.retain(|entity, _| keep(entity));
    }

    fn entities(&self) -> usize {
        self.folded.len()
    }
}
