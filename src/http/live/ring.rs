//! A ring buffer with the latest batches of changes of all shards, numbered in the order in which
//! they were published; and the positions of subscribers in it. `render` makes frames from the
//! batches.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::actors::engine::changes::{Changed, distance};

/// The position of a subscriber in the feed: the number of the last batch that it has received
/// (`index`), and for each shard the position of the journal up to which it has received everything
/// (`seen`).
#[derive(Clone, Debug)]
pub struct FeedPosition {
    index: u64,
    seen: Arc<[i64]>,
    /// Whether `seen` equals the positions of the ring after batch `index`: then all subscribers
    /// with this index have received the same. Otherwise the subscriber may have received some of
    /// the later batches already, for example in a snapshot.
    aligned: bool,
}

/// What positions that are followed by the same changes have in common: the index, and `seen`
/// unless it is aligned.
pub type Same = (u64, Option<Arc<[i64]>>);

impl FeedPosition {
    /// The position of a subscriber that has received everything up to these positions, but no
    /// batch of the ring.
    #[must_use]
    pub const fn of(seen: Arc<[i64]>) -> Self {
        Self { index: 0, seen, aligned: false }
    }

    /// The position of each shard.
    #[must_use]
    pub const fn seen(&self) -> &Arc<[i64]> {
        &self.seen
    }

    /// A key that is equal for positions that are followed by the same changes.
    #[must_use]
    pub fn same(&self) -> Same {
        (self.index, (!self.aligned).then(|| Arc::clone(&self.seen)))
    }
}

/// An entry of the ring.
#[derive(Debug)]
struct RingEntry {
    /// The number of the entry's last batch.
    index: u64,
    content: EntryContent,
}

#[derive(Debug)]
enum EntryContent {
    Changes(Arc<Changed>),
    /// Consecutive batches without changes, merged: for each shard, the positions before and after.
    Empty(Vec<(u16, i64, i64)>),
}

impl RingEntry {
    fn changes(&self) -> Option<&Changed> {
        match &self.content {
            EntryContent::Changes(changed) => Some(changed),
            EntryContent::Empty(_) => None,
        }
    }

    fn spans(&self) -> impl Iterator<Item = (u16, i64, i64)> + '_ {
        let (one, many) = match &self.content {
            EntryContent::Changes(changed) => {
                (Some((changed.shard, changed.after_pos, changed.pos)), &[][..])
            }
            EntryContent::Empty(spans) => (None, spans.as_slice()),
        };
        one.into_iter().chain(many.iter().copied())
    }
}

/// The latest batches of all shards, without a gap in any shard.
#[derive(Debug)]
pub struct Ring {
    entries: VecDeque<RingEntry>,
    /// The weight of the changes in all entries.
    held: usize,
    held_max: usize,
    /// The number of the last batch; and (`first`) that of the last batch before the first entry.
    index: u64,
    first: u64,
    /// The position of each shard before the first entry; and (`heads`) after the last entry.
    base: Vec<i64>,
    heads: Arc<[i64]>,
}

impl Ring {
    /// A ring for this number of shards that keeps changes of at most this weight.
    #[must_use]
    pub fn new(shards: usize, held_max: usize) -> Self {
        let (base, heads) = (vec![0; shards], vec![0; shards].into());
        Self { entries: VecDeque::new(), held: 0, held_max, index: 1, first: 1, base, heads }
    }

    /// The position of each shard after the last entry.
    #[must_use]
    pub const fn heads(&self) -> &Arc<[i64]> {
        &self.heads
    }

    /// Clears the ring; the next batches must follow these positions.
    pub fn begin_at(&mut self, heads: Vec<i64>) {
        self.entries.clear();
        self.held = 0;
        // Takes a new number, which no subscriber has as its index.
        self.index += 1;
        self.first = self.index;
        self.heads = heads.as_slice().into();
        self.base = heads;
    }

    /// Adds the next batch of a shard. A batch that the ring already contains is ignored; a gap
    /// before the batch, or an overlap, clears the ring.
    pub fn push(&mut self, changed: Arc<Changed>) {
        let (shard, after, pos) = (changed.shard, changed.after_pos, changed.pos);
        let Some(head) = self.heads.get(usize::from(shard)).copied() else { return };
        if pos <= head {
            return;
        }
        if after != head {
            let mut heads = self.heads.to_vec();
            // A batch that overlaps with the previous one is dropped, because its new part cannot
            // be separated.
            let begin = if after > head { after } else { pos };
            heads[usize::from(shard)] = begin;
            self.begin_at(heads);
            if begin == pos {
                return;
            }
        }
        self.index += 1;
        Arc::make_mut(&mut self.heads)[usize::from(shard)] = pos;
        if changed.is_empty() {
            return self.push_empty((shard, after, pos));
        }
        self.held += changed.weight();
        self.entries
            .push_back(RingEntry { index: self.index, content: EntryContent::Changes(changed) });
        while self.held > self.held_max
            && let Some(oldest) = self.entries.pop_front()
        {
            self.held -= oldest.changes().map_or(0, Changed::weight);
            self.first = oldest.index;
            for (shard, _, pos) in oldest.spans() {
                self.base[usize::from(shard)] = pos;
            }
        }
    }

    fn push_empty(&mut self, span: (u16, i64, i64)) {
        if let Some(RingEntry { index, content: EntryContent::Empty(spans) }) =
            self.entries.back_mut()
        {
            *index = self.index;
            match spans.iter_mut().find(|one| one.0 == span.0) {
                Some(one) => one.2 = span.2,
                None => spans.push(span),
            }
            return;
        }
        let content = EntryContent::Empty(vec![span]);
        self.entries.push_back(RingEntry { index: self.index, content });
    }

    /// The number of events by which a subscriber is behind the feed.
    #[must_use]
    pub fn behind(&self, place: &FeedPosition) -> i64 {
        distance(&place.seen, &self.heads)
    }

    /// Whether a subscriber has received all batches.
    #[must_use]
    pub const fn is_at_end(&self, place: &FeedPosition) -> bool {
        place.index == self.index
    }

    /// Whether a subscriber has received more of a shard than the ring contains.
    #[must_use]
    pub fn is_ahead(&self, seen: &[i64]) -> bool {
        seen.iter().zip(self.heads.iter()).any(|(seen, head)| seen > head)
    }

    /// The batches after a position, each with its number; `None` if the ring does not have all of
    /// them, or if the subscriber has received a part of one. An item without a batch stands for
    /// batches without changes, or for one that the subscriber has already received. The last item
    /// has no batch, but the number of the last one.
    #[must_use]
    pub fn since(
        &self,
        place: &FeedPosition,
    ) -> Option<impl Iterator<Item = (u64, Option<&Changed>)>> {
        let there = place.index >= self.first
            || place.seen.iter().zip(&self.base).all(|(seen, base)| seen >= base);
        if !there {
            return None;
        }
        let at = self.entries.partition_point(|entry| entry.index <= place.index);
        let (seen, aligned) = (Arc::clone(&place.seen), place.aligned);
        let is_new = move |changed: &Changed| {
            aligned || seen.get(usize::from(changed.shard)).is_none_or(|seen| changed.pos > *seen)
        };
        let half_seen = |changed: &Changed| {
            let seen = place.seen.get(usize::from(changed.shard));
            seen.is_some_and(|seen| changed.after_pos < *seen && *seen < changed.pos)
        };
        let mut rest = self.entries.range(at..).filter_map(RingEntry::changes);
        if !aligned && rest.any(half_seen) {
            return None;
        }
        let rest = self.entries.range(at..);
        let steps =
            rest.map(move |entry| (entry.index, entry.changes().filter(|changed| is_new(changed))));
        Some(steps.chain(std::iter::once((self.index, None))))
    }

    /// The position of a subscriber after it has received the batches up to this number.
    #[must_use]
    pub fn place(&self, from: &FeedPosition, index: u64) -> FeedPosition {
        let mut seen = Arc::clone(&self.heads);
        if index < self.index {
            let seen = Arc::make_mut(&mut seen);
            for entry in self.entries.iter().rev().take_while(|entry| entry.index > index) {
                for (shard, after, _) in entry.spans() {
                    seen[usize::from(shard)] = after;
                }
            }
        }
        let further = |(before, here): (&i64, &i64)| before > here;
        let aligned = from.aligned || !from.seen.iter().zip(seen.iter()).any(further);
        if !aligned {
            let most = seen.iter().zip(from.seen.iter()).map(|(here, before)| *here.max(before));
            seen = most.collect();
        }
        FeedPosition { index, seen, aligned }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::actors::engine::changes::Change;
    use crate::actors::stock_rows::{SkuLevels, StockRows};
    use crate::domain::id::Sku;
    use crate::domain::stock;

    fn quiet(shard: u16, after_pos: i64, pos: i64) -> Arc<Changed> {
        Arc::new(Changed::new((shard, after_pos, pos), Vec::new()))
    }

    fn full(shard: u16, after_pos: i64, pos: i64) -> Arc<Changed> {
        let sku: Sku = "LAMP".parse().unwrap();
        let change: Change<StockRows> = Change {
            entity: stock::entity_id(&sku),
            after: 0,
            version: 1,
            before: None,
            shown: SkuLevels { sku, rows: Vec::new(), beside: OnceLock::new() },
            events: Vec::new(),
        };
        Arc::new(Changed::new((shard, after_pos, pos), vec![Box::new(vec![change])]))
    }

    fn at(seen: &[i64]) -> FeedPosition {
        FeedPosition::of(seen.into())
    }

    /// The changes after a position, and the position after them.
    fn led(ring: &Ring, place: &FeedPosition) -> Option<(Vec<(u16, i64)>, FeedPosition)> {
        let steps: Vec<_> = ring.since(place)?.collect();
        let changes_after = steps.iter().filter_map(|step| step.1);
        let changes_after = changes_after.map(|changed| (changed.shard, changed.pos)).collect();
        let last = steps.last().map_or_else(|| place.clone(), |step| ring.place(place, step.0));
        Some((changes_after, last))
    }

    fn changes_after(ring: &Ring, place: &FeedPosition) -> Option<Vec<(u16, i64)>> {
        led(ring, place).map(|led| led.0)
    }

    #[test]
    fn empty_steps_are_merged_and_leave_no_gap() {
        let mut ring = Ring::new(1, 10);
        ring.push(full(0, 0, 1));
        let (_, early) = led(&ring, &at(&[0])).unwrap();
        for at in 1..1_000 {
            ring.push(quiet(0, at, at + 1));
        }
        let (none, late) = led(&ring, &early).unwrap();
        assert_eq!((none, late.seen().to_vec()), (vec![], vec![1_000]));
        ring.push(full(0, 1_000, 1_001));
        assert_eq!(ring.entries.len(), 3);
        assert_eq!(changes_after(&ring, &at(&[0])), Some(vec![(0, 1), (0, 1_001)]));
        for within in [1, 500, 999, 1_000] {
            assert_eq!(changes_after(&ring, &at(&[within])), Some(vec![(0, 1_001)]), "{within}");
        }
        assert_eq!(
            (changes_after(&ring, &early), changes_after(&ring, &late)),
            (Some(vec![(0, 1_001)]), Some(vec![(0, 1_001)]))
        );
        assert_eq!(changes_after(&ring, &at(&[1_001])), Some(Vec::new()));
        assert_eq!(changes_after(&ring, &at(&[-1])), None);
    }

    #[test]
    fn shards_advance_independently_and_each_change_is_sent_once() {
        let mut ring = Ring::new(3, 100);
        ring.begin_at(vec![10, 20, 0]);
        ring.push(full(0, 10, 12));
        ring.push(quiet(2, 0, 5));
        ring.push(full(1, 20, 21));
        ring.push(full(0, 12, 13));
        // A subscriber that has received more of one shard than of another.
        let (some, place) = led(&ring, &at(&[12, 20, 3])).unwrap();
        assert_eq!(some, [(1, 21), (0, 13)]);
        assert_eq!((place.seen().to_vec(), place.aligned), (vec![13, 21, 5], true));
        assert!(ring.is_at_end(&place) && ring.behind(&place) == 0);
        // A subscriber that is ahead of the ring gets the rest, and nothing twice.
        let (some, ahead) = led(&ring, &at(&[10, 25, 5])).unwrap();
        assert_eq!(some, [(0, 12), (0, 13)]);
        assert_eq!((ahead.seen().to_vec(), ahead.aligned), (vec![13, 25, 5], false));
        assert!(ring.is_ahead(ahead.seen()) && ring.is_at_end(&ahead));
        ring.push(full(1, 21, 24));
        ring.push(full(1, 24, 25));
        ring.push(full(2, 5, 6));
        let (some, caught) = led(&ring, &ahead).unwrap();
        assert_eq!((some, caught.aligned), (vec![(2, 6)], true));
        assert_eq!(changes_after(&ring, &place), Some(vec![(1, 24), (1, 25), (2, 6)]));
        // A subscriber that has received a part of a batch has to read the journal.
        assert_eq!(changes_after(&ring, &at(&[11, 20, 0])), None);
        assert_eq!(changes_after(&ring, &at(&[9, 20, 0])), None);
        assert_eq!(changes_after(&ring, &at(&[12, 22, 0])), None);
    }

    #[test]
    fn equal_positions_share_the_same_changes() {
        let mut ring = Ring::new(2, 100);
        for pos in 1..=5 {
            ring.push(full(0, pos - 1, pos));
            ring.push(quiet(1, pos - 1, pos));
        }
        let from = at(&[0, 0]);
        let steps: Vec<u64> = ring.since(&from).unwrap().map(|step| step.0).collect();
        assert_eq!(steps.len(), 11);
        for (step, seen) in steps.iter().zip([[1, 0], [1, 1], [2, 1], [2, 2]]) {
            let place = ring.place(&from, *step);
            assert_eq!(place.seen().to_vec(), seen);
            assert_eq!(changes_after(&ring, &place), changes_after(&ring, &at(&seen)));
        }
    }

    #[test]
    fn subscriber_behind_a_gap_or_too_old_is_detected() {
        let mut ring = Ring::new(2, 2);
        let begin = led(&ring, &at(&[0, 0])).unwrap().1;
        ring.push(full(0, 0, 1));
        let (_, one) = led(&ring, &begin).unwrap();
        ring.push(full(1, 0, 1));
        ring.push(full(0, 1, 2));
        assert_eq!(changes_after(&ring, &begin), None, "the first is gone");
        assert_eq!(changes_after(&ring, &one), Some(vec![(1, 1), (0, 2)]));
        // Batches that the ring already has, that overlap with it, and that follow a gap.
        ring.push(full(1, 0, 1));
        assert_eq!(changes_after(&ring, &one), Some(vec![(1, 1), (0, 2)]));
        ring.push(full(1, 0, 3));
        assert_eq!((changes_after(&ring, &one), ring.heads().to_vec()), (None, vec![2, 3]));
        assert_eq!(changes_after(&ring, &at(&[2, 3])), Some(vec![]));
        ring.push(full(0, 5, 6));
        assert_eq!((changes_after(&ring, &at(&[2, 3])), ring.heads().to_vec()), (None, vec![6, 3]));
        assert_eq!(changes_after(&ring, &at(&[5, 3])), Some(vec![(0, 6)]));
        ring.push(quiet(1, 9, 9));
        assert_eq!((changes_after(&ring, &at(&[6, 3])), ring.heads().to_vec()), (None, vec![6, 9]));
        ring.push(full(9, 0, 1));
        assert_eq!(ring.heads().to_vec(), [6, 9], "there is no such shard");
    }
}
