//! Relays the events of this node's shards to the stream. New events come from the feed. After a
//! start, a hand-over or a connection loss, and whenever the stream has lost events, the relay asks
//! the stream which positions it has, and sends the missing events from the journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::stream::wire::{self, PublicNames, StreamMessage};
use super::stream::{Stream, StreamError};
use super::{Feed, Now, Options};
use crate::domain::entity::Record;
use crate::domain::time::{Span, Timestamp};
use crate::seeded_fault::{self, SeededFault};

/// The most events that are sent and not yet acknowledged.
const WINDOW: usize = 512;
/// The most events that are read from the journal at once.
const PAGE: u32 = 256;
/// The largest assumed difference between the clocks of the node and the NATS server. Events that
/// will expire from the stream within this time are not sent again.
const SKEW: Span = Span::from_secs(60);
/// How often the relay checks whether the stream has lost events.
const CHECK: Duration = Duration::from_secs(2);
/// The pause after the first failure. It doubles with each further failure, up to `PAUSE_MAX`.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long the relay waits for acknowledgments when it is stopped.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Reads the journal: the journal itself, not a replica that may lag.
#[async_trait]
pub trait EventSource: Send + Sync + 'static {
    /// A shard's events after a position, in order, at most `limit`.
    async fn read_shard(&self, shard: u16, after: i64, limit: u32) -> Result<Vec<Record>, String>;

    /// The position of a shard's last event, 0 if there is none.
    async fn last_pos(&self, shard: u16) -> Result<i64, String>;
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    shard: u16,
}

type Lag = Family<ShardLabels, Gauge<i64, AtomicI64>>;

enum RelayOrder {
    Own(u16, i64),
    Disown(u16),
    Committed(Vec<(u16, i64)>),
}

/// Relays shards. Clones share the same state.
#[derive(Clone)]
pub struct Relay {
    orders: mpsc::UnboundedSender<RelayOrder>,
    lag: Lag,
}

impl Relay {
    /// Starts a relay that has no shards yet. It reads the feed until stopped. Then the returned
    /// task ends when all sent events are acknowledged, at the latest after 2 s.
    pub fn start(
        stream: Arc<dyn Stream>,
        source: Arc<dyn EventSource>,
        feed: &Feed,
        (options, names): (&Options, PublicNames),
        now: Now,
        stop: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (orders, taken) = mpsc::unbounded_channel();
        let lag = Lag::default();
        let age_secs = options.events_age_hours.saturating_mul(3_600);
        let ends = Ends {
            stream,
            source,
            names,
            now,
            behind_max: i64::try_from(options.events_behind_max).unwrap_or(i64::MAX),
            age_max: Span::from_secs(i64::try_from(age_secs).unwrap_or(i64::MAX / 1_000)),
        };
        let task = Task {
            ends,
            lag: lag.clone(),
            shards: BTreeMap::new(),
            sent: FuturesUnordered::new(),
            ready: false,
            incarnation: 0,
            turn: 0,
            paused_until: None,
            pause: PAUSE,
        };
        let heard = feed.listen();
        (Self { orders, lag }, tokio::spawn(task.run(taken, heard, stop)))
    }

    /// Relays a shard that this node owns from now on.
    pub fn own(&self, shard: u16, epoch: i64) {
        // An error means that the relay was stopped.
        let _over = self.orders.send(RelayOrder::Own(shard, epoch));
    }

    /// Stops relaying a shard.
    pub fn disown(&self, shard: u16) {
        let _over = self.orders.send(RelayOrder::Disown(shard));
    }

    /// Tells the relay the last committed positions of shards, by the store. The feed does not get
    /// events whose commit had an unknown outcome. If such events were committed, the relay notices
    /// when a second report comes and the feed has still not reached the position of the first.
    pub fn committed(&self, last: Vec<(u16, i64)>) {
        let _over = self.orders.send(RelayOrder::Committed(last));
    }

    /// The number of committed events of a shard that are not known to be in the stream.
    #[must_use]
    pub fn lag(&self, shard: u16) -> i64 {
        self.lag.get_or_create(&ShardLabels { shard }).get()
    }

    /// Adds the metric of the lag to a registry.
    pub fn register(&self, to: &mut Registry) {
        let help = "Events committed but not yet in the stream, by shard of this node";
        to.register("relay_lag", help, self.lag.clone());
    }
}

/// A relayed shard.
#[derive(Default)]
struct Shard {
    epoch: i64,
    /// Incremented whenever the shard is relayed anew; acknowledgments of earlier rounds are
    /// ignored.
    round: u64,
    /// Whether `next` was determined from the stream in this round.
    position_known: bool,
    /// The next position to send.
    next: i64,
    /// The last position up to which the stream has acknowledged the events.
    acknowledged: i64,
    /// The last position known to be committed.
    head: i64,
    /// The last committed position by the last report of the store; the feed may be about to
    /// deliver its event.
    reported: i64,
    /// Whether events before those of the feed have to be sent first, from the journal.
    behind: bool,
}

/// The acknowledgment of a sent event.
struct Done {
    shard: u16,
    round: u64,
    pos: i64,
    outcome: Result<(), StreamError>,
}

/// The two ends of the relay, the stream and the journal, with the limits of which events are sent
/// again.
struct Ends {
    stream: Arc<dyn Stream>,
    source: Arc<dyn EventSource>,
    names: PublicNames,
    now: Now,
    behind_max: i64,
    age_max: Span,
}

struct Task {
    ends: Ends,
    lag: Lag,
    shards: BTreeMap<u16, Shard>,
    sent: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Whether the stream exists with the right configuration.
    ready: bool,
    incarnation: u64,
    /// The shard that [`Task::work`] returned last.
    turn: u16,
    paused_until: Option<Instant>,
    pause: Duration,
}

impl Task {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<RelayOrder>,
        mut feed: broadcast::Receiver<Arc<[Record]>>,
        stop: CancellationToken,
    ) {
        let mut reachable = self.ends.stream.reachable();
        let mut check = tokio::time::interval(CHECK);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let up = *reachable.borrow();
            let free = up && self.paused_until.is_none() && self.sent.len() < WINDOW;
            let work = if free { self.work() } else { None };
            let paused_until = self.paused_until.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => break,
                },
                changed = reachable.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.begin_anew();
                }
                Some(done) = self.sent.next() => self.done(done),
                batch = feed.recv() => match batch {
                    Ok(batch) => self.hear(&batch, free).await,
                    Err(RecvError::Lagged(_)) => {
                        self.shards.values_mut().for_each(|shard| shard.behind = true);
                    }
                    Err(RecvError::Closed) => break,
                },
                _ = check.tick(), if up => self.check().await,
                () = tokio::time::sleep_until(paused_until), if self.paused_until.is_some() => {
                    self.paused_until = None;
                }
                () = std::future::ready(()), if work.is_some() => {
                    let Some(shard) = work else { continue };
                    self.turn = shard;
                    let done = tokio::select! {
                        biased;
                        () = stop.cancelled() => break,
                        done = self.go_on(shard) => done,
                    };
                    if let Err(error) = done {
                        self.fail(shard, &error);
                    }
                }
            }
        }
        let rest = async { while self.sent.next().await.is_some() {} };
        // The next owner of a shard relays the events that are not acknowledged by then.
        let _late = tokio::time::timeout(LAST_WORDS, rest).await;
    }

    fn order(&mut self, order: RelayOrder) {
        match order {
            RelayOrder::Own(shard, epoch) => {
                let round = self.shards.get(&shard).map_or(0, |before| before.round + 1);
                let new = Shard { epoch, round, ..Shard::default() };
                self.shards.insert(shard, new);
            }
            RelayOrder::Disown(shard) => {
                self.shards.remove(&shard);
                self.lag.remove(&ShardLabels { shard });
            }
            RelayOrder::Committed(last) => {
                for (shard, pos) in last {
                    let Some(state) = self.shards.get_mut(&shard) else {
                        continue;
                    };
                    let missed = state.position_known && state.reported > state.head;
                    if missed {
                        (state.head, state.behind) = (state.reported, true);
                    }
                    state.reported = pos;
                    if missed {
                        self.show(shard);
                    }
                }
            }
        }
    }

    /// The next shard that has to ask the stream or read the journal. Shards take turns, so that a
    /// shard that makes no progress does not block the others.
    fn work(&self) -> Option<u16> {
        let waits = |(_, shard): &(&u16, &Shard)| !shard.position_known || shard.behind;
        let after = self.shards.range(self.turn + 1..).find(waits);
        after.or_else(|| self.shards.iter().find(waits)).map(|(shard, _)| *shard)
    }

    /// Discards all knowledge of the stream: of every shard, its positions are determined again.
    fn begin_anew(&mut self) {
        self.ready = false;
        self.paused_until = None;
        self.sent = FuturesUnordered::new();
        for shard in self.shards.values_mut() {
            shard.round += 1;
            shard.position_known = false;
        }
    }

    fn fail(&mut self, shard: u16, error: &StreamError) {
        if let Some(shard) = self.shards.get_mut(&shard) {
            shard.round += 1;
            shard.position_known = false;
        }
        if *error == StreamError::Missing {
            self.begin_anew();
        }
        if self.paused_until.is_none() {
            tracing::warn!(shard, %error, "cannot relay an event; retrying from the \
                                                     stream's end");
            self.paused_until = Some(Instant::now() + self.pause);
            self.pause = PAUSE_MAX.min(self.pause * 2);
        }
    }

    fn done(&mut self, done: Done) {
        let Some(shard) = self.shards.get_mut(&done.shard).filter(|one| one.round == done.round)
        else {
            return;
        };
        match done.outcome {
            Ok(()) => {
                shard.acknowledged = shard.acknowledged.max(done.pos);
                self.pause = PAUSE;
                self.show(done.shard);
            }
            Err(error) => self.fail(done.shard, &error),
        }
    }

    fn show(&self, shard: u16) {
        if let Some(state) = self.shards.get(&shard) {
            let lag = (state.head - state.acknowledged).max(0);
            self.lag.get_or_create(&ShardLabels { shard }).set(lag);
        }
    }

    /// Sends the events of a batch of the feed that continue their shard's position. For the
    /// others, marks the shard as behind, so that the journal is read later.
    async fn hear(&mut self, batch: &[Record], free: bool) {
        for record in batch {
            let room = free && self.sent.len() < WINDOW;
            let Some(shard) = self.shards.get_mut(&record.shard) else {
                continue;
            };
            shard.head = shard.head.max(record.pos);
            if !shard.position_known || record.pos < shard.next {
                continue;
            }
            if shard.behind || record.pos > shard.next || !room {
                shard.behind = true;
                continue;
            }
            if let Err(error) = self.send(record).await {
                self.fail(record.shard, &error);
            }
        }
        if let Some(last) = batch.last() {
            self.show(last.shard);
        }
    }

    async fn send(&mut self, record: &Record) -> Result<(), StreamError> {
        let Some(shard) = self.shards.get_mut(&record.shard) else {
            return Ok(());
        };
        let acknowledged = self
            .ends
            .stream
            .send(StreamMessage::of(record, shard.epoch, &self.ends.names, self.ends.stream.key()))
            .await?;
        shard.next = record.pos + 1;
        let (round, pos, shard) = (shard.round, record.pos, record.shard);
        let done = acknowledged.map(move |outcome| Done { shard, round, pos, outcome });
        self.sent.push(done.boxed());
        Ok(())
    }

    /// If the next position of a shard is not known, determines it; otherwise sends a page of
    /// events from the journal.
    async fn go_on(&mut self, shard: u16) -> Result<(), StreamError> {
        if !self.ready {
            self.ends.stream.ready().await?;
            self.incarnation = self.ends.stream.incarnation().await?;
            self.ready = true;
        }
        let Some(state) = self.shards.get(&shard) else {
            return Ok(());
        };
        if !state.position_known {
            let (next, head) = self.ends.learn(shard).await?;
            if let Some(state) = self.shards.get_mut(&shard) {
                state.head = state.head.max(head);
                let believed =
                    state.acknowledged > 0 && seeded_fault::active(SeededFault::RelayTrustsStream);
                let next = if believed { state.acknowledged + 1 } else { next };
                (state.position_known, state.next, state.acknowledged) = (true, next, next - 1);
                state.behind = state.head >= next;
            }
            self.show(shard);
            return Ok(());
        }
        let after = state.next - 1;
        let page =
            self.ends.source.read_shard(shard, after, PAGE).await.map_err(StreamError::Failed)?;
        let full = page.len() >= PAGE as usize;
        for record in &page {
            if self.sent.len() >= WINDOW
                && let Some(done) = self.sent.next().await
            {
                self.done(done);
            }
            // An acknowledgment may have shown that the shard has to be relayed anew.
            if self.shards.get(&shard).is_none_or(|state| state.next != record.pos) {
                break;
            }
            self.send(record).await?;
        }
        if let Some(state) = self.shards.get_mut(&shard) {
            state.head = state.head.max(state.next - 1);
            state.behind = state.position_known && (full || state.head >= state.next);
        }
        self.show(shard);
        Ok(())
    }

    /// Checks whether the stream has lost events.
    async fn check(&mut self) {
        if !self.ready || self.shards.is_empty() {
            return;
        }
        match self.ends.stream.incarnation().await {
            Ok(incarnation) if incarnation == self.incarnation => {}
            Ok(_) => {
                tracing::warn!("the stream has lost events; relaying them again");
                self.begin_anew();
            }
            Err(StreamError::Missing) => {
                tracing::warn!("the stream is missing; creating it again");
                self.begin_anew();
            }
            Err(StreamError::Failed(error)) => {
                tracing::debug!(error, "cannot read the stream's state")
            }
        }
    }
}

impl Ends {
    /// The next position to send, and the last committed one. The next position is the first one
    /// that is missing in the stream and recent enough, even if later ones are present. There can
    /// be such gaps: a message of an earlier owner may have been refused, or events may have been
    /// sent between a loss of the stream's end and its discovery.
    async fn learn(&self, shard: u16) -> Result<(i64, i64), StreamError> {
        let last = self.stream.last(shard).await?;
        let head = self.source.last_pos(shard).await.map_err(StreamError::Failed)?;
        let ours = match &last {
            Some((pos, sum)) => match self.at(shard, *pos).await? {
                Some(record) => !record.intact || wire::is_signed(&record, sum, self.stream.key()),
                None => false,
            },
            None => true,
        };
        if !ours {
            tracing::warn!(
                shard,
                "the stream has events that the journal does not have: a backup was restored, or \
                 the stream belongs to another store; dropping its events of this shard"
            );
            self.stream.purge(shard).await?;
        }
        let oldest = (self.now)() - self.age_max + SKEW;
        let oldest = self.stream.horizon().await?.map_or(oldest, |at| at.max(oldest));
        let least = (head - self.behind_max).max(0) + 1;
        let from = self.first_since(shard, oldest, least, head + 1).await?;
        Ok((self.stream.missing(shard, from).await?, head))
    }

    async fn at(&self, shard: u16, pos: i64) -> Result<Option<Record>, StreamError> {
        let read = self.source.read_shard(shard, pos - 1, 1).await.map_err(StreamError::Failed)?;
        Ok(read.into_iter().next().filter(|record| record.pos == pos))
    }

    /// The first position from `from` to before `to` whose event is not older than `oldest`, found
    /// by binary search; `to` if there is none.
    async fn first_since(
        &self,
        shard: u16,
        oldest: Timestamp,
        mut from: i64,
        mut to: i64,
    ) -> Result<i64, StreamError> {
        while from < to {
            let middle = from + (to - from) / 2;
            let young = self.at(shard, middle).await?.is_none_or(|record| record.at >= oldest);
            if young {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        Ok(from)
    }
}
