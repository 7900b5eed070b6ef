//! A store in memory, for the simulator: the journal of [`journal::memory`] and the other tables.
//! Clones share the contents, so the store outlives a simulated crash of a node. Faults of a disk
//! are injected into the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::history::HistoryId;
use super::journal::memory::MemoryJournal as Journal;
use super::journal::{self, Journal as _};
use super::list_row::Lists;
use super::node::{self, NodeRow};
use super::personal::erasure::Erasure;
use super::personal::{
    DataKey, Keys, LookupKeys, MasterKeys, PersonalField, PersonalKeys, SealingKey, StoredKey,
};
use super::projection::{DeadLetter, ProjectionBatch};
use super::row::{Table, TableRow as _, Value};
use super::signed_head::SignedHead;
use super::webhook::{self, Parked};
use super::{Error, FoundRow, Tables, shard};
use crate::domain::entity::EntityId;
use crate::domain::sealed::{KeyId, NotSealed, Sealed};
use crate::domain::time::{Span, Timestamp};

/// A simulated network connection between a node and the store.
#[async_trait]
pub trait StoreLink: Send + Sync + 'static {
    /// Returns when a request has passed the connection; never returns if the request is lost.
    async fn pass(&self);
}

/// The id of the key of payment tokens.
const TOKEN_KEY: &str = "00000000000000tokens";

/// A store in memory.
#[derive(Clone)]
pub struct MemoryStore {
    journal: Journal,
    /// A wrapper around `journal` that may inject faults; if set, nodes use this wrapper.
    before: Option<Arc<dyn journal::Journal>>,
    link: Option<Arc<dyn StoreLink>>,
    rows: Arc<Mutex<Rows>>,
    people: PersonalKeys,
}

#[derive(Clone, Debug, Default)]
struct Rows {
    lists: Lists,
    cursors: BTreeMap<(String, u16), i64>,
    letters: BTreeMap<i64, DeadLetter>,
    webhooks: BTreeMap<i64, webhook::Row>,
    settings: BTreeMap<String, String>,
    nodes: BTreeMap<String, node::Row>,
    pins: BTreeMap<u16, String>,
    /// Keys that belong to no command.
    keys: BTreeMap<String, StoredKey>,
    /// The ids of the keys that were destroyed.
    destroyed: BTreeSet<String>,
    /// The erasures, and whether they are done.
    erasures: Vec<(Erasure, bool)>,
    /// The last id that was given to a dead letter or a webhook.
    last_id: i64,
    fails: u32,
}

impl MemoryStore {
    /// A store of this journal, with all other tables empty.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        let people = PersonalKeys::new(Some(MasterKeys::one([7; 32])), None);
        let store = Self { journal, before: None, link: None, rows: Arc::default(), people };
        let key = DataKey::new([6; 32], "payment_tokens");
        if let Ok(master) = store.people.master() {
            let id = TOKEN_KEY.to_owned();
            let wrapped = master.wrap(&key);
            let stored = StoredKey {
                id: id.clone(),
                entity: key.entity().to_owned(),
                subject: None,
                wrapped,
            };
            store.locked().keys.insert(id, stored);
        }
        store
    }

    /// A copy of what is stored now, which does not change with this store: a backup. It forgets which
    /// keys are in memory.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::new(self.journal.copy());
        *copy.locked() = Rows { fails: 0, ..self.locked().clone() };
        copy
    }

    /// The same store, used through `before`, a wrapper of its journal, and `link`, a connection;
    /// both may fail.
    #[must_use]
    pub fn behind(self, before: Arc<dyn journal::Journal>, link: Arc<dyn StoreLink>) -> Self {
        Self { before: Some(before), link: Some(link), ..self }
    }

    /// Makes the next `count` uses of a table fail, with nothing written.
    pub fn fail(&self, count: u32) {
        self.locked().fails = count;
    }

    fn locked(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn rows(&self) -> Result<MutexGuard<'_, Rows>, Error> {
        if let Some(link) = &self.link {
            link.pass().await;
        }
        let mut rows = self.locked();
        if let Some(left) = rows.fails.checked_sub(1) {
            rows.fails = left;
            return Err(Error::Io(std::io::Error::other("a disk error")));
        }
        Ok(rows)
    }
}

impl Rows {
    /// Records an erasure; `false` if it is known.
    fn add_erasure(&mut self, erasure: &Erasure) -> bool {
        let is_new = !self.erasures.iter().any(|(there, _)| there == erasure);
        if is_new {
            self.erasures.push((erasure.clone(), false));
        }
        is_new
    }

    fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    fn take(&mut self, batch: &ProjectionBatch<'_>) {
        let name = batch.projection;
        for cursor in batch.cursors {
            self.cursors.insert((name.to_owned(), cursor.shard), cursor.pos);
        }
        if let Some(rows) = batch.rows {
            rows.keep(&mut self.lists);
        }
        for letter in batch.dead {
            let same = |there: &&DeadLetter| {
                (&there.projection, there.shard, there.pos)
                    == (&letter.projection, letter.shard, letter.pos)
            };
            let known = self.letters.values().find(same).map(|there| there.id);
            let id = known.unwrap_or_else(|| self.next_id());
            self.letters.insert(id, DeadLetter { id, ..letter.clone() });
        }
        let healed = |letter: &DeadLetter| {
            letter.projection == name && batch.healed.contains(&letter.entity)
        };
        self.letters.retain(|_, letter| !healed(letter));
    }
}

fn page<T>(found: impl Iterator<Item = T>, limit: u32) -> Vec<T> {
    found.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
}

#[async_trait]
impl Tables for MemoryStore {
    fn journal(&self) -> Arc<dyn journal::Journal> {
        self.before.clone().unwrap_or_else(|| Arc::new(self.journal.clone()))
    }

    async fn shards(&self) -> Result<Vec<shard::Row>, Error> {
        let pins = self.rows().await?.pins.clone();
        let mut shards = Vec::new();
        for id in 0..self.journal.shards() {
            let (epoch, head) = self.journal.epoch_and_head(id);
            let (owner, lease_until) = self.journal.lease_of(id);
            shards.push(shard::Row {
                id,
                owner,
                epoch,
                lease_until,
                pinned_to: pins.get(&id).cloned(),
                last_pos: head.pos,
                max_pos: head.pos,
                head: Some(head.digest),
            });
        }
        Ok(shards)
    }

    async fn find_row(
        &self,
        table: &'static Table,
        key: &[Value<'_>],
    ) -> Result<Option<FoundRow>, Error> {
        drop(self.rows().await?);
        Ok(self.journal.find_row(table, key))
    }

    async fn signed_heads(&self) -> Result<Vec<SignedHead>, Error> {
        Ok(Vec::new())
    }

    async fn current_history(&self) -> Result<Option<HistoryId>, Error> {
        Ok(None)
    }

    fn people(&self) -> &PersonalKeys {
        &self.people
    }

    async fn lookups(&self) -> Result<Arc<LookupKeys>, Error> {
        Ok(Arc::new(LookupKeys::new([8; 32])))
    }

    /// Seals it with a key that all tokens share.
    async fn seal_payment_token(&self, token: &str, _: Timestamp) -> Result<Sealed<String>, Error> {
        let key = DataKey::new([6; 32], "payment_tokens");
        let id = TOKEN_KEY.parse().map_err(|error: NotSealed| Error::Refused(error.to_string()))?;
        Ok(SealingKey::new(id, key).seal(PersonalField::PaymentToken, token))
    }

    async fn stored_keys(&self, ids: &BTreeSet<KeyId>) -> Result<Vec<StoredKey>, Error> {
        let rows = self.rows().await?;
        let there = |id: &&KeyId| !rows.destroyed.contains(id.as_str());
        let key = |id: &KeyId| {
            let key = [Value::text(id.as_str())];
            self.journal.find_row(StoredKey::table(), &key).as_ref().map(StoredKey::decode)
        };
        ids.iter().filter(there).filter_map(key).collect()
    }

    async fn keys_of_subject(&self, subject: &str) -> Result<Vec<StoredKey>, Error> {
        let rows = self.rows().await?;
        let found = self.journal.rows_behind(StoredKey::table(), None, u32::MAX);
        let all: Vec<StoredKey> = found.iter().map(StoredKey::decode).collect::<Result<_, _>>()?;
        let is_there = |key: &&StoredKey| !rows.destroyed.contains(&key.id);
        let of = |key: &&StoredKey| is_there(key) && key.subject.as_deref() == Some(subject);
        let theirs: BTreeSet<&str> = all.iter().filter(of).map(|key| &*key.entity).collect();
        let of = |key: &&StoredKey| is_there(key) && theirs.contains(&*key.entity);
        Ok(all.iter().filter(of).cloned().collect())
    }

    async fn orders_of_subject(&self, _: &str) -> Result<BTreeSet<EntityId>, Error> {
        self.rows().await.map(|_| BTreeSet::new())
    }

    async fn erase_keys(&self, erasure: &Erasure, keys: &[StoredKey]) -> Result<(), Error> {
        let mut rows = self.rows().await?;
        rows.destroyed.extend(keys.iter().map(|key| key.id.clone()));
        rows.add_erasure(erasure);
        let ids: Vec<KeyId> = keys.iter().filter_map(|key| key.id.parse().ok()).collect();
        self.people.forget(&ids);
        Ok(())
    }

    async fn end_erasure(&self, erasure: &Erasure) -> Result<(), Error> {
        let mut rows = self.rows().await?;
        let one = rows.erasures.iter_mut().find(|(there, _)| there == erasure);
        one.into_iter().for_each(|(_, done)| *done = true);
        Ok(())
    }

    async fn erasures(&self, open: bool) -> Result<Vec<Erasure>, Error> {
        let rows = self.rows().await?;
        let wanted = rows.erasures.iter().filter(|(_, done)| !(open && *done));
        Ok(wanted.map(|(erasure, _)| erasure.clone()).collect())
    }

    async fn add_erasure(&self, erasure: &Erasure) -> Result<u64, Error> {
        Ok(u64::from(self.rows().await?.add_erasure(erasure)))
    }

    async fn personal_keys(&self, ids: &BTreeSet<KeyId>) -> Result<Keys, Error> {
        let lookups = self.lookups().await?;
        let read = |ids: Vec<KeyId>| async move {
            let mut all = Vec::new();
            let rows = self.rows().await?;
            for id in &ids {
                let key = [Value::text(id.as_str())];
                if let Some(row) = self.journal.find_row(StoredKey::table(), &key) {
                    let key = StoredKey::decode(&row)?;
                    all.extend(Some(key).filter(|key| !rows.destroyed.contains(&key.id)));
                }
                all.extend(rows.keys.get(id.as_str()).cloned());
            }
            Ok(all)
        };
        self.people.keys(ids, lookups, read).await
    }

    async fn find_rows(
        &self,
        table: &'static Table,
        keys: &[Value<'_>],
    ) -> Result<Vec<FoundRow>, Error> {
        let rows = self.rows().await?;
        let find = |key: &Value<'_>| {
            let key = std::slice::from_ref(key);
            rows.lists.find(table, key).or_else(|| self.journal.find_row(table, key))
        };
        Ok(keys.iter().filter_map(find).collect())
    }

    async fn rows_behind(
        &self,
        table: &'static Table,
        after: Option<&[Value<'_>]>,
        limit: u32,
    ) -> Result<Vec<FoundRow>, Error> {
        let listed = self.rows().await?.lists.behind(table, after, limit);
        Ok(listed.unwrap_or_else(|| self.journal.rows_behind(table, after, limit)))
    }

    async fn cursor(&self, name: &str, shard: u16) -> Result<i64, Error> {
        Ok(self.rows().await?.cursors.get(&(name.to_owned(), shard)).copied().unwrap_or(0))
    }

    async fn cursors(&self, name: &str) -> Result<Vec<(u16, i64)>, Error> {
        let rows = self.rows().await?;
        let of_name = rows.cursors.iter().filter(|((of, _), _)| of == name);
        Ok(of_name.map(|((_, shard), pos)| (*shard, *pos)).collect())
    }

    async fn commit_projections(&self, batches: &[ProjectionBatch<'_>]) -> Result<bool, Error> {
        let mut rows = self.rows().await?;
        let stands = |batch: &ProjectionBatch<'_>| {
            batch.cursors.iter().all(|cursor| {
                let there = rows.cursors.get(&(batch.projection.to_owned(), cursor.shard));
                there.copied().unwrap_or(0) == cursor.after
            })
        };
        if !batches.iter().all(stands) {
            return Ok(false);
        }
        for batch in batches {
            rows.take(batch);
        }
        Ok(true)
    }

    async fn reset_projection(&self, name: &str) -> Result<(), Error> {
        let mut rows = self.rows().await?;
        rows.cursors.retain(|(of, _), _| of != name);
        rows.letters.retain(|_, letter| letter.projection != name);
        Ok(())
    }

    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<DeadLetter>, Error> {
        let rows = self.rows().await?;
        Ok(page(rows.letters.range(after + 1..).map(|(_, letter)| letter.clone()), limit))
    }

    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, Error> {
        Ok(self.rows().await?.letters.get(&id).cloned())
    }

    async fn parked(&self, name: &str, entities: &[EntityId]) -> Result<Vec<EntityId>, Error> {
        let rows = self.rows().await?;
        let parked = |entity: &&EntityId| {
            let of = |letter: &DeadLetter| letter.projection == name && letter.entity == **entity;
            rows.letters.values().any(of)
        };
        Ok(entities.iter().filter(parked).cloned().collect())
    }

    async fn all_parked(&self, name: &str) -> Result<Vec<EntityId>, Error> {
        let rows = self.rows().await?;
        let of = |letter: &&DeadLetter| letter.projection == name;
        let parked: BTreeSet<EntityId> =
            rows.letters.values().filter(of).map(|letter| letter.entity.clone()).collect();
        Ok(parked.into_iter().collect())
    }

    async fn delete_dead_letter(&self, id: i64) -> Result<bool, Error> {
        Ok(self.rows().await?.letters.remove(&id).is_some())
    }

    async fn park_webhook(&self, webhook: &Parked) -> Result<bool, Error> {
        let mut rows = self.rows().await?;
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
        let rows = self.rows().await?;
        let due = rows.webhooks.values().filter(|row| row.webhook.next_try_at <= until);
        let mut due: Vec<webhook::Row> = due.cloned().collect();
        due.sort_by_key(|row| (row.webhook.next_try_at, row.id));
        Ok(page(due.into_iter(), limit))
    }

    async fn webhook(&self, id: i64) -> Result<Option<webhook::Row>, Error> {
        Ok(self.rows().await?.webhooks.get(&id).cloned())
    }

    async fn parked_webhooks(&self, after: i64, limit: u32) -> Result<Vec<webhook::Row>, Error> {
        let rows = self.rows().await?;
        Ok(page(rows.webhooks.range(after + 1..).map(|(_, row)| row.clone()), limit))
    }

    async fn retry_webhook(
        &self,
        id: i64,
        reason: &str,
        next_try_at: Timestamp,
    ) -> Result<bool, Error> {
        let mut rows = self.rows().await?;
        let Some(row) = rows.webhooks.get_mut(&id) else {
            return Ok(false);
        };
        row.attempts += 1;
        row.webhook.reason = reason.to_owned();
        row.webhook.next_try_at = next_try_at;
        Ok(true)
    }

    async fn remove_webhook(&self, id: i64) -> Result<bool, Error> {
        Ok(self.rows().await?.webhooks.remove(&id).is_some())
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.rows().await?.settings.get(name).cloned())
    }

    async fn put_setting(&self, name: &str, value: &str) -> Result<(), Error> {
        self.rows().await?.settings.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    async fn heartbeat(&self, node: &NodeRow, lease: Span) -> Result<Option<bool>, Error> {
        let now = self.journal.now();
        let mut rows = self.rows().await?;
        let before = rows.nodes.get(&node.id);
        let another = before.is_some_and(|before| {
            let (its, mine) = (&before.node, node);
            (&its.url, &its.machine) != (&mine.url, &mine.machine) && before.lease_until > now
        });
        if another {
            return Ok(None);
        }
        let draining = before
            .is_some_and(|before| before.draining && before.node.started_at == node.started_at);
        let row = node::Row { node: node.clone(), lease_until: now + lease, draining, lives: true };
        rows.nodes.insert(node.id.clone(), row);
        Ok(Some(draining))
    }

    async fn nodes(&self) -> Result<Vec<node::Row>, Error> {
        let now = self.journal.now();
        let rows = self.rows().await?;
        let seen = |row: &node::Row| node::Row { lives: row.lease_until > now, ..row.clone() };
        Ok(rows.nodes.values().map(seen).collect())
    }

    async fn set_draining(&self, id: &str, draining: bool) -> Result<bool, Error> {
        let mut rows = self.rows().await?;
        let Some(row) = rows.nodes.get_mut(id) else { return Ok(false) };
        row.draining = draining;
        Ok(true)
    }

    async fn remove_node(&self, node: &NodeRow) -> Result<bool, Error> {
        let mut rows = self.rows().await?;
        let nodes = &mut rows.nodes;
        let there = nodes.get(&node.id).is_some_and(|row| row.node.started_at == node.started_at);
        Ok(there && nodes.remove(&node.id).is_some())
    }

    async fn pin_shard(&self, shard: u16, node: Option<&str>) -> Result<bool, Error> {
        let mut rows = self.rows().await?;
        match node {
            Some(node) => drop(rows.pins.insert(shard, node.to_owned())),
            None => drop(rows.pins.remove(&shard)),
        }
        Ok(shard < self.journal.shards())
    }

    async fn close(&self) {}
}
