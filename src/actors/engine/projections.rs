//! Makes rows of events, in the order of each shard, for all shards that this node owns: one
//! projector drives all projections.
//!
//! The feed only tells early; what it skips is read from the journal. A step writes the rows of all
//! projections and shards and moves their cursors in one transaction, and nothing of it if a cursor
//! is not where it was: somebody else has written there. One whose rows cannot be written is set
//! aside and tried again, more and more rarely, and the others go on. Each projection has cursors of
//! its own (`track`), so that one can be made again, or added, while the others stand. An event that cannot
//! be read parks its entity and becomes a dead letter, and the rest goes on (`heal` tries it again).
//! What a step changed is told through `changes` once it is written; rows that are made again are
//! not news. Shards of other nodes are only followed (`follower`). Which projections there are, and
//! of which nouns, is not known here (`projection`).

mod follower;
mod heal;
mod news;
mod owned;
pub mod projection;
pub(in crate::actors::engine) mod runner;
mod step;
mod track;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::follower::Follower;
pub use self::heal::{Healed, replay_entity};
pub use self::owned::Owned;
pub use self::projection::{FoldedEvent, LiveList, Projection, Projections};

use self::track::Track;
use super::changes::ChangeFeed;
use super::clock::Clock;
use super::runtime::Current;
use crate::domain::entity::Record;
use crate::store::journal::{Journal, ReadError};
use crate::store::{self, Tables};

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

/// Makes rows of all shards that are owned.
pub struct Projector {
    store: Arc<dyn Tables>,
    journal: Arc<dyn Journal>,
    clock: Clock,
    owned: Owned,
    tracks: Vec<Track>,
    replay: Arc<Notify>,
    changes: ChangeFeed,
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
    /// The rows of one projection cannot be written, while those of others can; why is in the log.
    #[error("the rows of {0} cannot be written")]
    Aside(&'static str),
}

impl Projector {
    /// Goes on where the cursors of the owned shards stand.
    ///
    /// # Errors
    /// The store's.
    pub async fn new(
        store: Arc<dyn Tables>,
        projections: &Projections,
        clock: Clock,
        owned: Owned,
    ) -> Result<Self, store::Error> {
        let journal = store.journal();
        let mut projector = Self {
            changes: ChangeFeed::new(journal.shards()),
            journal,
            store,
            clock,
            owned,
            tracks: projections.entries().iter().map(Track::new).collect(),
            replay: Arc::default(),
            settings: None,
        };
        projector.look_at_owned().await?;
        Ok(projector)
    }

    /// Tells what each step changed.
    #[must_use]
    pub fn publish_to(mut self, changes: ChangeFeed) -> Self {
        self.changes = changes;
        self.reach(self.owned.all());
        self
    }

    /// Looks where the cursors stand each time that it is notified: somebody has let rows be made
    /// again.
    #[must_use]
    pub fn replay_on(mut self, replay: Arc<Notify>) -> Self {
        self.replay = replay;
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
        let (mut owned, replay) = (self.owned.watch(), self.replay.clone());
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
                () = replay.notified() => {
                    check_at = Instant::now();
                    continue;
                }
                Ok(()) = owned.changed() => continue,
                () = tokio::time::sleep_until(check_at) => {
                    if let Err(error) = self.check().await {
                        tracing::warn!(%error, "cannot check whether rows are behind the journal");
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
            for (shard, there) in (0..).zip(reached) {
                // Nobody waits for rows that cannot be written.
                let tracks = self.tracks.iter().filter(|track| !track.is_aside());
                let parts = tracks.filter_map(|track| track.parts.get(&shard));
                if let Some(pos) = parts.map(|part| part.pos).min() {
                    moved |= *there != pos;
                    *there = pos;
                }
            }
            moved
        });
    }

    /// Begins with shards that are owned by now, and forgets those that no longer are.
    async fn look_at_owned(&mut self) -> Result<(), store::Error> {
        let owned = self.owned.all();
        if self.tracks.iter().all(|track| owned.iter().eq(track.parts.keys())) {
            return Ok(());
        }
        let shards = self.journal.shards();
        for track in &mut self.tracks {
            let cursors = self.store.cursors(track.name).await?.into_iter().collect();
            // Asked behind the cursors: whoever writes a letter later moves one of them.
            let parked = self.store.all_parked(track.name).await?;
            track.own(&owned, (&cursors, parked), shards);
        }
        self.reach(owned);
        Ok(())
    }

    /// Says how far the lists of these shards were told before.
    fn reach(&self, shards: BTreeSet<u16>) {
        for shard in shards {
            if let Some(pos) = self.live_pos(shard) {
                self.changes.reached(shard, pos);
            }
        }
    }

    /// Looks whether the journal has events that nobody told of, and whether somebody else has
    /// moved a cursor.
    async fn check(&mut self) -> Result<(), store::Error> {
        let mut cursors = Vec::new();
        for track in &self.tracks {
            cursors.push(self.store.cursors(track.name).await?.into_iter().collect());
        }
        let shards = self.store.shards().await?;
        for (track, cursors) in self.tracks.iter_mut().zip(&cursors) {
            if track.is_moved(cursors) {
                let parked = self.store.all_parked(track.name).await?;
                track.park(parked, self.journal.shards());
            }
            track.look(&shards, cursors);
        }
        Ok(())
    }

    fn all_behind(&mut self) {
        let parts = self.tracks.iter_mut().flat_map(|track| track.parts.values_mut());
        parts.for_each(|part| part.behind = true);
    }

    fn is_behind(&self) -> bool {
        self.tracks.iter().any(Track::is_behind)
    }

    /// Makes one last step, so that the rows show all that the journal has.
    ///
    /// # Errors
    /// [`Error`]: the journal cannot be read, or the rows not be written.
    pub async fn finish(&mut self) -> Result<(), Error> {
        self.all_behind();
        self.tracks.iter_mut().for_each(|track| track.rests = false);
        while self.is_behind() && self.read_journal().await? {}
        let aside = self.tracks.iter().find(|track| track.is_aside());
        aside.map_or(Ok(()), |track| Err(Error::Aside(track.name)))
    }

    /// Takes what the feed has, and from the journal what it has not; whether there is more.
    async fn catch_up(&mut self, feed: &mut Heard) -> Result<bool, Error> {
        let now = Instant::now();
        self.tracks.iter_mut().for_each(|track| track.wake(now));
        loop {
            self.look_at_owned().await?;
            let heard = self.hear(feed);
            self.take(&heard).await?;
            if !self.is_behind() {
                return Ok(heard.len() >= STEP_MAX as usize);
            }
            if !self.read_journal().await? {
                return Ok(true);
            }
        }
    }

    /// What the feed has, of the shards that are owned.
    fn hear(&mut self, feed: &mut Heard) -> Vec<Record> {
        let mut heard: Vec<Record> = Vec::new();
        let owned = self.owned.all();
        while heard.len() < STEP_MAX as usize {
            match feed.try_recv() {
                Ok(batch) => {
                    let of = |record: &&Record| owned.contains(&record.shard);
                    heard.extend(batch.iter().filter(of).cloned());
                }
                Err(TryRecvError::Lagged(_)) => self.all_behind(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        heard
    }

    /// Reads those shards that are behind, from where the last of the projections stands, and takes
    /// in what is there; whether it was written: not if somebody else writes the same rows.
    async fn read_journal(&mut self) -> Result<bool, Error> {
        let mut behind: BTreeMap<u16, i64> = BTreeMap::new();
        let awake = self.tracks.iter().filter(|track| !track.rests);
        for (shard, part) in awake.flat_map(|track| &track.parts) {
            if part.behind {
                let from = behind.entry(*shard).or_insert(part.pos);
                *from = part.pos.min(*from);
            }
        }
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
        if !self.take(&page).await? {
            return Ok(false);
        }
        for track in self.tracks.iter_mut().filter(|track| !track.rests) {
            for shard in &done {
                track.parts.entry(*shard).and_modify(|part| part.behind = false);
            }
        }
        Ok(true)
    }

    /// Takes records that follow the cursors; a gap is left for the journal to fill. Answers
    /// whether it was written: not if somebody else has moved a cursor.
    async fn take(&mut self, records: &[Record]) -> Result<bool, Error> {
        let outcome = self.step(records).await;
        let written = matches!(outcome, Ok(true));
        self.tracks.iter_mut().for_each(|track| track.end(records, written));
        outcome
    }
}
