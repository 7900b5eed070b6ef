//! A book: what is known of the entities of one prefix while the journal is read from its first
//! event, and what must hold of each of them by itself. What has no book is a violation.
//!
//! What orders, carts, stock and the counter say of each other is in `books` and `cross`.

use std::collections::HashMap;

use async_trait::async_trait;

use super::Error;
use super::books::{next, replay};
use super::report::{Checked, Findings, Invariant, count};
use super::rows::Rows;
use crate::domain::entity::{EntityId, Noun, Record};
use crate::domain::time::Timestamp;
use crate::store::journal::{Journal, ReadError};

/// What is known of the entities of one prefix.
#[async_trait]
pub trait Book: Send + Sync {
    /// The prefix.
    fn prefix(&self) -> &'static str;

    /// Folds an event in; those of an entity come in their order.
    fn take(&mut self, record: &Record, findings: &mut Findings);

    /// Says how many entities there are, once all events are read.
    fn count(&self, checked: &mut Checked);

    /// Who has to be woken, once all events are read.
    fn timers(&self) -> Vec<WantedTimer> {
        Vec::new()
    }

    /// Whether an entity has to be woken by now.
    ///
    /// # Errors
    /// [`ReadError`] of the journal.
    async fn wants_timer(&self, _: &dyn Journal, _: &EntityId) -> Result<bool, ReadError> {
        Ok(false)
    }

    /// Compares the rows that are made of its events with their fold, and counts them.
    ///
    /// # Errors
    /// [`Error`]: something cannot be read.
    async fn compare_rows(
        &mut self,
        _rows: &Rows<'_>,
        _checked: &mut Checked,
        _findings: &mut Findings,
    ) -> Result<(), Error> {
        Ok(())
    }
}

/// An entity that has to be woken.
#[derive(Clone, Debug)]
pub struct WantedTimer {
    /// Which.
    pub entity: EntityId,
    /// When at the latest.
    pub due_at: Timestamp,
    /// The position of its last event.
    pub last_pos: i64,
}

/// The book of a noun: folds its events, and looks at every step from one state to the next.
///
/// It has all its entities in memory until the check is over.
pub struct NounBook<N: Noun> {
    name: &'static str,
    invariant: Invariant,
    check: StepCheck<N>,
    pub(super) entries: HashMap<EntityId, Entry<N>>,
}

/// Says what is wrong with an event, by the states before and behind it.
pub type StepCheck<N> = fn(before: &N, event: &<N as Noun>::Event, after: &N) -> Result<(), String>;

/// An entity of a noun.
pub(super) struct Entry<N> {
    pub state: N,
    pub seq: i64,
    pub last_pos: i64,
    /// Something was wrong before: what follows from it is not reported again.
    faulty: bool,
    /// Its history cannot be folded.
    pub broken: bool,
}

impl<N: Noun> NounBook<N> {
    /// A book whose entities are counted as `name`. A step that `check` finds wrong violates
    /// `invariant`.
    #[must_use]
    pub fn new(name: &'static str, invariant: Invariant, check: StepCheck<N>) -> Self {
        Self { name, invariant, check, entries: HashMap::new() }
    }
}

#[async_trait]
impl<N: Noun> Book for NounBook<N> {
    fn prefix(&self) -> &'static str {
        N::PREFIX
    }

    fn take(&mut self, record: &Record, findings: &mut Findings) {
        let entry = self.entries.entry(record.entity.clone()).or_insert_with(|| Entry {
            state: N::default(),
            seq: 0,
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
        (entry.seq, entry.last_pos) = (record.seq, record.pos);
        if !entry.faulty
            && let Err(fault) = (self.check)(&before, &event, &entry.state)
        {
            entry.faulty = true;
            findings.add(self.invariant, &record.entity, &[record.pos], fault);
        }
    }

    fn count(&self, checked: &mut Checked) {
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

/// Whether an entity of a noun has to be woken by now.
pub(super) async fn wants_timer<N: Noun>(
    journal: &dyn Journal,
    entity: &EntityId,
) -> Result<bool, ReadError> {
    let folded = replay::<N>(journal, entity, i64::MAX).await?;
    Ok(folded.is_some_and(|folded| folded.state.timer().is_some()))
}
