//! Sends statistics and the cluster state to live sockets, within the hub's budget of bytes. A
//! message is serialized once for all subscriptions that need the same samples.

use std::collections::HashMap;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use bytestring::ByteString;

use super::hub::{Hub, LOOK_EVERY, Socket};
use super::message::{ClusterNow, ServerMessage, Stats};
use super::subscription::At;
use crate::http::operator::entities::{self, Here};

/// Statistics messages of this call, whose subscription id is empty: by the number of the last
/// sample that a subscription has received, each with the number of the last sample that it
/// contains.
#[derive(Default)]
struct Shown(HashMap<u64, Option<(ByteString, u64)>>);

/// The beginning of a statistics message whose subscription id is empty.
const TO_NOBODY: &str = r#"{"type":"stats","id":"""#;

/// Inserts the id of a subscription into a statistics message.
fn addressed(id: &str, message: &str) -> ByteString {
    let id = serde_json::to_string(id).unwrap_or_default();
    let rest = message.strip_prefix(TO_NOBODY).unwrap_or_default();
    format!(r#"{{"type":"stats","id":{id}{rest}"#).into()
}

impl Hub {
    /// Sends new samples to all subscribers, or to those of one socket (`only`), until the budget
    /// is spent.
    pub(super) fn show_figures(&mut self, only: Option<u64>) {
        let mut sockets = std::mem::take(&mut self.sockets);
        let mut shown = Shown::default();
        if let Some(id) = only {
            if let Some(socket) = sockets.get_mut(&id) {
                self.show_figures_to(socket, &mut shown);
            }
        } else {
            let turn = self.figures_turn;
            let after = sockets.range(turn..).map(|(id, _)| *id);
            let order: Vec<u64> = after.chain(sockets.range(..turn).map(|(id, _)| *id)).collect();
            for id in order {
                if self.budget.spent() {
                    self.figures_turn = id;
                    break;
                }
                if let Some(socket) = sockets.get_mut(&id).filter(|socket| socket.idle()) {
                    self.show_figures_to(socket, &mut shown);
                }
            }
        }
        self.sockets = sockets;
    }

    fn show_figures_to(&mut self, socket: &mut Socket, shown: &mut Shown) {
        let (most, mut bytes) = (self.live.options.frame_bytes_max, 0);
        let mut subscriptions = std::mem::take(&mut socket.subscriptions);
        for one in &mut subscriptions {
            let At::Figures(seen) = &mut one.at else { continue };
            if bytes > most || self.budget.spent() {
                break;
            }
            let samples = &self.live.samples;
            let message = shown.0.entry(*seen).or_insert_with(|| {
                let samples = samples.after(*seen);
                let last = samples.last()?.number;
                let stats = Stats { id: "", data: &samples };
                Some((ServerMessage::Stats(stats).frame(), last))
            });
            let Some((message, last)) = message else { continue };
            let frame = addressed(&one.spec.id, message);
            bytes += frame.len();
            if !self.give(socket, frame) {
                break;
            }
            *seen = *last;
        }
        socket.subscriptions = subscriptions;
    }

    /// Sends the cluster state to subscribers that have received another one; with `new`, only if
    /// there is a subscriber that has received none. Does nothing if the last call was less than
    /// 250 ms ago.
    pub(super) fn look_at_nodes(&mut self, ctx: &mut Context<Self>, new: bool) {
        if self.nodes_at.is_some_and(|at| at.elapsed() < LOOK_EVERY / 2) {
            return;
        }
        let wants = |socket: &Socket| {
            socket.subscriptions.iter().any(|one| match &one.at {
                At::Nodes(seen) => !new || seen.is_empty(),
                _ => false,
            })
        };
        if !self.sockets.values().any(wants) {
            return;
        }
        self.nodes_at = Some(std::time::Instant::now());
        let live = self.live.clone();
        let look = async move {
            entities::here(&live.node, live.serving.is_on()).await.map(|here| Here { here })
        };
        ctx.spawn(look.into_actor(self).map(|cluster, hub, _| {
            let Ok(cluster) = cluster else { return };
            let text = serde_json::to_string(&cluster).unwrap_or_default();
            let mut sockets = std::mem::take(&mut hub.sockets);
            for socket in sockets.values_mut().filter(|socket| socket.idle()) {
                if hub.budget.spent() {
                    break;
                }
                let mut subscriptions = std::mem::take(&mut socket.subscriptions);
                for one in &mut subscriptions {
                    let At::Nodes(seen) = &mut one.at else { continue };
                    if *seen == text {
                        continue;
                    }
                    let now = ClusterNow { id: &one.spec.id, data: &cluster };
                    if !hub.give(socket, ServerMessage::Cluster(now).frame()) {
                        break;
                    }
                    seen.clone_from(&text);
                }
                socket.subscriptions = subscriptions;
            }
            hub.sockets = sockets;
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_shared_samples_is_the_message() {
        let id = "a \"b\"";
        let message = |id| ServerMessage::Stats(Stats { id, data: &[] }).frame();
        assert_eq!(addressed(id, &message("")), message(id));
    }
}
