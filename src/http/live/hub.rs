//! The hub of one HTTP worker: its sockets, their subscriptions and the order in which they are
//! served.
//!
//! At most every `pause_ms` the hub makes a round: each socket whose last frames have been sent
//! gets the new changes; a subscription that is too far behind gets a new snapshot instead. Equal
//! subscriptions share frames. The bytes per second of all frames are limited, so that at a high
//! rate of changes sockets are served less often, and requests are not slowed down.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt as _, Addr, AsyncContext as _, Context, Handler, Message, SpawnHandle,
    StreamHandler, WrapFuture as _,
};
use actix_web::web;
use bytestring::ByteString;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::Live;
use super::client_message::RefusedMessage;
use super::filter::{self, Asked, Subject};
use super::message::{ClientMessage, Refused, ServerMessage, Subscribe};
use super::outbox::Farewell;
use super::refusal::Wrong;
use super::ring::Ring;
use super::snapshot::{self, Past, RangesInMemory, SnapshotQuery, TakenSnapshot};
use super::subscription::Subscription;
use super::topic_stock::read_beside;
use crate::actors::engine::changes::Changed;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::principal::Principal;
use crate::http::edge::problem::Code;
use crate::telemetry::security::SecurityEvent;

/// The period of the hub's checks: each sends statistics, and the cluster state to new subscribers.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Every 10th check (5 s) reads from the store whether the keys and sessions of the sockets are
/// still valid.
const ASK_AGAIN: u64 = 10;
/// Every 4th check (2 s) sends the cluster state to all subscribers, if it has changed.
pub(super) const CLUSTER_AGAIN: u64 = 4;
/// How long there must be no sockets before the hub stops following the feed of changes.
const LET_GO: Duration = Duration::from_secs(30);

/// The worker's hub, if it has been started.
#[derive(Default)]
pub struct Slot(OnceCell<Addr<Hub>>);

impl Slot {
    /// The hub of this worker, started with its first socket.
    pub fn hub(&self, live: &web::Data<Live>) -> Addr<Hub> {
        self.0.get_or_init(|| Hub::new(live.clone()).start()).clone()
    }
}

/// A new number for a socket of this process.
pub fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A message from a socket to the hub.
pub enum HubMessage {
    /// The socket was opened.
    Open(Box<Opened>),
    /// The client of the socket sent a message; an error if it cannot be parsed.
    Said(u64, Result<ClientMessage, RefusedMessage>),
    /// The socket is to be closed.
    End(u64, Farewell),
    /// The socket is closed.
    Gone(u64),
}

/// An opened socket.
pub struct Opened {
    /// The number of the socket.
    pub socket: u64,
    /// The caller who opened the socket.
    pub principal: Principal,
    /// The caller's address.
    pub from: String,
    /// Sends frames to the socket's writer.
    pub frames: mpsc::Sender<ByteString>,
    /// Tells the socket's writer to close it, and why.
    pub farewell: oneshot::Sender<Farewell>,
}

impl Message for HubMessage {
    type Result = ();
}

/// A socket in its hub.
pub(super) struct Socket {
    pub(super) principal: Principal,
    from: String,
    pub(super) frames: mpsc::Sender<ByteString>,
    farewell: oneshot::Sender<Farewell>,
    pub(super) subscriptions: Vec<Subscription>,
    /// The index of the subscription that is served first.
    pub(super) turn: usize,
}

impl Socket {
    /// Whether the queue of frames is empty.
    pub(super) fn idle(&self) -> bool {
        self.frames.capacity() == self.frames.max_capacity()
    }
}

/// The hub of one HTTP worker.
pub struct Hub {
    pub(super) live: web::Data<Live>,
    pub(super) sockets: BTreeMap<u64, Socket>,
    pub(super) ring: Ring,
    listening: Option<SpawnHandle>,
    quiet_since: Instant,
    /// The number of the socket that is served first in the next round.
    pub(super) turn: u64,
    last_round: Instant,
    round: Option<SpawnHandle>,
    pub(super) budget: Budget,
    pub(super) taken: HashMap<SnapshotQuery, Option<Rc<TakenSnapshot>>>,
    pub(super) past: HashMap<Arc<[i64]>, Option<Past>>,
    ranges: RangesInMemory,
    pub(super) looks: u64,
    /// The number of the socket that gets statistics first.
    pub(super) figures_turn: u64,
    /// When the cluster state was last checked.
    pub(super) nodes_at: Option<Instant>,
}

/// The hub's budget of bytes, as a token bucket: it fills at `per_sec` bytes per second, up to
/// `per_sec`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: i64,
    per_sec: i64,
    filled: Instant,
}

/// The cost of a frame in addition to its size, in bytes.
const FRAME_COST: i64 = 2_048;
/// The cost of examining a change, in bytes.
const LOOK_COST: i64 = 64;

impl Budget {
    fn new(per_sec: usize) -> Self {
        let per_sec = i64::try_from(per_sec).unwrap_or(i64::MAX);
        Self { left: per_sec, per_sec, filled: Instant::now() }
    }

    fn fill(&mut self) {
        let millis = i64::try_from(self.filled.elapsed().as_millis()).unwrap_or(1_000).min(1_000);
        self.left = (self.left + self.per_sec / 1_000 * millis).min(self.per_sec);
        self.filled = Instant::now();
    }

    pub(super) const fn spent(&self) -> bool {
        self.left <= 0
    }

    pub(super) fn frame(&mut self, bytes: usize) {
        self.left -= i64::try_from(bytes).unwrap_or(0) + FRAME_COST;
    }

    pub(super) fn look(&mut self, changes: usize) {
        self.left -= i64::try_from(changes).unwrap_or(0) * LOOK_COST;
    }
}

impl Hub {
    fn new(live: web::Data<Live>) -> Self {
        let options = &live.options;
        let shards = live.node.changes.heads().len();
        let ring = Ring::new(shards, options.ring_changes);
        let budget = Budget::new(options.bytes_per_sec);
        Self {
            live,
            sockets: BTreeMap::new(),
            ring,
            listening: None,
            quiet_since: Instant::now(),
            turn: 0,
            last_round: Instant::now(),
            round: None,
            budget,
            taken: HashMap::new(),
            past: HashMap::new(),
            ranges: RangesInMemory::default(),
            looks: 0,
            figures_turn: 0,
            nodes_at: None,
        }
    }

    /// Schedules the next round, at least `pause_ms` after the last one, unless it is scheduled
    /// already.
    pub(super) fn wake(&mut self, ctx: &mut Context<Self>) {
        if self.round.is_some() {
            return;
        }
        let pause = Duration::from_millis(self.live.options.pause_ms);
        let wait = (self.last_round + pause).saturating_duration_since(Instant::now());
        self.round = Some(ctx.run_later(wait, |hub, ctx| {
            (hub.round, hub.last_round) = (None, Instant::now());
            hub.budget.fill();
            if hub.go_round(ctx) {
                hub.wake(ctx);
            }
        }));
    }

    /// Subscribes to the feed of changes, unless the hub already has.
    fn listen(&mut self, ctx: &mut Context<Self>) {
        if self.listening.is_some() {
            return;
        }
        let receiver = self.live.node.changes.listen();
        // The next batch of changes begins at these positions, or later; the ring detects such a
        // gap.
        self.ring.begin_at(self.live.node.changes.heads());
        let node = Arc::clone(&self.live.node);
        let changes =
            futures_util::stream::unfold((receiver, node), |(mut receiver, node)| async {
                loop {
                    match receiver.recv().await {
                        Ok(changed) => {
                            if let Err(error) = read_beside(&node, &changed).await {
                                tracing::warn!(%error, "cannot read the products of live changes");
                            }
                            return Some((changed, (receiver, node)));
                        }
                        // The next batch of changes begins after a gap, which the ring detects.
                        Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return None,
                    }
                }
            });
        self.listening = Some(ctx.add_stream(changes));
    }

    fn say(&mut self, socket: u64, message: &ServerMessage<'_>) {
        if let Some(socket) = self.sockets.get(&socket) {
            // If the queue is full, because the client does not read, the message is dropped.
            let _full = socket.frames.try_send(message.frame());
        }
    }

    fn refuse(&mut self, socket: u64, id: Option<&str>, wrong: &Wrong) {
        let Wrong { code, detail, fields } = wrong;
        let refused = Refused { id, code: code.as_str(), detail, errors: fields };
        self.say(socket, &ServerMessage::Error(refused));
    }

    fn said(
        &mut self,
        socket: u64,
        said: Result<ClientMessage, RefusedMessage>,
        ctx: &mut Context<Self>,
    ) {
        match said {
            Err(refused) => self.refuse(socket, refused.id.as_deref(), &refused.wrong),
            Ok(ClientMessage::Unsubscribe(message)) => {
                let Some(socket) = self.sockets.get_mut(&socket) else { return };
                let before = socket.subscriptions.len();
                socket.subscriptions.retain(|one| one.spec.id != message.id);
                let gone = before - socket.subscriptions.len();
                self.live.metrics.subscriptions.dec_by(i64::try_from(gone).unwrap_or(0));
            }
            Ok(ClientMessage::Subscribe(message, faults)) => {
                let id = message.id.clone();
                let subject = match self.subscribe(socket, message, faults) {
                    Ok(subject) => subject,
                    Err(wrong) => return self.refuse(socket, Some(&id), &wrong),
                };
                self.listen(ctx);
                match subject {
                    Subject::Stats => self.show_figures(Some(socket)),
                    // If the state was read less than 250 ms ago, the next check sends it.
                    Subject::Cluster => self.look_at_nodes(ctx, true),
                    Subject::List(_) => self.wake(ctx),
                }
            }
        }
    }

    fn subscribe(
        &mut self,
        socket: u64,
        message: Subscribe,
        faults: RequestFaults,
    ) -> Result<Subject, Wrong> {
        let Asked { spec, scope, from } = filter::read(&self.live.topics, message, faults)?;
        let subject = spec.subject.clone();
        let Some(socket) = self.sockets.get_mut(&socket) else { return Ok(subject) };
        if !socket.principal.may(scope) {
            let detail = format!("this topic needs the scope {}", scope.as_str());
            let (who, about) = (socket.principal.by(), format!("open_live: {detail}"));
            SecurityEvent::ScopeRefused.log(&who, &socket.from, &about);
            return Err(Wrong::new(Code::Forbidden, detail));
        }
        let known = socket.subscriptions.iter().position(|one| one.spec.id == spec.id);
        if let Some(known) = known {
            socket.subscriptions.remove(known);
            self.live.metrics.subscriptions.dec();
        }
        let most = self.live.options.subscriptions_max;
        if socket.subscriptions.len() >= most {
            let detail = format!("a socket has at most {most} subscriptions");
            return Err(Wrong::new(Code::TooManyRequests, detail));
        }
        let shards = self.ring.heads().len();
        socket.subscriptions.push(Subscription::new(spec, from, (self.live.history, shards)));
        self.live.metrics.subscriptions.inc();
        Ok(subject)
    }

    /// Removes a socket, and tells its writer to send the reason and close it.
    pub(super) fn end(&mut self, socket: u64, why: Farewell) {
        if let Some(socket) = self.sockets.remove(&socket) {
            let gone = i64::try_from(socket.subscriptions.len()).unwrap_or(0);
            self.live.metrics.subscriptions.dec_by(gone);
            self.live.metrics.sockets.dec();
            // An error means that the writer has ended already.
            let _gone = socket.farewell.send(why);
        }
    }

    /// The check that runs every [`LOOK_EVERY`]: sends statistics and the cluster state, closes
    /// sockets whose key or session has ended, drops old snapshots, and stops following the feed
    /// when there have been no sockets for [`LET_GO`].
    fn look(&mut self, ctx: &mut Context<Self>) {
        self.budget.fill();
        self.show_figures(None);
        self.look_at_nodes(ctx, !self.looks.is_multiple_of(CLUSTER_AGAIN));
        self.looks += 1;
        if self.looks.is_multiple_of(ASK_AGAIN) {
            self.ask_again(ctx);
        }
        self.taken.retain(|_, taken| taken.as_ref().is_none_or(|taken| taken.fresh()));
        self.past.retain(|_, past| past.as_ref().is_none_or(Past::fresh));
        if !self.sockets.is_empty() {
            self.quiet_since = Instant::now();
        } else if self.quiet_since.elapsed() > LET_GO
            && let Some(listening) = self.listening.take()
        {
            ctx.cancel_future(listening);
            let nowhere = vec![0; self.ring.heads().len()];
            self.ring.begin_at(nowhere);
        }
    }

    /// Closes the sockets of revoked keys and ended sessions.
    fn ask_again(&mut self, ctx: &mut Context<Self>) {
        let mut known: HashMap<String, Principal> = HashMap::new();
        for socket in self.sockets.values() {
            if let Some(id) = socket.principal.id() {
                known.entry(id.to_owned()).or_insert_with(|| socket.principal.clone());
            }
        }
        let live = self.live.clone();
        let ask = async move {
            let mut ended = Vec::new();
            for (id, principal) in known {
                if !live.callers.is_still_valid(&principal).await {
                    ended.push(id);
                }
            }
            ended
        };
        ctx.spawn(ask.into_actor(self).map(|ended, hub, _| {
            let of = |socket: &Socket| {
                socket.principal.id().is_some_and(|id| ended.iter().any(|one| one == id))
            };
            let gone = hub.sockets.iter().filter(|(_, socket)| of(socket)).map(|(id, _)| *id);
            for id in gone.collect::<Vec<_>>() {
                hub.end(id, Farewell::Ended);
            }
        }));
    }

    /// Reads a snapshot from the store, unless the same one is being read already.
    pub(super) fn take_snapshot(&mut self, asked: &SnapshotQuery, ctx: &mut Context<Self>) {
        if matches!(self.taken.get(asked), Some(None)) {
            return;
        }
        self.taken.insert(asked.clone(), None);
        let (live, asked) = (self.live.clone(), asked.clone());
        let take = async move {
            let taken = snapshot::take_snapshot(&live, &asked).await;
            (asked, taken)
        };
        ctx.spawn(take.into_actor(self).map(|(asked, taken), hub, ctx| {
            match taken {
                Ok(Some(taken)) => drop(hub.taken.insert(asked, Some(Rc::new(taken)))),
                Ok(None) => drop(hub.taken.remove(&asked)),
                Err(error) => {
                    tracing::warn!(%error, "cannot read a snapshot for live subscriptions");
                    hub.taken.remove(&asked);
                }
            }
            hub.wake(ctx);
        }));
    }

    /// Starts to read from the journal the changes after the positions `from`, unless this is in
    /// progress or there are already [`snapshot::READS_MAX`] such reads. `false` if the limit of
    /// events in memory would be exceeded.
    pub(super) fn read_back(&mut self, from: &Arc<[i64]>, ctx: &mut Context<Self>) -> bool {
        if self.past.contains_key(from)
            || self.past.values().filter(|past| past.is_none()).count() >= snapshot::READS_MAX
        {
            return true;
        }
        let (live, until) = (self.live.clone(), Arc::clone(self.ring.heads()));
        if !self.ranges.begin(from, &until, live.options.resume_events_max) {
            return false;
        }
        self.past.insert(Arc::clone(from), None);
        let (from, behind) = (Arc::clone(from), Arc::clone(from));
        let read = async move { snapshot::past(&live, behind, until).await };
        ctx.spawn(read.into_actor(self).map(move |past, hub, ctx| {
            hub.ranges.end(&from, past.as_ref().ok());
            match past {
                Ok(past) => drop(hub.past.insert(from, Some(past))),
                Err(error) => {
                    tracing::warn!(%error, "cannot read the journal for live subscriptions; \
                                            retrying");
                    hub.past.remove(&from);
                }
            }
            hub.wake(ctx);
        }));
        true
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(LOOK_EVERY, |hub, ctx| hub.look(ctx));
        let stop = self.live.stop.clone();
        let stopped = async move { stop.cancelled().await };
        ctx.spawn(stopped.into_actor(self).map(|(), hub, ctx| {
            let sockets: Vec<u64> = hub.sockets.keys().copied().collect();
            for socket in sockets {
                hub.end(socket, Farewell::Stopping);
            }
            if let Some(listening) = hub.listening.take() {
                ctx.cancel_future(listening);
            }
        }));
    }
}

impl StreamHandler<Arc<Changed>> for Hub {
    fn handle(&mut self, changed: Arc<Changed>, ctx: &mut Context<Self>) {
        self.ring.push(changed);
        if !self.sockets.is_empty() {
            self.wake(ctx);
        }
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        self.listening = None;
    }
}

impl Handler<HubMessage> for Hub {
    type Result = ();

    fn handle(&mut self, told: HubMessage, ctx: &mut Context<Self>) {
        match told {
            HubMessage::Open(opened) => {
                let Opened { socket, principal, from, frames, farewell } = *opened;
                self.live.metrics.sockets.inc();
                let subscriptions = Vec::new();
                let opened = Socket { principal, from, frames, farewell, subscriptions, turn: 0 };
                self.sockets.insert(socket, opened);
                if self.live.stop.is_cancelled() {
                    self.end(socket, Farewell::Stopping);
                }
            }
            HubMessage::Said(socket, said) => self.said(socket, said, ctx),
            HubMessage::End(socket, why) => self.end(socket, why),
            HubMessage::Gone(socket) => self.end(socket, Farewell::Left),
        }
    }
}
