//! The changes that are collected while events are folded, to be published once their rows are
//! written: the previous state of each entity, and its events.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::projection::{Keyed, LiveList};
use crate::actors::engine::changes::{Change, ChangeSet};
use crate::actors::engine::fold::Folded;
use crate::domain::entity::{EntityId, Record};
use crate::store::personal::Keys;

/// Collects the changes of entities with the state `S`.
pub(super) trait News<S>: Send + Sync {
    /// Adds an event that is about to be folded into a state.
    fn note(&mut self, before: &S, record: &Record);

    /// The collected changes of a shard, with the new states. Entities that cannot be shown in the
    /// list are left out.
    fn take(
        &mut self,
        shard: u16,
        folded: &HashMap<EntityId, Folded<S>>,
        keys: Option<&Keys>,
    ) -> Box<dyn ChangeSet>;

    /// Whether nothing is collected.
    fn is_empty(&self) -> bool;

    /// Discards everything.
    fn clear(&mut self);
}

/// Collects the changes of one list.
pub(super) struct Notes<L: LiveList> {
    list: Arc<L>,
    by_shard: BTreeMap<u16, HashMap<EntityId, Note<L>>>,
}

/// The collected changes of an entity.
struct Note<L: LiveList> {
    after: i64,
    before: Option<L::Facets>,
    events: Vec<L::Happened>,
}

impl<L: LiveList> Notes<L> {
    pub(super) fn new(list: Arc<L>) -> Self {
        Self { list, by_shard: BTreeMap::new() }
    }
}

impl<L: LiveList> News<L::State> for Notes<L> {
    fn note(&mut self, before: &L::State, record: &Record) {
        let happened = self.list.happened(record);
        let notes = self.by_shard.entry(record.shard).or_default();
        match notes.entry(record.entity.clone()) {
            Entry::Occupied(mut note) => note.get_mut().events.push(happened),
            Entry::Vacant(new) => {
                let after = record.seq - 1;
                let before = (after > 0).then(|| self.list.facets(before));
                new.insert(Note { after, before, events: vec![happened] });
            }
        }
    }

    fn take(
        &mut self,
        shard: u16,
        folded: &HashMap<EntityId, Folded<L::State>>,
        keys: Option<&Keys>,
    ) -> Box<dyn ChangeSet> {
        let notes = self.by_shard.remove(&shard).unwrap_or_default();
        let change = |(entity, note): (EntityId, Note<L>)| {
            let Note { after, before, events } = note;
            let now = folded.get(&entity)?;
            let shown = self.list.shown(&entity, &Keyed { folded: now, keys, before: None })?;
            Some(Change::<L> { after, version: now.seq, before, shown, events, entity })
        };
        let mut changes: Vec<Change<L>> = notes.into_iter().filter_map(change).collect();
        changes.sort_unstable_by(|one, other| one.entity.cmp(&other.entity));
        Box::new(changes)
    }

    fn is_empty(&self) -> bool {
        self.by_shard.is_empty()
    }

    fn clear(&mut self) {
        self.by_shard.clear();
    }
}
