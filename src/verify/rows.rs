//! Compares every projected row with the fold of its events (I6). This code is the same for all
//! kinds of rows; what differs is in `listed_rows` and in the books.
//!
//! A row contains the seq of its last event, and is compared with the fold up to exactly that
//! event. So a row may be newer than the events that were read at the start, and may lag behind the
//! journal, but not behind its projection's cursor.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::replay::replay;
use super::{Error, damaged_keys};
use crate::actors::engine::projections::Keyed;
use crate::domain::entity::{EntityId, Noun};
use crate::domain::sealed::KeyId;
use crate::store::journal::Journal;
use crate::store::list_page::page;
use crate::store::list_row::{RowKey, key};
use crate::store::personal::Keys;
use crate::store::row::{ColumnKind, TableRow, Value};
use crate::store::{LIST_MAX, Tables};

/// The cursors of each projection in each shard, read before any row was.
pub(super) type Cursors = BTreeMap<&'static str, BTreeMap<u16, i64>>;

/// The number of further rows of an entity that are read, in case that rows were added meanwhile.
const MORE_ROWS: u32 = 16;

/// The store whose rows are compared, its journal, and the cursors of its projections.
pub struct RowComparison<'a> {
    pub(super) store: &'a dyn Tables,
    pub(super) journal: &'a dyn Journal,
    pub(super) cursors: Cursors,
}

/// A row that is projected from the events of one entity.
pub trait FoldedRow: TableRow + PartialEq + std::fmt::Debug {
    /// The noun whose state is the fold.
    type State: Noun;
    /// The name of its projection.
    const PROJECTION: &'static str;

    /// Its entity.
    fn entity(&self) -> EntityId;

    /// The seq of the last event that it contains.
    fn version(&self) -> i64;

    /// All rows of an entity, computed from its fold.
    fn fresh(entity: &EntityId, folded: &Keyed<'_, Self::State>) -> Vec<Self>;

    /// Adds the ids of the keys of a state's personal values that the rows need.
    fn key_ids(_state: &Self::State, _ids: &mut BTreeSet<KeyId>) {}

    /// Whether the row lacks later events of its entity, of which `later` is the row.
    fn is_behind(&self, _later: &Self) -> bool {
        true
    }
}

/// A book of the entities whose rows are compared.
pub(super) trait RowKeeper<R> {
    /// Compares the rows that were read with the state in the book.
    fn see(&mut self, entity: &EntityId, rows: &[R]) -> RowKnowledge;

    /// Reports wrong rows.
    fn report(&mut self, entity: &EntityId, positions: &[i64], message: String);
}

/// The result of comparing an entity's rows with a book.
pub(super) enum RowKnowledge {
    /// The rows are right, or cannot be checked.
    Settled,
    /// The rows differ from the book, so they must be compared with a replay. Contains the position
    /// of the entity's last event in the book, if there is one.
    Open(Option<i64>),
}

impl RowComparison<'_> {
    /// The cursor of a projection in the shard of an entity.
    pub(super) fn cursor(&self, projection: &str, entity: &EntityId) -> i64 {
        let shard = entity.shard(self.journal.shards());
        let cursors = self.cursors.get(projection);
        cursors.and_then(|cursors| cursors.get(&shard)).copied().unwrap_or(0)
    }

    /// Compares all rows of a table, entity by entity.
    pub(super) async fn compare_all<R: FoldedRow>(
        &self,
        keeper: &mut (impl RowKeeper<R> + Send),
    ) -> Result<(), Error> {
        let mut after: Option<RowKey> = None;
        let mut rows: Vec<R> = Vec::new();
        loop {
            let page = page::<R>(self.store, after.as_ref(), LIST_MAX).await?;
            let full = page.len() == LIST_MAX as usize;
            after = page.last().map(key).or(after);
            for row in page {
                if rows.last().is_some_and(|last| last.entity() != row.entity()) {
                    self.compare_entity(keeper, std::mem::take(&mut rows)).await?;
                }
                rows.push(row);
            }
            if !full {
                return self.compare_entity(keeper, rows).await;
            }
        }
    }

    /// Compares the rows of one entity. If they differ from the book, and the entity may have
    /// several rows, all of them are read once more, by one query.
    async fn compare_entity<R: FoldedRow>(
        &self,
        keeper: &mut (impl RowKeeper<R> + Send),
        mut rows: Vec<R>,
    ) -> Result<(), Error> {
        let Some(first) = rows.first() else { return Ok(()) };
        let (entity, before) = (first.entity(), before_all(first));
        let RowKnowledge::Open(last_pos) = keeper.see(&entity, &rows) else { return Ok(()) };
        if let Some(before) = before {
            let limit = u32::try_from(rows.len()).unwrap_or(LIST_MAX) + MORE_ROWS;
            rows = page(self.store, Some(&before), limit.min(LIST_MAX)).await?;
            rows.retain(|row| row.entity() == entity);
        }
        let version = rows.iter().map(FoldedRow::version).max().unwrap_or(0);
        let Some(folded) = replay::<R::State>(self.journal, &entity, version).await? else {
            return Ok(());
        };
        let keys = self.keys::<R>(&folded.state).await?;
        let fresh =
            R::fresh(&entity, &Keyed { folded: &folded, keys: keys.as_ref(), before: None });
        let positions = last_pos.or(Some(folded.pos)).filter(|pos| *pos > 0);
        let positions: Vec<i64> = positions.into_iter().collect();
        let fault = if folded.seq == 0 {
            Some((positions, "its row has no event".to_owned()))
        } else if fresh != rows {
            Some((positions, difference(&format!("{rows:?}"), &format!("{fresh:?}"))))
        } else {
            self.behind(&entity, &rows, version).await?
        };
        if let Some((positions, message)) = fault {
            keeper.report(&entity, &positions, message);
        }
        Ok(())
    }

    /// The keys of the personal values that the rows of a state need.
    async fn keys<R: FoldedRow>(&self, state: &R::State) -> Result<Option<Keys>, Error> {
        let mut ids = BTreeSet::new();
        R::key_ids(state, &mut ids);
        if ids.is_empty() {
            return Ok(None);
        }
        // What is damaged was reported when the order's events were read.
        let _reported = damaged_keys(self.store, &mut ids).await?;
        Ok(Some(self.store.personal_keys(&ids).await?))
    }

    /// Reports rows that lack an event up to their projection's cursor.
    async fn behind<R: FoldedRow>(
        &self,
        entity: &EntityId,
        rows: &[R],
        version: i64,
    ) -> Result<RowFault, Error> {
        let next = self.journal.read_entity(entity, version, LIST_MAX).await?;
        let cursor = self.cursor(R::PROJECTION, entity);
        let late: Vec<_> = next.iter().take_while(|record| record.pos <= cursor).collect();
        let (Some(first), Some(last)) = (late.first(), late.last()) else { return Ok(None) };
        let Some(folded) = replay::<R::State>(self.journal, entity, last.seq).await? else {
            return Ok(None);
        };
        let keys = self.keys::<R>(&folded.state).await?;
        let later = R::fresh(entity, &Keyed { folded: &folded, keys: keys.as_ref(), before: None });
        let behind = rows.iter().zip(&later).any(|(row, later)| row.is_behind(later));
        Ok((behind || rows.len() != later.len()).then(|| {
            let why = format!("its row is at event {version}, but the cursor is beyond it");
            (vec![first.pos], why)
        }))
    }
}

/// The key before those of all rows of the entity of `row`, which have the same first column;
/// `None` if an entity has only one row.
fn before_all<R: FoldedRow>(row: &R) -> Option<RowKey> {
    let mut key = key(row);
    for (value, column) in key.iter_mut().zip(R::table().columns()).skip(1) {
        *value = match column.kind {
            ColumnKind::Number => Value::Number(i64::MIN),
            ColumnKind::Text => Value::text(""),
            ColumnKind::Flag => Value::Flag(false),
            ColumnKind::Bytes => Value::Bytes(Cow::Borrowed(&[])),
        };
    }
    (key.len() > 1).then_some(key)
}

/// A fault of a row: the positions of the events that show it, and a description.
pub(super) type RowFault = Option<(Vec<i64>, String)>;

/// Describes the first difference between two texts, with the fields around it.
pub(super) fn difference(row: &str, fresh: &str) -> String {
    let same = row.char_indices().zip(fresh.chars()).find(|((_, a), b)| a != b);
    let at = same.map_or(row.len().min(fresh.len()), |((at, _), _)| at);
    let from = row.get(..at).and_then(|head| head.rfind([' ', '{', '['])).map_or(0, |at| at + 1);
    let from = row.get(..from.saturating_sub(1)).and_then(|head| head.rfind(' ')).unwrap_or(from);
    let piece = |text: &str| {
        let rest = text.get(from..).unwrap_or_default().trim();
        rest.chars().take(60).collect::<String>()
    };
    format!("its row says `{}`, its events say `{}`", piece(row), piece(fresh))
}
