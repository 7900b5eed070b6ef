//! Projects events into rows, in the order of each shard, for all shards that this node owns: one
//! projector runs all projections.
//!
//! The feed only saves time: the projector reads the journal where the feed has a gap. It processes
//! events in batches: one transaction writes a batch's rows of all projections and shards, and
//! moves their cursors. The transaction is refused if a cursor is not where the projector expects
//! it, because another writer (another node, or a rebuild) has moved the cursor. A projection whose
//! rows cannot be written is suspended and retried after growing pauses; the others continue. Each
//! projection has its own cursors (`track`), so it can be rebuilt or added alone. An event that
//! cannot be read becomes a dead letter, and the projection skips the event's entity until `heal`
//! retries it. The changes of a batch are published through `changes` once it is written, together
//! with those of plain rows (`row_list`); a rebuild publishes nothing. The events of other nodes' shards are only followed (`follower`).
//! `projection` defines what a projection is; the list of projections is in
//! `actors/read_models.rs`.

mod batch;
mod follower;
mod heal;
mod news;
mod owned;
pub mod projection;
pub mod row_list;
pub(in crate::actors::engine) mod runner;
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
pub use self::projection::{FoldedEvent, Happened, Keyed, LiveList, Projection, Projections};
pub use self::row_list::{RowList, ShownRow};

use self::runner::RunningProjection;
use self::track::Track;
use super::changes::{ChangeFeed, Changed};
use super::clock::Clock;
use super::runtime::Current;
use crate::domain::entity::Record;
use crate::store::journal::{Journal, ReadError};
use crate::store::{self, Tables};

/// The most events of one batch.
const BATCH_MAX: u32 = 2_000;
/// Events that are folded before other tasks of the thread get their turn.
const BREATH: usize = 64;
/// The pause after a batch, as a multiple of the batch's duration.
const REST: u32 = 9;
/// The longest pause after a batch, because clients that read their own writes have to wait for the
/// next batch.
const REST_MAX: Duration = Duration::from_millis(200);
/// How often the journal and the cursors are checked for changes that the feed did not report.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// A receiver of the feed.
type Heard = broadcast::Receiver<Arc<[Record]>>;

/// Writes the rows of all owned shards.
pub struct Projector {
    store: Arc<dyn Tables>,
    journal: Arc<dyn Journal>,
    clock: Clock,
    owned: Owned,
    tracks: Vec<Track>,
    /// The lists of plain rows, of which only the changes are published.
    row_lists: Vec<Box<dyn RunningProjection>>,
    replay: Arc<Notify>,
    changes: ChangeFeed,
    settings: Option<watch::Receiver<Arc<Current>>>,
}

/// Why a batch failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The rows cannot be written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The rows of one projection cannot be written, while those of others can; the log says why.
    #[error("the rows of {0} cannot be written")]
    Suspended(&'static str),
}

impl Projector {
    /// Continues at the cursors of the owned shards.
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
            row_lists: projections.row_runners(),
            replay: Arc::default(),
            settings: None,
        };
        projector.look_at_owned().await?;
        Ok(projector)
    }

    /// Sets the feed to which the changes of each batch are published.
    #[must_use]
    pub fn publish_to(mut self, changes: ChangeFeed) -> Self {
        self.changes = changes;
        self.reach(self.owned.all());
        self
    }

    /// Reads the cursors again at each notification of `replay`, which says that a rebuild was
    /// started.
    #[must_use]
    pub fn replay_on(mut self, replay: Arc<Notify>) -> Self {
        self.replay = replay;
        self
    }

    /// Pauses while the runtime setting `projections.paused` is on.
    #[must_use]
    pub fn by_settings(mut self, settings: watch::Receiver<Arc<Current>>) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Runs until stopped, and sends the position that it has reached in each shard to `reached`.
    /// Batches are at least `pause` apart, so that many events share one. After a long batch, if no
    /// further events are waiting, the pause is longer, so that under load an order's row is not
    /// written after each of its events.
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
                // The feed has ended: further events are read from the journal after the next
                // check.
                Some(Err(RecvError::Closed)) => tokio::time::sleep_until(check_at).await,
                None => {}
            }
        }
    }

    /// Waits while the settings pause projections; `false` once it has to stop.
    async fn may_go_on(&mut self, stop: &CancellationToken) -> bool {
        let Some(settings) = &mut self.settings else {
            return true;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            // An error means that the settings cannot change any more.
            _ = settings.wait_for(|now| !now.projections_paused) => true,
        }
    }

    fn show(&self, reached: &watch::Sender<Vec<i64>>) {
        reached.send_if_modified(|reached| {
            let mut moved = false;
            for (shard, there) in (0..).zip(reached) {
                // A suspended projection does not hold back the reported position.
                let tracks = self.tracks.iter().filter(|track| !track.is_suspended());
                let parts = tracks.filter_map(|track| track.parts.get(&shard));
                if let Some(pos) = parts.map(|part| part.pos).min() {
                    moved |= *there != pos;
                    *there = pos;
                }
            }
            moved
        });
    }

    /// Adds newly owned shards, and removes those that are no longer owned.
    async fn look_at_owned(&mut self) -> Result<(), store::Error> {
        let owned = self.owned.all();
        if self.tracks.iter().all(|track| owned.iter().eq(track.parts.keys())) {
            return Ok(());
        }
        let shards = self.journal.shards();
        for track in &mut self.tracks {
            let cursors = self.store.cursors(track.name).await?.into_iter().collect();
            // The entities with dead letters are read after the cursors: a dead letter that is
            // written later is written with a moved cursor, which is noticed.
            let parked = self.store.all_parked(track.name).await?;
            track.own(&owned, (&cursors, parked), shards);
        }
        self.reach(owned);
        Ok(())
    }

    /// Records that these shards count as published up to the positions of their rows. What another
    /// node has written, and this one has not published, is published as a gap.
    fn reach(&self, shards: BTreeSet<u16>) {
        for shard in shards {
            let Some(pos) = self.live_pos(shard) else { continue };
            let told = self.changes.head(shard);
            self.changes.reached(shard, pos);
            if told < pos && self.changes.listened() {
                self.changes.publish(Changed::unknown(shard, pos));
            }
        }
    }

    /// Checks whether the journal has events that the feed did not report, and whether another
    /// writer has moved a cursor.
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

    /// Processes all remaining events, so that the rows contain all events of the journal.
    ///
    /// # Errors
    /// [`Error`]: the journal cannot be read, or the rows cannot be written.
    pub async fn finish(&mut self) -> Result<(), Error> {
        self.all_behind();
        self.tracks.iter_mut().for_each(|track| track.paused = false);
        while self.is_behind() && self.read_journal().await? {}
        let suspended = self.tracks.iter().find(|track| track.is_suspended());
        suspended.map_or(Ok(()), |track| Err(Error::Suspended(track.name)))
    }

    /// Processes the events in the feed, and reads the missing ones from the journal; `true` if
    /// there are more.
    async fn catch_up(&mut self, feed: &mut Heard) -> Result<bool, Error> {
        let now = Instant::now();
        self.tracks.iter_mut().for_each(|track| track.wake(now));
        loop {
            self.look_at_owned().await?;
            let heard = self.hear(feed);
            self.take(&heard).await?;
            if !self.is_behind() {
                return Ok(heard.len() >= BATCH_MAX as usize);
            }
            if !self.read_journal().await? {
                return Ok(true);
            }
        }
    }

    /// The feed's events of owned shards.
    fn hear(&mut self, feed: &mut Heard) -> Vec<Record> {
        let mut heard: Vec<Record> = Vec::new();
        let owned = self.owned.all();
        while heard.len() < BATCH_MAX as usize {
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

    /// Reads the shards that lag, from the position of the projection that is furthest back, and
    /// processes their events; `false` if another writer has moved a cursor.
    async fn read_journal(&mut self) -> Result<bool, Error> {
        let mut behind: BTreeMap<u16, i64> = BTreeMap::new();
        let awake = self.tracks.iter().filter(|track| !track.paused);
        for (shard, part) in awake.flat_map(|track| &track.parts) {
            if part.behind {
                let from = behind.entry(*shard).or_insert(part.pos);
                *from = part.pos.min(*from);
            }
        }
        let (mut page, mut done, mut left) = (Vec::new(), Vec::new(), BATCH_MAX);
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
        for track in self.tracks.iter_mut().filter(|track| !track.paused) {
            for shard in &done {
                track.parts.entry(*shard).and_modify(|part| part.behind = false);
            }
        }
        Ok(true)
    }

    /// Processes the records that follow the cursors. Records after a gap are left to be read from
    /// the journal. `false` if another writer has moved a cursor.
    async fn take(&mut self, records: &[Record]) -> Result<bool, Error> {
        let outcome = self.process_batch(records).await;
        let written = matches!(outcome, Ok(true));
        self.tracks.iter_mut().for_each(|track| track.end(records, written));
        outcome
    }
}
