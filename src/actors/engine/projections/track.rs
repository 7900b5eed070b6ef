//! The state of one projection while it runs: its position in each owned shard, the entities that
//! it skips, its part of the batch in progress, and its suspension. `Projector` has the state that
//! all projections share.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::projection::ProjectionEntry;
use super::runner::{EventOutcome, RunningProjection};
use super::{BREATH, Error, heal};
use crate::actors::engine::clock::Clock;
use crate::domain::entity::{EntityId, Record};
use crate::seeded_fault::{self, SeededFault};
use crate::store::journal::Journal;
use crate::store::projection::{Cursor, DeadLetter, ProjectionBatch};
use crate::store::{self, Tables};

/// A projection's position in a shard.
pub(super) struct ShardTrack {
    pub(super) pos: i64,
    /// The journal has, or may have, later events that the feed has not brought.
    pub(super) behind: bool,
}

/// The first pause of a suspended projection; it doubles with each attempt.
const SUSPENSION_MIN: Duration = Duration::from_secs(1);
/// The longest pause of a suspended projection.
const SUSPENSION_MAX: Duration = Duration::from_secs(60);

/// The suspension of a projection whose table cannot be written, while other projections' tables
/// can.
struct Suspension {
    pause: Duration,
    until: Instant,
    /// The positions that the unwritten batches would have reached, by shard.
    missing: BTreeMap<u16, i64>,
}

/// The services that folding needs.
type FoldServices<'a> = (&'a dyn Tables, &'a dyn Journal, &'a Clock);

/// A projection and its positions.
pub(super) struct Track {
    pub(super) name: &'static str,
    pub(super) is_live: bool,
    pub(super) run: Box<dyn RunningProjection>,
    pub(super) parts: BTreeMap<u16, ShardTrack>,
    parked: HashSet<EntityId>,
    /// The cursors that the batch in progress moves, by shard.
    pub(super) cursors: BTreeMap<u16, Cursor>,
    dead: Vec<DeadLetter>,
    suspension: Option<Suspension>,
    /// The projection is suspended, and its next attempt is not due yet.
    pub(super) paused: bool,
    /// This projection's part of the batch in progress is written.
    written: bool,
}

impl Track {
    pub(super) fn new(entry: &ProjectionEntry) -> Self {
        Self {
            name: entry.name,
            is_live: entry.is_live,
            run: entry.runner(),
            parts: BTreeMap::new(),
            parked: HashSet::new(),
            cursors: BTreeMap::new(),
            dead: Vec::new(),
            suspension: None,
            paused: false,
            written: false,
        }
    }

    /// Adds newly owned shards, and removes shards that are no longer owned.
    pub(super) fn own(
        &mut self,
        owned: &BTreeSet<u16>,
        (cursors, parked): (&BTreeMap<u16, i64>, Vec<EntityId>),
        shards: u16,
    ) {
        if self.parts.keys().any(|shard| !owned.contains(shard)) {
            self.parts.retain(|shard, _| owned.contains(shard));
            self.run.retain(&|entity| owned.contains(&entity.shard(shards)));
            self.parked.retain(|entity| owned.contains(&entity.shard(shards)));
        }
        for shard in owned {
            let pos = cursors.get(shard).copied().unwrap_or(0);
            self.parts.entry(*shard).or_insert(ShardTrack { pos, behind: true });
        }
        self.park(parked, shards);
        self.rejoin();
    }

    /// Remembers the entities with dead letters in the store, some of which another writer may have
    /// written.
    pub(super) fn park(&mut self, parked: Vec<EntityId>, shards: u16) {
        let own = |entity: &EntityId| self.parts.contains_key(&entity.shard(shards));
        self.parked.extend(parked.into_iter().filter(own));
    }

    /// Whether another writer has moved one of the projection's cursors.
    pub(super) fn is_moved(&self, cursors: &BTreeMap<u16, i64>) -> bool {
        let stands = |shard: &u16| cursors.get(shard).copied().unwrap_or(0);
        self.parts.iter().any(|(shard, part)| stands(shard) != part.pos)
    }

    /// Takes over the stored cursors and the journal's positions. If another writer has moved a
    /// shard's cursor, the states folded for that shard are discarded.
    pub(super) fn look(&mut self, shards: &[store::shard::Row], cursors: &BTreeMap<u16, i64>) {
        let mut moved = BTreeSet::new();
        for row in shards {
            let Some(part) = self.parts.get_mut(&row.id) else { continue };
            let cursor = cursors.get(&row.id).copied().unwrap_or(0);
            if cursor != part.pos {
                moved.insert(row.id);
            }
            part.behind |= row.last_pos > cursor || cursor != part.pos;
            part.pos = cursor;
        }
        if !moved.is_empty() {
            let count = u16::try_from(shards.len()).unwrap_or(u16::MAX);
            self.run.retain(&|entity| !moved.contains(&entity.shard(count)));
        }
        self.rejoin();
    }

    /// Folds the records that follow the cursors; `tell` selects those whose changes are to be
    /// published.
    pub(super) async fn fold(
        &mut self,
        (store, journal, clock): FoldServices<'_>,
        records: &[Record],
        tell: impl Fn(&Record) -> bool + Send,
    ) -> Result<(), Error> {
        if self.paused {
            self.missed(records);
            return Ok(());
        }
        self.look_at_parked(store, records).await?;
        for (count, record) in records.iter().enumerate() {
            if count % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
            if !self.follows(record) || !self.run.listens_to(&record.entity) {
                continue;
            }
            let mut left = i64::MAX;
            let outcome = if self.parked.contains(&record.entity) {
                EventOutcome::Unreadable("an earlier event of it could not be read".to_owned())
            } else {
                self.run.fold(journal, record, tell(record), &mut left).await?
            };
            if let EventOutcome::Unreadable(reason) = outcome {
                self.add_dead_letter(record, reason, clock);
            }
        }
        self.run.look_up_keys(store).await?;
        self.run.gather();
        Ok(())
    }

    /// Makes an event a dead letter and skips its entity from then on.
    fn add_dead_letter(&mut self, record: &Record, reason: String, clock: &Clock) {
        self.parked.insert(record.entity.clone());
        self.dead.push(DeadLetter {
            id: 0,
            projection: self.name.into(),
            shard: record.shard,
            pos: record.pos,
            entity: record.entity.clone(),
            reason,
            at: clock.now(),
        });
    }

    /// Writes this projection's part of the batch in a transaction of its own; `false` if another
    /// writer has moved a cursor.
    pub(super) async fn commit(&self, store: &dyn Tables) -> Result<bool, store::Error> {
        let cursors: Vec<Cursor> = self.cursors.values().copied().collect();
        if cursors.is_empty() {
            return Ok(true);
        }
        store.commit_projections(&[self.projection_batch(&cursors)]).await
    }

    /// Folds the records of a refused batch again and writes them in halves. A half that is refused
    /// is halved again, until only the events at fault are left; each of these becomes a dead
    /// letter. `false` if another writer has moved a cursor.
    pub(super) async fn write_halved(
        &mut self,
        services: FoldServices<'_>,
        records: &[Record],
    ) -> Result<bool, Error> {
        let (store, _, clock) = services;
        self.forget_batch();
        let mut left = vec![records];
        while let Some(records) = left.pop() {
            self.fold(services, records, |_| false).await?;
            let mut written = self.commit(store).await;
            if let Err(error) = &written
                && error.refuses_a_row()
            {
                self.forget_batch();
                if let [record] = records {
                    tracing::error!(projection = self.name, entity = record.entity.as_str(), %error,
                        "the rows of an event are refused");
                    self.follows(record);
                    self.add_dead_letter(record, heal::REFUSED.to_owned(), clock);
                    written = self.commit(store).await;
                } else {
                    let (first, second) = records.split_at(records.len() / 2);
                    left.extend([second, first]);
                    continue;
                }
            }
            if !written? {
                self.forget_batch();
                return Ok(false);
            }
            self.advance();
            self.end(records, true);
        }
        Ok(true)
    }

    /// Undoes everything that was folded since the last written batch.
    fn forget_batch(&mut self) {
        self.cursors.clear();
        self.dead.clear();
        self.run.undo();
    }

    /// Advances the batch's cursor of the record's shard if the record is the next one; `false` if
    /// it is not. After a gap, the shard is marked to be read from the journal.
    fn follows(&mut self, record: &Record) -> bool {
        let Some(part) = self.parts.get_mut(&record.shard) else { return false };
        let at = self.cursors.get(&record.shard).map_or(part.pos, |cursor| cursor.pos);
        if record.pos <= at {
            return false;
        }
        if record.pos != at + 1 && !seeded_fault::active(SeededFault::CursorSkips) {
            part.behind = true;
            return false;
        }
        let begin = Cursor { shard: record.shard, after: part.pos, pos: part.pos };
        self.cursors.entry(record.shard).or_insert(begin).pos = record.pos;
        true
    }

    /// Stops skipping those of the records' entities whose dead letters are no longer in the store,
    /// because they were retried or discarded.
    async fn look_at_parked(
        &mut self,
        store: &dyn Tables,
        records: &[Record],
    ) -> Result<(), store::Error> {
        let parked = records.iter().filter(|record| self.parked.contains(&record.entity));
        let parked: BTreeSet<EntityId> = parked.map(|record| record.entity.clone()).collect();
        if parked.is_empty() {
            return Ok(());
        }
        let parked: Vec<EntityId> = parked.into_iter().collect();
        let still = store.parked(self.name, &parked).await?;
        for entity in parked.iter().filter(|entity| !still.contains(entity)) {
            self.parked.remove(entity);
        }
        Ok(())
    }

    /// This projection's part of the batch, to be written, once [`Track::fold`] has collected it.
    pub(super) fn projection_batch<'a>(&'a self, cursors: &'a [Cursor]) -> ProjectionBatch<'a> {
        let rows = Some(self.run.batch());
        ProjectionBatch { projection: self.name, cursors, rows, dead: &self.dead, healed: &[] }
    }

    /// Whether the written batch contains all events of a shard after `told`, the last published
    /// position, up to `pos`.
    pub(super) fn has_all(&self, shard: u16, told: i64, pos: i64) -> bool {
        let has = |step: &Cursor| step.after <= told && step.pos == pos;
        self.written && self.cursors.get(&shard).is_some_and(has)
    }

    /// Records that the batch is written, and moves the projection's positions.
    pub(super) fn advance(&mut self) {
        self.written = true;
        for (shard, cursor) in &self.cursors {
            self.parts.entry(*shard).and_modify(|part| part.pos = cursor.pos);
        }
        self.rejoin();
    }

    /// Ends the suspension once the missing batches are written, by any node, or their shards are
    /// no longer owned.
    fn rejoin(&mut self) {
        let Some(suspension) = &mut self.suspension else { return };
        let parts = &self.parts;
        suspension
            .missing
            .retain(|shard, pos| parts.get(shard).is_some_and(|part| part.pos < *pos));
        if suspension.missing.is_empty() {
            self.suspension = None;
            tracing::info!(projection = self.name, "the rows of a projection are written again");
        }
    }

    /// Whether the projection is suspended.
    pub(super) const fn is_suspended(&self) -> bool {
        self.suspension.is_some()
    }

    /// Suspends the projection: it pauses before its next attempt, while the others continue.
    pub(super) fn suspend(&mut self) {
        let before = self.suspension.take();
        let pause = before
            .as_ref()
            .map_or(SUSPENSION_MIN, |suspension| (suspension.pause * 2).min(SUSPENSION_MAX));
        let mut missing = before.map(|suspension| suspension.missing).unwrap_or_default();
        missing.extend(self.cursors.iter().map(|(shard, cursor)| (*shard, cursor.pos)));
        self.suspension = Some(Suspension { pause, until: Instant::now() + pause, missing });
        self.paused = true;
    }

    /// Lets a suspended projection try again if its pause is over.
    pub(super) fn wake(&mut self, now: Instant) {
        self.paused = self.suspension.as_ref().is_some_and(|suspension| suspension.until > now);
    }

    /// Whether the projection has to read events from the journal, because the feed has not brought
    /// them.
    pub(super) fn is_behind(&self) -> bool {
        !self.paused && self.parts.values().any(|part| part.behind)
    }

    fn missed(&mut self, records: &[Record]) {
        for record in records {
            self.parts.entry(record.shard).and_modify(|part| part.behind = true);
        }
    }

    /// Ends the batch of these records. `passed` says whether the batch was written as a whole; if
    /// so, a projection without a part in it counts as written, too.
    pub(super) fn end(&mut self, records: &[Record], passed: bool) {
        let written = self.written || passed && self.cursors.is_empty();
        self.written = false;
        self.cursors.clear();
        self.dead.clear();
        if written {
            self.run.done();
        } else {
            self.run.undo();
            self.missed(records);
        }
    }
}
