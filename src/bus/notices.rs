//! Notices: short messages to all other nodes that something has changed. A receiver then reads the
//! change from the store. Notices may be lost, so a receiver also reads the store periodically.
//!
//! A notice is signed, and heard once: one that was overheard and is sent again is ignored.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::{HeaderMap, Message};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::Now;
use super::calls::SKEW;
use super::local::Board;
use super::nats::Connection;
use crate::domain::cluster_key::{ClusterKey, MessageKind};
use crate::domain::time::Timestamp;
use crate::telemetry::security::SecurityEvent;

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

/// The NATS header with the signature of a notice.
const MAC: &str = "Kontor-Notice-Mac";

/// A notice as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNotice {
    /// The signature of the body, by a node of the cluster.
    pub signature: String,
    /// The notice, its sender, its time and its number.
    pub body: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Told {
    from: String,
    /// A random number, by which two notices differ.
    #[serde(default)]
    id: u64,
    /// The time of sending, in milliseconds since 1970 by the sender's clock.
    sent: i64,
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
    pub fn new(
        nats: Option<Connection>,
        key: ClusterKey,
        node: &str,
        now: Now,
        stop: CancellationToken,
    ) -> Self {
        let (this, queue) = Self::empty();
        if let Some(nats) = nats {
            let me = Arc::new(Me { node: node.to_owned(), key, now });
            tokio::spawn(say(nats.clone(), Arc::clone(&me), queue, stop.clone()));
            tokio::spawn(hear(nats, me, this.heard.clone(), stop));
        }
        this
    }

    /// Notices between nodes in one process.
    #[must_use]
    pub fn local(
        board: &Board,
        key: ClusterKey,
        node: &str,
        now: Now,
        stop: CancellationToken,
    ) -> Self {
        let (this, mut queue) = Self::empty();
        let (board, node, heard) = (board.clone(), node.to_owned(), this.heard.clone());
        let mut told = board.listen();
        tokio::spawn(async move {
            let (me, mut known) = (Me { node, key, now }, HashMap::new());
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    Some(notice) = queue.recv() => {
                        if let Some(notice) = me.write(notice).filter(|_| !board.is_cut(&me.node)) {
                            board.tell(notice);
                        }
                    }
                    told = told.recv() => {
                        let notice = match told {
                            Ok(_) if board.is_cut(&me.node) => None,
                            Ok(told) => me.hear(&mut known, &told),
                            Err(_) => Some(Notice::Missed),
                        };
                        notice.into_iter().for_each(|notice| {
                            let _none = heard.send(notice);
                        });
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

/// This node, as a sender and receiver of notices.
struct Me {
    node: String,
    key: ClusterKey,
    now: Now,
}

impl Me {
    /// A notice as it is sent.
    fn write(&self, notice: Notice) -> Option<SignedNotice> {
        let (id, sent) = (rand::random(), (self.now)().millis());
        let told = Told { from: self.node.clone(), id, sent, notice };
        let body = serde_json::to_vec(&told).ok()?;
        let signature = self.key.sign(MessageKind::Notice, &[], &body);
        Some(SignedNotice { signature, body: body.into() })
    }

    /// Decodes a message; `None` if it is not a notice, signed by a node of this cluster and sent
    /// recently.
    fn read(&self, SignedNotice { signature, body }: &SignedNotice) -> Option<Told> {
        if body.len() > BYTES_MAX || !self.key.is_signed(signature, MessageKind::Notice, &[], body)
        {
            return None;
        }
        let told: Told = serde_json::from_slice(body).ok()?;
        let age = (self.now)().millis().abs_diff(told.sent);
        (u128::from(age) <= SKEW.as_millis()).then_some(told)
    }

    /// The notice of another node in a message, unless it was heard before.
    fn hear(&self, known: &mut HeardBefore, message: &SignedNotice) -> Option<Notice> {
        match self.read(message) {
            Some(told) if told.from == self.node => None,
            Some(told) if is_first(known, &told, (self.now)()) => Some(told.notice),
            _ => {
                let about = "ignored a notice that no node of this cluster signed now";
                SecurityEvent::NoticeForged.log("anyone", "NATS", about);
                None
            }
        }
    }
}

/// The senders and numbers of notices that were heard, and when they were sent.
type HeardBefore = HashMap<(String, u64), i64>;

/// Sends waiting notices while there is a connection.
async fn say(
    nats: Connection,
    me: Arc<Me>,
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
        let Some(SignedNotice { signature, body }) = me.write(notice) else {
            continue;
        };
        let mut headers = HeaderMap::new();
        headers.insert(MAC, signature);
        if let Err(error) = nats.client().publish_with_headers(SUBJECT, headers, body).await {
            tracing::debug!(%error, "a notice was not sent");
        }
    }
}

/// Whether a notice is heard for the first time. One that is too old to be accepted is forgotten.
fn is_first(known: &mut HeardBefore, told: &Told, now: Timestamp) -> bool {
    if known.len() >= QUEUE {
        let oldest = now.millis() - i64::try_from(SKEW.as_millis()).unwrap_or(i64::MAX);
        known.retain(|_, sent| *sent >= oldest);
    }
    known.insert((told.from.clone(), told.id), told.sent).is_none()
}

fn signed(message: &Message) -> SignedNotice {
    let signature = message.headers.as_ref().and_then(|headers| headers.get(MAC));
    let signature = signature.map(|value| value.as_str().to_owned()).unwrap_or_default();
    SignedNotice { signature, body: message.payload.clone() }
}

/// Receives notices; after a connection loss, reports [`Notice::Missed`].
async fn hear(
    nats: Connection,
    me: Arc<Me>,
    heard: broadcast::Sender<Notice>,
    stop: CancellationToken,
) {
    let (mut up, mut known) = (nats.connected(), HashMap::new());
    let Ok(mut told) = nats.client().subscribe(SUBJECT).await else {
        tracing::error!("cannot receive notices");
        return;
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            message = told.next() => {
                let Some(message) = message else { return };
                if let Some(notice) = me.hear(&mut known, &signed(&message)) {
                    let _none = heard.send(notice);
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
