//! An intruder on the network between nodes: hears everything that they send each other, answers
//! calls before the node that is called does, sends overheard calls and notices again, and writes
//! to the stream. It has no key of the cluster, so no node may believe it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio_util::bytes::Bytes;

use super::goods::product;
use super::plan::Intrusion;
use super::world::World;
use crate::bus::SignedNotice;
use crate::bus::calls::{CallMessage, MAC, OUTCOME};
use crate::bus::local::{Board, Eavesdropper};
use crate::bus::stream::wire::{PublicNames, StreamMessage};
use crate::bus::stream::{LocalStream, Stream as _};
use crate::domain::cluster_key::ClusterKey;
use crate::domain::entity::{Cause, Event as _, Record};
use crate::domain::location::StockLocation;
use crate::domain::product::Product;
use crate::domain::time::Timestamp;
use crate::domain::versioned::{Event, Versioned};

/// The most overheard messages of each kind that it keeps.
const HEARD_MAX: usize = 64;
/// The longest pause between two of its messages, in milliseconds.
const PAUSE_MAX: u64 = 400;
/// The price, in minor units, that it lets products have. No operator sets it.
const FORGED_PRICE: i64 = 1;
/// An answer that says that a command was carried out.
const DONE: &[u8] = br#"{"Ok":{"seq":1,"replayed":false,"stale":false}}"#;

/// What a command of an order to the stock contains.
const BY_SAGA: &[u8] = br#""by":"saga""#;

/// The intruder. Clones are handles on the same one.
#[derive(Clone)]
pub struct Intruder(Arc<Inner>);

struct Inner {
    world: World,
    skus: usize,
    heard: Mutex<Heard>,
}

/// What it has heard, and its own randomness, so that the rest of a run does not depend on it.
struct Heard {
    chance: StdRng,
    /// The latest calls, and to whom they went.
    calls: VecDeque<(String, CallMessage)>,
    /// The latest calls that write a row.
    writes: VecDeque<(String, CallMessage)>,
    answers: VecDeque<CallMessage>,
    notices: VecDeque<SignedNotice>,
    /// Until when it answers calls, in simulated milliseconds.
    answers_until: i64,
}

impl Intruder {
    /// An intruder who has heard nothing yet, in a shop of so many SKUs.
    pub fn new(world: &World, seed: u64, skus: usize) -> Self {
        let heard = Heard {
            chance: StdRng::seed_from_u64(seed ^ 0x1e7e_0de5),
            calls: VecDeque::new(),
            writes: VecDeque::new(),
            answers: VecDeque::new(),
            notices: VecDeque::new(),
            answers_until: 0,
        };
        Self(Arc::new(Inner { world: world.clone(), skus, heard: Mutex::new(heard) }))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a plan says, in a cluster with this bus, this stream and these nodes.
    pub async fn act(
        self,
        what: Intrusion,
        (board, stream): (Board, LocalStream),
        (nodes, shards): (&'static [&'static str], u16),
    ) {
        self.0.world.tell("intruder", |line| write!(line, "{what:?}"));
        match what {
            Intrusion::Answers { ms } => {
                self.heard().answers_until =
                    self.0.world.elapsed() + i64::try_from(ms).unwrap_or(0);
            }
            Intrusion::Replays { count } => {
                for _ in 0..count {
                    let again = self.heard().again(nodes);
                    if let Some((to, call)) = again {
                        let board = board.clone();
                        tokio::spawn(async move { board.send_call(&to, call).await });
                    }
                    self.pause().await;
                }
            }
            Intrusion::Events { count } => {
                for _ in 0..count {
                    if let Some(event) = self.event(&stream, shards) {
                        // The stream may be down or deleted.
                        let _lost = stream.send(event).await;
                    }
                    self.pause().await;
                }
            }
            Intrusion::Notices { count } => {
                for _ in 0..count {
                    let notice = self.heard().notice();
                    notice.into_iter().for_each(|notice| board.send_notice(notice));
                    self.pause().await;
                }
            }
        }
    }

    async fn pause(&self) {
        let ms = self.heard().chance.random_range(0..PAUSE_MAX);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// An event that no node has committed, an altered one, or an old one.
    fn event(&self, stream: &LocalStream, shards: u16) -> Option<StreamMessage> {
        let heard = stream.messages();
        let mut state = self.heard();
        let chance = &mut state.chance;
        let mut event = match chance.random_range(0..4) {
            0 if !heard.is_empty() => {
                let mut old = (*heard[chance.random_range(0..heard.len())]).clone();
                if old.subject.contains(Product::NAME) && chance.random_ratio(2, 3) {
                    old.body = altered(&old.body, chance);
                }
                old
            }
            of => {
                let price = product(chance.random_range(0..self.0.skus), FORGED_PRICE)?;
                let shard = Product::entity_id(&price.sku).shard(shards);
                // In the shard of the product, or in another one.
                let other = if of == 1 { 0 } else { chance.random_range(1..shards.max(2)) };
                let shard = (shard + other) % shards;
                let last = heard.iter().rev().find(|one| one.shard == shard);
                let pos = chance.random_range(1..=last.map_or(0, |one| one.pos) + 1);
                forged(price, shard, pos, chance.random_range(1_000..1_010))?
            }
        };
        // The server ignores a message with an id that it knows.
        if chance.random_ratio(3, 4) {
            event.id = format!("{}-{}", event.id, chance.random::<u32>());
        }
        Some(event)
    }
}

impl Heard {
    /// An overheard call again: as it was, to another node, with another body or at another time.
    fn again(&mut self, nodes: &[&str]) -> Option<(String, CallMessage)> {
        let chance = &mut self.chance;
        let of = if chance.random_ratio(1, 2) { &self.writes } else { &self.calls };
        let (mut to, mut call) = of.get(chance.random_range(0..of.len().max(1)))?.clone();
        match chance.random_range(0..8) {
            0 => to = nodes[chance.random_range(0..nodes.len())].to_owned(),
            1 => call.body = self.calls.back()?.1.body.clone(),
            2 => {
                let sent = call.headers.iter_mut().find(|(name, _)| name.ends_with("Sent"))?;
                sent.1 = format!("{}", sent.1.parse::<i64>().unwrap_or(0) + 30_000);
            }
            _ => {}
        }
        Some((to, call))
    }

    /// An overheard notice, as it was or altered.
    fn notice(&mut self) -> Option<SignedNotice> {
        let at = self.chance.random_range(0..self.notices.len().max(1));
        let mut notice = self.notices.get(at)?.clone();
        if self.chance.random_ratio(1, 2) {
            notice.body = Bytes::from_static(
                br#"{"from":"node-x","id":1,"sent":1750000000000,"about":"cache_drop","keys":["*"]}"#,
            );
        }
        Some(notice)
    }

    /// An answer to a call that the node did not give: that it has carried out the command, that
    /// to another call, or a refusal.
    fn answer(&mut self, call: &CallMessage) -> Option<CallMessage> {
        let of_another = self.answers.back().cloned();
        let signature = of_another.as_ref().and_then(|one| one.header(MAC)).unwrap_or("0");
        let signature = (MAC, signature.to_owned());
        // What an order asks of the stock is what it gains most from.
        let by_saga = call.body.windows(BY_SAGA.len()).any(|part| part == BY_SAGA);
        match self.chance.random_range(0..8) {
            0..6 if by_saga => {
                Some(CallMessage { headers: vec![signature], body: Bytes::from_static(DONE) })
            }
            0..7 => of_another,
            _ => {
                let refused = (OUTCOME, "closed".to_owned());
                Some(CallMessage { headers: vec![refused, signature], body: Bytes::new() })
            }
        }
    }
}

impl Eavesdropper for Intruder {
    fn hears_call(&self, to: &str, call: &CallMessage) -> Option<CallMessage> {
        let now = self.0.world.elapsed();
        let mut heard = self.heard();
        let of_row = [Product::PREFIX, StockLocation::PREFIX];
        let writes = of_row.iter().any(|prefix| {
            call.body.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.starts_with(b"\n"))
        });
        if writes {
            keep(&mut heard.writes, (to.to_owned(), call.clone()));
        }
        keep(&mut heard.calls, (to.to_owned(), call.clone()));
        if now >= heard.answers_until || heard.chance.random_ratio(1, 2) {
            return None;
        }
        heard.answer(call)
    }

    fn hears_answer(&self, answer: &CallMessage) {
        keep(&mut self.heard().answers, answer.clone());
    }

    fn hears_notice(&self, notice: &SignedNotice) {
        keep(&mut self.heard().notices, notice.clone());
    }
}

fn keep<T>(latest: &mut VecDeque<T>, one: T) {
    if latest.len() == HEARD_MAX {
        latest.pop_front();
    }
    latest.push_back(one);
}

/// A body of which one byte is another digit.
fn altered(body: &Bytes, chance: &mut StdRng) -> Bytes {
    let mut body = body.to_vec();
    let digits: Vec<usize> = (0..body.len()).filter(|at| body[*at].is_ascii_digit()).collect();
    if !digits.is_empty() {
        body[digits[chance.random_range(0..digits.len())]] = b'7';
    }
    body.into()
}

/// The event of a product that nobody has changed, signed with a key that is not the cluster's.
fn forged(product: Product, shard: u16, pos: i64, seq: i64) -> Option<StreamMessage> {
    let entity = Product::entity_id(&product.sku);
    let event = Event::of(Some(&product), product.clone());
    let cause =
        Cause { by: "key:operator".into(), command: Product::PUT.into(), ..Cause::default() };
    let record = Record {
        shard,
        pos,
        entity,
        seq,
        kind: event.kind().into(),
        version: event.version(),
        at: Timestamp::default(),
        cause: serde_json::to_string(&cause).ok()?.into(),
        data: serde_json::to_string(&event).ok()?.into(),
        intact: true,
    };
    let key = ClusterKey::new([0xbd; 32]);
    Some(StreamMessage::of(&record, 1, &PublicNames::new(), &key))
}
