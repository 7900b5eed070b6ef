//! Compares the rows of orders and stock with their events, and checks that every entity has its
//! rows (I6).
//!
//! `rows` has the code that is the same for all kinds of rows.

use std::collections::BTreeSet;

use super::books::Books;
use super::order::row_digest;
use super::report::{Invariant, count};
use super::rows::{FoldedRow, RowComparison, RowKeeper, RowKnowledge};
use super::{Error, VerifyProgress};
use crate::actors::buyer_data::key_ids;
use crate::actors::engine::projections::{Keyed, Projection as _};
use crate::actors::order_rows::{OrderRows, order_row};
use crate::actors::order_search::{PlacedHashes, search_row};
use crate::actors::stock_rows::{StockRows, stock_rows};
use crate::domain::entity::EntityId;
use crate::domain::id::OrderId;
use crate::domain::order::{self, Order};
use crate::domain::sealed::KeyId;
use crate::domain::stock::{self, Stock};
use crate::store;
use crate::store::order_search::SearchRow;

impl FoldedRow for store::order::Row {
    type State = Order;
    const PROJECTION: &'static str = OrderRows::NAME;

    fn entity(&self) -> EntityId {
        EntityId::new(&self.id)
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn key_ids(order: &Order, ids: &mut BTreeSet<KeyId>) {
        key_ids(order, ids);
    }

    fn fresh(entity: &EntityId, folded: &Keyed<'_, Order>) -> Vec<Self> {
        let hashes = PlacedHashes::of(entity, &folded.state, folded.keys);
        vec![order_row(entity, &folded.state, folded.seq, &hashes)]
    }
}

impl RowKeeper<store::order::Row> for Books {
    fn see(&mut self, entity: &EntityId, rows: &[store::order::Row]) -> RowKnowledge {
        self.checked.order_rows += count(rows.len());
        let key = entity.as_str().parse::<OrderId>().map(|id| id.0).ok();
        let Some(entry) = key.and_then(|key| self.orders.all.get_mut(&key)) else {
            return RowKnowledge::Open(None);
        };
        entry.row_seen = true;
        let summary = entry.summary();
        let same = summary.is_some_and(|it| rows.iter().all(|row| it.row == row_digest(row)));
        if entry.broken || same {
            RowKnowledge::Settled
        } else {
            RowKnowledge::Open(Some(entry.last_pos))
        }
    }

    fn report(&mut self, entity: &EntityId, positions: &[i64], message: String) {
        self.findings.add(Invariant::I6, entity, positions, message);
    }
}

/// Its version is that of the order when the text was last written.
impl FoldedRow for SearchRow {
    type State = Order;
    const PROJECTION: &'static str = OrderRows::NAME;

    fn entity(&self) -> EntityId {
        EntityId::new(&self.id)
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn key_ids(order: &Order, ids: &mut BTreeSet<KeyId>) {
        key_ids(order, ids);
    }

    fn fresh(entity: &EntityId, folded: &Keyed<'_, Order>) -> Vec<Self> {
        let hashes = PlacedHashes::of(entity, &folded.state, folded.keys);
        vec![search_row(entity, &folded.state, folded.seq, (folded.keys, &hashes))]
    }

    fn is_behind(&self, later: &Self) -> bool {
        self.text != later.text
    }
}

impl RowKeeper<SearchRow> for Books {
    fn see(&mut self, entity: &EntityId, rows: &[SearchRow]) -> RowKnowledge {
        let key = entity.as_str().parse::<OrderId>().map(|id| id.0).ok();
        let Some(entry) = key.and_then(|key| self.orders.all.get_mut(&key)) else {
            return RowKnowledge::Open(None);
        };
        entry.text_seen = true;
        let summary = entry.summary();
        let same =
            summary.is_some_and(|it| rows.iter().all(|row| it.text == row_digest(&row.text)));
        if entry.broken || same {
            RowKnowledge::Settled
        } else {
            RowKnowledge::Open(Some(entry.last_pos))
        }
    }

    fn report(&mut self, entity: &EntityId, positions: &[i64], message: String) {
        self.findings.add(Invariant::I6, entity, positions, message);
    }
}

impl FoldedRow for store::stock::Row {
    type State = Stock;
    const PROJECTION: &'static str = StockRows::NAME;

    fn entity(&self) -> EntityId {
        stock::entity_id(&self.sku)
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn fresh(entity: &EntityId, folded: &Keyed<'_, Stock>) -> Vec<Self> {
        stock_rows(entity, &folded.state, folded.seq, folded.at)
    }
}

impl RowKeeper<store::stock::Row> for Books {
    fn see(&mut self, entity: &EntityId, rows: &[store::stock::Row]) -> RowKnowledge {
        self.checked.stock_rows += count(rows.len());
        let Some(entry) = self.stock.all.get_mut(entity) else { return RowKnowledge::Open(None) };
        entry.rows_seen = true;
        let same = stock_rows(entity, &entry.state, entry.seq, entry.at) == rows;
        if entry.broken || same {
            RowKnowledge::Settled
        } else {
            RowKnowledge::Open(Some(entry.last_pos))
        }
    }

    fn report(&mut self, entity: &EntityId, positions: &[i64], message: String) {
        self.findings.add(Invariant::I6, entity, positions, message);
    }
}

impl RowComparison<'_> {
    /// Compares all projected and versioned rows.
    pub(super) async fn compare(
        &self,
        books: &mut Books,
        progress: &mut impl FnMut(VerifyProgress),
    ) -> Result<(), Error> {
        let total = books.checked.orders + books.checked.products;
        progress(VerifyProgress { stage: "rows", done: 0, total });
        self.compare_all::<store::order::Row>(books).await?;
        progress(VerifyProgress { stage: "rows", done: books.checked.order_rows, total });
        self.compare_all::<SearchRow>(books).await?;
        self.compare_all::<store::stock::Row>(books).await?;
        self.look_for_missing(books);
        for book in &mut books.others {
            book.compare_rows(self, &mut books.checked, &mut books.findings).await?;
        }
        progress(VerifyProgress { stage: "rows", done: total, total });
        Ok(())
    }

    /// Reports orders and SKUs without rows, if the cursor of the projection is beyond the event
    /// that should have made the rows.
    fn look_for_missing(&self, books: &mut Books) {
        let why = "it has no rows";
        for (key, entry) in &books.orders.all {
            let id = order::entity_id(OrderId(*key));
            let cursor = self.cursor(OrderRows::NAME, &id);
            if entry.broken || entry.first_pos > cursor {
                continue;
            }
            if !entry.row_seen {
                books.findings.add(Invariant::I6, &id, &[entry.first_pos], why);
            } else if !entry.text_seen {
                let why = "it has no text to be found by";
                books.findings.add(Invariant::I6, &id, &[entry.first_pos], why);
            }
        }
        for (id, entry) in &books.stock.all {
            let cursor = self.cursor(StockRows::NAME, id);
            let has_levels = !entry.state.levels().is_empty();
            if !entry.rows_seen && !entry.broken && has_levels && entry.last_pos <= cursor {
                books.findings.add(Invariant::I6, id, &[entry.last_pos], why);
            }
        }
    }
}
