//! Notices: short messages to all other nodes that something has changed. A receiver then reads the
//! change from the store. Notices may be lost, so a receiver also reads the store periodically.

use std::sync::Arc;

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::local::Board;
use super::nats::Connection;

/// The NATS subject of notices.
const SUBJECT: &str = "kontor.notices";
/// The number of notices by which a receiver may lag before it misses some.
const DEPTH: usize = 256;
/// The most notices that wait to be sent; further ones are dropped.
const QUEUE: usize = 1_024;
/// The most bytes of a notice.
const BYTES_MAX: usize = 64 << 10;

/// A change that receivers should read from the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Notice {
    /// Shards have other owners, or nodes joined, left or drain.
    Shards,
    /// Runtime settings were changed.
    Settings,
    /// Cached data was changed, so nodes drop it from their caches.
    CacheDrop {
        /// The cache keys; a key that ends in `*` stands for all keys with this prefix.
        keys: Vec<String>,
    },
    /// Notices may have been missed, so anything may have changed. This notice is not sent by a
    /// node: a node reports it to itself.
    Missed,
}

#[derive(Serialize, Deserialize)]
struct Told {
    from: String,
    #[serde(flatten)]
    notice: Notice,
}

/// Sends notices to all other nodes, and receives their notices. Clones share the same state.
#[derive(Clone)]
pub struct Notices {
    heard: broadcast::Sender<Notice>,
    queue: mpsc::Sender<Notice>,
}

impl Notices {
    /// Notices between nodes in separate processes. Without NATS, none are sent or received.
    #[must_use]
    pub fn new(nats: Option<Connection>, node: &str, stop: CancellationToken) -> Self {
        let (this, queue) = Self::empty();
        if let Some(nats) = nats {
            let node: Arc<str> = node.into();
            tokio::spawn(say(nats.clone(), node.clone(), queue, stop.clone()));
            tokio::spawn(hear(nats, node, this.heard.clone(), stop));
        }
        this
    }

    /// Notices between nodes in one process.
    #[must_use]
    pub fn local(board: &Board, node: &str, stop: CancellationToken) -> Self {
        let (this, mut queue) = Self::empty();
        let (board, node, heard) = (board.clone(), node.to_owned(), this.heard.clone());
        let mut told = board.notices().subscribe();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    Some(notice) = queue.recv() => {
                        if !board.is_cut(&node) {
                            let _none = board.notices().send((node.clone(), notice));
                        }
                    }
                    told = told.recv() => {
                        let notice = match told {
                            Ok((from, _)) if from == node || board.is_cut(&node) => continue,
                            Ok((_, notice)) => notice,
                            Err(_) => Notice::Missed,
                        };
                        let _none = heard.send(notice);
                    }
                }
            }
        });
        this
    }

    fn empty() -> (Self, mpsc::Receiver<Notice>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { heard: broadcast::Sender::new(DEPTH), queue }, waiting)
    }

    /// Sends a notice to all other nodes, without waiting.
    pub fn tell(&self, notice: Notice) {
        if self.queue.try_send(notice).is_err() {
            tracing::debug!("a notice was dropped");
        }
    }

    /// Subscribes to the notices of all other nodes. If the receiver reports that it lagged, it has
    /// missed some.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Notice> {
        self.heard.subscribe()
    }
}

/// Sends waiting notices while there is a connection.
async fn say(
    nats: Connection,
    node: Arc<str>,
    mut queue: mpsc::Receiver<Notice>,
    stop: CancellationToken,
) {
    loop {
        let notice = tokio::select! {
            () = stop.cancelled() => return,
            notice = queue.recv() => notice,
        };
        let Some(notice) = notice else {
            return;
        };
        if !nats.is_up() {
            continue;
        }
        let told = serde_json::to_vec(&Told { from: node.to_string(), notice });
        let sent = match told {
            Ok(bytes) => nats.client().publish(SUBJECT, Bytes::from(bytes)).await,
            Err(_) => continue,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a notice was not sent");
        }
    }
}

/// Receives notices; after a connection loss, reports [`Notice::Missed`].
async fn hear(
    nats: Connection,
    node: Arc<str>,
    heard: broadcast::Sender<Notice>,
    stop: CancellationToken,
) {
    let mut up = nats.connected();
    let Ok(mut told) = nats.client().subscribe(SUBJECT).await else {
        tracing::error!("cannot receive notices");
        return;
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            message = told.next() => {
                let Some(message) = message else { return };
                match read(&message.payload) {
                    Some(told) if *told.from != *node => {
                        let _none = heard.send(told.notice);
                    }
                    Some(_) => {}
                    None => tracing::warn!("cannot decode a notice"),
                }
            }
            changed = up.changed() => {
                if changed.is_err() {
                    return;
                }
                if *up.borrow_and_update() {
                    let _none = heard.send(Notice::Missed);
                }
            }
        }
    }
}

fn read(payload: &[u8]) -> Option<Told> {
    if payload.len() > BYTES_MAX {
        return None;
    }
    serde_json::from_slice(payload).ok()
}
