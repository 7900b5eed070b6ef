//! The stream in process. Tests can make it lose messages as JetStream can.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{Notify, watch};

use super::wire::{Heard, StreamMessage, read};
use super::{PublishFuture, Stream, Trouble, missing_of};
use crate::domain::time::Timestamp;

/// A stream in process. Clones share its content.
#[derive(Clone)]
pub struct Twin(Arc<Inner>);

struct Inner {
    kept: Mutex<Log>,
    reachable: watch::Sender<bool>,
    /// Notifies the waiters after each change, in the order in which they began to wait, so that
    /// simulated runs are deterministic.
    changed: Notify,
}

#[derive(Default)]
struct Log {
    there: bool,
    life: u64,
    messages: Vec<Arc<StreamMessage>>,
    ids: HashSet<String>,
    refused: HashSet<(u16, i64)>,
}

impl Default for Twin {
    fn default() -> Self {
        let (reachable, changed) = (watch::Sender::new(true), Notify::new());
        Self(Arc::new(Inner { kept: Mutex::default(), reachable, changed }))
    }
}

impl Twin {
    /// Deletes the stream.
    pub fn delete(&self) {
        let life = self.log().life + 1;
        *self.log() = Log { life, ..Log::default() };
        self.tell();
    }

    /// Loses the last `count` messages, as a server does that dies before it has synced.
    pub fn lose(&self, count: usize) {
        let mut log = self.log();
        let left = log.messages.len().saturating_sub(count);
        for lost in log.messages.split_off(left) {
            log.ids.remove(&lost.id);
        }
        log.life += 1;
        drop(log);
        self.tell();
    }

    /// Refuses the next message of this event once; other events are accepted.
    pub fn refuse(&self, shard: u16, pos: i64) {
        self.log().refused.insert((shard, pos));
    }

    /// The positions of a shard in the stream.
    #[must_use]
    pub fn positions(&self, shard: u16) -> BTreeSet<i64> {
        let log = self.log();
        log.messages.iter().filter(|one| one.shard == shard).map(|one| one.pos).collect()
    }

    /// The subjects of a shard's messages, in stream order.
    #[must_use]
    pub fn subjects(&self, shard: u16) -> Vec<String> {
        let log = self.log();
        let of_shard = log.messages.iter().filter(|one| one.shard == shard);
        of_shard.map(|one| one.subject.clone()).collect()
    }

    /// Makes the stream reachable or unreachable.
    pub fn reach(&self, is: bool) {
        self.0.reachable.send_replace(is);
        self.tell();
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log, if the stream exists and is reachable.
    fn there(&self) -> Result<MutexGuard<'_, Log>, Trouble> {
        if !*self.0.reachable.borrow() {
            return Err(Trouble::Failed("the stream cannot be reached".into()));
        }
        let log = self.log();
        if log.there { Ok(log) } else { Err(Trouble::Missing) }
    }

    fn tell(&self) {
        self.0.changed.notify_waiters();
    }
}

fn heard(message: &StreamMessage) -> Option<Heard> {
    read(&message.body)
}

#[async_trait]
impl Stream for Twin {
    fn reachable(&self) -> watch::Receiver<bool> {
        self.0.reachable.subscribe()
    }

    async fn ready(&self) -> Result<(), Trouble> {
        if !*self.0.reachable.borrow() {
            return Err(Trouble::Failed("the stream cannot be reached".into()));
        }
        self.log().there = true;
        Ok(())
    }

    async fn life(&self) -> Result<u64, Trouble> {
        Ok(self.there()?.life)
    }

    async fn last(&self, shard: u16) -> Result<Option<(i64, String)>, Trouble> {
        let log = self.there()?;
        let last = log.messages.iter().rev().find(|message| message.shard == shard);
        Ok(last.map(|message| (message.pos, message.sum.clone())))
    }

    async fn missing(&self, shard: u16, from: i64) -> Result<i64, Trouble> {
        drop(self.there()?);
        Ok(missing_of(&self.positions(shard), from))
    }

    async fn horizon(&self) -> Result<Option<Timestamp>, Trouble> {
        self.there().map(|_| None)
    }

    async fn purge(&self, shard: u16) -> Result<(), Trouble> {
        let mut log = self.there()?;
        let (gone, left): (Vec<_>, _) =
            std::mem::take(&mut log.messages).into_iter().partition(|one| one.shard == shard);
        log.messages = left;
        for message in gone {
            log.ids.remove(&message.id);
        }
        Ok(())
    }

    async fn send(&self, message: StreamMessage) -> Result<PublishFuture, Trouble> {
        {
            let mut log = self.there()?;
            if log.refused.remove(&(message.shard, message.pos)) {
                let refused = Trouble::Failed("refused on purpose".into());
                return Ok(std::future::ready(Err(refused)).boxed());
            }
            if log.ids.insert(message.id.clone()) {
                log.messages.push(Arc::new(message));
            }
        }
        self.tell();
        Ok(std::future::ready(Ok(())).boxed())
    }

    async fn follow(&self) -> Result<BoxStream<'static, Result<Heard, Trouble>>, Trouble> {
        let (life, len, first) = {
            let log = self.there()?;
            let mut last = HashMap::new();
            for (at, message) in log.messages.iter().enumerate() {
                last.insert(message.subject.clone(), at);
            }
            let mut places: Vec<usize> = last.into_values().collect();
            places.sort_unstable();
            let first: Vec<_> = places.iter().map(|at| heard(&log.messages[*at])).collect();
            (log.life, log.messages.len(), first)
        };
        let before = stream::iter(first.into_iter().flatten().map(Ok));
        let after = stream::unfold((self.clone(), len), move |(twin, at)| async move {
            loop {
                let changed = twin.0.changed.notified();
                let next = {
                    let log = match twin.there() {
                        Ok(log) if log.life == life => log,
                        Ok(_) => return Some((Err(Trouble::Missing), (twin.clone(), at))),
                        Err(trouble) => return Some((Err(trouble), (twin.clone(), at))),
                    };
                    log.messages.get(at).cloned()
                };
                match next {
                    Some(message) => {
                        return heard(&message).map(|heard| (Ok(heard), (twin.clone(), at + 1)));
                    }
                    None => changed.await,
                }
            }
        });
        Ok(before.chain(after).boxed())
    }
}
