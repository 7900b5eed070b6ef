//! The trait of a topic that is a list ([`ListTopic`]), and the topics of a server. This module
//! merges several changes of one entity for all topics; the topics themselves are in `topic_orders`,
//! `topic_stock` and `topic_rows`.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use bytestring::ByteString;
use serde::Serialize;
use serde_json::Value;

use super::message::{Changes, ListMessage, Snapshot};
use super::refusal::Wrong;
use crate::actors::engine::changes::{Change, Changed};
use crate::actors::engine::projections::LiveList;
use crate::actors::node::Node;
use crate::domain::entity::EntityId;
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::principal::Scope;
use crate::store::Store;

/// A topic of the live feed for a list.
#[async_trait]
pub trait ListTopic: Send + Sync + 'static {
    /// The list whose changes the topic shows.
    type List: LiveList;
    /// A parsed filter of the list.
    type Filter: Send + Sync + 'static;
    /// A row of a snapshot in its wire format.
    type Row: Serialize + Send + Sync + 'static;
    /// A change in its wire format.
    type Change<'a>: Serialize;

    /// The name of the topic, as clients send it.
    fn name(&self) -> &'static str;

    /// The scope that a subscription requires.
    fn scope(&self) -> Scope;

    /// Parses a filter; `{}` matches everything.
    ///
    /// # Errors
    /// [`Wrong`] for an invalid filter.
    fn filter(&self, input: Value) -> Result<Self::Filter, Wrong>;

    /// Adds the faults of a filter that only a look-up finds.
    ///
    /// # Errors
    /// The store's.
    async fn look_up(
        &self,
        _: (&Node, &Store),
        _: &Value,
        _: &mut RequestFaults,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Whether a filter matches an entity after a change.
    fn matches_after(&self, filter: &Self::Filter, change: &Change<Self::List>) -> bool;

    /// Whether a filter matched an entity before a change: as after it, unless the filter is about
    /// values that change.
    fn matches_before(&self, filter: &Self::Filter, change: &Change<Self::List>) -> bool {
        self.matches_after(filter, change)
    }

    /// The approximate size of a change in its frame, in bytes. `known`: the frame already has a
    /// change of this entity, with which this one is merged.
    fn bytes(&self, change: &Change<Self::List>, known: bool) -> usize;

    /// The wire format of the merged changes of one entity, for a filter that matches it; `None` if
    /// they cannot be shown.
    fn change<'a>(
        &self,
        filter: &Self::Filter,
        merged: &Merged<'a, Self::List>,
    ) -> Option<Self::Change<'a>>;

    /// The first rows that match a filter, at most `limit`, and the cursor of the list's projection
    /// in each shard, or the end of the journal for a list of plain rows, read in the same
    /// transaction.
    ///
    /// # Errors
    /// The errors of the store.
    async fn snapshot(
        &self,
        store: &Store,
        filter: &Self::Filter,
        limit: u32,
    ) -> Result<(Vec<Self::Row>, Vec<(u16, i64)>), Error>;
}

/// One or several changes of one entity.
pub struct Merged<'a, L: LiveList> {
    /// The first of them.
    pub first: &'a Change<L>,
    /// The last of them.
    pub last: &'a Change<L>,
    /// The events of these changes, oldest first.
    pub events: Vec<&'a [L::Happened]>,
    /// Whether the filter matches the entity now.
    pub matches: bool,
}

/// The topics of a server that are lists.
#[derive(Clone, Default)]
pub struct Topics(Vec<Arc<dyn AnyTopic>>);

impl Topics {
    /// Adds a topic.
    #[must_use]
    pub fn with<T: ListTopic>(mut self, topic: T) -> Self {
        self.0.push(Arc::new(Named(Arc::new(topic))));
        self
    }

    /// The names of the topics.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|topic| topic.name())
    }

    /// The topic with this name.
    pub(super) fn find(&self, name: &str) -> Option<&dyn AnyTopic> {
        self.0.iter().map(AsRef::as_ref).find(|topic| topic.name() == name)
    }
}

/// A [`ListTopic`] of any type.
#[async_trait]
pub(super) trait AnyTopic: Send + Sync {
    fn name(&self) -> &'static str;

    fn scope(&self) -> Scope;

    /// Parses the filter of a subscription.
    fn ask(&self, filter: Value) -> Result<TopicQuery, Wrong>;

    /// Adds the faults of a filter that only a look-up finds.
    async fn look_up(
        &self,
        shop: (&Node, &Store),
        filter: &Value,
        faults: &mut RequestFaults,
    ) -> Result<(), Error>;
}

struct Named<T>(Arc<T>);

#[async_trait]
impl<T: ListTopic> AnyTopic for Named<T> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn scope(&self) -> Scope {
        self.0.scope()
    }

    fn ask(&self, filter: Value) -> Result<TopicQuery, Wrong> {
        let text = filter.to_string();
        let by = TopicFilter { filter: self.0.filter(filter)?, topic: Arc::clone(&self.0) };
        Ok(TopicQuery { topic: self.name(), text, filter: Arc::new(by) })
    }

    async fn look_up(
        &self,
        shop: (&Node, &Store),
        filter: &Value,
        faults: &mut RequestFaults,
    ) -> Result<(), Error> {
        self.0.look_up(shop, filter, faults).await
    }
}

/// The topic and filter of a subscription. Equal ones share frames and snapshots.
#[derive(Clone)]
pub(in crate::http) struct TopicQuery {
    topic: &'static str,
    /// The filter as JSON, for comparisons.
    text: String,
    pub(super) filter: Arc<dyn AnyFilter>,
}

impl PartialEq for TopicQuery {
    fn eq(&self, other: &Self) -> bool {
        (self.topic, &self.text) == (other.topic, &other.text)
    }
}

impl Eq for TopicQuery {}

impl Hash for TopicQuery {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.topic, &self.text).hash(state);
    }
}

/// A filter of any topic.
#[async_trait]
pub(super) trait AnyFilter: Send + Sync {
    /// Begins a frame of changes.
    fn gather(&self) -> Box<dyn Gather<'_> + '_>;

    /// Takes a snapshot of at most `limit` rows.
    async fn snapshot(&self, store: &Store, limit: u32) -> Result<SnapshotPage, Error>;
}

/// The rows of a snapshot, and the position of each shard that they show.
pub(super) struct SnapshotPage {
    pub(super) rows: Box<dyn SnapshotRows>,
    /// Whether there are more rows.
    pub(super) more: bool,
    pub(super) cursors: Vec<(u16, i64)>,
    /// Whether a projection writes the rows.
    pub(super) is_projected: bool,
}

/// Rows of a snapshot, of any type.
pub(super) trait SnapshotRows: Send + Sync {
    /// The snapshot message with these rows.
    fn frame(&self, id: &str, token: String, more: bool) -> ByteString;
}

impl<R: Serialize + Send + Sync> SnapshotRows for Vec<R> {
    fn frame(&self, id: &str, token: String, more: bool) -> ByteString {
        ListMessage::Snapshot(Snapshot { id, token, data: self, more }).frame()
    }
}

/// Changes that are collected for a frame.
pub(super) trait Gather<'a> {
    /// The approximate number of bytes that a batch adds.
    fn size(&self, changed: &Changed) -> usize;

    /// Adds the changes of a batch.
    fn take(&mut self, changed: &'a Changed);

    /// The message; `None` if there is no change for the subscription.
    fn frame(self: Box<Self>, id: &str, token: &dyn Fn() -> String) -> Option<ByteString>;
}

/// A filter of a topic.
struct TopicFilter<T: ListTopic> {
    topic: Arc<T>,
    filter: T::Filter,
}

#[async_trait]
impl<T: ListTopic> AnyFilter for TopicFilter<T> {
    fn gather(&self) -> Box<dyn Gather<'_> + '_> {
        Box::new(Gathered { by: self, merged: Vec::new(), known: HashMap::new() })
    }

    async fn snapshot(&self, store: &Store, limit: u32) -> Result<SnapshotPage, Error> {
        // One extra row shows whether there are more.
        let (mut rows, cursors) = self.topic.snapshot(store, &self.filter, limit + 1).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let is_projected = T::List::IS_PROJECTED;
        Ok(SnapshotPage { rows: Box::new(rows), more, cursors, is_projected })
    }
}

/// Changes of a list that are collected for a frame: several of one entity become one, with the
/// newest state and all events.
struct Gathered<'a, T: ListTopic> {
    by: &'a TopicFilter<T>,
    merged: Vec<Merged<'a, T::List>>,
    known: HashMap<&'a EntityId, usize>,
}

impl<T: ListTopic> TopicFilter<T> {
    fn concerns(&self, change: &Change<T::List>) -> bool {
        self.topic.matches_after(&self.filter, change)
            || self.topic.matches_before(&self.filter, change)
    }
}

impl<'a, T: ListTopic> Gather<'a> for Gathered<'a, T> {
    fn size(&self, changed: &Changed) -> usize {
        let size = |change: &Change<T::List>| {
            let known = self.known.contains_key(&change.entity);
            let shown = known || self.by.concerns(change);
            if shown { self.by.topic.bytes(change, known) } else { 0 }
        };
        changed.of::<T::List>().iter().map(size).sum()
    }

    fn take(&mut self, changed: &'a Changed) {
        for change in changed.of::<T::List>() {
            let known = self.known.get(&change.entity);
            if let Some(merged) = known.and_then(|known| self.merged.get_mut(*known)) {
                merged.last = change;
                merged.events.push(&change.events);
            } else if self.by.concerns(change) {
                self.known.insert(&change.entity, self.merged.len());
                let events = vec![change.events.as_slice()];
                self.merged.push(Merged { first: change, last: change, events, matches: false });
            }
        }
    }

    fn frame(self: Box<Self>, id: &str, token: &dyn Fn() -> String) -> Option<ByteString> {
        let TopicFilter { topic, filter } = self.by;
        let shape = |merged: Merged<'a, T::List>| {
            let matches = topic.matches_after(filter, merged.last);
            // An entity that matches neither before the first change nor after the last one is left
            // out.
            if !matches && !topic.matches_before(filter, merged.first) {
                return None;
            }
            topic.change(filter, &Merged { matches, ..merged })
        };
        let data: Vec<T::Change<'a>> = self.merged.into_iter().filter_map(shape).collect();
        let changes = |data| ListMessage::Changes(Changes { id, token: token(), data });
        (!data.is_empty()).then(|| changes(data).frame())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use serde_json::json;

    use super::*;
    use crate::actors::engine::projections::Happened;
    use crate::actors::stock_rows::{SkuLevels, StockRows};
    use crate::domain::id::Sku;
    use crate::domain::stock;
    use crate::domain::time::Timestamp;
    use crate::store::stock::Row;

    /// A topic that this crate does not have: SKUs with few units.
    struct Scarce;

    fn units(levels: &SkuLevels) -> i64 {
        levels.rows.iter().map(|row| row.on_hand).sum()
    }

    #[async_trait]
    impl ListTopic for Scarce {
        type List = StockRows;
        type Filter = i64;
        type Row = String;
        type Change<'a> = Value;

        fn name(&self) -> &'static str {
            "scarce"
        }

        fn scope(&self) -> Scope {
            Scope::StockRead
        }

        fn filter(&self, input: Value) -> Result<i64, Wrong> {
            input["most"].as_i64().ok_or_else(Wrong::unknown_filter)
        }

        fn matches_after(&self, most: &i64, change: &Change<StockRows>) -> bool {
            units(&change.shown) <= *most
        }

        fn matches_before(&self, _: &i64, change: &Change<StockRows>) -> bool {
            change.after > 0
        }

        fn bytes(&self, _: &Change<StockRows>, known: bool) -> usize {
            if known { 1 } else { 10 }
        }

        fn change<'a>(&self, _: &i64, merged: &Merged<'a, StockRows>) -> Option<Value> {
            let Merged { first, last, events, matches } = merged;
            let events: usize = events.iter().map(|events| events.len()).sum();
            Some(json!([last.shown.sku, first.after, last.version, events, matches]))
        }

        async fn snapshot(
            &self,
            _: &Store,
            _: &i64,
            _: u32,
        ) -> Result<(Vec<String>, Vec<(u16, i64)>), Error> {
            Ok((Vec::new(), Vec::new()))
        }
    }

    fn change(sku: &str, after: i64, on_hand: i64) -> Change<StockRows> {
        let sku: Sku = sku.parse().unwrap();
        let row = Row {
            sku: sku.clone(),
            location: "main".to_owned(),
            on_hand,
            reserved: 0,
            allocated: 0,
            incoming: 0,
            sold: 0,
            updated_at: Timestamp::default(),
            version: after + 1,
        };
        let by = "operator".into();
        let kind = "adjusted".into();
        let at = Timestamp::default();
        let happened = Happened { seq: after + 1, kind, at, by, by_name: None };
        Change {
            entity: stock::entity_id(&sku),
            after,
            version: after + 1,
            before: None,
            shown: SkuLevels { sku, rows: vec![row], beside: OnceLock::new() },
            events: vec![happened],
        }
    }

    #[test]
    fn custom_topic_merges_changes_of_one_entity() {
        let topics = Topics::standard().with(Scarce);
        assert!(topics.find("stock").is_some() && topics.find("weather").is_none());
        let topic = topics.find("scarce").unwrap();
        assert!(topic.ask(json!({})).is_err());
        let asked = topic.ask(json!({"most": 5})).ok().unwrap();
        assert!(asked == topic.ask(json!({"most": 5})).ok().unwrap());
        assert!(asked != topic.ask(json!({"most": 6})).ok().unwrap());
        let step = |pos, changes: Vec<Change<StockRows>>| {
            Changed::new((0, pos - 1, pos), vec![Box::new(changes)])
        };
        let first = step(1, vec![change("A", 0, 3), change("B", 0, 9), change("C", 2, 9)]);
        let second = step(2, vec![change("A", 1, 4), change("B", 1, 8)]);
        let mut gathered = asked.filter.gather();
        assert_eq!(gathered.size(&first), 20, "B is not taken yet");
        gathered.take(&first);
        assert_eq!(gathered.size(&second), 11);
        gathered.take(&second);
        let frame = gathered.frame("s", &|| "t".to_owned()).unwrap();
        let message: Value = serde_json::from_str(&frame).unwrap();
        let data = json!([["A", 0, 2, 2, true], ["C", 2, 3, 1, false], ["B", 1, 2, 1, false]]);
        assert_eq!(message, json!({"type": "changes", "id": "s", "token": "t", "data": data}));
    }
}
