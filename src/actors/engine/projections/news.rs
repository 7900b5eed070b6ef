//! What is noted of events while they are folded, so that it can be told once their rows are
//! written: how each entity stood before, and what happened to it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::projection::LiveList;
use crate::actors::engine::changes::{Change, ChangeSet};
use crate::actors::engine::fold::Folded;
use crate::domain::entity::{EntityId, Record};

/// Notes on the events of entities whose folded state is `S`.
pub(super) trait News<S>: Send + Sync {
    /// Notes an event that is about to be folded into a state.
    fn note(&mut self, before: &S, record: &Record);

    /// What was noted of a shard, with how things stand now. Who cannot be shown is left out.
    fn take(&mut self, shard: u16, folded: &HashMap<EntityId, Folded<S>>) -> Box<dyn ChangeSet>;

    /// Forgets all.
    fn clear(&mut self);
}

/// Notes for a list.
pub(super) struct Notes<L: LiveList> {
    list: Arc<L>,
    by_shard: BTreeMap<u16, HashMap<EntityId, Note<L>>>,
}

/// What is noted of an entity.
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
    ) -> Box<dyn ChangeSet> {
        let notes = self.by_shard.remove(&shard).unwrap_or_default();
        let change = |(entity, note): (EntityId, Note<L>)| {
            let Note { after, before, events } = note;
            let now = folded.get(&entity)?;
            let shown = self.list.shown(&entity, now)?;
            Some(Change::<L> { after, version: now.seq, before, shown, events, entity })
        };
        let mut changes: Vec<Change<L>> = notes.into_iter().filter_map(change).collect();
        changes.sort_unstable_by(|one, other| one.entity.cmp(&other.entity));
        Box::new(changes)
    }

    fn clear(&mut self) {
        self.by_shard.clear();
    }
}
