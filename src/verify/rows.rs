//! Compares every projected row with the fold of its events (I6), whatever the row; the kinds of
//! rows are in `listed_rows` and in the books.
//!
//! A row contains the version of its last event. It is compared with the fold up to exactly that
//! event, so rows may be ahead of what was read, or lag; but no row may lag behind its projection's
//! cursor.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Error;
use super::replay::replay;
use crate::actors::engine::fold::Folded;
use crate::domain::entity::{EntityId, Noun};
use crate::store::journal::{Journal, ReadError};
use crate::store::list_page::page;
use crate::store::list_row::{RowKey, key};
use crate::store::row::{ColumnKind, TableRow, Value};
use crate::store::{LIST_MAX, Tables};

/// The cursors of each projection in each shard, before any row was read.
pub(super) type Cursors = BTreeMap<&'static str, BTreeMap<u16, i64>>;

/// Rows of an entity that were possibly not all read before.
const MORE_ROWS: u32 = 16;

/// What rows are compared with, and the store.
pub struct RowComparison<'a> {
    pub(super) store: &'a dyn Tables,
    pub(super) journal: &'a dyn Journal,
    pub(super) cursors: Cursors,
}

/// A row that is projected from the events of one entity.
pub trait FoldedRow: TableRow + PartialEq + std::fmt::Debug {
    /// The fold.
    type State: Noun;
    /// Its projection.
    const PROJECTION: &'static str;

    /// Its entity.
    fn entity(&self) -> EntityId;

    /// The seq of the last event in it.
    fn version(&self) -> i64;

    /// All rows of an entity, computed from its fold.
    fn fresh(entity: &EntityId, folded: &Folded<Self::State>) -> Vec<Self>;
}

/// A book with the entities whose rows are compared.
pub(super) trait RowKeeper<R> {
    /// What is known of an entity's rows, once these were read.
    fn see(&mut self, entity: &EntityId, rows: &[R]) -> RowKnowledge;

    /// Reports wrong rows.
    fn report(&mut self, entity: &EntityId, positions: &[i64], message: String);
}

/// What is known of an entity's rows.
pub(super) enum RowKnowledge {
    /// They are right, or cannot be judged.
    Settled,
    /// They must be compared; the position of the entity's last event, if there is one.
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

    /// Compares the rows of one entity; if it may have several, and they differ from the books,
    /// they are read once more in one snapshot.
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
        let fresh = R::fresh(&entity, &folded);
        let positions = last_pos.or(Some(folded.pos)).filter(|pos| *pos > 0);
        let positions: Vec<i64> = positions.into_iter().collect();
        let fault = if folded.seq == 0 {
            Some((positions, "its row has no event".to_owned()))
        } else if fresh != rows {
            Some((positions, difference(&format!("{rows:?}"), &format!("{fresh:?}"))))
        } else {
            self.behind(R::PROJECTION, &entity, version).await?
        };
        if let Some((positions, message)) = fault {
            keeper.report(&entity, &positions, message);
        }
        Ok(())
    }

    /// Whether a row should contain the next event by now.
    async fn behind(
        &self,
        projection: &str,
        entity: &EntityId,
        version: i64,
    ) -> Result<RowFault, ReadError> {
        let next = self.journal.read_entity(entity, version, 1).await?;
        let cursor = self.cursor(projection, entity);
        let late = next.first().filter(|record| record.pos <= cursor);
        Ok(late.map(|record| {
            let why = format!("its row is at event {version}, but the cursor is beyond it");
            (vec![record.pos], why)
        }))
    }
}

/// A key before those of all rows with the same first column, which are the rows of an entity that
/// may have several.
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

/// The positions of the events that show it, and a description.
pub(super) type RowFault = Option<(Vec<i64>, String)>;

/// The first difference between two texts, with the fields around it.
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
