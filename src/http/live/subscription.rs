//! A subscription and its position; and the hub's round, in which each subscription gets its new
//! changes.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::Context;
use bytestring::ByteString;

use super::filter::{Spec, Subject};
use super::hub::{Hub, Socket};
use super::message::{ChangeShape, Changes, ListMessage, Reason, Resync, ServerMessage};
use super::render::render;
use super::ring::{FeedPosition, Ring, Same};
use super::snapshot::{JournalRange, JournalRangeLookup};
use super::token::LiveToken;
use crate::actors::engine::changes::Changed;
use crate::store::history::HistoryId;

/// The number of events that do not concern a subscription after which its client gets a newer
/// token.
const TOKEN_EVERY: i64 = 2_000;
/// How often a subscription may need changes from the journal, without having caught up in between,
/// before it gets a snapshot.
const JOURNAL_READS_MAX: u32 = 5;

/// A subscription of a socket.
pub(super) struct Subscription {
    /// The request.
    pub(super) spec: Rc<Spec>,
    pub(super) at: At,
    /// The sum of the positions of the last token that was sent.
    last_token_sum: i64,
    /// The positions up to which the client has received changes, if they are known to be of this
    /// store: no snapshot may be older.
    seen: Option<Arc<[i64]>>,
    /// Whether the client resumes from a token and has not caught up yet: then it may be more than
    /// `behind_max` behind.
    returning: bool,
    /// Whether the token that the client resumes from is known to belong to this store; always
    /// `true` without such a token.
    token_verified: bool,
    journal_reads: u32,
}

/// The position of a subscription.
pub(super) enum At {
    /// It waits for a snapshot. With a reason and the number of skipped events, a `resync` message
    /// is sent first.
    Wanting(Option<(Reason, i64)>),
    /// It has received everything up to this position.
    Here(FeedPosition),
    /// It waits for changes from the journal after these positions.
    Behind(Arc<[i64]>),
    /// It gets a range of changes from the journal, and has received this number of batches of it.
    Past(Arc<JournalRange>, usize),
    /// It has received all samples of the statistics up to this number.
    Figures(u64),
    /// It has received this cluster state, as JSON; empty for none.
    Nodes(String),
}

impl Subscription {
    /// A new subscription, of a client that has received everything up to `from`, or nothing.
    /// `history` and `shards`, the number of shards, are those of the store.
    #[must_use]
    pub(super) fn new(
        spec: Spec,
        from: Option<LiveToken>,
        (history, shards): (HistoryId, usize),
    ) -> Self {
        let mut last_token_sum = 0;
        let at = match (&spec.subject, &from) {
            (Subject::Stats, _) => At::Figures(0),
            (Subject::Cluster, _) => At::Nodes(String::new()),
            (_, Some(token)) if token.fits(history, shards) => {
                last_token_sum = sum(&token.seen);
                At::Here(FeedPosition::of(Arc::clone(&token.seen)))
            }
            (_, Some(_)) => At::Wanting(Some((Reason::OtherHistory, 0))),
            (_, None) => At::Wanting(None),
        };
        let returning = from.is_some();
        let (seen, token_verified) = (None, !returning);
        Self {
            spec: Rc::new(spec),
            at,
            last_token_sum,
            seen,
            returning,
            token_verified,
            journal_reads: 0,
        }
    }

    /// The position of a subscription that needs a snapshot because it has missed this number of
    /// events.
    fn missed(&self, events: i64) -> At {
        let reason = if self.returning { Reason::TooOld } else { Reason::Slow };
        At::Wanting(Some((reason, events)))
    }

    /// The position of a subscription that has received `shown` batches of a range, `before` of
    /// them earlier than in this round.
    fn past(&self, range: Arc<JournalRange>, (before, shown): (usize, usize), ring: &Ring) -> At {
        if shown >= range.changed.len() {
            At::Here(FeedPosition::of(Arc::clone(&range.upto)))
        } else if shown == before {
            // The next batch of the range is larger than a frame.
            self.missed(ring.behind(&FeedPosition::of(range.seen(before))))
        } else {
            At::Past(range, shown)
        }
    }

    /// Whether the subscription must be served in the next round.
    fn due(&self, ring: &Ring) -> bool {
        match &self.at {
            At::Here(place) => self.returning || !ring.is_at_end(place),
            At::Wanting(_) | At::Behind(_) | At::Past(..) => true,
            At::Figures(_) | At::Nodes(_) => false,
        }
    }

    /// Records that the client has received everything and no longer counts as resuming.
    const fn is_up_to_date(&mut self) {
        (self.returning, self.token_verified, self.journal_reads) = (false, true, 0);
    }
}

fn sum(seen: &[i64]) -> i64 {
    seen.iter().fold(0, |sum, pos| sum.saturating_add(*pos))
}

/// The starting point of frames: subscriptions with the same one get the same frames.
#[derive(PartialEq, Eq, Hash)]
enum From {
    Ring(Same),
    /// A range of the journal, by the address of its [`JournalRange`], and the number of its
    /// batches that were received.
    Past(usize, usize),
}

/// The frame for all subscriptions with the same starting point.
struct Shown {
    /// The frame; `None` if there is no change for the subscription.
    frame: Option<ByteString>,
    /// The number of the last batch in the frame, and the position after it; `None` if the first
    /// batch is larger than a frame.
    upto: Option<(u64, FeedPosition)>,
}

/// The frames that were made in this round.
#[derive(Default)]
struct Made {
    changes: HashMap<(Rc<Spec>, From), Shown>,
    snapshots: HashMap<Rc<Spec>, ByteString>,
    /// The ranges that frames were made from. They are kept until the end of the round, because the
    /// keys of `changes` contain their addresses.
    ranges: Vec<Arc<JournalRange>>,
}

impl Hub {
    /// Serves all sockets until the budget is spent; `true` if another round is needed.
    pub(super) fn go_round(&mut self, ctx: &mut Context<Self>) -> bool {
        let mut sockets = std::mem::take(&mut self.sockets);
        let (mut made, mut waits) = (Made::default(), false);
        let turn = self.turn;
        let after = sockets.range(turn..).map(|(id, _)| *id);
        let order: Vec<u64> = after.chain(sockets.range(..turn).map(|(id, _)| *id)).collect();
        for id in order {
            if self.budget.spent() {
                (self.turn, waits) = (id, true);
                break;
            }
            let Some(socket) = sockets.get_mut(&id) else { continue };
            if !socket.subscriptions.iter().any(|one| one.due(&self.ring)) {
                continue;
            }
            if socket.idle() {
                waits |= self.serve(socket, &mut made, ctx);
            } else {
                self.live.metrics.skipped.inc();
                waits = true;
            }
        }
        self.sockets = sockets;
        waits
    }

    /// Sends a socket the changes of its subscriptions; `true` if there are more.
    fn serve(&mut self, socket: &mut Socket, made: &mut Made, ctx: &mut Context<Self>) -> bool {
        let (count, most) = (socket.subscriptions.len(), self.live.options.frame_bytes_max);
        let (mut bytes, mut waits) = (0, false);
        for step in 0..count {
            let at = (socket.turn + step) % count;
            let Some(one) = socket.subscriptions.get_mut(at) else { continue };
            if bytes > most || socket.frames.capacity() < 2 {
                (socket.turn, waits) = (at, true);
                break;
            }
            let mut give = Vec::new();
            waits |= self.advance(one, made, &mut give, ctx);
            for frame in give {
                bytes += frame.len();
                // The queue has room for two frames; an error means that the socket's writer has
                // ended.
                let _gone = self.give(socket, frame);
            }
        }
        waits
    }

    /// Queues a frame for a socket; `false` if the queue is full or closed.
    pub(super) fn give(&mut self, socket: &Socket, frame: ByteString) -> bool {
        let bytes = frame.len();
        if socket.frames.try_send(frame).is_err() {
            return false;
        }
        let metrics = &self.live.metrics;
        metrics.frames.inc();
        metrics.bytes.inc_by(u64::try_from(bytes).unwrap_or(0));
        self.budget.frame(bytes);
        true
    }

    /// Serves a subscription once, and updates its position; `true` if it must be served again even
    /// if no event wakes the hub.
    fn advance(
        &mut self,
        one: &mut Subscription,
        made: &mut Made,
        give: &mut Vec<ByteString>,
        ctx: &mut Context<Self>,
    ) -> bool {
        match &one.at {
            At::Figures(_) | At::Nodes(_) => false,
            At::Wanting(resync) => {
                let resync = *resync;
                self.show_snapshot(one, resync, made, give, ctx)
            }
            At::Behind(from) => {
                let from = Arc::clone(from);
                self.find_past(one, &from, ctx)
            }
            At::Past(range, before) => {
                let (range, before) = (Arc::clone(range), *before);
                let shown = self.show_past(one, &range, before, made, give);
                one.at = one.past(range, (before, shown), &self.ring);
                true
            }
            At::Here(place) => {
                let place = place.clone();
                if !one.token_verified && self.ring.is_ahead(place.seen()) {
                    one.at = At::Behind(Arc::clone(place.seen()));
                    return self.advance(one, made, give, ctx);
                }
                if self.ring.is_at_end(&place) {
                    one.is_up_to_date();
                    return false;
                }
                let behind = self.ring.behind(&place);
                if behind > self.live.options.behind_max && !one.returning {
                    one.at = At::Wanting(Some((Reason::Slow, behind)));
                    return self.advance(one, made, give, ctx);
                }
                match self.show_ring(one, &place, made, give) {
                    Some(Some(place)) => {
                        let end = self.ring.is_at_end(&place);
                        one.at = At::Here(place);
                        if end {
                            one.is_up_to_date();
                        }
                        !end
                    }
                    // The next batch is larger than a frame.
                    Some(None) => {
                        one.at = At::Wanting(Some((Reason::Slow, behind)));
                        self.advance(one, made, give, ctx)
                    }
                    None => {
                        one.at = At::Behind(Arc::clone(place.seen()));
                        self.advance(one, made, give, ctx)
                    }
                }
            }
        }
    }

    /// Sends a subscription the changes after a position in the ring, up to the size of a frame.
    /// Returns the new position, or `Some(None)` if the next batch is larger than a frame, or
    /// `None` if the changes are not all in the ring.
    fn show_ring(
        &mut self,
        one: &mut Subscription,
        from: &FeedPosition,
        made: &mut Made,
        give: &mut Vec<ByteString>,
    ) -> Option<Option<FeedPosition>> {
        // Takes the ring out of `self` for the call of `show`, which borrows all of `self`.
        let ring = std::mem::replace(&mut self.ring, Ring::new(0, 0));
        let place = |number| ring.place(from, number);
        let key = From::Ring(from.same());
        let steps = ring.since(from);
        let shown = steps.map(|steps| self.show(one, key, (steps, place), made, give));
        self.ring = ring;
        shown.map(|shown| shown.map(|(_, place)| place))
    }

    /// Sends a subscription the next batches of a range of the journal; returns the number of
    /// batches that it has then received.
    fn show_past(
        &mut self,
        one: &mut Subscription,
        range: &Arc<JournalRange>,
        before: usize,
        made: &mut Made,
        give: &mut Vec<ByteString>,
    ) -> usize {
        made.ranges.push(Arc::clone(range));
        let key = From::Past(Arc::as_ptr(range).addr(), before);
        let changed = range.changed.iter().map(|changed| Some(changed.as_ref()));
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let place = |number| FeedPosition::of(range.seen(count(number)));
        let steps = (1..).zip(changed).skip(before);
        let shown = self.show(one, key, (steps, place), made, give);
        shown.map_or(before, |(number, _)| count(number))
    }

    /// Sends a subscription the next batches, up to the size of a frame. Returns the number of the
    /// last one, and the position after it; `None` if the first one is larger than a frame.
    fn show<'a>(
        &mut self,
        one: &mut Subscription,
        from: From,
        (steps, place): (
            impl Iterator<Item = (u64, Option<&'a Changed>)>,
            impl Fn(u64) -> FeedPosition,
        ),
        made: &mut Made,
        give: &mut Vec<ByteString>,
    ) -> Option<(u64, FeedPosition)> {
        let Subject::List(ask) = &one.spec.subject else { return None };
        let shown = made.changes.entry((Rc::clone(&one.spec), from)).or_insert_with(|| {
            let most = self.live.options.frame_bytes_max;
            let rendered = render(ask.filter.as_ref(), steps, most);
            self.budget.look(rendered.examined);
            let upto = rendered.upto.map(|number| (number, place(number)));
            let live = &self.live;
            let token = || upto.as_ref().map(|(_, place)| live.token(Arc::clone(place.seen())));
            let frame = rendered.frame(&one.spec.id, &|| token().unwrap_or_default());
            Shown { frame, upto }
        });
        let (number, place) = shown.upto.clone()?;
        match &shown.frame {
            Some(frame) => give.push(frame.clone()),
            None if sum(place.seen()) - one.last_token_sum >= TOKEN_EVERY => {
                let (id, token) = (one.spec.id.as_str(), self.live.token(Arc::clone(place.seen())));
                let changes = Changes { id, token, data: Vec::<ChangeShape<'_>>::new() };
                give.push(ListMessage::Changes(changes).frame());
            }
            None => return Some((number, place)),
        }
        one.last_token_sum = sum(place.seen());
        one.seen = Some(Arc::clone(place.seen()));
        Some((number, place))
    }

    fn show_snapshot(
        &mut self,
        one: &mut Subscription,
        resync: Option<(Reason, i64)>,
        made: &mut Made,
        give: &mut Vec<ByteString>,
        ctx: &mut Context<Self>,
    ) -> bool {
        let Subject::List(ask) = &one.spec.subject else { return false };
        let asked = (ask.clone(), one.spec.limit);
        let enough = |seen: &Option<Arc<[i64]>>, taken: &super::snapshot::TakenSnapshot| {
            taken.fresh() && seen.as_ref().is_none_or(|seen| taken.shows(seen))
        };
        let taken = match self.taken.get(&asked) {
            Some(Some(taken)) if enough(&one.seen, taken) => Rc::clone(taken),
            Some(None) => return false,
            _ => {
                self.take_snapshot(&asked, ctx);
                return true;
            }
        };
        let live = &self.live;
        let token = || live.token(Arc::clone(&taken.seen));
        if let Some((reason, skipped)) = resync {
            let id = one.spec.id.as_str();
            live.metrics.resyncs.inc();
            let resync = Resync { id, token: token(), reason, skipped };
            give.push(ServerMessage::Resync(resync).frame());
        }
        let frame = made
            .snapshots
            .entry(Rc::clone(&one.spec))
            .or_insert_with(|| taken.rows.frame(&one.spec.id, token(), taken.more));
        give.push(frame.clone());
        one.at = At::Here(FeedPosition::of(Arc::clone(&taken.seen)));
        (one.last_token_sum, one.seen) = (sum(&taken.seen), Some(Arc::clone(&taken.seen)));
        one.is_up_to_date();
        true
    }

    /// Moves a subscription on to the changes after `from` in the journal, which are read first if
    /// they are not in memory.
    fn find_past(
        &mut self,
        one: &mut Subscription,
        from: &Arc<[i64]>,
        ctx: &mut Context<Self>,
    ) -> bool {
        let place = FeedPosition::of(Arc::clone(from));
        let behind = self.ring.behind(&place);
        let found = match self.past.get(from) {
            Some(None) => return false,
            Some(Some(past)) => &past.found,
            None => {
                if !self.read_back(from, ctx) {
                    // The ranges of other subscribers use up the limit of events in memory.
                    one.seen = (!self.ring.is_ahead(from)).then(|| Arc::clone(from));
                    one.at = one.missed(behind);
                }
                return true;
            }
        };
        one.journal_reads += 1;
        match found {
            JournalRangeLookup::OtherHistory => {
                (one.seen, one.at) = (None, At::Wanting(Some((Reason::OtherHistory, behind))));
            }
            JournalRangeLookup::All(range) if one.journal_reads <= JOURNAL_READS_MAX => {
                one.token_verified = true;
                one.at = if !range.changed.is_empty() {
                    At::Past(Arc::clone(range), 0)
                } else if behind == 0 {
                    At::Here(place)
                } else {
                    // The range was read before the feed advanced: it must be read again.
                    self.past.remove(from);
                    At::Behind(Arc::clone(from))
                };
            }
            JournalRangeLookup::All(_) | JournalRangeLookup::TooMuch => {
                (one.seen, one.at) = (Some(Arc::clone(from)), one.missed(behind));
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::live::Topics;

    #[test]
    fn change_larger_than_a_frame_leads_to_a_snapshot() {
        let text = r#"{"id": "s", "topic": "stock"}"#;
        let asked = serde_json::from_str(text).unwrap();
        let none = crate::http::edge::faults::RequestFaults::default();
        let asked = super::super::filter::read(&Topics::standard(), asked, none);
        let spec = asked.map_err(|wrong| wrong.detail).unwrap().spec;
        let history = HistoryId(1);
        let token = LiveToken::new(history, [5, 7].as_slice().into());
        let one = Subscription::new(spec, Some(token), (history, 2));
        let changed =
            |shard, after_pos, pos| Arc::new(Changed::new((shard, after_pos, pos), Vec::new()));
        let changed = vec![changed(0, 5, 9), changed(0, 9, 12)];
        let (from, upto) = (vec![5, 7].into(), vec![12, 7].into());
        let range = Arc::new(JournalRange { changed, from, upto });
        let mut ring = Ring::new(2, 10);
        ring.begin_at(vec![19, 8]);
        let at = |shown| one.past(Arc::clone(&range), (0, shown), &ring);
        assert!(matches!(at(0), At::Wanting(Some((Reason::TooOld, 15)))));
        assert!(matches!(at(1), At::Past(_, 1)));
        let At::Here(place) = at(2) else { panic!("it has seen all") };
        assert_eq!(place.seen().to_vec(), [12, 7]);
    }
}
