//! The stream in process. Tests can make it lose messages as JetStream can.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{Notify, watch};

use super::wire::{DecodedMessage, StreamMessage, read};
use super::{PublishFuture, Stream, StreamError, missing_of};
use crate::domain::cluster_key::ClusterKey;
use crate::domain::time::Timestamp;

/// A stream in process. Clones share its content.
#[derive(Clone)]
pub struct LocalStream {
    inner: Arc<Inner>,
    key: ClusterKey,
}

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
    incarnation: u64,
    messages: Vec<Arc<StreamMessage>>,
    ids: HashSet<String>,
    refused: HashSet<(u16, i64)>,
}

impl Default for LocalStream {
    fn default() -> Self {
        let (reachable, changed) = (watch::Sender::new(true), Notify::new());
        let inner = Inner { kept: Mutex::default(), reachable, changed };
        Self { inner: Arc::new(inner), key: ClusterKey::alone() }
    }
}

impl LocalStream {
    /// The same stream, as a node with this key uses it.
    #[must_use]
    pub fn with_key(&self, key: ClusterKey) -> Self {
        Self { inner: self.inner.clone(), key }
    }

    /// The messages of the stream, in its order.
    #[must_use]
    pub fn messages(&self) -> Vec<Arc<StreamMessage>> {
        self.log().messages.clone()
    }

    /// Deletes the stream.
    pub fn delete(&self) {
        let incarnation = self.log().incarnation + 1;
        *self.log() = Log { incarnation, ..Log::default() };
        self.tell();
    }

    /// Loses the last `count` messages, as a server does that dies before it has synced.
    pub fn lose(&self, count: usize) {
        let mut log = self.log();
        let left = log.messages.len().saturating_sub(count);
        for lost in log.messages.split_off(left) {
            log.ids.remove(&lost.id);
        }
        log.incarnation += 1;
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
        self.inner.reachable.send_replace(is);
        self.tell();
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log, if the stream exists and is reachable.
    fn there(&self) -> Result<MutexGuard<'_, Log>, StreamError> {
        if !*self.inner.reachable.borrow() {
            return Err(StreamError::Failed("the stream cannot be reached".into()));
        }
        let log = self.log();
        if log.there { Ok(log) } else { Err(StreamError::Missing) }
    }

    fn tell(&self) {
        self.inner.changed.notify_waiters();
    }
}

fn decode(message: &StreamMessage, key: &ClusterKey) -> Option<DecodedMessage> {
    read(&message.body, key)
}

#[async_trait]
impl Stream for LocalStream {
    fn key(&self) -> &ClusterKey {
        &self.key
    }

    fn reachable(&self) -> watch::Receiver<bool> {
        self.inner.reachable.subscribe()
    }

    async fn ready(&self) -> Result<(), StreamError> {
        if !*self.inner.reachable.borrow() {
            return Err(StreamError::Failed("the stream cannot be reached".into()));
        }
        self.log().there = true;
        Ok(())
    }

    async fn incarnation(&self) -> Result<u64, StreamError> {
        Ok(self.there()?.incarnation)
    }

    async fn last(&self, shard: u16) -> Result<Option<(i64, String)>, StreamError> {
        let log = self.there()?;
        let last = log.messages.iter().rev().find(|message| message.shard == shard);
        Ok(last.map(|message| (message.pos, message.sum.clone())))
    }

    async fn missing(&self, shard: u16, from: i64) -> Result<i64, StreamError> {
        drop(self.there()?);
        Ok(missing_of(&self.positions(shard), from))
    }

    async fn horizon(&self) -> Result<Option<Timestamp>, StreamError> {
        self.there().map(|_| None)
    }

    async fn purge(&self, shard: u16) -> Result<(), StreamError> {
        let mut log = self.there()?;
        let (gone, left): (Vec<_>, _) =
            std::mem::take(&mut log.messages).into_iter().partition(|one| one.shard == shard);
        log.messages = left;
        for message in gone {
            log.ids.remove(&message.id);
        }
        Ok(())
    }

    async fn send(&self, message: StreamMessage) -> Result<PublishFuture, StreamError> {
        {
            let mut log = self.there()?;
            if log.refused.remove(&(message.shard, message.pos)) {
                let refused = StreamError::Failed("refused on purpose".into());
                return Ok(std::future::ready(Err(refused)).boxed());
            }
            if log.ids.insert(message.id.clone()) {
                log.messages.push(Arc::new(message));
            }
        }
        self.tell();
        Ok(std::future::ready(Ok(())).boxed())
    }

    async fn follow(
        &self,
    ) -> Result<BoxStream<'static, Result<DecodedMessage, StreamError>>, StreamError> {
        let (incarnation, len, first) = {
            let log = self.there()?;
            let mut last = HashMap::new();
            for (at, message) in log.messages.iter().enumerate() {
                last.insert(message.subject.clone(), at);
            }
            let mut places: Vec<usize> = last.into_values().collect();
            places.sort_unstable();
            let first: Vec<_> =
                places.iter().map(|at| decode(&log.messages[*at], self.key())).collect();
            (log.incarnation, log.messages.len(), first)
        };
        let before = stream::iter(first.into_iter().flatten().map(Ok));
        let after = stream::unfold((self.clone(), len), move |(this, mut at)| async move {
            loop {
                let changed = this.inner.changed.notified();
                let next = {
                    let log = match this.there() {
                        Ok(log) if log.incarnation == incarnation => log,
                        Ok(_) => return Some((Err(StreamError::Missing), (this.clone(), at))),
                        Err(error) => return Some((Err(error), (this.clone(), at))),
                    };
                    log.messages.get(at).cloned()
                };
                match next {
                    Some(message) => match decode(&message, &this.key) {
                        Some(decoded) => return Some((Ok(decoded), (this.clone(), at + 1))),
                        None => at += 1,
                    },
                    None => changed.await,
                }
            }
        });
        Ok(before.chain(after).boxed())
    }
}
