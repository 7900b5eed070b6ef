//! Makes the read models of orders and stock from the journal, in the order of each shard, for
//! all shards that this node owns.
//!
//! The feed only tells early; what it skips is read from the journal. A row is the fold of its
//! entity's events, so that making it again gives the same row. A step writes the rows of all its
//! shards and moves their cursors in one transaction, and nothing of it if a cursor is not where
//! it was: somebody else has written there. An event that cannot be read parks its entity and
//! becomes a dead letter, and the rest goes on (`heal` tries it again). What a step changed is
//! told through `changes` once it is written; rows that are made again are not news. Shards of
//! other nodes are only followed (`follower`).

mod fold;
mod follower;
mod heal;
mod owned;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::fold::{order_row, stock_rows};
pub use self::follower::Follower;
pub use self::heal::{Healed, replay_entity};
pub use self::owned::Owned;

use self::fold::Folds;
use super::changes::{Changed, Changes, Notes};
use super::clock::Clock;
use super::runtime::Current;
use crate::domain::entity::{EntityId, Record};
use crate::domain::flaw::{self, Flaw};
use crate::store::journal::{Journal, ReadError};
use crate::store::projection::{Cursor, DeadLetter, Step};
use crate::store::{self, Tables};

/// The name of the one projection that makes the rows of orders and stock.
pub const NAME: &str = "rows";
/// Events that are taken in one step.
const STEP_MAX: u32 = 2_000;
/// Events that are folded before others on the same thread get their turn.
const BREATH: usize = 64;
/// How long it rests after a step, as a multiple of what the step took.
const REST: u32 = 9;
/// The longest rest: who waits for rows of their own writing waits longer.
const REST_MAX: Duration = Duration::from_millis(200);
/// How often it is looked whether the journal or a cursor has moved unheard.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// What the feed tells.
type Heard = broadcast::Receiver<Arc<[Record]>>;

/// How far the rows of a shard have come.
#[derive(Default)]
struct Part {
    pos: i64,
    /// There is more in the journal than the feed has told, or may be.
    behind: bool,
    /// A step was folded and not written: what it changed is not known any more.
    torn: bool,
}

/// Makes rows of all shards that are owned.
pub struct Projector {
    store: Arc<dyn Tables>,
    journal: Arc<dyn Journal>,
    clock: Clock,
    owned: Owned,
    parts: BTreeMap<u16, Part>,
    folds: Folds,
    parked: HashSet<EntityId>,
    again: Arc<Notify>,
    changes: Changes,
    settings: Option<watch::Receiver<Arc<Current>>>,
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The rows cannot be written.
    #[error(transparent)]
    Store(#[from] store::Error),
}

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
    /// Goes on where the cursors of the owned shards stand.
    ///
    /// # Errors
    /// The store's.
    pub async fn new(
        store: Arc<dyn Tables>,
        clock: Clock,
        owned: Owned,
    ) -> Result<Self, store::Error> {
        let journal = store.journal();
        let mut projector = Self {
            changes: Changes::new(journal.shards()),
            journal,
            store,
            clock,
            owned,
            parts: BTreeMap::new(),
            folds: Folds::default(),
            parked: HashSet::new(),
            again: Arc::default(),
            settings: None,
        };
        projector.look_at_owned().await?;
        Ok(projector)
    }

    /// Tells what each step changed.
    #[must_use]
    pub fn tell(mut self, changes: Changes) -> Self {
        for (shard, part) in &self.parts {
            changes.reached(*shard, part.pos);
        }
        self.changes = changes;
        self
    }

    /// Makes all rows again, from the first event on, each time that it is notified.
    #[must_use]
    pub fn again_on(mut self, again: Arc<Notify>) -> Self {
        self.again = again;
        self
    }

    /// Stands still for as long as the settings say so.
    #[must_use]
    pub fn by_settings(mut self, settings: watch::Receiver<Arc<Current>>) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Works until told to stop; `reached` shows how far it has come in each shard. Steps are at
    /// least `pause` apart, so that many events share one; and under load, when nothing is left
    /// behind, further, so that the row of an order is not written at each of its steps.
    pub async fn run(
        mut self,
        mut feed: Heard,
        pause: Duration,
        reached: watch::Sender<Vec<i64>>,
        stop: CancellationToken,
    ) {
        let (mut owned, again) = (self.owned.watch(), self.again.clone());
        let mut check_at = Instant::now() + CHECK_EVERY;
        loop {
            if !self.may_go_on(&stop).await {
                return;
            }
            let began = Instant::now();
            let more = self.catch_up(&mut feed).await;
            self.show(&reached);
            let rest = match more {
                Ok(false) => (began.elapsed() * REST).min(REST_MAX).max(pause),
                Ok(true) => pause,
                Err(ref error) => {
                    tracing::error!(%error, "rows fall behind the journal");
                    pause
                }
            };
            let more = more.unwrap_or(false);
            let heard = async {
                tokio::time::sleep(rest).await;
                if more || !feed.is_empty() { None } else { Some(feed.recv().await) }
            };
            let heard = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = again.notified() => {
                    if let Err(error) = self.begin_again().await {
                        tracing::error!(%error, "rows cannot be made again");
                    }
                    continue;
                }
                Ok(()) = owned.changed() => continue,
                () = tokio::time::sleep_until(check_at) => {
                    if let Err(error) = self.check().await {
                        tracing::warn!(%error, "it is not known whether rows are behind");
                    }
                    check_at = Instant::now() + CHECK_EVERY;
                    continue;
                }
                heard = heard => heard,
            };
            match heard {
                Some(Ok(batch)) => {
                    if let Err(error) = self.take(&batch).await {
                        tracing::error!(%error, "rows fall behind the journal");
                    }
                }
                Some(Err(RecvError::Lagged(_))) => self.all_behind(),
                // Nobody commits any more: what is left is read at the next look.
                Some(Err(RecvError::Closed)) => tokio::time::sleep_until(check_at).await,
                None => {}
            }
        }
    }

    /// Waits for as long as the settings say that the rows stand still; `false` once it has to
    /// stop.
    async fn may_go_on(&mut self, stop: &CancellationToken) -> bool {
        let Some(settings) = &mut self.settings else {
            return true;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            // An error means that nobody can change them any more.
            _ = settings.wait_for(|now| !now.projections_paused) => true,
        }
    }

    fn show(&self, reached: &watch::Sender<Vec<i64>>) {
        reached.send_if_modified(|reached| {
            let mut moved = false;
            for (shard, part) in &self.parts {
                if let Some(there) = reached.get_mut(usize::from(*shard)) {
                    moved |= *there != part.pos;
                    *there = part.pos;
                }
            }
            moved
        });
    }

    /// Begins with shards that are owned by now, and forgets those that no longer are.
    async fn look_at_owned(&mut self) -> Result<(), store::Error> {
        let owned = self.owned.all();
        if owned.iter().eq(self.parts.keys()) {
            return Ok(());
        }
        let gone = |shard: &u16| !owned.contains(shard);
        if self.parts.keys().any(gone) {
            self.parts.retain(|shard, _| owned.contains(shard));
            let shards = self.journal.shards();
            self.folds.retain(|id| owned.contains(&id.shard(shards)));
            self.parked.retain(|id| owned.contains(&id.shard(shards)));
        }
        let cursors: BTreeMap<u16, i64> = self.store.cursors(NAME).await?.into_iter().collect();
        for shard in owned {
            self.parts.entry(shard).or_insert_with(|| {
                let pos = cursors.get(&shard).copied().unwrap_or(0);
                self.changes.reached(shard, pos);
                Part { pos, behind: true, torn: false }
            });
        }
        Ok(())
    }

    /// Looks whether the journal has events that nobody told of, and whether somebody else has
    /// moved a cursor.
    async fn check(&mut self) -> Result<(), store::Error> {
        let cursors: BTreeMap<u16, i64> = self.store.cursors(NAME).await?.into_iter().collect();
        let shards = self.store.shards().await?;
        for row in shards {
            if let Some(part) = self.parts.get_mut(&row.id) {
                let cursor = cursors.get(&row.id).copied().unwrap_or(0);
                part.behind |= row.last_pos > part.pos || cursor != part.pos;
                part.pos = cursor;
            }
        }
        Ok(())
    }

    /// Forgets the cursors and all dead letters.
    async fn begin_again(&mut self) -> Result<(), store::Error> {
        self.store.reset_projection(NAME).await?;
        tracing::info!("all rows of orders and stock are made again");
        for part in self.parts.values_mut() {
            *part = Part { pos: 0, behind: true, torn: false };
        }
        self.folds = Folds::default();
        self.parked.clear();
        Ok(())
    }

    fn all_behind(&mut self) {
        self.parts.values_mut().for_each(|part| part.behind = true);
    }

    /// Makes one last step, so that the rows show all that the journal has.
    ///
    /// # Errors
    /// [`Error`]: the journal cannot be read, or the rows not be written.
    pub async fn finish(&mut self) -> Result<(), Error> {
        self.all_behind();
        self.read_journal().await
    }

    /// Takes what the feed has, and from the journal what it has not; whether there is more.
    async fn catch_up(&mut self, feed: &mut Heard) -> Result<bool, Error> {
        self.look_at_owned().await?;
        let mut heard: Vec<Record> = Vec::new();
        while heard.len() < STEP_MAX as usize {
            match feed.try_recv() {
                Ok(batch) => {
                    let of = |record: &&Record| self.parts.contains_key(&record.shard);
                    heard.extend(batch.iter().filter(of).cloned());
                }
                Err(TryRecvError::Lagged(_)) => self.all_behind(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        self.take(&heard).await?;
        self.read_journal().await?;
        let behind = self.parts.values().any(|part| part.behind);
        Ok(behind || heard.len() >= STEP_MAX as usize)
    }

    /// Reads those shards that are behind, as far as nobody else writes their rows.
    async fn read_journal(&mut self) -> Result<(), Error> {
        loop {
            let behind = self.parts.iter().filter(|(_, part)| part.behind);
            let behind: Vec<(u16, i64)> = behind.map(|(shard, part)| (*shard, part.pos)).collect();
            let (mut page, mut done, mut left) = (Vec::new(), Vec::new(), STEP_MAX);
            for (shard, pos) in behind {
                let found = self.journal.read_shard(shard, pos, left).await?;
                let count = u32::try_from(found.len()).unwrap_or(left);
                if count < left {
                    done.push(shard);
                }
                page.extend(found);
                left -= count.min(left);
                if left == 0 {
                    break;
                }
            }
            if page.is_empty() && done.is_empty() {
                return Ok(());
            }
            if !self.take(&page).await? {
                return Ok(());
            }
            for shard in done {
                self.parts.entry(shard).and_modify(|part| part.behind = false);
            }
        }
    }

    /// Takes records that follow the cursors; a gap is left for the journal to fill. Answers
    /// whether it was written: not if somebody else has moved a cursor.
    async fn take(&mut self, records: &[Record]) -> Result<bool, Error> {
        let outcome = self.step(records).await;
        if !matches!(outcome, Ok(true)) {
            for record in records {
                self.parts.entry(record.shard).and_modify(|part| part.behind = true);
            }
        }
        outcome
    }

    async fn step(&mut self, records: &[Record]) -> Result<bool, Error> {
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
        if record.pos != at + 1 && !flaw::on(Flaw::CursorSkips) {
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
