//! What subscriptions are shown that the ring cannot show: how everything stands, and what
//! happened longer ago. Both are made once for all that ask for the same.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Live;
use super::topic::{SnapshotPage, SnapshotRows, TopicQuery};
use crate::actors::engine::changes::{self, Bounds, Changed, distance};
use crate::http::edge::error::Error;

/// For how long a snapshot is shown to those who ask for the same.
const FRESH: Duration = Duration::from_millis(200);
/// For how long a stretch of the journal is kept for those who come back to the same place.
const KEPT: Duration = Duration::from_secs(2);
/// How many stretches of the journal a hub reads at once.
pub const READS_MAX: usize = 2;
/// How many times the longest stretch a hub holds at once, over all that are shown.
const HELD_MAX: usize = 4;

/// What a snapshot is taken of, with the most rows of it: two that are equal are one query.
pub(super) type SnapshotQuery = (TopicQuery, u32);

/// A snapshot as it was taken at some positions.
pub(super) struct TakenSnapshot {
    /// Rows.
    pub rows: Box<dyn SnapshotRows>,
    /// Whether there are more.
    pub more: bool,
    /// The positions, one a shard.
    pub seen: Arc<[i64]>,
    at: Instant,
}

impl TakenSnapshot {
    /// Whether it may be shown still.
    #[must_use]
    pub fn fresh(&self) -> bool {
        self.at.elapsed() < FRESH
    }

    /// Whether it shows all that was seen at these positions: rows of other nodes' shards may be
    /// later than the news of them.
    #[must_use]
    pub fn shows(&self, seen: &[i64]) -> bool {
        self.seen.iter().zip(seen).all(|(here, seen)| here >= seen)
    }
}

/// Takes a snapshot; nothing while rows are made again, since they show earlier states then, or
/// when they are far behind the news.
///
/// # Errors
/// The store's.
pub(super) async fn take_snapshot(
    live: &Live,
    (ask, limit): &SnapshotQuery,
) -> Result<Option<TakenSnapshot>, Error> {
    let node = &live.node;
    let (heads, at) = (node.changes.heads(), Instant::now());
    let SnapshotPage { rows, more, cursors } = ask.filter.snapshot(&live.store, *limit).await?;
    let seen = node.changes.rows_at(&cursors);
    let near = |seen: &Arc<[i64]>| distance(seen, &heads) <= live.options.behind_max / 2;
    Ok(seen.filter(near).map(|seen| TakenSnapshot { rows, more, seen, at }))
}

/// What happened longer ago.
pub struct Past {
    /// It.
    pub found: StretchLookup,
    at: Instant,
}

/// What the journal has of a stretch.
pub enum StretchLookup {
    /// All.
    All(Arc<Stretch>),
    /// More than is shown.
    TooMuch,
    /// Positions that the journal does not have.
    OfAnotherStore,
}

/// What changed between some positions and others.
pub struct Stretch {
    /// It, shard by shard, oldest first.
    pub changed: Vec<Arc<Changed>>,
    /// The positions before it.
    pub from: Arc<[i64]>,
    /// The positions behind it.
    pub upto: Arc<[i64]>,
}

impl Stretch {
    /// The positions behind so many of the changes.
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
    /// Whether it is kept still.
    #[must_use]
    pub fn fresh(&self) -> bool {
        self.at.elapsed() < KEPT
    }
}

/// The stretches of the journal that are read or shown to somebody still: they are bounded by
/// the events in them, since who is shown one may take long to read it.
#[derive(Default)]
pub struct Stretches(Vec<Room>);

struct Room {
    from: Arc<[i64]>,
    events: i64,
    /// Nothing while it is read.
    held: Option<Weak<Stretch>>,
}

impl Stretches {
    /// Makes room for the stretch from some positions to others; whether there is some.
    pub fn begin(&mut self, from: &Arc<[i64]>, until: &[i64], events_max: usize) -> bool {
        let held = |one: &Room| one.held.as_ref().is_none_or(|held| held.strong_count() > 0);
        self.0.retain(held);
        let events = distance(from, until).max(1);
        let max = i64::try_from(events_max.saturating_mul(HELD_MAX)).unwrap_or(i64::MAX);
        let all = self.0.iter().fold(events, |all, one| all.saturating_add(one.events));
        let room = all <= max.max(1);
        if room {
            self.0.push(Room { from: Arc::clone(from), events, held: None });
        }
        room
    }

    /// Takes note of a stretch that was read, or could not be.
    pub fn end(&mut self, from: &[i64], past: Option<&Past>) {
        let held = past.and_then(|past| match &past.found {
            StretchLookup::All(stretch) => Some(Arc::downgrade(stretch)),
            StretchLookup::TooMuch | StretchLookup::OfAnotherStore => None,
        });
        let at = self.0.iter().position(|one| *one.from == *from && one.held.is_none());
        match (at, held) {
            (Some(at), None) => drop(self.0.swap_remove(at)),
            (Some(at), held) => {
                if let Some(room) = self.0.get_mut(at) {
                    room.held = held;
                }
            }
            (None, _) => {}
        }
    }
}

/// Reads what happened behind `from` up to `until`, shard by shard.
///
/// # Errors
/// The journal's.
pub async fn past(live: &Live, from: Arc<[i64]>, until: Arc<[i64]>) -> Result<Past, Error> {
    let journal = live.node.store.journal();
    let options = &live.options;
    let (events, entities) = (options.resume_events_max, options.resume_entities_max);
    let found = |found| Ok(Past { found, at: Instant::now() });
    for (shard, (from, until)) in (0..).zip(from.iter().zip(until.iter())) {
        // What another node has told already comes here, too; what the journal does not have
        // never will.
        if from > until && *from > journal.last_pos(shard).await? {
            return found(StretchLookup::OfAnotherStore);
        }
    }
    let bounds = Bounds { events, entities };
    let Some(changed) =
        changes::read(journal.as_ref(), &live.node.projections, (&from, &until), bounds).await?
    else {
        return found(StretchLookup::TooMuch);
    };
    let upto = from.iter().zip(until.iter()).map(|(from, until)| *from.max(until)).collect();
    found(StretchLookup::All(Arc::new(Stretch { changed, from, upto })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(stretches: &mut Stretches, from: i64, until: i64) -> bool {
        stretches.begin(&vec![from, 7].into(), &[until, 7], 100)
    }

    #[test]
    fn stretches_are_bounded_until_nobody_is_shown_them() {
        let mut stretches = Stretches::default();
        let mut pasts = Vec::new();
        for from in 0..4 {
            assert!(begin(&mut stretches, from, from + 100), "{from}");
            let (behind, upto) = (vec![from, 7].into(), vec![from + 100, 7].into());
            let stretch = Arc::new(Stretch { changed: Vec::new(), from: behind, upto });
            let past = Past { found: StretchLookup::All(Arc::clone(&stretch)), at: Instant::now() };
            stretches.end(&[from, 7], Some(&past));
            pasts.push((past, stretch));
        }
        assert!(!begin(&mut stretches, 9, 10));
        let shown = Arc::clone(&pasts[0].1);
        pasts.clear();
        assert!(begin(&mut stretches, 5, 305));
        assert!(!begin(&mut stretches, 6, 7), "one is shown, one is read");
        stretches.end(&[5, 7], None);
        drop(shown);
        assert!(begin(&mut stretches, 6, 406));
    }

    #[test]
    fn a_stretch_leads_from_shard_to_shard() {
        let changed =
            |shard, after_pos, pos| Arc::new(Changed::new((shard, after_pos, pos), Vec::new()));
        let changed = vec![changed(0, 1, 3), changed(0, 3, 4), changed(1, 7, 9)];
        let (from, upto) = (vec![1, 7].into(), vec![4, 9].into());
        let stretch = Stretch { changed, from, upto };
        let seen: Vec<Vec<i64>> = (0..4).map(|shown| stretch.seen(shown).to_vec()).collect();
        assert_eq!(seen, [[1, 7], [3, 7], [4, 7], [4, 9]]);
    }
}
