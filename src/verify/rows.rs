//! Every row that is made of events equals their fold (I6).
//!
//! A row says which event it is the fold of. It is compared with the fold up to just there, so
//! that rows that run ahead of what was read, or lag behind it, are no matter; but no row may
//! lag behind its projection's cursor.

use super::books::{Books, replay};
use super::order::row_digest;
use super::report::Invariant;
use super::{Error, Progress};
use crate::actors::engine::host::decode;
use crate::actors::engine::projections::{order_row, stock_rows};
use crate::domain::entity::EntityId;
use crate::domain::id::{OrderId, Sku};
use crate::domain::order::{self, Order};
use crate::domain::product::{self, Product};
use crate::domain::stock::{self, Stock};
use crate::store::journal::{Journal, ReadError};
use crate::store::{self, LIST_MAX, Tables, versioned};

/// What the rows are compared with, and where.
pub(super) struct Rows<'a> {
    pub store: &'a dyn Tables,
    pub journal: &'a dyn Journal,
    /// How far the projection had come in each shard, before any row was read.
    pub cursors: Vec<i64>,
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
        self.compare_products(books).await?;
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

    async fn compare_products(&self, books: &mut Books) -> Result<(), Error> {
        let mut after: Option<Sku> = None;
        let mut seen = std::collections::HashSet::new();
        loop {
            let page =
                versioned::list_behind::<Product>(self.store, after.as_ref(), LIST_MAX).await?;
            for row in &page {
                books.checked.product_rows += 1;
                let id = product::entity_id(&row.value.sku);
                if let Some((positions, message)) = self.product_fault(books, &id, row).await? {
                    books.findings.add(Invariant::I6, &id, &positions, message);
                }
                seen.insert(id);
            }
            match page.last() {
                Some(last) if page.len() == LIST_MAX as usize => {
                    after = Some(last.value.sku.clone());
                }
                _ => break,
            }
        }
        for (id, entry) in &books.products {
            if !seen.contains(id) && !entry.broken {
                books.findings.add(Invariant::I6, id, &[entry.last_pos], "it has no row");
            }
        }
        Ok(())
    }

    /// A product's row is written with its event: it is never behind.
    async fn product_fault(
        &self,
        books: &Books,
        id: &EntityId,
        row: &store::product::Row,
    ) -> Result<Fault, ReadError> {
        let entry = books.products.get(id);
        if entry.is_some_and(|entry| {
            entry.broken || (entry.seq == row.version && entry.product.as_ref() == Some(&row.value))
        }) {
            return Ok(None);
        }
        let positions = entry.map(|entry| vec![entry.last_pos]).unwrap_or_default();
        if let Some(entry) = entry.filter(|entry| entry.seq > row.version) {
            let why = format!("its row has version {}, but {} events", row.version, entry.seq);
            return Ok(Some((positions, why)));
        }
        let written = self.journal.read_entity(id, row.version - 1, 1).await?;
        let event = written.first().and_then(|record| decode::<product::Event>(record).ok());
        let fresh: Option<Product> = event.map(product::Event::into_value);
        Ok(match fresh {
            None => Some((positions, "its row stands for no event".to_owned())),
            Some(fresh) if fresh == row.value => None,
            Some(fresh) => {
                let why = difference(&format!("{:?}", row.value), &format!("{fresh:?}"));
                Some((positions, why))
            }
        })
    }
}

/// Where the events stand that show it, and what is wrong.
type Fault = Option<(Vec<i64>, String)>;

/// Says where two texts begin to differ, by the fields around it.
fn difference(row: &str, fresh: &str) -> String {
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
