//! The list of a kind of plain rows, for the live feed. The rows are written in the transactions of
//! their events, so the list makes no rows and has no cursor: it has always reached the end of the
//! journal. Each event contains its whole row.

use std::marker::PhantomData;

use super::projection::Keyed;
use super::projection::{Happened, LiveList, Projection, Projections};
use crate::actors::engine::fold::Fold;
use crate::domain::entity::{EntityId, Record};
use crate::domain::time::Timestamp;
use crate::domain::versioned::{Event, Versioned};
use crate::store::versioned::Row;

/// The bytes of an event that count as one change in memory.
const BYTES_OF_A_CHANGE: usize = 1_024;

/// The list of the rows of a kind.
pub struct RowList<T>(PhantomData<fn() -> T>);

impl<T> Default for RowList<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl Projections {
    /// Adds the live feed of a kind of plain rows.
    #[must_use]
    pub fn with_rows<T: Versioned>(self) -> Self {
        self.with_row_list(RowList::<T>::default())
    }
}

/// A row after its last event.
#[derive(Clone, Debug)]
pub struct ShownRow<T> {
    /// The row.
    pub row: Row<T>,
    /// The size of the row, in bytes.
    pub bytes: usize,
}

/// The content of a row, and its size in bytes; `None` before the first event.
#[derive(Clone)]
pub struct RowState<T>(Option<(T, usize)>);

impl<T> Default for RowState<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Versioned> Fold for RowState<T> {
    type Event = (T, usize);
    const WHOLE_EVENTS: bool = true;

    fn read(record: &Record) -> Result<(T, usize), serde_json::Error> {
        let event = serde_json::from_str::<Event<T>>(&record.data)?;
        Ok((event.into_value(), record.data.len()))
    }

    fn fold(&mut self, event: &(T, usize), _: Timestamp) {
        self.0 = Some(event.clone());
    }
}

impl<T: Versioned> Projection for RowList<T> {
    const NAME: &'static str = T::PLURAL;
    const PREFIXES: &'static [&'static str] = &[T::PREFIX];
    type State = RowState<T>;

    fn is_finished(_: &RowState<T>) -> bool {
        true
    }
}

impl<T: Versioned> LiveList for RowList<T> {
    type Shown = ShownRow<T>;
    type Facets = ();
    type Happened = Happened;
    const IS_PROJECTED: bool = false;

    fn shown(&self, _: &EntityId, folded: &Keyed<'_, RowState<T>>) -> Option<ShownRow<T>> {
        let (value, bytes) = folded.state.0.clone()?;
        let row = Row { value, version: folded.seq, updated_at: folded.at };
        Some(ShownRow { row, bytes })
    }

    fn facets(&self, _: &RowState<T>) {}

    fn happened(&self, record: &Record) -> Happened {
        Happened::of(record)
    }

    fn weight(shown: &ShownRow<T>) -> usize {
        1 + shown.bytes / BYTES_OF_A_CHANGE
    }
}
