//! The projector and the follower over several shards: rows and cursors in step, whoever writes
//! them, and changes that are told once each while shards go from node to node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kontor::actors::engine::changes::{self, Bounds, ChangeFeed, Changed};
use kontor::actors::engine::clock::Clock;
use kontor::actors::engine::projections::{
    FoldedEvent, Follower, Healed, Keyed, Owned, Projection, Projections, Projector, replay_entity,
};
use kontor::actors::order_rows::OrderRows;
use kontor::actors::read_models;
use kontor::actors::stock_rows::{SkuLevels, StockRows};
use kontor::bus::Feed;
use kontor::domain::entity::{EntityId, Event as _, Noun as _};
use kontor::domain::id::Sku;
use kontor::domain::stock::{self, Event, Stock};
use kontor::domain::time::{Span, Timestamp};
use kontor::store::journal::memory::MemoryJournal;
use kontor::store::journal::{Append, Fence, Journal, NewEvent, Record};
use kontor::store::list_page::page;
use kontor::store::list_row::Batch;
use kontor::store::memory::MemoryStore;
use kontor::store::projection::{Cursor, DeadLetter, ProjectionBatch};
use kontor::store::{self, Options, Store, Tables};
use sqlx::Connection as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::servers;

const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

fn sku(number: usize) -> Sku {
    format!("SKU-{number}").parse().unwrap()
}

/// A store of several shards, and what was written to it.
struct World {
    journal: Arc<dyn Journal>,
    store: Arc<dyn Tables>,
    fences: Vec<Fence>,
    versions: BTreeMap<Sku, i64>,
}

impl World {
    async fn memory() -> Self {
        Self::of(Arc::new(MemoryStore::new(MemoryJournal::new(4)))).await
    }

    async fn postgres() -> Self {
        let options = Options { shards: 8, ..Options::default() };
        let store = Store::connect(&servers::database().as_str().into(), &options).await.unwrap();
        Self::of(Arc::new(store)).await
    }

    async fn of(store: Arc<dyn Tables>) -> Self {
        let journal = store.journal();
        let shards: Vec<u16> = (0..journal.shards()).collect();
        let fences = journal.claim(&shards, "test", Span::from_secs(3_600)).await.unwrap();
        Self { journal, store, fences, versions: BTreeMap::new() }
    }

    fn shards(&self) -> usize {
        usize::from(self.journal.shards())
    }

    /// Takes goods in; `None` for an event that nobody can read.
    async fn receive(&mut self, sku: &Sku, quantity: Option<i64>) -> Arc<[Record]> {
        let data = |quantity| {
            let location = "main".parse().unwrap();
            let event = Event::Received { location, quantity, from_incoming: false, reason: None };
            (event.kind(), event.version(), serde_json::to_string(&event).unwrap())
        };
        let (kind, version, data) = quantity.map_or(("received", 1, "{}".into()), data);
        let seq = self.versions.entry(sku.clone()).or_insert(0);
        let append = Append {
            entity: stock::entity_id(sku),
            after_seq: *seq,
            events: vec![NewEvent { kind, version, data: data.into() }],
            at: Timestamp::from_millis(1_000),
            cause: "{}".into(),
            timer: None,
            rows: Vec::new(),
        };
        *seq += 1;
        self.journal.append(&self.fences, &[append]).await.unwrap().into()
    }

    async fn last(&self) -> Vec<i64> {
        let last = self.store.shards().await.unwrap();
        last.iter().map(|shard| shard.last_pos).collect()
    }

    async fn cursors(&self) -> Vec<i64> {
        let mut all = vec![0; self.shards()];
        for (shard, pos) in read_models::all().reached(self.store.as_ref()).await.unwrap() {
            all[usize::from(shard)] = pos;
        }
        all
    }

    /// Waits until the rows of all shards have caught up, and looks at them.
    async fn rows_are_right(&self) {
        until(async || (self.cursors().await == self.last().await).then_some(())).await;
        for (sku, version) in &self.versions {
            let rows = levels(&self.store, sku).await;
            assert_eq!(rows.iter().map(|row| row.version).collect::<Vec<_>>(), [*version], "{sku}");
            assert_eq!(rows[0].on_hand, *version, "{sku}");
        }
    }
}

/// Waits until there is an answer.
async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap()
}

/// How a SKU stands at its locations.
async fn levels(store: &Arc<dyn Tables>, sku: &Sku) -> Vec<store::stock::Row> {
    let mut rows: Vec<store::stock::Row> = page(store.as_ref(), None, 1_000).await.unwrap();
    rows.retain(|row| row.sku == *sku);
    rows
}

/// What a node has of projections.
struct Site {
    owned: Owned,
    changes: ChangeFeed,
    feed: Feed,
    reached: watch::Receiver<Vec<i64>>,
    stop: CancellationToken,
    work: JoinSet<()>,
}

impl Site {
    /// One that owns the shards for which `owns` says so.
    async fn open(world: &World, owns: impl Fn(u16) -> bool) -> Self {
        Self::with(world, read_models::all(), owns).await
    }

    /// One that runs these projections.
    async fn with(world: &World, lists: Projections, owns: impl Fn(u16) -> bool) -> Self {
        let owned = Owned::of((0..world.journal.shards()).filter(|shard| owns(*shard)));
        let (changes, feed) = (ChangeFeed::new(world.journal.shards()), Feed::default());
        let (reach, reached) = watch::channel(vec![0; world.shards()]);
        let stop = CancellationToken::new();
        let store = world.store.clone();
        let projector = Projector::new(store.clone(), &lists, Clock::system(), owned.clone()).await;
        let projector = projector.unwrap().publish_to(changes.clone());
        let follower = Follower::new(store, lists, owned.clone(), changes.clone());
        let mut work = JoinSet::new();
        work.spawn(projector.run(feed.listen(), PAUSE, reach, stop.clone()));
        work.spawn(follower.run(feed.listen(), PAUSE, stop.clone()));
        Self { owned, changes, feed, reached, stop, work }
    }

    async fn close(mut self) {
        self.stop.cancel();
        while self.work.join_next().await.is_some() {}
    }
}

/// Runs each story in memory and in PostgreSQL.
macro_rules! everywhere {
    ($($story:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $story() {
                    super::$story(super::World::memory).await;
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $story() {
                    super::$story(super::World::postgres).await;
                }
            )*
        }
    };
}

everywhere! {
    rows_of_all_owned_shards_follow_the_journal,
    two_that_write_the_same_rows_disturb_nobody,
    what_another_wrote_before_a_shard_moved_is_told,
    an_entity_that_cannot_be_read_is_parked_and_tried_again_alone,
    a_shard_that_moves_is_told_once_and_whole,
    what_nobody_relays_is_told_late_and_whole,
}

async fn rows_of_all_owned_shards_follow_the_journal(world: impl AsyncFn() -> World) {
    let mut world = world().await;
    let mut site = Site::open(&world, |shard| shard != 3).await;
    for round in 0..10 {
        for number in 0..30 {
            let records = world.receive(&sku(number), Some(1)).await;
            // What is not told leaves a gap, or nothing at all.
            if (round + number) % 3 > 0 {
                site.feed.publish(&records);
            }
        }
    }
    let last = world.last().await;
    assert!(last.iter().all(|pos| *pos > 0), "each shard has something: {last:?}");
    let mut without = last.clone();
    without[3] = 0;
    let seen = site.reached.wait_for(|reached| *reached == without);
    tokio::time::timeout(PATIENCE, seen).await.unwrap().unwrap();
    assert_eq!(world.cursors().await, without, "one is not owned");
    site.owned.own(3);
    world.rows_are_right().await;
    site.close().await;
}

async fn what_another_wrote_before_a_shard_moved_is_told(world: impl AsyncFn() -> World) {
    let mut world = world().await;
    let one = Site::open(&world, |_| true).await;
    one.feed.publish(&world.receive(&sku(1), Some(1)).await);
    world.rows_are_right().await;
    one.close().await;
    // It has not heard of any event when it gets the shards, and there are no further ones.
    let (owned, changes) = (Owned::default(), ChangeFeed::new(world.journal.shards()));
    let (store, lists) = (world.store.clone(), read_models::all());
    let projector = Projector::new(store, &lists, Clock::system(), owned.clone()).await.unwrap();
    let projector = projector.publish_to(changes.clone());
    let mut receiver = changes.listen();
    let (feed, stop) = (Feed::default(), CancellationToken::new());
    let (reach, _reached) = watch::channel(vec![0; world.shards()]);
    let running = tokio::spawn(projector.run(feed.listen(), PAUSE, reach, stop.clone()));
    (0..world.journal.shards()).for_each(|shard| owned.own(shard));
    let told = tokio::time::timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
    let shard = stock::entity_id(&sku(1)).shard(world.journal.shards());
    assert_eq!((told.shard, told.pos), (shard, world.last().await[usize::from(shard)]));
    stop.cancel();
    running.await.unwrap();
}

async fn two_that_write_the_same_rows_disturb_nobody(world: impl AsyncFn() -> World) {
    let mut world = world().await;
    let one = Site::open(&world, |_| true).await;
    let other = Site::open(&world, |shard| shard % 3 > 0).await;
    for round in 0..20 {
        for number in 0..8 {
            let records = world.receive(&sku(number), Some(1)).await;
            one.feed.publish(&records);
            if round % 2 == 0 {
                other.feed.publish(&records);
            }
        }
        tokio::task::yield_now().await;
    }
    world.rows_are_right().await;
    // Somebody lets all rows be made again, and the writers find out by themselves.
    world.store.reset_projection(StockRows::NAME).await.unwrap();
    world.rows_are_right().await;
    one.close().await;
    other.close().await;
}

async fn an_entity_that_cannot_be_read_is_parked_and_tried_again_alone(
    world: impl AsyncFn() -> World,
) {
    let mut world = world().await;
    let (bad, good) = (sku(1), sku(2));
    world.receive(&bad, Some(1)).await;
    world.receive(&bad, None).await;
    world.receive(&good, Some(1)).await;
    let site = Site::open(&world, |_| true).await;
    let letters = async || world.store.dead_letters(0, 10).await.unwrap();
    let first = until(async || letters().await.pop()).await;
    assert_eq!(first.entity, stock::entity_id(&bad));
    let entity = first.entity.clone();
    let records = world.receive(&bad, Some(1)).await;
    site.feed.publish(&records);
    until(async || (world.cursors().await == world.last().await).then_some(())).await;
    let letters = async || world.store.dead_letters(0, 10).await.unwrap();
    let found: Vec<(i64, EntityId)> =
        letters().await.into_iter().map(|letter| (letter.pos, letter.entity)).collect();
    assert_eq!(found, [(first.pos, entity.clone()), (records[0].pos, entity.clone())]);
    let rows = levels(&world.store, &bad).await;
    assert_eq!(rows[0].version, 1, "its rows stay as they were");

    // It is no better now; but one that is, is healed alone.
    let again = replay_entity(world.store.as_ref(), &read_models::all(), &entity).await.unwrap();
    let Healed::Again(reason) = again else { panic!("{again:?}") };
    assert!(reason.starts_with("event 2 (received): "), "{reason}");
    let shard = stock::entity_id(&good).shard(world.journal.shards());
    let pos = world.last().await[usize::from(shard)];
    let mended = DeadLetter { shard, pos, entity: stock::entity_id(&good), ..first.clone() };
    let batch = ProjectionBatch {
        projection: StockRows::NAME,
        cursors: &[Cursor { shard, after: pos, pos }],
        dead: std::slice::from_ref(&mended),
        ..ProjectionBatch::default()
    };
    assert!(world.store.commit_projections(&[batch]).await.unwrap());
    assert_eq!(letters().await.len(), 3);
    let healed =
        replay_entity(world.store.as_ref(), &read_models::all(), &mended.entity).await.unwrap();
    assert_eq!((healed, letters().await.len()), (Healed::Well, 2));
    assert_eq!(levels(&world.store, &good).await[0].on_hand, 1);

    // One whose letters are discarded is tried with its next event.
    for letter in letters().await {
        assert!(world.store.delete_dead_letter(letter.id).await.unwrap());
    }
    site.feed.publish(&world.receive(&bad, Some(1)).await);
    let letter = until(async || world.store.dead_letters(0, 10).await.unwrap().pop()).await;
    assert!(letter.reason.starts_with("event 2 (received): "), "{}", letter.reason);
    site.close().await;
}

kontor::table_row! {
    /// What an event did to the units of a SKU at a location.
    #[derive(Clone, Debug, PartialEq)]
    struct Movement in "movement", key(entity, seq) {
        entity: String,
        seq: i64,
        before: i64,
        after: i64,
    }
}

/// A projection that is shown each event.
struct Movements;

impl Projection for Movements {
    const NAME: &'static str = "movements";
    const PREFIXES: &'static [&'static str] = &[Stock::PREFIX];
    type State = Stock;
    const EACH_EVENT: bool = true;

    fn event(&self, event: &FoldedEvent<'_, Stock>, batch: &mut Batch) -> Result<(), String> {
        let units = |stock: &Stock| stock.levels().values().map(|level| level.on_hand).sum();
        let (before, after) = (units(event.before), units(event.after));
        let (entity, seq) = (event.record.entity.to_string(), event.record.seq);
        batch.put(Movement { entity, seq, before, after });
        Ok(())
    }
}

/// All movements of a world in which each event took one unit in.
async fn movements_are_right(world: &World) {
    let lists = read_models::all().with(Movements);
    let reached = async || {
        let reached = lists.reached(world.store.as_ref()).await.ok()?;
        let last = (0..).zip(world.last().await).filter(|(_, last)| *last > 0);
        (reached == last.collect()).then_some(())
    };
    until(reached).await;
    let found: Vec<Movement> = page(world.store.as_ref(), None, 1_000).await.unwrap();
    let of_sku = |(sku, last): (&Sku, &i64)| {
        let entity = stock::entity_id(sku).to_string();
        let one = move |seq| Movement { entity: entity.clone(), seq, before: seq - 1, after: seq };
        (1..=*last).map(one).collect::<Vec<_>>()
    };
    assert_eq!(found, world.versions.iter().flat_map(of_sku).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_shown_once_whatever_fails_and_again_when_its_projection_is_replayed() {
    let memory = MemoryStore::new(MemoryJournal::new(4));
    let mut world = World::of(Arc::new(memory.clone())).await;
    let site = Site::open(&world, |_| true).await;
    site.feed.publish(&world.receive(&sku(1), Some(1)).await);
    world.rows_are_right().await;
    site.close().await;

    // One that comes later begins at the first event.
    let lists = read_models::all().with(Movements);
    let site = Site::with(&world, lists, |_| true).await;
    let mut receiver = site.changes.listen();
    let seen = site.changes.heads();
    let versions = BTreeMap::from([(sku(1), 1)]);
    let mut listener = Listener { seen, versions, gaps: 0 };
    movements_are_right(&world).await;
    for count in 0..200 {
        site.feed.publish(&world.receive(&sku(count % 7), Some(1)).await);
        if count % 20 == 0 {
            memory.fail(2);
            tokio::time::sleep(PAUSE).await;
        }
    }
    memory.fail(0);
    movements_are_right(&world).await;

    // It is made again, and nothing is told again.
    world.store.reset_projection(Movements::NAME).await.unwrap();
    movements_are_right(&world).await;
    world.rows_are_right().await;
    site.feed.publish(&world.receive(&sku(1), Some(1)).await);
    movements_are_right(&world).await;
    let last = world.last().await;
    let hear = async {
        while listener.seen != last {
            let changed = receiver.recv().await.unwrap();
            listener.hear(world.journal.as_ref(), changed).await;
        }
    };
    tokio::time::timeout(PATIENCE, hear).await.unwrap();
    assert_eq!(listener.versions, world.versions);
    site.close().await;
}

/// A projection that refuses the second event of each entity, and has written of it then.
struct Picky;

impl Projection for Picky {
    const NAME: &'static str = "picky";
    const PREFIXES: &'static [&'static str] = &[Stock::PREFIX];
    type State = Stock;
    const EACH_EVENT: bool = true;

    fn event(&self, event: &FoldedEvent<'_, Stock>, batch: &mut Batch) -> Result<(), String> {
        Movements.event(event, batch)?;
        if event.record.seq == 2 { Err("it is the second".to_owned()) } else { Ok(()) }
    }
}

#[tokio::test]
async fn an_event_that_is_refused_is_a_letter_and_parks_its_entity_whatever_fails() {
    let memory = MemoryStore::new(MemoryJournal::new(1));
    let mut world = World::of(Arc::new(memory.clone())).await;
    let lists = Projections::default().with(Picky);
    let open = async |world: &World| {
        let store = world.store.clone();
        Projector::new(store, &lists, Clock::system(), Owned::of([0])).await.unwrap()
    };
    let letters = async |world: &World| {
        let letters = world.store.dead_letters(0, 10).await.unwrap();
        letters.into_iter().map(|letter| (letter.pos, letter.reason)).collect::<Vec<_>>()
    };
    let written = async |world: &World| {
        let found: Vec<Movement> = page(world.store.as_ref(), None, 10).await.unwrap();
        found.into_iter().map(|movement| movement.seq).collect::<Vec<_>>()
    };
    let mut projector = open(&world).await;
    world.receive(&sku(1), Some(1)).await;
    projector.finish().await.unwrap();
    world.receive(&sku(1), Some(1)).await;
    memory.fail(1);
    assert!(projector.finish().await.is_err());
    projector.finish().await.unwrap();
    let second = (2, "it is the second".to_owned());
    assert_eq!(letters(&world).await, std::slice::from_ref(&second), "it is shown again");
    assert_eq!(written(&world).await, [1], "and nothing is written of it");

    // Whoever goes on knows of the letter.
    let mut projector = open(&world).await;
    world.receive(&sku(1), Some(1)).await;
    projector.finish().await.unwrap();
    let later = (3, "an earlier event of it could not be read".to_owned());
    assert_eq!(letters(&world).await, [second, later]);
    assert_eq!(written(&world).await, [1]);
    assert_eq!(world.store.cursors(Picky::NAME).await.unwrap(), [(0, 3)]);
}

kontor::table_row! {
    /// A row that its table does not take without a note.
    #[derive(Clone, Debug, PartialEq)]
    struct Demanding in "demanding", key(entity) {
        entity: String,
        note: Option<String>,
    }
}

/// The table of these rows.
const DEMANDING: &str = "CREATE TABLE demanding (entity TEXT PRIMARY KEY, note TEXT NOT NULL)";

/// A projection with a note of each SKU that has at most three units.
struct Noted;

impl Projection for Noted {
    const NAME: &'static str = "noted";
    const PREFIXES: &'static [&'static str] = &[Stock::PREFIX];
    type State = Stock;

    fn rows(&self, entity: &EntityId, stock: &Keyed<'_, Stock>, batch: &mut Batch) {
        let units: i64 = stock.state.levels().values().map(|level| level.on_hand).sum();
        let note = (units <= 3).then(|| units.to_string());
        batch.put(Demanding { entity: entity.to_string(), note });
    }
}

async fn notes(connection: &mut sqlx::PgConnection) -> Vec<(String, Option<String>)> {
    let all = "SELECT entity, note FROM demanding ORDER BY entity";
    sqlx::query_as(all).fetch_all(connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_row_breaks_a_constraint_is_a_dead_letter_and_stops_no_other() {
    let url = servers::database();
    let store = Store::connect(&url.as_str().into(), &Options::default()).await.unwrap();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::query(DEMANDING).execute(&mut connection).await.unwrap();
    let mut world = World::of(Arc::new(store)).await;
    let lists = Projections::default().with(Noted).with_live(StockRows);
    for number in 0..9 {
        world.receive(&sku(number % 3), Some(1)).await;
    }
    let refused = world.receive(&sku(1), Some(1)).await;
    world.receive(&sku(2), Some(0)).await;
    let later = world.receive(&sku(1), Some(1)).await;
    let site = Site::with(&world, lists.clone(), |_| true).await;
    until(async || {
        (lists.reached(world.store.as_ref()).await.ok()?
            == (0..).zip(world.last().await).filter(|(_, last)| *last > 0).collect())
        .then_some(())
    })
    .await;

    let letters = world.store.dead_letters(0, 10).await.unwrap();
    let at: Vec<_> = letters.iter().map(|letter| (&*letter.projection, letter.pos)).collect();
    assert_eq!(at, [(Noted::NAME, refused[0].pos), (Noted::NAME, later[0].pos)]);
    let mut right: Vec<_> = (0..3)
        .map(|number| (stock::entity_id(&sku(number)).to_string(), Some("3".to_owned())))
        .collect();
    right.sort();
    assert_eq!(notes(&mut connection).await, right, "the rows of all others are written");

    // Tried again, it is refused again; and written once its table takes it.
    let entity = stock::entity_id(&sku(1));
    let again = replay_entity(world.store.as_ref(), &lists, &entity).await.unwrap();
    assert!(matches!(again, Healed::Again(_)), "{again:?}");
    let mend = "ALTER TABLE demanding ALTER COLUMN note DROP NOT NULL";
    sqlx::query(mend).execute(&mut connection).await.unwrap();
    let healed = replay_entity(world.store.as_ref(), &lists, &entity).await.unwrap();
    assert_eq!(healed, Healed::Well);
    assert!(notes(&mut connection).await.contains(&(entity.to_string(), None)));
    assert_eq!(world.store.dead_letters(0, 10).await.unwrap(), []);
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_whose_table_cannot_be_written_stops_no_other_and_is_tried_again() {
    let url = servers::database();
    let store = Store::connect(&url.as_str().into(), &Options::default()).await.unwrap();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let mut world = World::of(Arc::new(store)).await;
    let lists = Projections::default().with(Noted);
    let lists = lists.with_live(OrderRows).with_live(StockRows);
    let mut site = Site::with(&world, lists.clone(), |_| true).await;
    let mut receiver = site.changes.listen();
    let seen = site.changes.heads();
    let mut listener = Listener { seen, versions: BTreeMap::new(), gaps: 0 };
    for number in 0..9 {
        site.feed.publish(&world.receive(&sku(number % 3), Some(1)).await);
    }
    world.rows_are_right().await;
    let last = world.last().await;
    // Nobody waits for it, and what the others show is told.
    let shown = site.reached.wait_for(|reached| *reached == last);
    tokio::time::timeout(PATIENCE, shown).await.unwrap().unwrap();
    let hear = async {
        while listener.seen != last {
            let changed = receiver.recv().await.unwrap();
            listener.hear(world.journal.as_ref(), changed).await;
        }
    };
    tokio::time::timeout(PATIENCE, hear).await.unwrap();
    assert_eq!(listener.versions, world.versions);
    assert_eq!(world.store.cursors(Noted::NAME).await.unwrap(), []);
    assert_eq!(world.store.dead_letters(0, 10).await.unwrap(), [], "no event is to blame");

    sqlx::query(DEMANDING).execute(&mut connection).await.unwrap();
    let reached = async || {
        let reached = lists.reached(world.store.as_ref()).await.ok()?;
        let last = (0..).zip(world.last().await).filter(|(_, last)| *last > 0);
        (reached == last.collect()).then_some(())
    };
    until(reached).await;
    site.close().await;
}

/// One who listens, and reads the journal where the feed has a gap.
struct Listener {
    seen: Vec<i64>,
    versions: BTreeMap<Sku, i64>,
    gaps: usize,
}

impl Listener {
    async fn hear(&mut self, journal: &dyn Journal, changed: Arc<Changed>) {
        let shard = usize::from(changed.shard);
        let head = self.seen[shard];
        if changed.pos <= head {
            return;
        }
        if changed.after_pos == head {
            return self.take(&changed);
        }
        self.gaps += 1;
        let mut until = self.seen.clone();
        until[shard] = changed.pos;
        let bounds = Bounds { events: 10_000, entities: 1_000 };
        let read = changes::read(journal, &read_models::all(), (&self.seen, &until), bounds)
            .await
            .unwrap();
        for changed in read.expect("it is within bounds") {
            self.take(&changed);
        }
    }

    fn take(&mut self, changed: &Changed) {
        for change in changed.of::<StockRows>() {
            let SkuLevels { sku, rows, .. } = &change.shown;
            let version = self.versions.entry(sku.clone()).or_insert(0);
            assert_eq!(*version, change.after, "{sku} is told without a gap or a double");
            *version = change.version;
            assert!(rows.iter().all(|row| row.version == change.version));
        }
        self.seen[usize::from(changed.shard)] = changed.pos;
    }
}

/// Moves shards to and fro while events come; `relayed` says which are told to the other node.
async fn shards_move(mut world: World, relayed: impl Fn(usize) -> bool) {
    let sites = [
        Site::open(&world, |shard| shard % 2 == 0).await,
        Site::open(&world, |shard| shard % 2 == 1).await,
    ];
    let mut owners: Vec<usize> = (0..world.shards()).map(|shard| shard % 2).collect();
    let mut receiver = sites[0].changes.listen();
    let seen = vec![0; world.shards()];
    let mut listener = Listener { seen, versions: BTreeMap::new(), gaps: 0 };
    for count in 0..600 {
        let records = world.receive(&sku(count % 11), Some(1)).await;
        let owner = owners[usize::from(records[0].shard)];
        sites[owner].feed.publish(&records);
        if relayed(count) {
            sites[1 - owner].feed.publish(&records);
        }
        if count % 50 == 49 {
            let shard = u16::try_from(count / 50).unwrap() % world.journal.shards();
            let owner = &mut owners[usize::from(shard)];
            sites[*owner].owned.disown(shard);
            *owner = 1 - *owner;
            sites[*owner].owned.own(shard);
        }
        if count % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while let Ok(changed) = receiver.try_recv() {
            listener.hear(world.journal.as_ref(), changed).await;
        }
    }
    let last = world.last().await;
    let hear = async {
        while listener.seen != last {
            let changed = receiver.recv().await.unwrap();
            listener.hear(world.journal.as_ref(), changed).await;
        }
    };
    tokio::time::timeout(PATIENCE, hear).await.unwrap();
    assert_eq!(listener.versions, world.versions);
    world.rows_are_right().await;
    for site in sites {
        site.close().await;
    }
}

async fn a_shard_that_moves_is_told_once_and_whole(world: impl AsyncFn() -> World) {
    shards_move(world().await, |_| true).await;
}

async fn what_nobody_relays_is_told_late_and_whole(world: impl AsyncFn() -> World) {
    shards_move(world().await, |_| false).await;
    shards_move(world().await, |count| count % 5 > 0).await;
}
