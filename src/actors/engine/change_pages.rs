//! The feed of changes, page by page: what happened to entities after some positions of the journal.
//! The same pages can be read on every node, because they are made of the journal alone.
//!
//! A page ends where the rows of all asked topics end: so whoever then reads the row of a change
//! finds one that is not older than the change.

use std::collections::{BTreeMap, HashMap};

use super::projections::Happened;
use crate::domain::entity::{EntityId, Record};
use crate::seeded_fault::{self, SeededFault};
use crate::store::journal::ReadError;
use crate::store::{self, Tables};

/// The most events that are read for one page.
const EVENTS_MAX: i64 = 1_000;
/// The most events that are read at once.
const READ_MAX: i64 = 250;

/// The entities of a kind whose changes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTopic {
    /// The prefix of their ids.
    pub prefix: &'static str,
    /// The projection that writes their rows; `None` if they are written together with the events.
    pub projection: Option<&'static str>,
}

/// Why a page cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The cursors of the projections cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The changes of one page, in the order of their first events.
#[derive(Debug, Default)]
pub struct ChangePage {
    /// The position up to which each shard was read: the next page begins there.
    pub seen: Vec<i64>,
    /// Whether there are more changes now.
    pub more: bool,
    /// The changed entities, each once, with its events in order.
    pub changes: Vec<(EntityId, Vec<Happened>)>,
    known: HashMap<EntityId, usize>,
}

/// Reads the page after the positions `from`, one per shard, with at most `limit` entities. `heads`
/// are the ends of the journal, as they were read before.
///
/// # Errors
/// [`Error`].
pub async fn read_page(
    tables: &dyn Tables,
    topics: &[PageTopic],
    (from, heads): (&[i64], Vec<i64>),
    limit: usize,
) -> Result<ChangePage, Error> {
    let ends = ends(tables, topics, heads).await?;
    let mut page = ChangePage { seen: from.to_vec(), ..ChangePage::default() };
    page.read(tables, topics, &ends, limit).await?;
    page.more = page.seen.iter().zip(&ends).any(|(seen, end)| seen < end);
    Ok(page)
}

/// The position up to which each shard can be shown: that of the rows of these topics.
async fn ends(
    tables: &dyn Tables,
    topics: &[PageTopic],
    mut ends: Vec<i64>,
) -> Result<Vec<i64>, store::Error> {
    for name in topics.iter().filter_map(|topic| topic.projection) {
        let cursors: BTreeMap<u16, i64> = tables.cursors(name).await?.into_iter().collect();
        for (shard, end) in (0..).zip(&mut ends) {
            *end = cursors.get(&shard).map_or(0, |pos| *pos).min(*end);
        }
    }
    Ok(ends)
}

impl ChangePage {
    /// Reads events of all shards, first of those with the most, until there are `limit` changes.
    async fn read(
        &mut self,
        tables: &dyn Tables,
        topics: &[PageTopic],
        ends: &[i64],
        limit: usize,
    ) -> Result<(), ReadError> {
        let journal = tables.journal();
        let shards = (0_u16..).zip(self.seen.iter().zip(ends));
        let mut left: Vec<(i64, u16)> = shards
            .map(|(shard, (seen, end))| (end - seen, shard))
            .filter(|(left, _)| *left > 0)
            .collect();
        left.sort_unstable_by(|one, other| other.cmp(one));
        let share = (EVENTS_MAX / i64::try_from(left.len()).unwrap_or(EVENTS_MAX).max(1)).max(1);
        for (left, shard) in left {
            let mut left = left.min(share);
            while left > 0 {
                let (seen, count) = (self.seen[usize::from(shard)], left.min(READ_MAX));
                let count = u32::try_from(count).unwrap_or(0);
                let records = journal.read_shard(shard, seen, count).await?;
                if records.is_empty() {
                    break;
                }
                for record in &records {
                    if !self.take(record, topics, limit) {
                        if seeded_fault::active(SeededFault::PageSkipsChange) {
                            self.seen[usize::from(shard)] = record.pos;
                        }
                        return Ok(());
                    }
                    self.seen[usize::from(shard)] = record.pos;
                    left -= 1;
                }
            }
        }
        Ok(())
    }

    /// Adds an event; `false` if the page is full.
    fn take(&mut self, record: &Record, topics: &[PageTopic], limit: usize) -> bool {
        if !topics.iter().any(|topic| topic.prefix == record.entity.prefix()) {
            return true;
        }
        let known = self.known.get(&record.entity).copied();
        if known.is_none() && self.changes.len() >= limit {
            return false;
        }
        let nth = known.unwrap_or(self.changes.len());
        if known.is_none() {
            self.known.insert(record.entity.clone(), nth);
            self.changes.push((record.entity.clone(), Vec::new()));
        }
        if let Some((_, events)) = self.changes.get_mut(nth) {
            events.push(Happened::of(record));
        }
        true
    }
}
