//! Every row that is made of events equals their fold (I6).
//!
//! A row says which event it is the fold of. It is compared with the fold up to just there, so
//! that rows that run ahead of what was read, or lag behind it, are no matter; but no row may
//! lag behind its projection's cursor.

use super::books::{Books, replay};
use super::order::row_digest;
use super::report::Invariant;
use super::{Error, Progress};
use crate::actors::engine::projections::{order_row, stock_rows};
use crate::domain::entity::EntityId;
use crate::domain::id::{OrderId, Sku};
use crate::domain::order::{self, Order};
use crate::domain::stock::{self, Stock};
use crate::store::journal::{Journal, ReadError};
use crate::store::{self, LIST_MAX, Tables};

/// What the rows are compared with, and where.
pub struct Rows<'a> {
    pub(super) store: &'a dyn Tables,
    pub(super) journal: &'a dyn Journal,
    /// How far the projection had come in each shard, before any row was read.
    pub(super) cursors: Vec<i64>,
}

impl Rows<'_> {
    fn cursor(&self, entity: &EntityId) -> i64 {
        let shard = entity.shard(self.journal.shards());
        self.cursors.get(usize::from(shard)).copied().unwrap_or(0)
    }

    /// Compares all rows.
    pub(super) async fn compare(
        &self,
        books: &mut Books,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), Error> {
        let total = books.checked.orders + books.checked.products;
        progress(Progress { stage: "rows", done: 0, total });
        self.compare_orders(books).await?;
        progress(Progress { stage: "rows", done: books.checked.order_rows, total });
        self.compare_stock(books).await?;
        for book in &mut books.others {
            book.compare_rows(self, &mut books.checked, &mut books.findings).await?;
        }
        progress(Progress { stage: "rows", done: total, total });
        Ok(())
    }

    async fn compare_orders(&self, books: &mut Books) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.store.orders_behind(after, LIST_MAX).await?;
            for row in &page {
                books.checked.order_rows += 1;
                if let Some((positions, message)) = self.order_fault(books, row).await? {
                    let entity = EntityId::new(&row.id);
                    books.findings.add(Invariant::I6, entity, &positions, message);
                }
            }
            match page.last() {
                Some(last) if page.len() == LIST_MAX as usize => {
                    after = Some((last.placed_at, last.id.clone()))
                }
                _ => break,
            }
        }
        for (key, entry) in &books.orders.all {
            let id = order::entity_id(OrderId(*key));
            if !entry.row_seen && !entry.broken && entry.first_pos <= self.cursor(&id) {
                let why = "it has no row";
                books.findings.add(Invariant::I6, &id, &[entry.first_pos], why);
            }
        }
        Ok(())
    }

    async fn order_fault(
        &self,
        books: &mut Books,
        row: &store::order::Row,
    ) -> Result<Fault, Error> {
        let entity = EntityId::new(&row.id);
        let key = row.id.parse::<OrderId>().map(|id| id.0).ok();
        let mut positions = Vec::new();
        if let Some(entry) = key.and_then(|key| books.orders.all.get_mut(&key)) {
            entry.row_seen = true;
            positions.push(entry.last_pos);
            let same = entry.summary().is_some_and(|summary| summary.row == row_digest(row));
            if entry.broken || same {
                return Ok(None);
            }
        }
        let Some(folded) = replay::<Order>(self.journal, &entity, row.version).await? else {
            return Ok(None);
        };
        let fresh = order_row(&entity, &folded.state, folded.seq);
        if folded.seq == 0 {
            return Ok(Some((positions, "its row stands for no event".to_owned())));
        }
        if fresh != *row {
            return Ok(Some((positions, difference(&format!("{row:?}"), &format!("{fresh:?}")))));
        }
        self.behind(&entity, row.version).await.map_err(Error::from)
    }

    /// Whether a row should have taken the next event by now.
    async fn behind(&self, entity: &EntityId, version: i64) -> Result<Fault, ReadError> {
        let next = self.journal.read_entity(entity, version, 1).await?;
        let late = next.first().filter(|record| record.pos <= self.cursor(entity));
        Ok(late.map(|record| {
            let why = format!("its row stands at event {version}, though the cursor is further");
            (vec![record.pos], why)
        }))
    }

    async fn compare_stock(&self, books: &mut Books) -> Result<(), Error> {
        let mut after: Option<(Sku, String)> = None;
        let mut item: Vec<store::stock::Row> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        loop {
            let page = self.store.stock_behind(after, LIST_MAX).await?;
            let last = page.last().map(|row| (row.sku.clone(), row.location.clone()));
            let full = page.len() == LIST_MAX as usize;
            for row in page {
                books.checked.stock_rows += 1;
                if item.first().is_some_and(|first| first.sku != row.sku) {
                    self.compare_item(books, std::mem::take(&mut item)).await?;
                }
                seen.insert(stock::entity_id(&row.sku));
                item.push(row);
            }
            if !full {
                break;
            }
            after = last;
        }
        self.compare_item(books, item).await?;
        for (id, entry) in &books.stock.all {
            if entry.last_pos <= self.cursor(id)
                && !entry.broken
                && !entry.state.levels().is_empty()
                && !seen.contains(id)
            {
                books.findings.add(Invariant::I6, id, &[entry.last_pos], "it has no rows");
            }
        }
        Ok(())
    }

    /// Compares the rows of one SKU; if they differ they are read once more, all at one moment.
    async fn compare_item(
        &self,
        books: &mut Books,
        rows: Vec<store::stock::Row>,
    ) -> Result<(), Error> {
        let Some(sku) = rows.first().map(|row| row.sku.clone()) else { return Ok(()) };
        let id = stock::entity_id(&sku);
        if let Some(entry) = books.stock.all.get(&id) {
            let fresh = stock_rows(&id, &entry.state, entry.seq, entry.at);
            if entry.broken || fresh == rows {
                return Ok(());
            }
        }
        let rows = self.store.stock(&sku).await?;
        let version = rows.iter().map(|row| row.version).max().unwrap_or(0);
        let Some(folded) = replay::<Stock>(self.journal, &id, version).await? else {
            return Ok(());
        };
        let fresh = stock_rows(&id, &folded.state, folded.seq, folded.at);
        let fault = if folded.seq == 0 {
            Some((Vec::new(), "its rows stand for no event".to_owned()))
        } else if fresh != rows {
            let why = difference(&format!("{rows:?}"), &format!("{fresh:?}"));
            Some((vec![folded.pos], why))
        } else {
            self.behind(&id, version).await?
        };
        if let Some((positions, message)) = fault {
            books.findings.add(Invariant::I6, &id, &positions, message);
        }
        Ok(())
    }
}

/// Where the events stand that show it, and what is wrong.
pub(super) type Fault = Option<(Vec<i64>, String)>;

/// Says where two texts begin to differ, by the fields around it.
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
