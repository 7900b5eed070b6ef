//! Follows the shards that other nodes own, so that clients of this node see the changes of their
//! orders and stock, too. It folds events as the projector does, but writes no rows. The feed
//! brings the events that other nodes relay; events that it lacks are read from the journal, which
//! is polled. So changes may be published late, but are never wrong. Nothing is followed while
//! nobody is subscribed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::projection::Projections;
use super::runner::{EventOutcome, RunningProjection};
use super::{BATCH_MAX, BREATH, Error, Heard, Owned};
use crate::actors::engine::changes::{ChangeFeed, Changed};
use crate::domain::entity::{EntityId, Record};
use crate::store::Tables;
use crate::store::journal::Journal;

/// How often the journal is polled for events that were not relayed; also how often the follower
/// checks whether there are subscribers while it has none.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// The most missed events of a shard that are published when following it begins or resumes. If
/// more were missed, a gap is published, and subscribers read them from the journal.
const BEHIND_MAX: i64 = 256;

/// A shard that is followed.
struct Part {
    pos: i64,
    /// The journal has, or may have, later events that the feed did not bring.
    behind: bool,
}

/// Publishes changes of the shards of other nodes.
pub struct Follower {
    store: Arc<dyn Tables>,
    journal: Arc<dyn Journal>,
    owned: Owned,
    changes: ChangeFeed,
    parts: BTreeMap<u16, Part>,
    projections: Projections,
    lists: Vec<Box<dyn RunningProjection>>,
    /// Entities with an event that cannot be read: nothing is published for them.
    unreadable: HashSet<EntityId>,
}

impl Follower {
    /// Follows all shards that are not in `owned`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Tables>,
        projections: Projections,
        owned: Owned,
        changes: ChangeFeed,
    ) -> Self {
        Self {
            journal: store.journal(),
            store,
            owned,
            changes,
            parts: BTreeMap::new(),
            lists: projections.live_runners(),
            projections,
            unreadable: HashSet::new(),
        }
    }

    /// Runs until stopped. Batches are at least `pause` apart.
    pub async fn run(mut self, mut feed: Heard, pause: Duration, stop: CancellationToken) {
        let mut owned = self.owned.watch();
        loop {
            if !self.changes.listened() {
                self.rest();
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = self.changes.begun() => {}
                    // This finds a subscriber that began just before the wait.
                    () = tokio::time::sleep(ASK_EVERY) => {}
                }
                // The receiver starts anew, because the feed keeps in memory every event that one
                // of its receivers has not taken.
                feed = feed.resubscribe();
                continue;
            }
            if let Err(error) = self.ask().await {
                tracing::warn!(%error, "changes of other nodes are delayed");
            }
            let ask_at = Instant::now() + ASK_EVERY;
            loop {
                if let Err(error) = self.catch_up(&mut feed).await {
                    tracing::warn!(%error, "changes of other nodes are delayed");
                }
                let heard = async {
                    tokio::time::sleep(pause).await;
                    if feed.is_empty() { Some(feed.recv().await) } else { None }
                };
                let heard = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    Ok(()) = owned.changed() => break,
                    () = tokio::time::sleep_until(ask_at) => break,
                    heard = heard => heard,
                };
                match heard {
                    Some(Ok(batch)) => {
                        if let Err(error) = self.take(&batch).await {
                            tracing::warn!(%error, "changes of other nodes are delayed");
                        }
                    }
                    Some(Err(RecvError::Lagged(_))) => self.all_behind(),
                    Some(Err(RecvError::Closed)) => {
                        tokio::time::sleep_until(ask_at).await;
                        break;
                    }
                    None => {}
                }
            }
        }
    }

    fn rest(&mut self) {
        self.parts.clear();
        self.lists = self.projections.live_runners();
        self.unreadable.clear();
    }

    /// Adds shards that other nodes own by now, removes shards that this node owns by now, and
    /// reads the journal's positions.
    async fn ask(&mut self) -> Result<(), Error> {
        let (owned, shards) = (self.owned.all(), self.journal.shards());
        self.parts.retain(|shard, _| !owned.contains(shard));
        if owned.len() == usize::from(shards) {
            self.rest();
            return Ok(());
        }
        for list in &mut self.lists {
            list.retain(&|entity| !owned.contains(&entity.shard(shards)));
        }
        for row in self.store.shards().await? {
            if owned.contains(&row.id) {
                continue;
            }
            let told = self.changes.head(row.id);
            if let Some(part) = self.parts.get_mut(&row.id) {
                part.behind |= row.last_pos > part.pos;
                continue;
            }
            let near = row.last_pos - told <= if told > 0 { BEHIND_MAX } else { 0 };
            let pos = if near { told } else { row.last_pos };
            if !near {
                self.changes.reached(row.id, pos);
                self.changes.publish(Changed::unknown(row.id, pos));
            }
            self.parts.insert(row.id, Part { pos, behind: row.last_pos > pos });
        }
        Ok(())
    }

    fn all_behind(&mut self) {
        self.parts.values_mut().for_each(|part| part.behind = true);
    }

    async fn catch_up(&mut self, feed: &mut Heard) -> Result<(), Error> {
        let mut heard: Vec<Record> = Vec::new();
        while heard.len() < BATCH_MAX as usize {
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
        let behind: Vec<u16> =
            self.parts.iter().filter(|(_, part)| part.behind).map(|(shard, _)| *shard).collect();
        for shard in behind {
            self.read_journal(shard).await?;
        }
        Ok(())
    }

    async fn read_journal(&mut self, shard: u16) -> Result<(), Error> {
        loop {
            let Some(part) = self.parts.get_mut(&shard) else { return Ok(()) };
            let page = self.journal.read_shard(shard, part.pos, BATCH_MAX).await?;
            let full = page.len() == BATCH_MAX as usize;
            self.take(&page).await?;
            if !full {
                self.parts.entry(shard).and_modify(|part| part.behind = false);
                return Ok(());
            }
        }
    }

    /// Folds records that follow the published ones, and publishes their changes.
    async fn take(&mut self, records: &[Record]) -> Result<(), Error> {
        let outcome = self.step(records).await;
        for list in &mut self.lists {
            if outcome.is_ok() { list.done() } else { list.undo() }
        }
        for record in records.iter().filter(|_| outcome.is_err()) {
            self.parts.entry(record.shard).and_modify(|part| part.behind = true);
        }
        outcome
    }

    async fn step(&mut self, records: &[Record]) -> Result<(), Error> {
        let mut reached: BTreeMap<u16, i64> = BTreeMap::new();
        for (count, record) in records.iter().enumerate() {
            if count % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
            let Some(part) = self.parts.get_mut(&record.shard) else { continue };
            let at = reached.get(&record.shard).copied().unwrap_or(part.pos);
            if record.pos <= at {
                continue;
            }
            if record.pos != at + 1 {
                part.behind = true;
                continue;
            }
            reached.insert(record.shard, record.pos);
            self.fold(record).await?;
        }
        for list in &mut self.lists {
            list.look_up_keys(self.store.as_ref()).await?;
        }
        let owned: BTreeSet<u16> = self.owned.all();
        for (shard, pos) in reached {
            let Some(part) = self.parts.get_mut(&shard) else { continue };
            let after = std::mem::replace(&mut part.pos, pos);
            if !owned.contains(&shard) {
                let lists = self.lists.iter_mut().filter_map(|list| list.news(shard));
                let changed = Changed::new((shard, after, pos), lists.collect());
                self.changes.reached(shard, pos);
                self.changes.publish(changed);
            }
        }
        Ok(())
    }

    async fn fold(&mut self, record: &Record) -> Result<(), Error> {
        if self.unreadable.contains(&record.entity) {
            return Ok(());
        }
        for list in self.lists.iter_mut().filter(|list| list.listens_to(&record.entity)) {
            let mut left = i64::MAX;
            let outcome = list.fold(self.journal.as_ref(), record, true, &mut left).await?;
            if outcome != EventOutcome::Folded {
                self.unreadable.insert(record.entity.clone());
            }
        }
        Ok(())
    }
}
