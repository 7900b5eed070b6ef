//! Makes the read models of orders and stock from the journal, in the order of each shard, for
//! all shards that this node owns.
//!
//! The feed only tells early; what it skips is read from the journal. A row is the fold of its
//! entity's events, so that making it again gives the same row. A step writes the rows of all its
//! shards and moves their cursors in one transaction, and nothing of it if a cursor is not where
//! it was: somebody else has written there. An event that cannot be read parks its entity and
//! becomes a dead letter, and the rest goes on (`heal` tries it again). What a step changed is
//! told through `changes` once it is written; rows that are made again are not news. How a step is
//! made is in `step`. Shards of other nodes are only followed (`follower`).

mod fold;
mod follower;
mod heal;
mod owned;
mod step;

use std::collections::{BTreeMap, HashSet};
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
use super::changes::Changes;
use super::clock::Clock;
use super::runtime::Current;
use crate::domain::entity::{EntityId, Record};
use crate::store::journal::{Journal, ReadError};
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
}
