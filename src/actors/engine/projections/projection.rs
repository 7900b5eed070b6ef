//! What a projection is, and the list of those that a node runs. A projection says which events it
//! listens to, what it folds of them and which rows that makes; cursors, gaps, dead letters and
//! transactions are the projector's. Which projections there are is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::news::Notes;
use super::runner::{Runner, RunningProjection};
use crate::actors::engine::fold::{Fold, Folded};
use crate::domain::entity::{EntityId, Record};
use crate::store::list_row::Batch;
use crate::store::row::Table;
use crate::store::{self, Tables};

/// Rows that are made of events and can be made again: each is written over what it was, so that
/// making it twice is making it once. One that shows how things stand says its [`rows`]; one that
/// shows what happened is shown each [`event`], and has `()` as its state if it needs none.
///
/// [`rows`]: Projection::rows
/// [`event`]: Projection::event
pub trait Projection: Send + Sync + 'static {
    /// The name of its cursors and dead letters; a store keeps it.
    const NAME: &'static str;
    /// The prefixes of the nouns that it listens to.
    const PREFIXES: &'static [&'static str];
    /// What is folded of each entity.
    type State: Fold;
    /// Whether it is shown each event; it costs a copy of the state.
    const EACH_EVENT: bool = false;

    /// The table that lists an entity, and the first column of its rows there: who has written waits
    /// until they show it.
    fn listed(_entity: &EntityId) -> Option<(&'static Table, &str)> {
        None
    }

    /// Adds the rows of an entity as it stands, once in a step that changed it.
    fn rows(&self, _entity: &EntityId, _folded: &Folded<Self::State>, _batch: &mut Batch) {}

    /// Adds the rows of one event.
    ///
    /// # Errors
    /// Why it cannot be taken: nothing is written of it, its entity is parked until it is healed or
    /// the letters are discarded, and the event becomes a dead letter.
    fn event(
        &self,
        _event: &FoldedEvent<'_, Self::State>,
        _batch: &mut Batch,
    ) -> Result<(), String> {
        Ok(())
    }

    /// Whether an entity is not expected to change soon, so that its state is the first to be
    /// forgotten.
    fn at_rest(_state: &Self::State) -> bool {
        false
    }
}

/// An event and what it changed.
pub struct FoldedEvent<'a, S: Fold> {
    /// The event as it stands in the journal.
    pub record: &'a Record,
    /// The event, read.
    pub event: &'a S::Event,
    /// The state before it.
    pub before: &'a S,
    /// The state behind it.
    pub after: &'a S,
}

/// A projection whose rows are a list that can be followed live.
pub trait LiveList: Projection {
    /// How the list shows an entity.
    type Shown: Clone + Send + Sync + 'static;
    /// What the list can be filtered by and an event can change.
    type Facets: Send + Sync + 'static;
    /// What is told of an event.
    type Happened: Send + Sync + 'static;

    /// How an entity is shown; nothing if it cannot be.
    fn shown(&self, entity: &EntityId, folded: &Folded<Self::State>) -> Option<Self::Shown>;

    /// What lists are filtered by.
    fn facets(&self, state: &Self::State) -> Self::Facets;

    /// What is told of an event.
    fn happened(&self, record: &Record) -> Self::Happened;
}

/// The projections that a node runs.
#[derive(Clone, Default)]
pub struct Projections(Vec<ProjectionEntry>);

type Listed = fn(&EntityId) -> Option<(&'static Table, &str)>;

/// A projection of a node.
#[derive(Clone)]
pub(in crate::actors::engine) struct ProjectionEntry {
    pub(in crate::actors::engine) name: &'static str,
    prefixes: &'static [&'static str],
    listed: Listed,
    pub(in crate::actors::engine) is_live: bool,
    runner: Arc<dyn Fn() -> Box<dyn RunningProjection> + Send + Sync>,
}

impl ProjectionEntry {
    /// One that has taken nothing yet.
    pub(in crate::actors::engine) fn runner(&self) -> Box<dyn RunningProjection> {
        (self.runner)()
    }

    pub(in crate::actors::engine) fn listens_to(&self, entity: &EntityId) -> bool {
        self.prefixes.contains(&entity.prefix())
    }
}

impl Projections {
    /// These, and one more. Its rows are made from the first event on in a store that has run
    /// without it.
    #[must_use]
    pub fn with<P: Projection>(self, projection: P) -> Self {
        let projection = Arc::new(projection);
        self.add::<P>(false, move || Box::new(Runner::new(Arc::clone(&projection), None)))
    }

    /// These, and one more whose list can be followed live.
    #[must_use]
    pub fn with_live<L: LiveList>(self, list: L) -> Self {
        let list = Arc::new(list);
        self.add::<L>(true, move || {
            let notes = Notes::new(Arc::clone(&list));
            Box::new(Runner::new(Arc::clone(&list), Some(Box::new(notes))))
        })
    }

    fn add<P: Projection>(
        mut self,
        is_live: bool,
        runner: impl Fn() -> Box<dyn RunningProjection> + Send + Sync + 'static,
    ) -> Self {
        let (name, prefixes, listed) = (P::NAME, P::PREFIXES, P::listed);
        self.0.push(ProjectionEntry { name, prefixes, listed, is_live, runner: Arc::new(runner) });
        self
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|entry| entry.name)
    }

    /// The table that lists an entity, and the first column of its rows there; nothing for what is
    /// in no list.
    #[must_use]
    pub fn listed<'a>(&self, entity: &'a EntityId) -> Option<(&'static Table, &'a str)> {
        let mut listening = self.0.iter().filter(|entry| entry.listens_to(entity));
        listening.find_map(|entry| (entry.listed)(entity))
    }

    /// The tables that list entities.
    #[must_use]
    pub fn tables(&self) -> Vec<&'static Table> {
        let mut all: Vec<&'static Table> = Vec::new();
        for entry in &self.0 {
            // Which table it is does not depend on which entity of a noun is asked for.
            let any = entry.prefixes.iter().map(|prefix| EntityId::new(&format!("{prefix}_")));
            all.extend(any.filter_map(|any| (entry.listed)(&any).map(|(table, _)| table)));
        }
        all
    }

    /// How far all of them have come, by shard; shards of which one of them has taken nothing are
    /// left out.
    ///
    /// # Errors
    /// The store's.
    pub async fn reached(&self, store: &dyn Tables) -> Result<BTreeMap<u16, i64>, store::Error> {
        let mut reached: Option<BTreeMap<u16, i64>> = None;
        for name in self.names() {
            let cursors: BTreeMap<u16, i64> = store.cursors(name).await?.into_iter().collect();
            reached = Some(match reached {
                None => cursors,
                Some(others) => {
                    let least =
                        |(shard, pos): (u16, i64)| Some((shard, pos.min(*cursors.get(&shard)?)));
                    others.into_iter().filter_map(least).collect()
                }
            });
        }
        Ok(reached.unwrap_or_default())
    }

    pub(in crate::actors::engine) fn entries(&self) -> &[ProjectionEntry] {
        &self.0
    }

    /// Runners of those whose lists are followed live.
    pub(in crate::actors::engine) fn live_runners(&self) -> Vec<Box<dyn RunningProjection>> {
        self.0.iter().filter(|entry| entry.is_live).map(ProjectionEntry::runner).collect()
    }
}
