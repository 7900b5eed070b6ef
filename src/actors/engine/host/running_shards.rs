//! The shards that this node runs. A shard is opened once it is claimed, closed when it is handed
//! over, and abandoned when its lease was lost. Placement of shards is in `placement`.

use std::sync::RwLock;

use ractor::{Actor, ActorCell, ActorId, ActorRef};
use tokio::sync::oneshot;

use super::route::ShardMessage;
use super::shard::{Shard, ShardOpening};
use super::shard_lease::ShardLease;
use super::{Host, read_lock, write};
use crate::domain::entity::Noun;

/// A shard that this node runs.
struct RunningShard<N: Noun> {
    actor: ActorRef<ShardMessage<N>>,
    lease: ShardLease,
    /// It accepts no commands and finishes those that it has.
    closing: bool,
}

/// All shards; `None` for a shard that this node does not run.
pub(super) struct RunningShards<N: Noun>(RwLock<Vec<Option<RunningShard<N>>>>);

impl<N: Noun> RunningShards<N> {
    pub(super) fn new(shards: u16) -> Self {
        Self(RwLock::new((0..shards).map(|_| None).collect()))
    }

    /// Whether this node runs a shard and may serve it.
    pub(super) fn has(&self, shard: u16) -> bool {
        let shards = read_lock(&self.0);
        let running = shards.get(usize::from(shard)).and_then(Option::as_ref);
        running.is_some_and(|running| !running.closing && running.lease.is_valid())
    }

    /// Sends to a shard; `false` if this node does not run it.
    pub(super) fn cast(&self, shard: u16, route: ShardMessage<N>) -> bool {
        let shards = read_lock(&self.0);
        match shards.get(usize::from(shard)) {
            Some(Some(running)) if !running.closing => running.actor.cast(route).is_ok(),
            _ => false,
        }
    }

    fn put(&self, shard: u16, running: Option<RunningShard<N>>) -> Option<RunningShard<N>> {
        let mut shards = write(&self.0);
        shards.get_mut(usize::from(shard)).and_then(|slot| std::mem::replace(slot, running))
    }

    /// Closes a shard to new commands; `None` if this node does not run it.
    fn close(&self, shard: u16) -> Option<ActorRef<ShardMessage<N>>> {
        let mut shards = write(&self.0);
        let running = shards.get_mut(usize::from(shard))?.as_mut()?;
        running.closing = true;
        Some(running.actor.clone())
    }

    /// Removes a shard that has ended, unless it has been opened again.
    fn forget(&self, shard: u16, ended: ActorId) {
        let mut shards = write(&self.0);
        if let Some(slot) = shards.get_mut(usize::from(shard)) {
            slot.take_if(|running| running.actor.get_id() == ended);
        }
    }
}

/// Kills a shard's supervisor and its entities, in the order in which the entities were started, so
/// that their callers get errors in a reproducible order.
fn kill<N: Noun>(shard: &ActorRef<ShardMessage<N>>) {
    let mut entities = shard.get_children();
    entities.sort_unstable_by_key(ActorCell::get_id);
    entities.iter().for_each(ActorCell::kill);
    shard.kill();
}

impl<N: Noun> Host<N> {
    /// Runs a shard.
    ///
    /// # Errors
    /// [`ractor::SpawnErr`] when its supervisor cannot be started.
    pub async fn open(&self, shard: u16, lease: ShardLease) -> Result<(), ractor::SpawnErr> {
        let opening = ShardOpening { host: self.clone(), lease: lease.clone() };
        let supervisor = self.shared.supervisor.clone();
        let (actor, _) = Actor::spawn_linked(None, Shard::new(), opening, supervisor).await?;
        let running = RunningShard { actor, lease, closing: false };
        if let Some(before) = self.shared.running.put(shard, Some(running)) {
            kill(&before.actor);
        }
        Ok(())
    }

    /// Accepts no more commands for a shard, and waits until its commands are answered and its
    /// entities are passivated. The next owner performs their pending effects. If this future is
    /// dropped, the caller must abandon the shard.
    pub async fn close(&self, shard: u16) {
        let Some(actor) = self.shared.running.close(shard) else {
            return;
        };
        let (done, closed) = oneshot::channel();
        if actor.cast(ShardMessage::Close(done)).is_ok() {
            // An error means that the shard has failed, and then it is empty as well.
            let _gone = closed.await;
        }
        self.shared.running.forget(shard, actor.get_id());
    }

    /// Kills a shard at once, because another node owns it. Its callers get no answer.
    pub fn abandon(&self, shard: u16) {
        if let Some(running) = self.shared.running.put(shard, None) {
            running.lease.end();
            kill(&running.actor);
        }
    }

    /// Restarts a shard's supervisor after it failed; `false` if `failed` is not the supervisor of
    /// a shard that this host runs.
    pub(in crate::actors) async fn restart(&self, failed: &ActorCell) -> bool {
        let found = {
            let shards = read_lock(&self.shared.running.0);
            let mut all = shards.iter().enumerate();
            all.find_map(|(shard, running)| {
                let failed = |running: &&RunningShard<N>| running.actor.get_id() == failed.get_id();
                let running = running.as_ref().filter(failed).filter(|running| !running.closing);
                running.map(|running| (shard, running.lease.clone()))
            })
        };
        let Some((shard, lease)) = found else {
            return false;
        };
        let shard = u16::try_from(shard).unwrap_or(u16::MAX);
        if let Err(error) = self.open(shard, lease).await {
            tracing::error!(%error, shard, "a shard cannot be started again");
        }
        true
    }
}
