//! Snapshots of the rows, and older changes from the journal, for subscribers whose changes the
//! ring does not contain. Subscribers that need the same share them.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Live;
use super::topic::{SnapshotPage, SnapshotRows, TopicQuery};
use super::topic_stock::read_beside;
use crate::actors::engine::changes::{self, Bounds, Changed, distance};
use crate::http::edge::error::Error;

/// How long a snapshot is shared.
const FRESH: Duration = Duration::from_millis(200);
/// How long a range of the journal is shared.
const KEPT: Duration = Duration::from_secs(2);
/// The maximum number of ranges of the journal that a hub reads concurrently.
pub const READS_MAX: usize = 2;
/// The maximum number of events in all ranges that a hub has in memory, as a multiple of
/// `resume_events_max`.
const HELD_MAX: usize = 4;

/// The query of a snapshot, and the maximum number of its rows: equal queries share a snapshot.
pub(super) type SnapshotQuery = (TopicQuery, u32);

/// A snapshot of a list's rows.
pub(super) struct TakenSnapshot {
    /// The rows.
    pub rows: Box<dyn SnapshotRows>,
    /// Whether there are more rows.
    pub more: bool,
    /// For each shard, the position up to which the rows contain all events.
    pub seen: Arc<[i64]>,
    at: Instant,
}

impl TakenSnapshot {
    /// Whether the snapshot is recent enough to be shared.
    #[must_use]
    pub fn fresh(&self) -> bool {
        self.at.elapsed() < FRESH
    }

    /// Whether the snapshot contains all events up to these positions. It may lack some, because
    /// the rows of other nodes' shards may be written after their changes were published.
    #[must_use]
    pub fn shows(&self, seen: &[i64]) -> bool {
        self.seen.iter().zip(seen).all(|(here, seen)| here >= seen)
    }
}

/// Reads a snapshot; `None` while the rows are being rebuilt, or are more than half of `behind_max`
/// behind the published changes.
///
/// # Errors
/// The errors of the store.
pub(super) async fn take_snapshot(
    live: &Live,
    (ask, limit): &SnapshotQuery,
) -> Result<Option<TakenSnapshot>, Error> {
    let node = &live.node;
    let (heads, at) = (node.changes.heads(), Instant::now());
    let page = ask.filter.snapshot(&live.store, *limit).await?;
    let SnapshotPage { rows, more, cursors, is_projected } = page;
    let seen = if is_projected {
        node.changes.rows_at(&cursors)
    } else {
        Some(cursors.iter().map(|(_, pos)| *pos).collect())
    };
    let near = |seen: &Arc<[i64]>| distance(seen, &heads) <= live.options.behind_max / 2;
    Ok(seen.filter(near).map(|seen| TakenSnapshot { rows, more, seen, at }))
}

/// A result of reading older changes from the journal.
pub struct Past {
    /// The changes.
    pub found: JournalRangeLookup,
    at: Instant,
}

/// The result of reading the journal.
pub enum JournalRangeLookup {
    /// All changes of the range.
    All(Arc<JournalRange>),
    /// The range has more events or entities than the limits allow.
    TooMuch,
    /// The journal does not have these positions, so they belong to another history.
    OtherHistory,
}

/// A range of the journal: the changes between two positions of each shard.
pub struct JournalRange {
    /// The batches of changes, shard by shard, oldest first.
    pub changed: Vec<Arc<Changed>>,
    /// The positions before the range.
    pub from: Arc<[i64]>,
    /// The positions after the range.
    pub upto: Arc<[i64]>,
}

impl JournalRange {
    /// The positions of a client that has received the first `shown` batches.
    #[must_use]
    pub fn seen(&self, shown: usize) -> Arc<[i64]> {
        if shown >= self.changed.len() {
            return Arc::clone(&self.upto);
        }
        let mut seen = self.from.to_vec();
        for changed in self.changed.iter().take(shown) {
            if let Some(seen) = seen.get_mut(usize::from(changed.shard)) {
                *seen = changed.pos;
            }
        }
        seen.into()
    }
}

impl Past {
    /// Whether the result may still be shared.
    #[must_use]
    pub fn fresh(&self) -> bool {
        self.at.elapsed() < KEPT
    }
}

/// The ranges of the journal that are in memory, because they are being read or sent. The number of
/// their events is limited, because a slow client may keep a range for long.
#[derive(Default)]
pub struct RangesInMemory(Vec<RangeInMemory>);

struct RangeInMemory {
    from: Arc<[i64]>,
    events: i64,
    /// `None` while the range is being read.
    held: Option<Weak<JournalRange>>,
}

impl RangesInMemory {
    /// Registers the range between these positions, which is going to be read; `false` if the
    /// ranges would then have too many events.
    pub fn begin(&mut self, from: &Arc<[i64]>, until: &[i64], events_max: usize) -> bool {
        let held =
            |one: &RangeInMemory| one.held.as_ref().is_none_or(|held| held.strong_count() > 0);
        self.0.retain(held);
        let events = distance(from, until).max(1);
        let max = i64::try_from(events_max.saturating_mul(HELD_MAX)).unwrap_or(i64::MAX);
        let all = self.0.iter().fold(events, |all, one| all.saturating_add(one.events));
        let room = all <= max.max(1);
        if room {
            self.0.push(RangeInMemory { from: Arc::clone(from), events, held: None });
        }
        room
    }

    /// Records the result of reading a range; `None` if it failed.
    pub fn end(&mut self, from: &[i64], past: Option<&Past>) {
        let held = past.and_then(|past| match &past.found {
            JournalRangeLookup::All(range) => Some(Arc::downgrade(range)),
            JournalRangeLookup::TooMuch | JournalRangeLookup::OtherHistory => None,
        });
        let at = self.0.iter().position(|one| *one.from == *from && one.held.is_none());
        match (at, held) {
            (Some(at), None) => drop(self.0.swap_remove(at)),
            (Some(at), held) => {
                if let Some(range) = self.0.get_mut(at) {
                    range.held = held;
                }
            }
            (None, _) => {}
        }
    }
}

/// Reads the changes after `from` up to `until`, shard by shard.
///
/// # Errors
/// The errors of the journal.
pub async fn past(live: &Live, from: Arc<[i64]>, until: Arc<[i64]>) -> Result<Past, Error> {
    let journal = live.node.store.journal();
    let options = &live.options;
    let (events, entities) = (options.resume_events_max, options.resume_entities_max);
    let found = |found| Ok(Past { found, at: Instant::now() });
    for (shard, (from, until)) in (0..).zip(from.iter().zip(until.iter())) {
        // `from` may be ahead of `until` if the client received these changes from another node;
        // they will arrive here, too. But a position that the journal does not have belongs to
        // another history: an earlier state of the database was put back.
        if from > until && *from > journal.last_pos(shard).await? {
            return found(JournalRangeLookup::OtherHistory);
        }
    }
    let bounds = Bounds { events, entities };
    let Some(changed) =
        changes::read(journal.as_ref(), &live.node.projections, (&from, &until), bounds).await?
    else {
        return found(JournalRangeLookup::TooMuch);
    };
    for changed in &changed {
        read_beside(&live.node, changed).await?;
    }
    let upto = from.iter().zip(until.iter()).map(|(from, until)| *from.max(until)).collect();
    found(JournalRangeLookup::All(Arc::new(JournalRange { changed, from, upto })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(ranges: &mut RangesInMemory, from: i64, until: i64) -> bool {
        ranges.begin(&vec![from, 7].into(), &[until, 7], 100)
    }

    #[test]
    fn journal_ranges_are_bounded_while_in_use() {
        let mut ranges = RangesInMemory::default();
        let mut pasts = Vec::new();
        for from in 0..4 {
            assert!(begin(&mut ranges, from, from + 100), "{from}");
            let (behind, upto) = (vec![from, 7].into(), vec![from + 100, 7].into());
            let range = Arc::new(JournalRange { changed: Vec::new(), from: behind, upto });
            let past =
                Past { found: JournalRangeLookup::All(Arc::clone(&range)), at: Instant::now() };
            ranges.end(&[from, 7], Some(&past));
            pasts.push((past, range));
        }
        assert!(!begin(&mut ranges, 9, 10));
        let shown = Arc::clone(&pasts[0].1);
        pasts.clear();
        assert!(begin(&mut ranges, 5, 305));
        assert!(!begin(&mut ranges, 6, 7), "one is shown, one is read");
        ranges.end(&[5, 7], None);
        drop(shown);
        assert!(begin(&mut ranges, 6, 406));
    }

    #[test]
    fn journal_range_advances_shard_by_shard() {
        let changed =
            |shard, after_pos, pos| Arc::new(Changed::new((shard, after_pos, pos), Vec::new()));
        let changed = vec![changed(0, 1, 3), changed(0, 3, 4), changed(1, 7, 9)];
        let (from, upto) = (vec![1, 7].into(), vec![4, 9].into());
        let range = JournalRange { changed, from, upto };
        let seen: Vec<Vec<i64>> = (0..4).map(|shown| range.seen(shown).to_vec()).collect();
        assert_eq!(seen, [[1, 7], [3, 7], [4, 7], [4, 9]]);
    }
}
