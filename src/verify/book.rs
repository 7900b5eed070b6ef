//! A book folds the events of all entities with the same id prefix, from the first event, and
//! checks each entity by itself. Events of a prefix without a book are a violation.
//!
//! `books` and `cross` check orders, carts, stock and the counter against each other.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;

use async_trait::async_trait;

use super::Error;
use super::replay::{next, replay};
use super::report::{CheckedCounts, Invariant, Violations, count};
use super::rows::{FoldedRow, RowComparison, RowKeeper, RowKnowledge};
use crate::actors::engine::fold::Folded;
use crate::actors::engine::projections::Keyed;
use crate::domain::entity::{EntityId, Noun, Record};
use crate::domain::time::Timestamp;
use crate::store::journal::{Journal, ReadError};

/// Folds and checks the entities with one id prefix.
#[async_trait]
pub trait EntityBook: Send + Sync {
    /// The id prefix of the entities.
    fn prefix(&self) -> &'static str;

    /// Folds an event. The events of an entity arrive in order.
    fn fold_event(&mut self, record: &Record, findings: &mut Violations);

    /// Adds the number of entities to the counts of the report, once all events are folded.
    fn count(&self, checked: &mut CheckedCounts);

    /// The entities that need a timer, once all events are folded.
    fn timers(&self) -> Vec<WantedTimer> {
        Vec::new()
    }

    /// Whether an entity needs a timer, by a new replay of its events.
    ///
    /// # Errors
    /// [`ReadError`] of the journal.
    async fn wants_timer(&self, _: &dyn Journal, _: &EntityId) -> Result<bool, ReadError> {
        Ok(false)
    }

    /// The name of the projection of its rows; `None` if it has no projected rows.
    fn projection(&self) -> Option<&'static str> {
        None
    }

    /// Compares the rows of the entities with the folds of their events, and counts the rows.
    ///
    /// # Errors
    /// [`Error`]: something cannot be read.
    async fn compare_rows(
        &mut self,
        _rows: &RowComparison<'_>,
        _checked: &mut CheckedCounts,
        _findings: &mut Violations,
    ) -> Result<(), Error> {
        Ok(())
    }
}

/// An entity that needs a timer.
#[derive(Clone, Debug)]
pub struct WantedTimer {
    /// The entity.
    pub entity: EntityId,
    /// The latest time at which its timer may be due.
    pub due_at: Timestamp,
    /// The position of its last event.
    pub last_pos: i64,
}

/// The book of a noun: folds the events, and checks every change from one state to the next.
///
/// It keeps the states of all entities in memory until the check is over.
pub struct NounBook<N: Noun> {
    name: &'static str,
    invariant: Invariant,
    check: ChangeCheck<N>,
    entries: HashMap<EntityId, Entry<N>>,
}

/// Checks an event, given the states before and after it.
pub type ChangeCheck<N> =
    fn(before: &N, event: &<N as Noun>::Event, after: &N) -> Result<(), String>;

/// An entity of a noun.
struct Entry<N> {
    state: N,
    seq: i64,
    at: Timestamp,
    first_pos: i64,
    last_pos: i64,
    /// Whether a violation was reported: its consequences are not reported again.
    faulty: bool,
    /// Whether its events cannot be folded.
    broken: bool,
}

impl<N: Noun> NounBook<N> {
    /// A book whose entities are counted as `name` in the report. An event that `check` rejects
    /// violates `invariant`.
    #[must_use]
    pub fn new(name: &'static str, invariant: Invariant, check: ChangeCheck<N>) -> Self {
        Self { name, invariant, check, entries: HashMap::new() }
    }

    /// The same book, which also compares the rows of the noun's list.
    #[must_use]
    pub fn with_rows<R: FoldedRow<State = N>>(self) -> ListedBook<R> {
        ListedBook::new(self)
    }
}

#[async_trait]
impl<N: Noun> EntityBook for NounBook<N> {
    fn prefix(&self) -> &'static str {
        N::PREFIX
    }

    fn fold_event(&mut self, record: &Record, findings: &mut Violations) {
        let entry = self.entries.entry(record.entity.clone()).or_insert_with(|| Entry {
            state: N::default(),
            seq: 0,
            at: record.at,
            first_pos: record.pos,
            last_pos: record.pos,
            faulty: false,
            broken: false,
        });
        if entry.broken {
            return;
        }
        let Some(event) = next::<N::Event>(record, entry.seq, findings) else {
            entry.broken = true;
            return;
        };
        let before = entry.state.clone();
        entry.state.evolve(&event, record.at);
        (entry.seq, entry.at, entry.last_pos) = (record.seq, record.at, record.pos);
        if !entry.faulty
            && let Err(fault) = (self.check)(&before, &event, &entry.state)
        {
            entry.faulty = true;
            findings.add(self.invariant, &record.entity, &[record.pos], fault);
        }
    }

    fn count(&self, checked: &mut CheckedCounts) {
        checked.others.insert(self.name.to_owned(), count(self.entries.len()));
    }

    fn timers(&self) -> Vec<WantedTimer> {
        let readable = self.entries.iter().filter(|(_, entry)| !entry.broken);
        let wanted = readable.filter_map(|(entity, entry)| {
            let due_at = entry.state.timer()?;
            Some(WantedTimer { entity: entity.clone(), due_at, last_pos: entry.last_pos })
        });
        wanted.collect()
    }

    async fn wants_timer(
        &self,
        journal: &dyn Journal,
        entity: &EntityId,
    ) -> Result<bool, ReadError> {
        wants_timer::<N>(journal, entity).await
    }
}

/// The book of a noun with a list: its rows are compared with the folds of its entities (I6).
pub struct ListedBook<R: FoldedRow> {
    book: NounBook<R::State>,
    row: PhantomData<fn() -> R>,
}

impl<R: FoldedRow> ListedBook<R> {
    const fn new(book: NounBook<R::State>) -> Self {
        Self { book, row: PhantomData }
    }
}

#[async_trait]
impl<R: FoldedRow> EntityBook for ListedBook<R> {
    fn prefix(&self) -> &'static str {
        self.book.prefix()
    }

    fn fold_event(&mut self, record: &Record, findings: &mut Violations) {
        self.book.fold_event(record, findings);
    }

    fn count(&self, checked: &mut CheckedCounts) {
        self.book.count(checked);
    }

    fn timers(&self) -> Vec<WantedTimer> {
        self.book.timers()
    }

    async fn wants_timer(
        &self,
        journal: &dyn Journal,
        entity: &EntityId,
    ) -> Result<bool, ReadError> {
        self.book.wants_timer(journal, entity).await
    }

    fn projection(&self) -> Option<&'static str> {
        Some(R::PROJECTION)
    }

    async fn compare_rows(
        &mut self,
        rows: &RowComparison<'_>,
        checked: &mut CheckedCounts,
        findings: &mut Violations,
    ) -> Result<(), Error> {
        let mut keeper = Seen { book: &self.book, findings, seen: HashSet::new(), rows: 0 };
        rows.compare_all::<R>(&mut keeper).await?;
        let Seen { seen, rows: there, .. } = keeper;
        checked.others.insert(format!("{}_rows", self.book.name), there);
        for (entity, entry) in &self.book.entries {
            let listed =
                !R::fresh(entity, &Keyed { folded: &entry.folded(), keys: None, before: None })
                    .is_empty();
            let due = entry.last_pos <= rows.cursor(R::PROJECTION, entity);
            if listed && due && !entry.broken && !seen.contains(entity) {
                findings.add(Invariant::I6, entity, &[entry.first_pos], "it has no rows");
            }
        }
        Ok(())
    }
}

/// A book while the rows of its entities are compared.
struct Seen<'a, N: Noun> {
    book: &'a NounBook<N>,
    findings: &'a mut Violations,
    seen: HashSet<EntityId>,
    rows: u64,
}

impl<R: FoldedRow> RowKeeper<R> for Seen<'_, R::State> {
    fn see(&mut self, entity: &EntityId, rows: &[R]) -> RowKnowledge {
        self.rows += count(rows.len());
        self.seen.insert(entity.clone());
        let Some(entry) = self.book.entries.get(entity) else { return RowKnowledge::Open(None) };
        let same =
            R::fresh(entity, &Keyed { folded: &entry.folded(), keys: None, before: None }) == rows;
        if entry.broken || same {
            RowKnowledge::Settled
        } else {
            RowKnowledge::Open(Some(entry.last_pos))
        }
    }

    fn report(&mut self, entity: &EntityId, positions: &[i64], message: String) {
        self.findings.add(Invariant::I6, entity, positions, message);
    }
}

impl<N: Noun> Entry<N> {
    fn folded(&self) -> Folded<N> {
        Folded { state: self.state.clone(), seq: self.seq, pos: self.last_pos, at: self.at }
    }
}

/// Whether an entity of a noun needs a timer by now.
pub(super) async fn wants_timer<N: Noun>(
    journal: &dyn Journal,
    entity: &EntityId,
) -> Result<bool, ReadError> {
    let folded = replay::<N>(journal, entity, i64::MAX).await?;
    Ok(folded.is_some_and(|folded| folded.state.timer().is_some()))
}
