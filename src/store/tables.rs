//! The part of a store that actors and `verify` use: the journal, the projected rows, and a few
//! other tables. [`Store`] implements it with a database,
//! [`MemoryStore`](super::memory::MemoryStore) for the simulator. API keys, sessions and lists for
//! people are not part of it, because only `http` uses them. None of these methods reads from a
//! replica, because decisions depend on their results.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::history::HistoryId;
use super::journal::Journal;
use super::node::{self, NodeRow};
use super::personal::erasure::Erasure;
use super::personal::{Keys, LookupKeys, PersonalKeys, StoredKey};
use super::projection::{DeadLetter, ProjectionBatch};
use super::row::{self, Table, Value};
use super::signed_head::SignedHead;
use super::webhook::{self, Parked};
use super::{Error, FoundRow, Store, shard};
use crate::domain::entity::EntityId;
use crate::domain::sealed::{KeyId, Sealed};
use crate::domain::time::{Span, Timestamp};

/// The tables of a store. Every fallible method returns the store's [`Error`]. Nothing is written
/// then, unless the connection to the database broke during a commit, so that its outcome is
/// unknown.
#[async_trait]
pub trait Tables: Send + Sync + 'static {
    /// The journal.
    fn journal(&self) -> Arc<dyn Journal>;

    /// All shards, in order.
    async fn shards(&self) -> Result<Vec<shard::Row>, Error>;

    /// The row with this key in a table of versioned rows, if there is one.
    async fn find_row(
        &self,
        table: &'static Table,
        key: &[Value<'_>],
    ) -> Result<Option<FoundRow>, Error>;

    /// The rows with these keys in a projected list or a table of versioned rows, which has one key
    /// column, as far as there are any.
    async fn find_rows(
        &self,
        table: &'static Table,
        keys: &[Value<'_>],
    ) -> Result<Vec<FoundRow>, Error>;

    /// Rows of a projected list, or of a table of versioned rows, in order of their keys, starting
    /// after `after`, at most `limit`.
    async fn rows_behind(
        &self,
        table: &'static Table,
        after: Option<&[Value<'_>]>,
        limit: u32,
    ) -> Result<Vec<FoundRow>, Error>;

    /// See [`Store::signed_heads`].
    async fn signed_heads(&self) -> Result<Vec<SignedHead>, Error>;

    /// See [`Store::current_history`].
    async fn current_history(&self) -> Result<Option<HistoryId>, Error>;

    /// See [`Store::people`].
    fn people(&self) -> &PersonalKeys;

    /// See [`Store::lookups`].
    async fn lookups(&self) -> Result<Arc<LookupKeys>, Error>;

    /// See [`Store::seal_payment_token`].
    async fn seal_payment_token(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Sealed<String>, Error>;

    /// See [`Store::stored_keys`].
    async fn stored_keys(&self, ids: &BTreeSet<KeyId>) -> Result<Vec<StoredKey>, Error>;

    /// See [`Store::keys_of_subject`].
    async fn keys_of_subject(&self, subject: &str) -> Result<Vec<StoredKey>, Error>;

    /// See [`Store::orders_of_subject`].
    async fn orders_of_subject(&self, subject: &str) -> Result<BTreeSet<EntityId>, Error>;

    /// See [`Store::erase_keys`].
    async fn erase_keys(&self, erasure: &Erasure, keys: &[StoredKey]) -> Result<(), Error>;

    /// See [`Store::end_erasure`].
    async fn end_erasure(&self, erasure: &Erasure) -> Result<(), Error>;

    /// See [`Store::erasures`].
    async fn erasures(&self, open: bool) -> Result<Vec<Erasure>, Error>;

    /// See [`Store::add_erasure`].
    async fn add_erasure(&self, erasure: &Erasure) -> Result<u64, Error>;

    /// See [`Store::personal_keys`].
    async fn personal_keys(&self, ids: &BTreeSet<KeyId>) -> Result<Keys, Error>;

    /// See [`Store::cursor`].
    async fn cursor(&self, name: &str, shard: u16) -> Result<i64, Error>;

    /// See [`Store::cursors`].
    async fn cursors(&self, name: &str) -> Result<Vec<(u16, i64)>, Error>;

    /// See [`Store::commit_projections`].
    async fn commit_projections(&self, batches: &[ProjectionBatch<'_>]) -> Result<bool, Error>;

    /// See [`Store::reset_projection`].
    async fn reset_projection(&self, name: &str) -> Result<(), Error>;

    /// See [`Store::dead_letters`].
    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<DeadLetter>, Error>;

    /// See [`Store::dead_letter`].
    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, Error>;

    /// See [`Store::parked`].
    async fn parked(&self, name: &str, entities: &[EntityId]) -> Result<Vec<EntityId>, Error>;

    /// See [`Store::all_parked`].
    async fn all_parked(&self, name: &str) -> Result<Vec<EntityId>, Error>;

    /// See [`Store::delete_dead_letter`].
    async fn delete_dead_letter(&self, id: i64) -> Result<bool, Error>;

    /// See [`Store::park_webhook`].
    async fn park_webhook(&self, webhook: &Parked) -> Result<bool, Error>;

    /// See [`Store::due_webhooks`].
    async fn due_webhooks(&self, until: Timestamp, limit: u32) -> Result<Vec<webhook::Row>, Error>;

    /// See [`Store::webhook`].
    async fn webhook(&self, id: i64) -> Result<Option<webhook::Row>, Error>;

    /// See [`Store::parked_webhooks`].
    async fn parked_webhooks(&self, after: i64, limit: u32) -> Result<Vec<webhook::Row>, Error>;

    /// See [`Store::retry_webhook`].
    async fn retry_webhook(
        &self,
        id: i64,
        reason: &str,
        next_try_at: Timestamp,
    ) -> Result<bool, Error>;

    /// See [`Store::remove_webhook`].
    async fn remove_webhook(&self, id: i64) -> Result<bool, Error>;

    /// See [`Store::setting`].
    async fn setting(&self, name: &str) -> Result<Option<String>, Error>;

    /// See [`Store::put_setting`].
    async fn put_setting(&self, name: &str, value: &str) -> Result<(), Error>;

    /// See [`Store::heartbeat`].
    async fn heartbeat(&self, node: &NodeRow, lease: Span) -> Result<Option<bool>, Error>;

    /// See [`Store::nodes`].
    async fn nodes(&self) -> Result<Vec<node::Row>, Error>;

    /// See [`Store::set_draining`].
    async fn set_draining(&self, id: &str, draining: bool) -> Result<bool, Error>;

    /// See [`Store::remove_node`].
    async fn remove_node(&self, node: &NodeRow) -> Result<bool, Error>;

    /// See [`Store::pin_shard`].
    async fn pin_shard(&self, shard: u16, node: Option<&str>) -> Result<bool, Error>;

    /// Closes the store, after writes in progress are finished.
    async fn close(&self);
}

#[async_trait]
impl Tables for Store {
    fn journal(&self) -> Arc<dyn Journal> {
        Self::journal(self)
    }

    async fn shards(&self) -> Result<Vec<shard::Row>, Error> {
        Self::shards(self).await
    }

    async fn find_row(
        &self,
        table: &'static Table,
        key: &[Value<'_>],
    ) -> Result<Option<FoundRow>, Error> {
        row::find(self.readers(), table, key).await
    }

    async fn find_rows(
        &self,
        table: &'static Table,
        keys: &[Value<'_>],
    ) -> Result<Vec<FoundRow>, Error> {
        row::find_all(self.readers(), table, keys).await
    }

    async fn rows_behind(
        &self,
        table: &'static Table,
        after: Option<&[Value<'_>]>,
        limit: u32,
    ) -> Result<Vec<FoundRow>, Error> {
        row::list_behind(self.readers(), table, after, limit).await
    }

    async fn signed_heads(&self) -> Result<Vec<SignedHead>, Error> {
        Self::signed_heads(self).await
    }

    async fn current_history(&self) -> Result<Option<HistoryId>, Error> {
        Self::current_history(self).await
    }

    fn people(&self) -> &PersonalKeys {
        Self::people(self)
    }

    async fn lookups(&self) -> Result<Arc<LookupKeys>, Error> {
        Self::lookups(self).await
    }

    async fn seal_payment_token(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Sealed<String>, Error> {
        Self::seal_payment_token(self, token, now).await
    }

    async fn stored_keys(&self, ids: &BTreeSet<KeyId>) -> Result<Vec<StoredKey>, Error> {
        Self::stored_keys(self, ids).await
    }

    async fn keys_of_subject(&self, subject: &str) -> Result<Vec<StoredKey>, Error> {
        Self::keys_of_subject(self, subject).await
    }

    async fn orders_of_subject(&self, subject: &str) -> Result<BTreeSet<EntityId>, Error> {
        Self::orders_of_subject(self, subject).await
    }

    async fn erase_keys(&self, erasure: &Erasure, keys: &[StoredKey]) -> Result<(), Error> {
        Self::erase_keys(self, erasure, keys).await
    }

    async fn end_erasure(&self, erasure: &Erasure) -> Result<(), Error> {
        Self::end_erasure(self, erasure).await
    }

    async fn erasures(&self, open: bool) -> Result<Vec<Erasure>, Error> {
        Self::erasures(self, open).await
    }

    async fn add_erasure(&self, erasure: &Erasure) -> Result<u64, Error> {
        Self::add_erasure(self, erasure).await
    }

    async fn personal_keys(&self, ids: &BTreeSet<KeyId>) -> Result<Keys, Error> {
        Self::personal_keys(self, ids).await
    }

    async fn cursor(&self, name: &str, shard: u16) -> Result<i64, Error> {
        Self::cursor(self, name, shard).await
    }

    async fn cursors(&self, name: &str) -> Result<Vec<(u16, i64)>, Error> {
        Self::cursors(self, name).await
    }

    async fn commit_projections(&self, batches: &[ProjectionBatch<'_>]) -> Result<bool, Error> {
        Self::commit_projections(self, batches).await
    }

    async fn reset_projection(&self, name: &str) -> Result<(), Error> {
        Self::reset_projection(self, name).await
    }

    async fn dead_letters(&self, after: i64, limit: u32) -> Result<Vec<DeadLetter>, Error> {
        Self::dead_letters(self, after, limit).await
    }

    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, Error> {
        Self::dead_letter(self, id).await
    }

    async fn parked(&self, name: &str, entities: &[EntityId]) -> Result<Vec<EntityId>, Error> {
        Self::parked(self, name, entities).await
    }

    async fn all_parked(&self, name: &str) -> Result<Vec<EntityId>, Error> {
        Self::all_parked(self, name).await
    }

    async fn delete_dead_letter(&self, id: i64) -> Result<bool, Error> {
        Self::delete_dead_letter(self, id).await
    }

    async fn park_webhook(&self, webhook: &Parked) -> Result<bool, Error> {
        Self::park_webhook(self, webhook).await
    }

    async fn due_webhooks(&self, until: Timestamp, limit: u32) -> Result<Vec<webhook::Row>, Error> {
        Self::due_webhooks(self, until, limit).await
    }

    async fn webhook(&self, id: i64) -> Result<Option<webhook::Row>, Error> {
        Self::webhook(self, id).await
    }

    async fn parked_webhooks(&self, after: i64, limit: u32) -> Result<Vec<webhook::Row>, Error> {
        Self::parked_webhooks(self, after, limit).await
    }

    async fn retry_webhook(
        &self,
        id: i64,
        reason: &str,
        next_try_at: Timestamp,
    ) -> Result<bool, Error> {
        Self::retry_webhook(self, id, reason, next_try_at).await
    }

    async fn remove_webhook(&self, id: i64) -> Result<bool, Error> {
        Self::remove_webhook(self, id).await
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, Error> {
        Self::setting(self, name).await
    }

    async fn put_setting(&self, name: &str, value: &str) -> Result<(), Error> {
        Self::put_setting(self, name, value).await
    }

    async fn heartbeat(&self, node: &NodeRow, lease: Span) -> Result<Option<bool>, Error> {
        Self::heartbeat(self, node, lease).await
    }

    async fn nodes(&self) -> Result<Vec<node::Row>, Error> {
        Self::nodes(self).await
    }

    async fn set_draining(&self, id: &str, draining: bool) -> Result<bool, Error> {
        Self::set_draining(self, id, draining).await
    }

    async fn remove_node(&self, node: &NodeRow) -> Result<bool, Error> {
        Self::remove_node(self, node).await
    }

    async fn pin_shard(&self, shard: u16, node: Option<&str>) -> Result<bool, Error> {
        Self::pin_shard(self, shard, node).await
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}
