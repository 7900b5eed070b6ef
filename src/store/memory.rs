//! A store in memory, for the simulator: the journal of [`journal::memory`](super::journal::memory)
//! and the tables beside it. Clones are handles on the same one, so that it outlives a node that
//! crashes. What a real disk does is not here: its faults are the journal's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::journal::memory::Memory as Journal;
use super::journal::{self, Journal as _};
use super::projection::{DeadLetter, Step};
use super::webhook::{self, Parked};
use super::{Error, Tables, order, product, shard, stock};
use crate::domain::id::Sku;
use crate::domain::time::Timestamp;

/// A store in memory.
#[derive(Clone)]
pub struct Memory {
    journal: Journal,
    /// What is between the journal and those who use it.
    before: Option<Arc<dyn journal::Journal>>,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Debug, Default)]
struct Rows {
    orders: BTreeMap<String, order::Row>,
    stock: BTreeMap<(Sku, String), stock::Row>,
    cursors: BTreeMap<(String, u16), i64>,
    letters: BTreeMap<i64, DeadLetter>,
    webhooks: BTreeMap<i64, webhook::Row>,
    settings: BTreeMap<String, String>,
    /// The highest id that was given to a dead letter or a webhook.
    last_id: i64,
    fails: u32,
}

impl Memory {
    /// Tables beside a journal, all of them empty.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        Self { journal, before: None, rows: Arc::default() }
    }

    /// The same tables for somebody who sees their journal through another one, which fails now
    /// and then.
    #[must_use]
    pub fn behind(self, before: Arc<dyn journal::Journal>) -> Self {
        Self { before: Some(before), ..self }
    }

    /// Lets the next `count` uses of a table fail, with nothing written.
    pub fn fail(&self, count: u32) {
        self.locked().fails = count;
    }

    fn locked(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows(&self) -> Result<MutexGuard<'_, Rows>, Error> {
        let mut rows = self.locked();
        if let Some(left) = rows.fails.checked_sub(1) {
            rows.fails = left;
            return Err(Error::Io(std::io::Error::other("the disk hiccuped")));
        }
        Ok(rows)
    }
}

impl Rows {
    fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }
}

fn page<T>(found: impl Iterator<Item = T>, limit: u32) -> Vec<T> {
    found.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
}

#[async_trait]
impl Tables for Memory {
    fn journal(&self) -> Arc<dyn journal::Journal> {
        self.before.clone().unwrap_or_else(|| Arc::new(self.journal.clone()))
    }

    async fn shards(&self) -> Result<Vec<shard::Row>, Error> {
        let mut shards = Vec::new();
        for id in 0..self.journal.shards() {
            let (epoch, last_pos) = self.journal.stands(id);
            shards.push(shard::Row {
                id,
                owner: "simulator".into(),
                epoch,
                lease_until: Timestamp::from_millis(0),
                last_pos,
                max_pos: last_pos,
            });
        }
        Ok(shards)
    }

    async fn product(&self, sku: &Sku) -> Result<Option<product::Row>, Error> {
        drop(self.rows()?);
        Ok(self.journal.product(sku))
    }

    async fn products_behind(
        &self,
        after: Option<Sku>,
        limit: u32,
    ) -> Result<Vec<product::Row>, Error> {
        let mut found = self.journal.products();
        found.retain(|row| after.as_ref().is_none_or(|after| row.product.sku > *after));
        found.sort_by(|a, b| a.product.sku.cmp(&b.product.sku));
        Ok(page(found.into_iter(), limit))
    }

    async fn orders_behind(
        &self,
        after: Option<(Timestamp, String)>,
        limit: u32,
    ) -> Result<Vec<order::Row>, Error> {
        let key = |row: &order::Row| (row.placed_at, row.id.clone());
        let mut found: Vec<order::Row> = self.rows()?.orders.values().cloned().collect();
        found.retain(|row| after.as_ref().is_none_or(|after| key(row) < *after));
        found.sort_by_key(|row| std::cmp::Reverse(key(row)));
        Ok(page(found.into_iter(), limit))
    }

    async fn stock_behind(
        &self,
        after: Option<(Sku, String)>,
        limit: u32,
    ) -> Result<Vec<stock::Row>, Error> {
        let rows = self.rows()?;
        let behind = rows.stock.iter().filter(|(at, _)| after.as_ref().is_none_or(|it| *at > it));
        Ok(page(behind.map(|(_, row)| row.clone()), limit))
    }

    async fn stock(&self, sku: &Sku) -> Result<Vec<stock::Row>, Error> {
        let rows = self.rows()?;
        let of_sku = rows.stock.values().filter(|row| row.sku == *sku);
        Ok(page(of_sku.cloned(), super::LIST_MAX))
    }

    async fn cursor(&self, name: &str, shard: u16) -> Result<i64, Error> {
        Ok(self.rows()?.cursors.get(&(name.to_owned(), shard)).copied().unwrap_or(0))
    }

    async fn commit_projection(
        &self,
        name: &str,
        shard: u16,
        pos: i64,
        step: Step<'_>,
    ) -> Result<bool, Error> {
        let mut rows = self.rows()?;
        let cursor = rows.cursors.entry((name.to_owned(), shard)).or_insert(0);
        if *cursor >= pos {
            return Ok(false);
        }
        *cursor = pos;
        for row in step.orders {
            rows.orders.insert(row.id.clone(), row.clone());
        }
        for row in step.stock {
            rows.stock.insert((row.sku.clone(), row.location.clone()), row.clone());
        }
        for letter in step.dead {
            let same = |there: &&DeadLetter| {
                (&there.projection, there.shard, there.pos)
                    == (&letter.projection, letter.shard, letter.pos)
            };
            let known = rows.letters.values().find(same).map(|there| there.id);
            let id = known.unwrap_or_else(|| rows.next_id());
            rows.letters.insert(id, DeadLetter { id, ..letter.clone() });
        }
        Ok(true)
    }

    async fn reset_projection(&self, name: &str) -> Result<(), Error> {
        let mut rows = self.rows()?;
        rows.cursors.retain(|(of, _), _| of != name);
        rows.letters.retain(|_, letter| letter.projection != name);
        Ok(())
    }

    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<DeadLetter>, Error> {
        let rows = self.rows()?;
        Ok(page(rows.letters.range(after + 1..).map(|(_, letter)| letter.clone()), limit))
    }

    async fn park_webhook(&self, webhook: &Parked) -> Result<bool, Error> {
        let mut rows = self.rows()?;
        let id = (&webhook.provider, &webhook.notice_id);
        let same = |row: &webhook::Row| (&row.webhook.provider, &row.webhook.notice_id) == id;
        if rows.webhooks.values().any(same) {
            return Ok(false);
        }
        let id = rows.next_id();
        rows.webhooks.insert(id, webhook::Row { id, attempts: 0, webhook: webhook.clone() });
        Ok(true)
    }

    async fn due_webhooks(&self, until: Timestamp, limit: u32) -> Result<Vec<webhook::Row>, Error> {
        let rows = self.rows()?;
        let due = rows.webhooks.values().filter(|row| row.webhook.next_try_at <= until);
        let mut due: Vec<webhook::Row> = due.cloned().collect();
        due.sort_by_key(|row| (row.webhook.next_try_at, row.id));
        Ok(page(due.into_iter(), limit))
    }

    async fn webhook(&self, id: i64) -> Result<Option<webhook::Row>, Error> {
        Ok(self.rows()?.webhooks.get(&id).cloned())
    }

    async fn parked_webhooks(&self, after: i64, limit: u32) -> Result<Vec<webhook::Row>, Error> {
        let rows = self.rows()?;
        Ok(page(rows.webhooks.range(after + 1..).map(|(_, row)| row.clone()), limit))
    }

    async fn retry_webhook(
        &self,
        id: i64,
        reason: &str,
        next_try_at: Timestamp,
    ) -> Result<bool, Error> {
        let mut rows = self.rows()?;
        let Some(row) = rows.webhooks.get_mut(&id) else {
            return Ok(false);
        };
        row.attempts += 1;
        row.webhook.reason = reason.to_owned();
        row.webhook.next_try_at = next_try_at;
        Ok(true)
    }

    async fn remove_webhook(&self, id: i64) -> Result<bool, Error> {
        Ok(self.rows()?.webhooks.remove(&id).is_some())
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.rows()?.settings.get(name).cloned())
    }

    async fn put_setting(&self, name: &str, value: &str) -> Result<(), Error> {
        self.rows()?.settings.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    async fn close(&self) {}
}
