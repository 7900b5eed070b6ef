//! One suite for the stream of events, its relay and its followers, on the twin and on
//! JetStream: what is lost is relayed again, from a journal that is the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use kontor::bus::stream::wire::{PublicNames, StreamMessage};
use kontor::bus::stream::{Jet, LocalStream, NAME, Stream};
use kontor::bus::{EventSource, Feed, NatsProblems, Options, Relay, follow};
use kontor::domain::cluster_key::ClusterKey;
use kontor::domain::entity::{EntityId, Record};
use tokio::sync::broadcast::Receiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::nats::{self, up};
use super::{now, until};

const SHARDS: u16 = 64;

/// A journal: all that was committed, by shard.
#[derive(Default)]
struct Journal(Mutex<BTreeMap<u16, Vec<Record>>>);

impl Journal {
    /// Commits so many events, and answers them.
    fn commit(&self, shard: u16, count: usize) -> Vec<Record> {
        let mut shards = self.0.lock().unwrap();
        let all = shards.entry(shard).or_default();
        let from = all.len();
        for at in from..from + count {
            let pos = i64::try_from(at).unwrap() + 1;
            all.push(Record {
                shard,
                pos,
                entity: entity(shard, pos),
                seq: pos,
                kind: if pos % 2 == 0 { "placed" } else { "confirmed" }.into(),
                version: 1,
                at: now()(),
                cause: r#"{"by":"test","cmd":"x"}"#.into(),
                data: format!("{{\"n\":{pos}}}").into(),
                intact: true,
            });
        }
        all[from..].to_vec()
    }

    /// Forgets the last events and commits others in their place: a backup was restored.
    fn restore(&self, shard: u16, left: usize, others: usize) {
        self.0.lock().unwrap().get_mut(&shard).unwrap().truncate(left);
        self.commit(shard, others);
    }
}

/// One of five entities of a shard.
fn entity(shard: u16, pos: i64) -> EntityId {
    let all = (0..).map(|number| EntityId::new(&format!("ord_{number}")));
    let mut of_shard = all.filter(|entity| entity.shard(SHARDS) == shard);
    of_shard.nth(usize::try_from(pos % 5).unwrap()).unwrap()
}

#[async_trait]
impl EventSource for Journal {
    async fn read_shard(&self, shard: u16, after: i64, limit: u32) -> Result<Vec<Record>, String> {
        let shards = self.0.lock().unwrap();
        let all = shards.get(&shard).into_iter().flatten();
        let from = all.filter(|record| record.pos > after);
        Ok(from.take(limit as usize).cloned().collect())
    }

    async fn last_pos(&self, shard: u16) -> Result<i64, String> {
        let shards = self.0.lock().unwrap();
        Ok(shards.get(&shard).and_then(|all| all.last()).map_or(0, |last| last.pos))
    }
}

/// A node that owns shards 1 and 2 and relays them, and another one that follows.
struct Pair {
    journal: Arc<Journal>,
    own: Feed,
    relay: Relay,
    heard: Receiver<Arc<[Record]>>,
    /// All that was heard, by shard and position.
    seen: BTreeMap<u16, BTreeSet<i64>>,
    owner: watch::Sender<BTreeSet<u16>>,
    stop: CancellationToken,
}

fn names() -> PublicNames {
    PublicNames::from([("ord", "order")])
}

impl Pair {
    fn open(here: Arc<dyn Stream>, there: Arc<dyn Stream>) -> Self {
        let stop = CancellationToken::new();
        let (journal, own, foreign) =
            (Arc::new(Journal::default()), Feed::default(), Feed::default());
        let heard = foreign.listen();
        let (options, names) = (Options::default(), names());
        let source: Arc<dyn EventSource> = journal.clone();
        let (relay, _) = Relay::start(here, source, &own, (&options, names), now(), stop.clone());
        let (owner, owned) = watch::channel(BTreeSet::from([9]));
        follow::start(there, foreign, (owned, SHARDS), stop.clone());
        let seen = BTreeMap::new();
        Self { journal, own, relay, heard, seen, owner, stop }
    }

    /// Commits events, as a lane does: they are in the journal, then in the feed.
    fn commit(&self, shard: u16, count: usize) {
        for records in self.journal.commit(shard, count).chunks(7) {
            self.own.publish(records);
        }
    }

    /// Takes what was heard, and holds it against the journal.
    fn listen(&mut self) {
        while let Ok(batch) = self.heard.try_recv() {
            let shards = self.journal.0.lock().unwrap();
            for record in &*batch {
                let at = usize::try_from(record.pos - 1).unwrap();
                let truth = shards.get(&record.shard).and_then(|all| all.get(at));
                assert_eq!(truth, Some(record));
                self.seen.entry(record.shard).or_default().insert(record.pos);
            }
        }
    }

    /// Waits until the last event of a shard was heard.
    async fn until_heard(&mut self, shard: u16) {
        let last = self.journal.last_pos(shard).await.unwrap();
        until(&format!("event {shard}-{last} is heard"), async || {
            self.listen();
            self.seen.get(&shard).is_some_and(|seen| seen.contains(&last))
        })
        .await;
    }

    async fn until_kept(&self, stream: &dyn Stream, shard: u16) {
        let last = self.journal.last_pos(shard).await.unwrap();
        until(
            &format!("event {shard}-{last} is kept"),
            async || matches!(stream.last(shard).await, Ok(Some((pos, _))) if pos == last),
        )
        .await;
        until("there is no lag", async || self.relay.lag(shard) == 0).await;
    }
}

/// What holds on every stream.
async fn suite(here: Arc<dyn Stream>, there: Arc<dyn Stream>) {
    let mut pair = Pair::open(here.clone(), there);
    // Committed before anybody relayed, and while nobody owned it.
    pair.journal.commit(1, 700);
    pair.relay.own(1, 1);
    pair.until_kept(&*here, 1).await;
    pair.until_heard(1).await;
    // As it goes on, more at once than are let under way, in two shards.
    pair.relay.own(2, 1);
    pair.commit(2, 3_000);
    pair.commit(1, 5);
    for shard in [1, 2] {
        pair.until_kept(&*here, shard).await;
        pair.until_heard(shard).await;
    }
    // One that it does not own, and one that it owns no longer.
    pair.relay.disown(2);
    pair.commit(3, 1);
    pair.commit(2, 1);
    pair.commit(1, 1);
    pair.until_kept(&*here, 1).await;
    pair.until_heard(1).await;
    assert_eq!(here.last(3).await.unwrap(), None);
    assert_eq!(here.last(2).await.unwrap().unwrap().0, 3_000);
    // Owned again, it goes on where the stream stands.
    pair.relay.own(2, 2);
    pair.until_kept(&*here, 2).await;
    pair.until_heard(2).await;
    // Who owns all has nothing to follow; who no longer does sees what it missed.
    pair.owner.send_replace((0..64).collect());
    pair.commit(2, 1);
    pair.until_kept(&*here, 2).await;
    pair.owner.send_replace(BTreeSet::from([9]));
    pair.until_heard(2).await;
    // A journal that was restored, and went on: the stream's events are not its own.
    pair.relay.disown(1);
    pair.journal.restore(1, 400, 50);
    pair.seen.remove(&1);
    pair.relay.own(1, 3);
    until("the stream has what the journal has", async || {
        matches!(here.last(1).await, Ok(Some((450, _))))
    })
    .await;
    pair.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_in_one_process() {
    let twin = LocalStream::default();
    suite(Arc::new(twin.clone()), Arc::new(twin)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_event_is_relayed_again() {
    let twin = LocalStream::default();
    let stream: Arc<dyn Stream> = Arc::new(twin.clone());
    let pair = Pair::open(stream.clone(), stream.clone());
    pair.relay.own(1, 1);
    twin.refuse(1, 50);
    pair.commit(1, 100);
    until("all are in the stream", async || twin.positions(1) == (1..=100).collect()).await;
    pair.commit(1, 1);
    pair.until_kept(&*stream, 1).await;
    pair.stop.cancel();
}

/// Fills what an owner could not send, and what it sent behind that is not taken for all there is.
async fn fills_a_gap(stream: Arc<dyn Stream>) {
    let pair = Pair::open(stream.clone(), stream.clone());
    // The one before sent all at once, was refused one, and had the shard no longer.
    stream.ready().await.unwrap();
    assert_eq!(stream.missing(1, 4).await.unwrap(), 4);
    for record in pair.journal.commit(1, 20).iter().filter(|record| record.pos != 11) {
        stream
            .send(StreamMessage::of(record, 1, &names(), stream.key()))
            .await
            .unwrap()
            .await
            .unwrap();
    }
    for record in pair.journal.commit(10, 5) {
        stream
            .send(StreamMessage::of(&record, 1, &names(), stream.key()))
            .await
            .unwrap()
            .await
            .unwrap();
    }
    for (from, missing) in [(1, 11), (11, 11), (12, 21), (30, 30)] {
        assert_eq!(stream.missing(1, from).await.unwrap(), missing, "from {from}");
    }
    assert_eq!(stream.missing(10, 1).await.unwrap(), 6);
    assert_eq!(stream.missing(10, 8).await.unwrap(), 8);
    pair.relay.own(1, 2);
    until("all are in the stream", async || stream.missing(1, 1).await.unwrap() == 21).await;
    pair.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn next_owner_relays_unsent_events() {
    fills_a_gap(Arc::new(LocalStream::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn next_owner_relays_unsent_events_to_nats() {
    let server = nats::Server::start();
    fills_a_gap(jet(server.connect("a").await, &NatsProblems::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_missing_in_the_feed_is_relayed() {
    let twin = LocalStream::default();
    let stream: Arc<dyn Stream> = Arc::new(twin.clone());
    let pair = Pair::open(stream.clone(), stream.clone());
    pair.relay.own(1, 1);
    pair.commit(1, 3);
    pair.until_kept(&*stream, 1).await;
    pair.journal.commit(1, 2);
    until("all are in the stream", async || {
        pair.relay.committed(vec![(1, 5), (2, 7)]);
        twin.positions(1) == (1..=5).collect()
    })
    .await;
    until("there is no lag", async || pair.relay.lag(1) == 0).await;
    pair.stop.cancel();
}

fn key() -> ClusterKey {
    ClusterKey::new([9; 32])
}

fn jet(nats: kontor::bus::nats::Connection, problems: &NatsProblems) -> Arc<dyn Stream> {
    Arc::new(Jet::new(nats, &Options::default(), key(), problems.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_on_nats() {
    let server = nats::Server::start();
    let problems = NatsProblems::default();
    let (here, there) = (server.connect("a").await, server.connect("b").await);
    suite(jet(here, &problems), jet(there, &problems)).await;
    assert_eq!(problems.all(), [], "the server has not done what it was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_event_in_the_stream_has_no_record() {
    let server = nats::Server::start();
    let problems = NatsProblems::default();
    let stream = jet(server.connect("a").await, &problems);
    let pair = Pair::open(stream.clone(), stream.clone());
    stream.ready().await.unwrap();
    let mut heard = stream.follow().await.unwrap();
    let records = pair.journal.commit(1, 2);
    let send = async |record: &Record, key: &ClusterKey| {
        let message = StreamMessage::of(record, 1, &names(), key);
        stream.send(message).await.unwrap().await.unwrap();
    };
    send(&records[0], &ClusterKey::new([8; 32])).await;
    send(&records[1], stream.key()).await;
    let forged = heard.next().await.unwrap().unwrap();
    assert_eq!((forged.pos, forged.record), (1, None));
    let ours = heard.next().await.unwrap().unwrap();
    assert_eq!(ours.record.as_ref(), Some(&records[1]));
    pair.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_events_of_the_in_process_stream_are_relayed_again() {
    let twin = LocalStream::default();
    let stream: Arc<dyn Stream> = Arc::new(twin.clone());
    let mut pair = Pair::open(stream.clone(), stream.clone());
    pair.relay.own(1, 1);
    pair.commit(1, 100);
    pair.until_kept(&*stream, 1).await;
    twin.lose(30);
    pair.until_kept(&*stream, 1).await;
    twin.delete();
    pair.until_kept(&*stream, 1).await;
    twin.reach(false);
    pair.commit(1, 100);
    twin.reach(true);
    pair.until_kept(&*stream, 1).await;
    pair.until_heard(1).await;
    pair.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_be_killed_emptied_and_cut_off_and_nothing_is_missing() {
    let mut server = nats::Server::start();
    let problems = NatsProblems::default();
    let (a, b) = (server.connect("a").await, server.connect("b").await);
    let (here, there) = (jet(a.clone(), &problems), jet(b, &problems));
    let mut pair = Pair::open(here.clone(), there);
    pair.relay.own(1, 1);
    pair.commit(1, 100);
    pair.until_kept(&*here, 1).await;
    pair.until_heard(1).await;

    // Killed in the middle of the work, and back with what it had.
    pair.commit(1, 1_000);
    server.kill();
    pair.commit(1, 50);
    up(&a, false).await;
    server.resume();
    pair.until_kept(&*here, 1).await;
    pair.until_heard(1).await;

    // Its folder is gone.
    server.kill();
    server.wipe();
    pair.commit(1, 50);
    server.resume();
    pair.until_kept(&*here, 1).await;
    pair.until_heard(1).await;
    assert_eq!(messages(&server).await, 1_200);

    // Somebody deletes the stream, and somebody empties it while it remembers every id.
    let context = context(&server).await;
    context.delete_stream(NAME).await.unwrap();
    until("all is there again", async || messages_of(&context).await == Some(1_200)).await;
    context.get_stream(NAME).await.unwrap().purge().await.unwrap();
    until("all is there again", async || messages_of(&context).await == Some(1_200)).await;
    pair.commit(1, 1);
    pair.until_heard(1).await;
    pair.stop.cancel();
}

async fn context(server: &nats::Server) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(async_nats::connect(server.options().url).await.unwrap())
}

async fn messages_of(context: &async_nats::jetstream::Context) -> Option<u64> {
    context.get_stream(NAME).await.ok().map(|stream| stream.cached_info().state.messages)
}

async fn messages(server: &nats::Server) -> u64 {
    messages_of(&context(server).await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_a_cloud_event() {
    let server = nats::Server::start();
    let problems = NatsProblems::default();
    let here = jet(server.connect("a").await, &problems);
    let pair = Pair::open(here.clone(), here.clone());
    pair.relay.own(1, 4);
    pair.commit(1, 2);
    pair.until_kept(&*here, 1).await;
    let stream = context(&server).await.get_stream(NAME).await.unwrap();
    let message = stream.get_raw_message(2).await.unwrap();
    assert_eq!(message.subject.as_str(), "kontor.events.1.order.placed");
    let header = |name: &str| message.headers.get(name).unwrap().as_str().to_owned();
    assert_eq!(header("Nats-Msg-Id"), "1-2");
    assert_eq!(header("content-type"), "application/cloudevents+json");
    let event: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((&event["id"], &event["type"]), (&"1-2".into(), &"kontor.order.placed".into()));
    assert_eq!((&event["subject"], &event["epoch"]), (&entity(1, 2).as_str().into(), &4.into()));
    let data = &event["data"];
    assert_eq!((&data["data"]["n"], &data["cause"]["by"]), (&2.into(), &"test".into()));
    pair.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn different_server_configuration_is_a_finding() {
    let server = nats::Server::start();
    let memory = async_nats::jetstream::stream::Config {
        name: NAME.to_owned(),
        subjects: vec!["kontor.events.>".to_owned()],
        storage: async_nats::jetstream::stream::StorageType::Memory,
        ..Default::default()
    };
    context(&server).await.create_stream(memory).await.unwrap();
    let problems = NatsProblems::default();
    let stream = jet(server.connect("a").await, &problems);
    stream.ready().await.unwrap();
    let found = problems.all();
    assert!(found.iter().any(|(_, text)| text.contains("storage")), "{found:?}");
}
