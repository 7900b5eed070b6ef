//! The definition of a projection, and the list of those that a node runs. A projection says which
//! nouns' events it reads, which state it folds from them, and which rows it makes. The projector
//! handles cursors, gaps, dead letters and transactions. The shop's projections are in
//! `actors/order_rows.rs` and `actors/stock_rows.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use super::news::Notes;
use super::runner::{Runner, RunningProjection};
use crate::actors::engine::fold::{Fold, Folded};
use crate::domain::entity::{Cause, EntityId, Record};
use crate::domain::sealed::KeyId;
use crate::domain::time::Timestamp;
use crate::store::list_row::Batch;
use crate::store::personal::Keys;
use crate::store::row::Table;
use crate::store::{self, Tables};

/// Rows that are made from events and can be rebuilt. Writing a row twice has the effect of writing
/// it once. A projection of current state implements [`rows`]; one of events implements [`event`],
/// and has the state `()` if it needs none.
///
/// [`rows`]: Projection::rows
/// [`event`]: Projection::event
pub trait Projection: Send + Sync + 'static {
    /// The name of its cursors and dead letters in the store.
    const NAME: &'static str;
    /// The prefixes of the nouns that it reads.
    const PREFIXES: &'static [&'static str];
    /// The state that is folded of each entity.
    type State: Fold;
    /// Whether [`event`](Projection::event) is called; each call costs a copy of the state.
    const EACH_EVENT: bool = false;
    /// Whether its rows need keys: of personal values, or of hashes.
    const KEYED: bool = false;

    /// The table that lists an entity, and the value in the first column of the entity's rows. A
    /// client that reads its own write waits until that table is up to date.
    fn listed(_entity: &EntityId) -> Option<(&'static Table, &str)> {
        None
    }

    /// Adds the ids of the keys of a state's personal values that its rows need, or with `shown`
    /// also what the list shows of it.
    fn key_ids(_state: &Self::State, _shown: bool, _ids: &mut BTreeSet<KeyId>) {}

    /// A hash of what a state's rarely changing rows are made of: [`rows`](Projection::rows) may leave
    /// them out if it is the same as [before the batch](Keyed::before).
    fn rare_hash(_state: &Self::State) -> u64 {
        0
    }

    /// Adds the rows of an entity in its current state; called once for each batch that changed the
    /// entity.
    fn rows(&self, _entity: &EntityId, _folded: &Keyed<'_, Self::State>, _batch: &mut Batch) {}

    /// Adds the rows of one event.
    ///
    /// # Errors
    /// Why the event is refused: none of its rows are written, its entity is skipped until it is
    /// healed or its dead letters are discarded, and the event becomes a dead letter.
    fn event(
        &self,
        _event: &FoldedEvent<'_, Self::State>,
        _batch: &mut Batch,
    ) -> Result<(), String> {
        Ok(())
    }

    /// Whether an entity is finished, so that its state is among the first to be evicted from
    /// memory.
    fn is_finished(_state: &Self::State) -> bool {
        false
    }
}

/// A folded state, with those keys of its personal values that were asked for.
pub struct Keyed<'a, S> {
    /// The state.
    pub folded: &'a Folded<S>,
    /// The keys; `None` if the projection is not [keyed](Projection::KEYED).
    pub keys: Option<&'a Keys>,
    /// The [hash](Projection::rare_hash) of the state before the batch, whose rows are written; `None`
    /// if there is none, or it does not matter.
    pub before: Option<u64>,
}

impl<S> Deref for Keyed<'_, S> {
    type Target = Folded<S>;

    fn deref(&self) -> &Folded<S> {
        self.folded
    }
}

/// An event, with the state before and after it.
pub struct FoldedEvent<'a, S: Fold> {
    /// The event as it is stored in the journal.
    pub record: &'a Record,
    /// The decoded event.
    pub event: &'a S::Event,
    /// The state before it.
    pub before: &'a S,
    /// The state after it.
    pub after: &'a S,
}

/// A projection whose rows are a list with a live feed. A list of plain rows, which are written with
/// their events, is one that makes no rows (`row_list`).
pub trait LiveList: Projection {
    /// An entity's row in the list.
    type Shown: Clone + Send + Sync + 'static;
    /// Those values by which the list can be filtered, and which an event can change.
    type Facets: Send + Sync + 'static;
    /// The part of an event that is published.
    type Happened: Send + Sync + 'static;
    /// Whether the projector writes the rows; if not, they are written with their events.
    const IS_PROJECTED: bool = true;

    /// An entity's row in the list; `None` if it has none.
    fn shown(&self, entity: &EntityId, folded: &Keyed<'_, Self::State>) -> Option<Self::Shown>;

    /// The values of a state by which the list can be filtered.
    fn facets(&self, state: &Self::State) -> Self::Facets;

    /// Returns the part of an event that is published.
    fn happened(&self, record: &Record) -> Self::Happened;

    /// How much memory a row takes, as a multiple of that of an order's row.
    fn weight(_shown: &Self::Shown) -> usize {
        1
    }
}

/// An event of an entity, without its data, as lists with a live feed publish it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Its sequence number in the entity, from 1.
    pub seq: i64,
    /// Its kind.
    pub kind: Arc<str>,
    /// When it was decided.
    pub at: Timestamp,
    /// Who caused it.
    pub by: Arc<str>,
    /// The name of the cause's key or sign-in link, if it has one.
    pub by_name: Option<Arc<str>>,
}

impl Happened {
    /// The event of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let Cause { by, name, .. } = record.cause();
        let kind = Arc::clone(&record.kind);
        Self { seq: record.seq, kind, at: record.at, by: by.into(), by_name: name }
    }
}

/// The projections that a node runs, and the lists of rows whose changes it publishes.
#[derive(Clone, Default)]
pub struct Projections {
    entries: Vec<ProjectionEntry>,
    row_lists: Vec<MakeRunner>,
}

type MakeRunner = Arc<dyn Fn() -> Box<dyn RunningProjection> + Send + Sync>;

type Listed = fn(&EntityId) -> Option<(&'static Table, &str)>;

/// One projection.
#[derive(Clone)]
pub(in crate::actors::engine) struct ProjectionEntry {
    pub(in crate::actors::engine) name: &'static str,
    prefixes: &'static [&'static str],
    listed: Listed,
    pub(in crate::actors::engine) is_live: bool,
    runner: MakeRunner,
}

impl ProjectionEntry {
    /// A runner that has processed nothing yet.
    pub(in crate::actors::engine) fn runner(&self) -> Box<dyn RunningProjection> {
        (self.runner)()
    }

    pub(in crate::actors::engine) fn listens_to(&self, entity: &EntityId) -> bool {
        self.prefixes.contains(&entity.prefix())
    }
}

impl Projections {
    /// Adds a projection. In a store that has run without it, its rows are made from the first
    /// event on.
    #[must_use]
    pub fn with<P: Projection>(self, projection: P) -> Self {
        let projection = Arc::new(projection);
        self.add::<P>(false, move || Box::new(Runner::new(Arc::clone(&projection), None)))
    }

    /// Adds a projection whose list has a live feed.
    #[must_use]
    pub fn with_live<L: LiveList>(self, list: L) -> Self {
        self.add::<L>(true, live_runner(list))
    }

    /// Adds a list that makes no rows: only its changes are published.
    pub(super) fn with_row_list<L: LiveList>(mut self, list: L) -> Self {
        self.row_lists.push(Arc::new(live_runner(list)));
        self
    }

    fn add<P: Projection>(
        mut self,
        is_live: bool,
        runner: impl Fn() -> Box<dyn RunningProjection> + Send + Sync + 'static,
    ) -> Self {
        let (name, prefixes, listed) = (P::NAME, P::PREFIXES, P::listed);
        let runner = Arc::new(runner);
        self.entries.push(ProjectionEntry { name, prefixes, listed, is_live, runner });
        self
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.entries.iter().map(|entry| entry.name)
    }

    /// The table that lists an entity, and the value in the first column of the entity's rows;
    /// `None` if no list contains it.
    #[must_use]
    pub fn listed<'a>(&self, entity: &'a EntityId) -> Option<(&'static Table, &'a str)> {
        let mut listening = self.entries.iter().filter(|entry| entry.listens_to(entity));
        listening.find_map(|entry| (entry.listed)(entity))
    }

    /// The tables that list entities.
    #[must_use]
    pub fn tables(&self) -> Vec<&'static Table> {
        let mut all: Vec<&'static Table> = Vec::new();
        for entry in &self.entries {
            // All entities of a noun are in the same table.
            let any = entry.prefixes.iter().map(|prefix| EntityId::new(&format!("{prefix}_")));
            all.extend(any.filter_map(|any| (entry.listed)(&any).map(|(table, _)| table)));
        }
        all
    }

    /// The position up to which all projections have processed each shard. A shard is left out if a
    /// projection has no cursor in it yet.
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
        &self.entries
    }

    /// Runners of the lists of rows.
    pub(in crate::actors::engine) fn row_runners(&self) -> Vec<Box<dyn RunningProjection>> {
        self.row_lists.iter().map(|runner| runner()).collect()
    }

    /// Runners of all lists that have a live feed.
    pub(in crate::actors::engine) fn live_runners(&self) -> Vec<Box<dyn RunningProjection>> {
        let live = self.entries.iter().filter(|entry| entry.is_live);
        live.map(ProjectionEntry::runner).chain(self.row_runners()).collect()
    }
}

/// Makes runners of a list with a live feed.
fn live_runner<L: LiveList>(list: L) -> impl Fn() -> Box<dyn RunningProjection> + Send + Sync {
    let list = Arc::new(list);
    move || {
        let notes = Notes::new(Arc::clone(&list));
        Box::new(Runner::new(Arc::clone(&list), Some(Box::new(notes))))
    }
}
