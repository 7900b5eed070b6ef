//! The book of one kind of versioned rows, such as products: each row must equal its last event
//! (I6).
//!
//! A versioned row is written in the transaction of its event, so it never lags.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::Error;
use super::book::EntityBook;
use super::replay::next;
use super::report::{CheckedCounts, Invariant, Violations, count};
use super::rows::{RowComparison, RowFault, difference};
use crate::actors::engine::host::decode;
use crate::domain::entity::{EntityId, Record};
use crate::domain::versioned::Event;
use crate::store::LIST_MAX;
use crate::store::journal::ReadError;
use crate::store::versioned::{Row, VersionedRow, list_behind};

/// The book of one kind of versioned rows.
///
/// It keeps the content of all these rows in memory until the check is over.
pub struct RowBook<T> {
    entries: HashMap<EntityId, Entry<T>>,
    counted: ReportCounts,
}

/// Writes the numbers of entities and rows into the counts of the report.
pub type ReportCounts = fn(checked: &mut CheckedCounts, entities: u64, rows: u64);

/// A row according to its last event.
struct Entry<T> {
    seq: i64,
    last_pos: i64,
    /// One of its events cannot be read, so its row is not checked.
    broken: bool,
    value: Option<T>,
}

impl<T: VersionedRow> Default for RowBook<T> {
    fn default() -> Self {
        let counted: ReportCounts = |checked, entities, rows| {
            checked.others.insert(T::PLURAL.to_owned(), entities);
            checked.others.insert(format!("{}_rows", T::PLURAL), rows);
        };
        Self::counted_by(counted)
    }
}

impl<T: VersionedRow> RowBook<T> {
    /// A book whose numbers of entities and rows are reported by `counted`.
    #[must_use]
    pub fn counted_by(counted: ReportCounts) -> Self {
        Self { entries: HashMap::new(), counted }
    }

    async fn fault(
        &self,
        rows: &RowComparison<'_>,
        id: &EntityId,
        row: &Row<T>,
    ) -> Result<RowFault, ReadError> {
        let entry = self.entries.get(id);
        if entry.is_some_and(|entry| {
            entry.broken || (entry.seq == row.version && entry.value.as_ref() == Some(&row.value))
        }) {
            return Ok(None);
        }
        let positions = entry.map(|entry| vec![entry.last_pos]).unwrap_or_default();
        if let Some(entry) = entry.filter(|entry| entry.seq > row.version) {
            let why = format!("its row has version {}, but {} events", row.version, entry.seq);
            return Ok(Some((positions, why)));
        }
        let written = rows.journal.read_entity(id, row.version - 1, 1).await?;
        let event = written.first().and_then(|record| decode::<Event<T>>(record).ok());
        Ok(match event.map(Event::into_value) {
            None => Some((positions, "its row has no event".to_owned())),
            Some(fresh) if fresh == row.value => None,
            Some(fresh) => {
                let why = difference(&format!("{:?}", row.value), &format!("{fresh:?}"));
                Some((positions, why))
            }
        })
    }
}

#[async_trait]
impl<T: VersionedRow> EntityBook for RowBook<T> {
    fn prefix(&self) -> &'static str {
        T::PREFIX
    }

    fn fold_event(&mut self, record: &Record, findings: &mut Violations) {
        let entry = self.entries.entry(record.entity.clone()).or_insert(Entry {
            seq: 0,
            last_pos: 0,
            broken: false,
            value: None,
        });
        if entry.broken {
            return;
        }
        let Some(event) = next::<Event<T>>(record, entry.seq, findings) else {
            entry.broken = true;
            return;
        };
        entry.value = Some(event.into_value());
        (entry.seq, entry.last_pos) = (record.seq, record.pos);
    }

    fn count(&self, checked: &mut CheckedCounts) {
        (self.counted)(checked, count(self.entries.len()), 0);
    }

    async fn compare_rows(
        &mut self,
        rows: &RowComparison<'_>,
        checked: &mut CheckedCounts,
        findings: &mut Violations,
    ) -> Result<(), Error> {
        let mut after: Option<T::Key> = None;
        let mut seen = HashSet::new();
        let mut there: u64 = 0;
        loop {
            let page = list_behind::<T>(rows.store, after.as_ref(), LIST_MAX).await?;
            for row in &page {
                there += 1;
                let id = T::entity_id(row.value.key());
                if let Some((positions, message)) = self.fault(rows, &id, row).await? {
                    findings.add(Invariant::I6, &id, &positions, message);
                }
                seen.insert(id);
            }
            match page.last() {
                Some(last) if page.len() == LIST_MAX as usize => {
                    after = Some(last.value.key().clone());
                }
                _ => break,
            }
        }
        (self.counted)(checked, count(self.entries.len()), there);
        for (id, entry) in &self.entries {
            if !seen.contains(id) && !entry.broken {
                findings.add(Invariant::I6, id, &[entry.last_pos], "it has no row");
            }
        }
        Ok(())
    }
}
