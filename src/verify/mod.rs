//! `kontor verify`: folds the whole journal from its first event, checks the folded states against
//! each other, and compares them with every projected row and timer, and with the payment
//! provider's ledger.
//!
//! It writes and repairs nothing. It can run while a server runs: the journal is read up to its
//! last position at the start, unfinished orders are only checked for what must hold at any time,
//! and differences that may come from concurrent changes are checked again before they are
//! reported.
//!
//! It needs some 500 bytes of memory per order, 150 per payment and 50 per spent cart, and memory
//! for the whole stock.

mod book;
mod books;
mod cart;
pub mod chain;
mod cross;
pub mod heads;
mod listed_rows;
mod location;
mod money;
mod order;
mod price;
pub mod provider;
mod replay;
pub mod report;
mod row_book;
mod rows;
mod snapshots;
mod stock;
mod timers;

use std::collections::{BTreeMap, BTreeSet};

pub use book::{ChangeCheck, EntityBook, ListedBook, NounBook, WantedTimer};
pub use books::Books;
pub use report::{CheckedCounts, Invariant, VIOLATIONS_MAX, VerifyReport, Violation, Violations};
pub use row_book::{ReportCounts, RowBook};
pub use rows::{FoldedRow, RowComparison};

use self::chain::ChainCheck;
use self::money::ProviderLedger;
use self::report::{count, shard_name};
use self::rows::Cursors;
use crate::actors::buyer_data::key_ids;
use crate::actors::engine::fold;
use crate::actors::engine::host::decode;
use crate::actors::read_models;
use crate::domain::entity::{EntityId, Noun as _, Record};
use crate::domain::location::StockLocation;
use crate::domain::order::Order;
use crate::domain::product::Product;
use crate::domain::sealed::KeyId;
use crate::providers::payment::Provider;
use crate::store::journal::{Chained, Journal, ReadError};
use crate::store::signed_head::PublicKey;
use crate::store::{self, Tables, shard};

impl Books {
    /// The books of all nouns and rows.
    #[must_use]
    pub fn standard() -> Self {
        Self::default()
            .with(RowBook::<Product>::counted_by(|checked, products, rows| {
                (checked.products, checked.product_rows) = (products, rows);
            }))
            .with(RowBook::<StockLocation>::counted_by(|checked, locations, rows| {
                checked.others.insert("described_locations".to_owned(), locations);
                checked.others.insert("described_locations_rows".to_owned(), rows);
            }))
    }
}

/// The number of events that are read at once.
const PAGE: u32 = 2_000;
/// The most events that are shown for a violation.
const EVIDENCE_MAX: u32 = 20;

/// The progress of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyProgress {
    /// The stage: `payments`, `events` or `rows`.
    pub stage: &'static str,
    /// The number of payments, events or rows checked so far.
    pub done: u64,
    /// The number of all payments, events or rows; 0 if it is unknown.
    pub total: u64,
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The rows cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The payment provider did not answer.
    #[error("the payment provider's ledger cannot be read: {0}")]
    Provider(String),
    /// The owner has ended a history that has not ended.
    #[error(
        "--ended-history {0} is the history that the store has now: all its heads must agree. If you \
         have put the store back, end it with kontor new-history"
    )]
    CurrentHistory(String),
}

/// Checks a store with the books of all nouns and, if a provider is given, the provider's ledger
/// too.
///
/// # Errors
/// [`Error`] if something cannot be read. Violations are no errors: they are in the report.
pub async fn verify(
    store: &dyn Tables,
    provider: Option<&dyn Provider>,
    progress: impl FnMut(VerifyProgress),
) -> Result<VerifyReport, Error> {
    verify_with(Books::standard(), store, provider, progress).await
}

/// Checks a store with these books, which must be empty.
///
/// # Errors
/// See [`verify`].
pub async fn verify_with(
    mut books: Books,
    store: &dyn Tables,
    provider: Option<&dyn Provider>,
    mut progress: impl FnMut(VerifyProgress),
) -> Result<VerifyReport, Error> {
    let journal = store.journal();
    let journal = journal.as_ref();
    let ledger = match provider {
        Some(provider) => Some(ProviderLedger::read(provider, &mut progress).await?),
        None => None,
    };
    books.shards = journal.shards();
    books.checked.shards = u64::from(books.shards);
    let mut cursors = BTreeMap::new();
    let others: Vec<_> = books.others.iter().filter_map(|book| book.projection()).collect();
    for name in read_models::all().names().chain(others) {
        cursors.insert(name, store.cursors(name).await?.into_iter().collect());
    }
    books.heads.current = store.current_history().await?;
    let current = books.heads.current.map(|id| id.to_string());
    if let Some(id) = current.filter(|id| books.heads.ended.contains(id)) {
        return Err(Error::CurrentHistory(id));
    }
    // Read before the shards: none is ahead of its shard.
    match store.signed_heads().await {
        Ok(newest) => books.heads.add(newest, false),
        Err(store::Error::Row { table, reason }) => {
            let why = format!("a row of {table} cannot be read: {reason}");
            books.findings.add(Invariant::I8, table, &[], why);
        }
        Err(error) => return Err(error.into()),
    }
    if let Ok(master) = store.people().master() {
        books.heads.keys.extend(PublicKey::of(&master));
    }
    let before = store.shards().await?;
    check_shards(&before, &cursors, &mut books.findings);
    let total: i64 = before.iter().map(|shard| shard.last_pos).sum();
    let total = u64::try_from(total).unwrap_or(0);
    for shard in &before {
        read_shard(store, shard, &mut books, |done| {
            progress(VerifyProgress { stage: "events", done, total });
        })
        .await?;
    }
    books.heads.finish(&mut books.checked, &mut books.findings);
    books.check_erased(store, journal).await?;
    snapshots::check(journal, &mut books.checked, &mut books.findings).await?;
    books.orders.finish(&mut books.findings);
    books.compare_nouns();
    books.check_timers(journal).await?;
    RowComparison { store, journal, cursors }.compare(&mut books, &mut progress).await?;
    if let (Some(provider), Some(ledger)) = (provider, &ledger) {
        books.compare_money(journal, provider, ledger).await?;
    }
    check_epochs(&before, &store.shards().await?, &mut books.findings);
    report(journal, books).await
}

impl Books {
    /// Checks that the keys of erased orders are destroyed, unless that is in progress, and that those
    /// of all other orders are not.
    async fn check_erased(
        &mut self,
        store: &dyn Tables,
        journal: &dyn Journal,
    ) -> Result<(), Error> {
        let mut keyless = std::mem::take(&mut self.orders.keyless);
        let open = store.erasures(true).await?;
        let open: BTreeSet<&str> = open.iter().map(|erasure| &*erasure.subject).collect();
        for (entity, pos, ids) in std::mem::take(&mut self.orders.erased) {
            self.checked.erased += 1;
            keyless.remove(&entity);
            let there = store.stored_keys(&ids).await?;
            let subjects = there.iter().filter_map(|key| key.subject.as_deref());
            if !there.is_empty() && !subjects.into_iter().any(|subject| open.contains(subject)) {
                let why = "its buyer was erased, but the keys of their data are still there";
                self.findings.add(Invariant::I7, &entity, &[pos], why);
            }
        }
        self.checked.legal_holds += count(self.orders.held.len());
        for (entity, pos) in keyless {
            // It may have been erased while its keys were read.
            let erased = fold::load::<Order>(journal, &entity, i64::MAX).await?;
            if erased.is_ok_and(|folded| folded.state.is_erased()) {
                continue;
            }
            let why = if self.orders.held.contains(&entity) {
                "it is under a legal hold, but keys of its buyer's data are destroyed"
            } else {
                "its buyer was not erased, but keys of their data are gone"
            };
            self.findings.add(Invariant::I7, &entity, &[pos], why);
        }
        Ok(())
    }
}

/// Checks that a shard's row has the position of its last event, and that no projection's cursor is
/// beyond that event.
fn check_shards(shards: &[shard::Row], cursors: &Cursors, findings: &mut Violations) {
    for shard in shards {
        let name = shard_name(shard.id);
        if shard.last_pos != shard.max_pos {
            let why = format!(
                "according to its row its last event is at position {}, but it is at {}",
                shard.last_pos, shard.max_pos
            );
            findings.add(Invariant::I5, &name, &[shard.max_pos], why);
        }
        if shard.epoch < 0 || (shard.epoch == 0 && shard.last_pos > 0) {
            let why = format!("it has events, but its epoch is {}", shard.epoch);
            findings.add(Invariant::I5, &name, &[], why);
        }
        for (projection, cursors) in cursors {
            let cursor = cursors.get(&shard.id).copied().unwrap_or(0);
            if cursor > shard.last_pos.max(shard.max_pos) {
                let why =
                    format!("the cursor of {projection} is at {cursor}, beyond the last event");
                findings.add(Invariant::I6, &name, &[], why);
            }
        }
    }
}

fn check_epochs(before: &[shard::Row], after: &[shard::Row], findings: &mut Violations) {
    for (before, after) in before.iter().zip(after) {
        if after.epoch < before.epoch || after.last_pos < before.last_pos {
            let why = format!(
                "it went back from epoch {} and position {} to {} and {}",
                before.epoch, before.last_pos, after.epoch, after.last_pos
            );
            findings.add(Invariant::I5, shard_name(before.id), &[], why);
        }
    }
}

/// Reads the events of a shard up to its last position at the start, and folds them.
async fn read_shard(
    store: &dyn Tables,
    shard: &shard::Row,
    books: &mut Books,
    mut progress: impl FnMut(u64),
) -> Result<(), Error> {
    let journal = store.journal();
    let journal = journal.as_ref();
    let end = shard.last_pos.max(shard.max_pos);
    let heads = books.heads.of_shard(shard.id, &mut books.checked, &mut books.findings);
    let mut chain = ChainCheck::new(shard.id).comparing(heads);
    let mut pos = 0;
    while pos < end {
        let page = journal.read_chain(shard.id, pos, PAGE).await?;
        if page.is_empty() {
            break;
        }
        read_keys(store, &page, books).await?;
        for event in page.iter().filter(|event| event.record.pos <= end) {
            chain.follow(event, &mut books.findings);
            chain.compare(&mut books.checked, &mut books.findings);
            let record = &event.record;
            if record.pos != pos + 1 {
                let why = format!("position {} follows position {pos}", record.pos);
                let positions = [pos.max(1), record.pos];
                books.findings.add(Invariant::I5, shard_name(shard.id), &positions, why);
            }
            pos = record.pos;
            books.fold_event(journal, record).await?;
        }
        progress(books.checked.events);
        if page.last().is_none_or(|last| last.record.pos > end) {
            break;
        }
    }
    chain.finish(shard, &mut books.checked, &mut books.findings);
    Ok(())
}

/// Adds the keys of the personal values of the orders that were placed in a page of events.
async fn read_keys(store: &dyn Tables, page: &[Chained], books: &mut Books) -> Result<(), Error> {
    let (mut ids, mut placed) = (BTreeSet::new(), Vec::new());
    for Chained { record, .. } in page.iter().filter(|event| &*event.record.kind == "placed") {
        let mut order = Order::default();
        if let Ok(event) = decode(record) {
            order.evolve(&event, record.at);
            let mut of_order = BTreeSet::new();
            key_ids(&order, &mut of_order);
            ids.extend(of_order.iter().cloned());
            placed.push((&record.entity, record.pos, of_order));
        }
    }
    if !ids.is_empty() {
        for (id, entity, why) in damaged_keys(store, &mut ids).await? {
            if books.damaged_keys.insert(id) {
                books.findings.add(Invariant::I1, entity, &[], why);
            }
        }
        let found = store.personal_keys(&ids).await?;
        for (entity, pos, of_order) in placed {
            if of_order.iter().any(|id| ids.contains(id) && !found.has(id)) {
                books.orders.keyless.insert(entity.clone(), pos);
            }
        }
        match &mut books.orders.people {
            Some(known) => known.extend(found),
            people => *people = Some(found),
        }
    }
    Ok(())
}

/// Removes the keys that cannot be opened from these; returns their ids and entities, and why.
async fn damaged_keys(
    store: &dyn Tables,
    ids: &mut BTreeSet<KeyId>,
) -> Result<Vec<(String, String, String)>, Error> {
    let mut damaged = Vec::new();
    if !store.personal_keys(ids).await.is_err_and(|error| error.is_of_a_key()) {
        return Ok(damaged);
    }
    // The keyed hashes are sealed in the same way: without them, it is the master key that is wrong.
    store.lookups().await?;
    for key in store.stored_keys(ids).await? {
        if let Err(error) = store.people().unwrap(&key) {
            ids.retain(|id| id.as_str() != key.id);
            damaged.push((key.id, key.entity, error.to_string()));
        }
    }
    Ok(damaged)
}

/// Makes the report: adds missing positions to the violations, and the events of the first
/// violation.
async fn report(journal: &dyn Journal, books: Books) -> Result<VerifyReport, Error> {
    let Books { checked, findings: Violations { mut kept, total }, .. } = books;
    for violation in &mut kept {
        violation.positions.sort_unstable();
        violation.positions.dedup();
        if violation.positions.is_empty() {
            let entity = EntityId::new(&violation.entity);
            let records = journal.read_entity(&entity, 0, EVIDENCE_MAX).await?;
            violation.positions = records.iter().map(|record| record.pos).collect();
        }
    }
    kept.sort_by_key(|violation| violation.invariant != Invariant::I5);
    let mut evidence: Vec<Record> = Vec::new();
    if let Some(first) = kept.first() {
        let entity = EntityId::new(&first.entity);
        let shard = entity.shard(journal.shards());
        for pos in &first.positions {
            let found = journal.read_shard(shard, pos - 1, 1).await?;
            evidence.extend(found.into_iter().filter(|record| record.pos == *pos));
        }
    }
    let ok = total.is_empty();
    Ok(VerifyReport { ok, checked, violations: kept, violations_total: total, evidence })
}
