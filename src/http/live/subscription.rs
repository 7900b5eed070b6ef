//! A subscription and how far it has come; and the round, in which each gets what it is due.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::Context;
use bytestring::ByteString;

use super::filter::Spec;
use super::hub::{Hub, Socket};
use super::message::{Changes, Reason, Resync, ServerMessage, Snapshot, Topic};
use super::ring::{Rendered, render};
use super::token::Token;
use crate::actors::changes::Changed;

/// After how many events of others a client gets a newer token.
const TOKEN_EVERY: i64 = 2_000;
/// How often one that comes back may fall out of the ring before it gets a snapshot.
const FALLS_MAX: u32 = 5;

/// A subscription of a socket.
pub struct Subscription {
    /// What was asked for.
    pub spec: Rc<Spec>,
    pub(super) at: At,
    /// The position of its last token.
    told: i64,
    /// It has come back, and has not seen all yet: it may be further behind than others.
    returning: bool,
    falls: u32,
}

/// How far a subscription has come.
pub(super) enum At {
    /// It waits for a snapshot.
    Wanting(Option<(Reason, i64)>),
    /// It has seen all up to here.
    Here(i64),
    /// It waits for the journal behind here.
    Behind(i64),
    /// It is shown the journal from here on.
    Past(i64, Arc<[Arc<Changed>]>),
    /// It has seen all samples up to this.
    Figures(u64),
    /// It has seen the nodes like this.
    Nodes(String),
}

impl Subscription {
    /// One that has seen all up to `from`, or nothing.
    #[must_use]
    pub fn new(spec: Spec, from: Option<Token>) -> Self {
        let at = match (spec.topic, from) {
            (Topic::Stats, _) => At::Figures(0),
            (Topic::Cluster, _) => At::Nodes(String::new()),
            (_, Some(token)) => At::Here(token.pos),
            (_, None) => At::Wanting(None),
        };
        let told = from.map_or(0, |token| token.pos);
        Self { spec: Rc::new(spec), at, told, returning: from.is_some(), falls: 0 }
    }

    /// Where it is when the journal has led it from `pos` to `upto`.
    fn past(&self, pos: i64, upto: i64, head: i64, changed: Arc<[Arc<Changed>]>) -> At {
        if changed.last().is_none_or(|last| last.pos <= upto) {
            At::Here(upto)
        } else if upto == pos {
            // One stretch of the journal is more than a frame.
            let reason = if self.returning { Reason::TooOld } else { Reason::Slow };
            At::Wanting(Some((reason, (head - pos).max(0))))
        } else {
            At::Past(upto, changed)
        }
    }

    /// Whether there is something that it has not seen.
    fn due(&self, head: i64) -> bool {
        match self.at {
            At::Here(pos) => pos < head || self.returning,
            At::Wanting(_) | At::Behind(_) | At::Past(..) => true,
            At::Figures(_) | At::Nodes(_) => false,
        }
    }
}

/// What was made in this round, for all that are to get the same.
#[derive(Default)]
struct Made {
    /// By the subscription, its place, and whether it is led by the journal: stretches of the
    /// journal end elsewhere than those of the ring.
    changes: HashMap<(Rc<Spec>, i64, bool), Rendered>,
    snapshots: HashMap<Rc<Spec>, ByteString>,
}

impl Hub {
    /// Gives each socket what it is due, as far as the budget goes; whether somebody waits still.
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
            let head = self.ring.head();
            if !socket.subscriptions.iter().any(|one| one.due(head)) {
                continue;
            }
            if socket.idle() {
                waits |= self.serve(socket, &mut made, ctx);
            } else {
                self.shared.metrics.live.skipped.inc();
                waits = true;
            }
        }
        self.sockets = sockets;
        waits
    }

    /// Gives a socket what its subscriptions are due; whether there is more for it.
    fn serve(&mut self, socket: &mut Socket, made: &mut Made, ctx: &mut Context<Self>) -> bool {
        let (count, most) = (socket.subscriptions.len(), self.shared.options.live.frame_bytes_max);
        let (mut bytes, mut waits) = (0, false);
        for step in 0..count {
            let at = (socket.turn + step) % count;
            let Some(one) = socket.subscriptions.get_mut(at) else { continue };
            if bytes > most || socket.frames.capacity() < 2 {
                (socket.turn, waits) = (at, true);
                break;
            }
            let mut give = Vec::new();
            waits |= self.step(one, made, &mut give, ctx);
            for frame in give {
                bytes += frame.len();
                // There is room, or its writer is gone.
                let _gone = self.give(socket, frame);
            }
        }
        waits
    }

    /// Gives a socket a frame; whether there was room for it.
    pub(super) fn give(&mut self, socket: &Socket, frame: ByteString) -> bool {
        let bytes = frame.len();
        if socket.frames.try_send(frame).is_err() {
            return false;
        }
        let metrics = &self.shared.metrics.live;
        metrics.frames.inc();
        metrics.bytes.inc_by(u64::try_from(bytes).unwrap_or(0));
        self.budget.frame(bytes);
        true
    }

    /// Leads a subscription on; whether it wants to be looked at again without being woken.
    fn step(
        &mut self,
        one: &mut Subscription,
        made: &mut Made,
        give: &mut Vec<ByteString>,
        ctx: &mut Context<Self>,
    ) -> bool {
        let head = self.ring.head();
        match &one.at {
            At::Figures(_) | At::Nodes(_) => false,
            At::Wanting(resync) => {
                let resync = *resync;
                self.show_snapshot(one, resync, made, give, ctx)
            }
            At::Behind(from) => {
                let from = *from;
                self.find_past(one, from, ctx)
            }
            At::Past(pos, changed) => {
                let (pos, changed) = (*pos, Arc::clone(changed));
                let rest = changed.partition_point(|changed| changed.after_pos < pos);
                let rest = changed.iter().skip(rest).map(AsRef::as_ref);
                let upto = self.show(one, (pos, true), rest, made, give);
                one.at = one.past(pos, upto, head, changed);
                true
            }
            At::Here(pos) => {
                let (pos, behind) = (*pos, head - *pos);
                if behind == 0 {
                    one.returning = false;
                    return false;
                }
                if behind > self.shared.options.live.behind_max && !one.returning {
                    one.at = At::Wanting(Some((Reason::Slow, behind)));
                    return self.step(one, made, give, ctx);
                }
                // The ring is looked at and not changed.
                let ring = std::mem::replace(&mut self.ring, super::ring::Ring::new(0, 0));
                let upto =
                    ring.since(pos).map(|rest| self.show(one, (pos, false), rest, made, give));
                self.ring = ring;
                match upto {
                    // One step of the projector is more than a frame.
                    Some(upto) if upto == pos => {
                        one.at = At::Wanting(Some((Reason::Slow, behind)));
                        self.step(one, made, give, ctx)
                    }
                    Some(upto) => {
                        one.at = At::Here(upto);
                        if upto == head {
                            (one.returning, one.falls) = (false, 0);
                        }
                        upto < head
                    }
                    None if behind < 0 && !one.returning => false,
                    None => {
                        one.at = At::Behind(pos);
                        self.step(one, made, give, ctx)
                    }
                }
            }
        }
    }

    /// Shows a subscription what follows `pos`; how far that leads.
    fn show<'a>(
        &mut self,
        one: &mut Subscription,
        (pos, journal): (i64, bool),
        rest: impl Iterator<Item = &'a Changed>,
        made: &mut Made,
        give: &mut Vec<ByteString>,
    ) -> i64 {
        let key = (Rc::clone(&one.spec), pos, journal);
        let rendered = made.changes.entry(key).or_insert_with(|| {
            let rendered = render(&one.spec, pos, rest, self.shared.options.live.frame_bytes_max);
            self.budget.look(rendered.looked);
            rendered
        });
        let upto = rendered.upto;
        let token_only = || {
            let token = Token { shard: 0, pos: upto }.text();
            let changes = Changes { id: &one.spec.id, token, data: Vec::new() };
            ServerMessage::Changes(changes).frame()
        };
        match &rendered.frame {
            Some(frame) => give.push(frame.clone()),
            None if upto - one.told >= TOKEN_EVERY => give.push(token_only()),
            None => return upto,
        }
        one.told = upto;
        upto
    }

    fn show_snapshot(
        &mut self,
        one: &mut Subscription,
        resync: Option<(Reason, i64)>,
        made: &mut Made,
        give: &mut Vec<ByteString>,
        ctx: &mut Context<Self>,
    ) -> bool {
        let asked = one.spec.asked();
        let taken = match self.taken.get(&asked) {
            Some(Some(taken)) if taken.fresh() => Rc::clone(taken),
            Some(None) => return false,
            _ => {
                self.take(&asked, ctx);
                return true;
            }
        };
        let token = || Token { shard: 0, pos: taken.pos }.text();
        if let Some((reason, skipped)) = resync {
            let id = one.spec.id.as_str();
            self.shared.metrics.live.resyncs.inc();
            let resync = Resync { id, token: token(), reason, skipped };
            give.push(ServerMessage::Resync(resync).frame());
        }
        let frame = made.snapshots.entry(Rc::clone(&one.spec)).or_insert_with(|| {
            let (id, data, more) = (one.spec.id.as_str(), taken.rows.as_slice(), taken.more);
            ServerMessage::Snapshot(Snapshot { id, token: token(), data, more }).frame()
        });
        give.push(frame.clone());
        (one.at, one.told) = (At::Here(taken.pos), taken.pos);
        (one.returning, one.falls) = (false, 0);
        taken.pos < self.ring.head()
    }

    /// Finds what came behind `from` in the journal.
    fn find_past(&mut self, one: &mut Subscription, from: i64, ctx: &mut Context<Self>) -> bool {
        let head = self.ring.head();
        let reason = if one.returning { Reason::TooOld } else { Reason::Slow };
        match self.past.get(&from) {
            Some(None) => false,
            Some(Some(past)) => {
                one.falls += 1;
                one.at = match &past.changed {
                    Some(changed) if !changed.is_empty() && one.falls <= FALLS_MAX => {
                        At::Past(from, Arc::clone(changed))
                    }
                    Some(changed) if changed.is_empty() && from >= head => {
                        one.returning = false;
                        At::Here(from)
                    }
                    // It was read when the feed had not come as far.
                    Some(changed) if changed.is_empty() && one.falls <= FALLS_MAX => {
                        self.past.remove(&from);
                        At::Behind(from)
                    }
                    _ => At::Wanting(Some((reason, (head - from).max(0)))),
                };
                true
            }
            None => {
                if !self.read_back(from, ctx) {
                    // Others are shown as much of the journal as may be held.
                    one.at = At::Wanting(Some((reason, (head - from).max(0))));
                }
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_that_fits_no_frame_leads_to_a_snapshot() {
        let text = r#"{"id": "s", "topic": "stock"}"#;
        let (spec, _) = super::super::filter::read(serde_json::from_str(text).unwrap())
            .map_err(|wrong| wrong.detail)
            .unwrap();
        let one = Subscription::new(spec, Some(Token { shard: 0, pos: 5 }));
        let stretch = |after_pos, pos| {
            let (orders, stock) = (Vec::new(), Vec::new());
            Arc::new(Changed { shard: 0, after_pos, pos, orders, stock })
        };
        let changed: Arc<[_]> = vec![stretch(5, 9), stretch(9, 12)].into();
        let at = |upto| one.past(5, upto, 20, Arc::clone(&changed));
        assert!(matches!(at(5), At::Wanting(Some((Reason::TooOld, 15)))));
        assert!(matches!(at(9), At::Past(9, _)));
        assert!(matches!(at(12), At::Here(12)));
    }
}
