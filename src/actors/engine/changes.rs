//! The feed of changes to lists. The projector publishes the changes of each batch of events, list
//! by list, once their rows are written. The follower publishes the changes of shards that other
//! nodes own; the rows of these may be written a moment later.
//!
//! The feed may lose changes: a subscriber that falls behind, or starts later, calls `read`, which
//! folds the events of the journal into changes of the same form. The feed does not know its
//! subscribers, the wire format of a change, or the nouns.

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::{Notify, broadcast};

use super::projections::runner::{EventOutcome, RunningProjection};
use super::projections::{LiveList, Projections};
use crate::domain::entity::{EntityId, Record};
use crate::store::journal::{Journal, ReadError};

/// The number of published messages ([`Changed`]) by which a slow subscriber may be behind before
/// it has to read the journal.
const DEPTH: usize = 1_024;
/// Events that are read from the journal at once, and the most events in one [`Changed`] that
/// [`read`] makes.
const PAGE: u32 = 256;

/// The change of an entity in a list, by one or more events.
pub struct Change<L: LiveList> {
    /// The entity.
    pub entity: EntityId,
    /// The seq of its last event before the change, 0 if it is new.
    pub after: i64,
    /// The seq of its last event after the change.
    pub version: i64,
    /// The values by which the list can be filtered, before the change; `None` if the entity is
    /// new.
    pub before: Option<L::Facets>,
    /// Its row in the list after the change.
    pub shown: L::Shown,
    /// The events of the change, in order.
    pub events: Vec<L::Happened>,
}

/// The changes of one list of any kind.
pub trait ChangeSet: Any + Send + Sync {
    /// How many entities changed.
    fn count(&self) -> usize;

    /// How much memory the changes take, as a multiple of that of a change of an order.
    fn weight(&self) -> usize;
}

impl<L: LiveList> ChangeSet for Vec<Change<L>> {
    fn count(&self) -> usize {
        self.len()
    }

    fn weight(&self) -> usize {
        self.iter().map(|change| L::weight(&change.shown)).sum()
    }
}

/// The changes of a shard between two positions of its journal.
pub struct Changed {
    /// The shard.
    pub shard: u16,
    /// The position before its first event.
    pub after_pos: i64,
    /// The position of its last event.
    pub pos: i64,
    /// The changes of each list.
    lists: Vec<Box<dyn ChangeSet>>,
}

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, after_pos, pos, .. } = self;
        write!(f, "{} changes of shard {shard} behind {after_pos} up to {pos}", self.len())
    }
}

impl Changed {
    /// The changes of a shard after one position up to another, by list.
    #[must_use]
    pub fn new((shard, after_pos, pos): (u16, i64, i64), lists: Vec<Box<dyn ChangeSet>>) -> Self {
        Self { shard, after_pos, pos, lists }
    }

    /// A gap: there may be changes up to `pos` that this message does not contain. Subscribers read
    /// them from the journal.
    pub(super) const fn unknown(shard: u16, pos: i64) -> Self {
        Self { shard, after_pos: pos, pos, lists: Vec::new() }
    }

    /// The changes of one list, with each entity once, sorted by id.
    #[must_use]
    pub fn of<L: LiveList>(&self) -> &[Change<L>] {
        let list = self.lists.iter().find_map(|list| {
            let list: &dyn Any = list.as_ref();
            list.downcast_ref::<Vec<Change<L>>>()
        });
        list.map_or(&[], Vec::as_slice)
    }

    /// How many entities changed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lists.iter().map(|list| list.count()).sum()
    }

    /// How much memory the changes take, as a multiple of that of a change of an order.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.lists.iter().map(|list| list.weight()).sum()
    }

    /// Whether no list has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Publishes changes to all subscribers.
#[derive(Clone, Debug)]
pub struct ChangeFeed {
    sender: broadcast::Sender<Arc<Changed>>,
    /// The position up to which each shard was published.
    heads: Arc<[AtomicI64]>,
    /// The position up to which the rows of each shard were written, as far as this node knows.
    written: Arc<[AtomicI64]>,
    begun: Arc<Notify>,
}

impl ChangeFeed {
    /// A feed of this many shards.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        let zeros = || (0..shards.max(1)).map(|_| AtomicI64::new(0)).collect();
        let sender = broadcast::Sender::new(DEPTH);
        Self { sender, heads: zeros(), written: zeros(), begun: Arc::default() }
    }

    /// Subscribes. If the next change has a higher `after_pos` than its shard has in
    /// [`ChangeFeed::heads`], changes are missing in between.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Changed>> {
        let receiver = self.sender.subscribe();
        self.begun.notify_one();
        receiver
    }

    /// The position up to which each shard was published.
    #[must_use]
    pub fn heads(&self) -> Vec<i64> {
        self.heads.iter().map(|head| head.load(Ordering::Acquire)).collect()
    }

    /// The position of each shard in rows that were read together with these cursors; 0 for a shard
    /// without a cursor. `None` if the rows are older than rows already written, because they are
    /// being rebuilt.
    #[must_use]
    pub fn rows_at(&self, cursors: &[(u16, i64)]) -> Option<Arc<[i64]>> {
        let mut seen = vec![0; self.heads.len()];
        for (shard, pos) in cursors {
            if let Some(there) = seen.get_mut(usize::from(*shard)) {
                *there = *pos;
            }
        }
        let later =
            |(written, pos): (&AtomicI64, &i64)| written.fetch_max(*pos, Ordering::AcqRel) <= *pos;
        self.written.iter().zip(&seen).all(later).then(|| seen.into())
    }

    /// The position up to which a shard was published.
    pub(in crate::actors) fn head(&self, shard: u16) -> i64 {
        self.heads.get(usize::from(shard)).map_or(0, |head| head.load(Ordering::Acquire))
    }

    pub(in crate::actors) fn listened(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Resolves when a subscriber has called [`ChangeFeed::listen`].
    pub(in crate::actors) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Records that a shard is published up to `pos`.
    pub(in crate::actors) fn reached(&self, shard: u16, pos: i64) {
        if let Some(head) = self.heads.get(usize::from(shard)) {
            head.fetch_max(pos, Ordering::AcqRel);
        }
    }

    /// Records that the rows of a shard are written up to `pos`.
    pub(in crate::actors) fn wrote(&self, shard: u16, pos: i64) {
        if let Some(written) = self.written.get(usize::from(shard)) {
            written.fetch_max(pos, Ordering::AcqRel);
        }
    }

    pub(in crate::actors) fn publish(&self, changed: Changed) {
        // An error means that nobody is subscribed.
        let _nobody = self.sender.send(Arc::new(changed));
    }
}

/// Limits of [`read`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most events of the range; as many again may be read before the range to find the
    /// previous states.
    pub events: usize,
    /// The most entities with changes, over all lists and shards.
    pub entities: usize,
}

/// Lists that are folded while a range of the journal is read.
struct Reading<'a> {
    journal: &'a dyn Journal,
    lists: Vec<Box<dyn RunningProjection>>,
    /// Entities with an event that cannot be read: nothing is published for them.
    unreadable: HashSet<EntityId>,
    /// Events that may still be folded to find the state before the range.
    left: i64,
    entities_max: usize,
}

/// Reads from the journal the changes after the positions `after`, up to the positions `until`;
/// both have one position per shard. The answer has the shards one after the other, each in ranges
/// of at most 256 events. `None` if the range exceeds `bounds`.
///
/// # Errors
/// [`ReadError`] of the journal.
pub async fn read(
    journal: &dyn Journal,
    projections: &Projections,
    (after, until): (&[i64], &[i64]),
    bounds: Bounds,
) -> Result<Option<Vec<Arc<Changed>>>, ReadError> {
    let max = i64::try_from(bounds.events).unwrap_or(i64::MAX);
    if distance(after, until) > max {
        return Ok(None);
    }
    let mut reading = Reading {
        journal,
        lists: projections.live_runners(),
        unreadable: HashSet::new(),
        left: max,
        entities_max: bounds.entities,
    };
    let mut all = Vec::new();
    for (shard, (after, until)) in (0..).zip(after.iter().zip(until)) {
        if !reading.read_shard((shard, *after, *until), &mut all).await? {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

/// The number of events between two vectors of positions, over all shards.
#[must_use]
pub fn distance(after: &[i64], until: &[i64]) -> i64 {
    let between = |(after, until): (&i64, &i64)| until.saturating_sub(*after).max(0);
    after.iter().zip(until).map(between).fold(0, i64::saturating_add)
}

impl Reading<'_> {
    /// Adds the changes of one shard; `false` if they exceed the bounds.
    async fn read_shard(
        &mut self,
        (shard, after, until): (u16, i64, i64),
        all: &mut Vec<Arc<Changed>>,
    ) -> Result<bool, ReadError> {
        let mut at = after;
        while at < until {
            let page = self.journal.read_shard(shard, at, PAGE).await?;
            let Some(last) = page.iter().map(|record| record.pos).filter(|pos| *pos <= until).max()
            else {
                return Ok(false);
            };
            for record in page.iter().filter(|record| record.pos <= last) {
                if !self.fold(record).await? {
                    return Ok(false);
                }
            }
            let entities: usize = self.lists.iter().map(|list| list.entities()).sum();
            if entities + self.unreadable.len() > self.entities_max {
                return Ok(false);
            }
            let lists = self.lists.iter_mut().filter_map(|list| list.news(shard));
            all.push(Arc::new(Changed::new((shard, at, last), lists.collect())));
            at = last;
        }
        Ok(true)
    }

    /// Folds an event; `false` if it exceeds the bounds.
    async fn fold(&mut self, record: &Record) -> Result<bool, ReadError> {
        if self.unreadable.contains(&record.entity) {
            return Ok(true);
        }
        for list in self.lists.iter_mut().filter(|list| list.listens_to(&record.entity)) {
            match list.fold(self.journal, record, true, &mut self.left).await? {
                EventOutcome::Folded => {}
                EventOutcome::Unreadable(_) => drop(self.unreadable.insert(record.entity.clone())),
                EventOutcome::TooMuch => return Ok(false),
            }
        }
        Ok(true)
    }
}
