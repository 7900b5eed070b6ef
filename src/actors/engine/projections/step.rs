//! One step: records are folded in, and rows, dead letters and cursors are written together.

use std::collections::{BTreeMap, BTreeSet};

use super::fold::Folds;
use super::{BREATH, Error, NAME, Projector};
use crate::actors::engine::changes::{Changed, Notes};
use crate::domain::entity::{EntityId, Record};
use crate::seeded_fault::{self, SeededFault};
use crate::store;
use crate::store::projection::{Cursor, DeadLetter, Step};

/// What a step has of one shard.
struct Stretch {
    /// Where the cursor stands.
    after: i64,
    /// Where it stands then.
    pos: i64,
    /// Up to where it was told before.
    told: i64,
    /// What is new in it; nothing if that is not known.
    notes: Option<Notes>,
}

/// A step while it is folded.
#[derive(Default)]
struct Taking {
    stretches: BTreeMap<u16, Stretch>,
    changed: BTreeSet<EntityId>,
    dead: Vec<DeadLetter>,
}

impl Projector {
    /// Takes records that follow the cursors; `false` if somebody else has moved one.
    pub(super) async fn step(&mut self, records: &[Record]) -> Result<bool, Error> {
        self.look_at_parked(records).await?;
        let mut taking = Taking::default();
        for (count, record) in records.iter().enumerate() {
            if count % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
            let Some(stretch) = self.stretch(&mut taking.stretches, record) else { continue };
            if !Folds::concerns(record) {
                continue;
            }
            let outcome = if self.parked.contains(&record.entity) {
                Err("an earlier event of it could not be read".to_owned())
            } else {
                // What is made again is not news.
                let notes = stretch.notes.as_mut().filter(|_| record.pos > stretch.told);
                self.folds.take(self.journal.as_ref(), record, notes).await?
            };
            match outcome {
                Ok(()) => drop(taking.changed.insert(record.entity.clone())),
                Err(reason) => {
                    self.parked.insert(record.entity.clone());
                    taking.dead.push(self.letter(record, reason));
                }
            }
        }
        self.drop_disowned(&mut taking);
        if taking.stretches.is_empty() {
            return Ok(true);
        }
        if !self.write(&taking).await? {
            self.check().await?;
            return Ok(false);
        }
        for (shard, stretch) in taking.stretches {
            if let Some(part) = self.parts.get_mut(&shard) {
                (part.pos, part.torn) = (stretch.pos, false);
            }
            self.publish(shard, stretch);
        }
        self.folds.forget_resting();
        Ok(true)
    }

    /// Where a record goes; nothing if it was taken before, or does not follow what was.
    fn stretch<'a>(
        &mut self,
        stretches: &'a mut BTreeMap<u16, Stretch>,
        record: &Record,
    ) -> Option<&'a mut Stretch> {
        let part = self.parts.get_mut(&record.shard)?;
        let at = stretches.get(&record.shard).map_or(part.pos, |stretch| stretch.pos);
        if record.pos <= at {
            return None;
        }
        if record.pos != at + 1 && !seeded_fault::active(SeededFault::CursorSkips) {
            part.behind = true;
            return None;
        }
        let stretch = stretches.entry(record.shard).or_insert_with(|| {
            let whole = !std::mem::replace(&mut part.torn, true);
            Stretch {
                after: part.pos,
                pos: part.pos,
                told: self.changes.head(record.shard).max(part.pos),
                notes: (whole && self.changes.listened()).then(Notes::default),
            }
        });
        stretch.pos = record.pos;
        Some(stretch)
    }

    /// Asks whether those who are parked and have news still are: somebody may have healed them.
    async fn look_at_parked(&mut self, records: &[Record]) -> Result<(), store::Error> {
        let parked = records.iter().filter(|record| self.parked.contains(&record.entity));
        let parked: BTreeSet<EntityId> = parked.map(|record| record.entity.clone()).collect();
        if parked.is_empty() {
            return Ok(());
        }
        let parked: Vec<EntityId> = parked.into_iter().collect();
        let still = self.store.parked(NAME, &parked).await?;
        for entity in parked.iter().filter(|entity| !still.contains(entity)) {
            self.parked.remove(entity);
        }
        Ok(())
    }

    /// Takes out of a step what is somebody else's by now.
    fn drop_disowned(&self, taking: &mut Taking) {
        let owned = self.owned.all();
        if taking.stretches.keys().all(|shard| owned.contains(shard)) {
            return;
        }
        let shards = self.journal.shards();
        taking.stretches.retain(|shard, _| owned.contains(shard));
        taking.changed.retain(|id| owned.contains(&id.shard(shards)));
        taking.dead.retain(|letter| owned.contains(&letter.shard));
    }

    /// Writes the rows of what was folded, and moves the cursors.
    async fn write(&self, taking: &Taking) -> Result<bool, store::Error> {
        let ids = &taking.changed;
        let orders: Vec<_> = ids.iter().filter_map(|id| self.folds.order(id)).collect();
        let stock: Vec<_> =
            ids.iter().filter_map(|id| self.folds.stock(id)).flat_map(|it| it.1).collect();
        let step = Step { orders: &orders, stock: &stock, dead: &taking.dead, healed: &[] };
        let cursor = |(shard, stretch): (&u16, &Stretch)| Cursor {
            shard: *shard,
            after: stretch.after,
            pos: stretch.pos,
        };
        let cursors: Vec<Cursor> = taking.stretches.iter().map(cursor).collect();
        self.store.commit_projection(NAME, &cursors, step).await
    }

    /// Tells what a step changed that was written. Without notes, all that is told is that
    /// something may have changed.
    fn publish(&self, shard: u16, stretch: Stretch) {
        let Stretch { pos, told, notes, .. } = stretch;
        self.changes.wrote(shard, pos);
        if pos <= told {
            return;
        }
        self.changes.reached(shard, pos);
        if !self.changes.listened() {
            return;
        }
        let changed = match notes {
            Some(notes) => {
                let (order, stock) = (|id: &_| self.folds.order(id), |id: &_| self.folds.stock(id));
                notes.changed((shard, told, pos), order, stock)
            }
            None => Changed::unknown(shard, pos),
        };
        self.changes.publish(changed);
    }

    fn letter(&self, record: &Record, reason: String) -> DeadLetter {
        DeadLetter {
            id: 0,
            projection: NAME.into(),
            shard: record.shard,
            pos: record.pos,
            entity: record.entity.clone(),
            reason,
            at: self.clock.now(),
        }
    }
}
