//! The journal's conformance suite: each test runs on every implementation.
//!
//! The lane's tests are beside it in `lane.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kontor::domain::entity::EntityId;
use kontor::domain::id::Sku;
use kontor::domain::money::{Currency, TaxRate, UnitPrice};
use kontor::domain::product::Product;
use kontor::domain::time::{Span, Timestamp};
use kontor::domain::versioned::Versioned;
use kontor::store::journal::memory::{AppendFault, MemoryJournal};
use kontor::store::journal::{
    Append, AppendError, Digest, Epoch, Fence, Journal, NewEvent, Record, StateSnapshot,
    TimerChange,
};
use kontor::store::row::{RowChange, Stored as _};
use kontor::store::versioned::{self, Row, VersionedRow};
use kontor::store::{Options, Store, product};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use tempfile::TempDir;

use crate::servers::database;

/// A journal with its shard claimed.
pub struct Fixture {
    pub journal: Arc<dyn Journal>,
    pub fence: Fence,
    store: Option<Store>,
    dir: Option<TempDir>,
    memory: Option<MemoryJournal>,
    url: Option<String>,
}

impl Fixture {
    pub async fn memory() -> Self {
        let memory = MemoryJournal::new(1);
        let journal: Arc<dyn Journal> = Arc::new(memory.clone());
        let fence = claim(journal.as_ref(), "test").await;
        Self { journal, fence, store: None, dir: None, memory: Some(memory), url: None }
    }

    pub async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &Options::default()).await.unwrap();
        let journal = store.journal();
        let fence = claim(journal.as_ref(), "test").await;
        Self { journal, fence, store: Some(store), dir: Some(dir), memory: None, url: None }
    }

    /// In PostgreSQL, with as many shards as the suite knows of.
    pub async fn postgres() -> Self {
        let options = Options { shards: 1, ..Options::default() };
        let url = database();
        let store = Store::connect(&url.as_str().into(), &options).await.unwrap();
        let journal = store.journal();
        let fence = claim(journal.as_ref(), "test").await;
        Self { journal, fence, store: Some(store), dir: None, memory: None, url: Some(url) }
    }

    pub async fn append(&self, batch: &[Append]) -> Result<Vec<Record>, AppendError> {
        self.journal.append(&[self.fence], batch).await
    }

    pub async fn all(&self) -> Vec<Record> {
        self.journal.read_shard(0, 0, 1_000_000).await.unwrap()
    }

    /// The digests of all events.
    async fn digests(&self) -> Vec<Option<Digest>> {
        let events = self.journal.read_chain(0, 0, 1_000_000).await.unwrap();
        events.into_iter().map(|event| event.digest).collect()
    }

    async fn row<T: VersionedRow>(&self, key: &T::Key) -> Option<Row<T>> {
        match (&self.store, &self.memory) {
            (Some(store), _) => versioned::find(store, key).await.unwrap(),
            (None, Some(memory)) => {
                let found = memory.find_row(T::table(), &[key.to_value()]);
                found.map(|found| Row::decode(&found).unwrap())
            }
            (None, None) => None,
        }
    }

    /// Makes the table of [`Zone`]. Memory needs none.
    async fn make_zones(&self) {
        let columns = "code TEXT NOT NULL PRIMARY KEY, note TEXT, fee BIGINT NOT NULL, \
                       open BOOLEAN NOT NULL, seal BYTEA NOT NULL, version BIGINT NOT NULL, \
                       updated_at BIGINT NOT NULL";
        self.sql(&format!("CREATE TABLE zone ({columns})")).await;
    }

    /// The store. Memory has none.
    pub fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Whether it is in PostgreSQL.
    pub fn is_shared(&self) -> bool {
        self.url.is_some()
    }

    /// Runs a statement on the database. Memory has none.
    pub async fn sql(&self, text: &str) {
        self.try_sql(text).await.unwrap();
    }

    pub async fn try_sql(&self, text: &str) -> Result<(), sqlx::Error> {
        let text = AssertSqlSafe(text.to_owned());
        if let Some(dir) = &self.dir {
            let options = SqliteConnectOptions::new().filename(dir.path().join("kontor.db"));
            let mut connection = options.connect().await.unwrap();
            sqlx::query(text).execute(&mut connection).await?;
            connection.close().await?;
        } else if let Some(url) = &self.url {
            let mut connection = PgConnection::connect(url).await.unwrap();
            sqlx::query(text).execute(&mut connection).await?;
            connection.close().await?;
        }
        Ok(())
    }
}

/// A row with a version that kontor does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    code: String,
    note: Option<String>,
    fee: i64,
    open: bool,
    seal: Vec<u8>,
}

impl Versioned for Zone {
    const PREFIX: &'static str = "zone";
    const NAME: &'static str = "delivery_zone";
    const PLURAL: &'static str = "zones";
    const PUT: &'static str = "put_zone";

    type Key = String;

    fn key(&self) -> &String {
        &self.code
    }
}

kontor::versioned_row! { Zone in "zone", key(code) { code, note, fee, open, seal } }

pub fn zone(code: &str, fee: i64, version: i64) -> Row<Zone> {
    let note = (fee > 0).then(|| format!("{fee} \"§\""));
    let value = Zone { code: code.to_owned(), note, fee, open: fee > 5, seal: vec![0, 255] };
    Row { value, version, updated_at: at(7) }
}

/// Claims shard 0 with a lease that is over at once, so that anybody may claim it next.
pub async fn claim(journal: &dyn Journal, owner: &str) -> Fence {
    journal.claim(&[0], owner, Span::from_secs(0)).await.unwrap()[0]
}

pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// An append of `count` events.
pub fn append(entity: &str, after_seq: i64, count: usize) -> Append {
    let event = NewEvent { kind: "happened", version: 1, data: r#"{"n":1}"#.into() };
    Append {
        entity: EntityId::new(entity),
        after_seq,
        events: vec![event; count],
        at: at(1_000),
        cause: r#"{"by":"test","cmd":"try"}"#.into(),
        timer: None,
        rows: Vec::new(),
    }
}

fn with_timer(append: Append, timer: TimerChange) -> Append {
    Append { timer: Some(timer), ..append }
}

pub fn product_row(sku: &str, version: i64) -> product::Row {
    let product = Product {
        sku: sku.parse().unwrap(),
        name: format!("Product {sku}"),
        description: String::new(),
        category: Some("things".to_owned()),
        prices: BTreeMap::from([(Currency::GBP, UnitPrice::from_minor(250).unwrap())]),
        tax_rate: TaxRate::parse("0.2").unwrap(),
        active: true,
        restock_at: None,
    };
    product::Row { value: product, version, updated_at: at(7) }
}

async fn a_record_reads_as_it_was_appended(fixture: Fixture) {
    let mut batch = vec![append("cart_1", 0, 2), append("sku_x", 0, 1)];
    batch[0].events[1] = NewEvent { kind: "renamed", version: 3, data: r#"{"ü":"€"}"#.into() };
    let appended = fixture.append(&batch).await.unwrap();
    assert_eq!(appended, fixture.all().await);
    let second = &appended[1];
    assert_eq!((second.pos, second.seq, &*second.kind, second.version), (2, 2, "renamed", 3));
    assert_eq!(second.cause().command, "try");
    assert_eq!(appended[2].entity.as_str(), "sku_x");
    assert_eq!(appended[2].pos, 3);
}

async fn a_stale_epoch_is_refused(fixture: Fixture) {
    fixture.append(&[append("cart_1", 0, 1)]).await.unwrap();
    let newer = claim(fixture.journal.as_ref(), "another").await;
    assert!(newer.epoch > fixture.fence.epoch);
    let refused = fixture.append(&[append("cart_1", 1, 1)]).await;
    assert_eq!(refused, Err(AppendError::StaleEpoch { shard: 0 }));
    assert_eq!(fixture.journal.last_pos(0).await.unwrap(), 1);
    fixture.journal.append(&[newer], &[append("cart_1", 1, 1)]).await.unwrap();
    for fences in [vec![], vec![Fence { shard: 9, ..newer }]] {
        let unfenced = fixture.journal.append(&fences, &[append("cart_1", 2, 1)]).await;
        assert_eq!(unfenced, Err(AppendError::StaleEpoch { shard: 0 }));
    }
    assert!(fixture.journal.claim(&[9], "test", Span::from_secs(1)).await.is_err());
}

async fn a_lease_keeps_others_out_until_it_is_given_back(fixture: Fixture) {
    let (journal, long) = (&fixture.journal, Span::from_secs(3_600));
    let mine = journal.claim(&[0], "one", long).await.unwrap();
    assert_eq!(mine.len(), 1);
    assert_eq!(journal.claim(&[0], "two", long).await.unwrap(), []);
    assert_eq!(journal.renew(&mine, long).await.unwrap(), mine);
    // The same owner again, as after a restart: the epoch grows, the old one has nothing left.
    let again = journal.claim(&[0], "one", long).await.unwrap();
    assert!(again[0].epoch > mine[0].epoch);
    assert_eq!(journal.renew(&mine, long).await.unwrap(), []);
    journal.release(&mine).await.unwrap();
    assert_eq!(journal.claim(&[0], "two", long).await.unwrap(), [], "not its to give back");
    journal.release(&again).await.unwrap();
    assert_eq!(journal.renew(&again, long).await.unwrap(), []);
    let taken = journal.claim(&[0], "two", Span::from_secs(0)).await.unwrap();
    assert!(taken[0].epoch > again[0].epoch);
    assert_eq!(journal.renew(&taken, long).await.unwrap(), [], "its lease was over");
    assert_eq!(journal.claim(&[0], "three", long).await.unwrap().len(), 1);
}

async fn one_bad_entity_spoils_its_batch(fixture: Fixture) {
    fixture.append(&[append("cart_1", 0, 2)]).await.unwrap();
    for (what, bad) in [
        ("stands there", append("cart_1", 1, 1)),
        ("from the beginning", append("cart_1", 0, 1)),
        ("a gap", append("cart_1", 3, 1)),
        ("a gap at the start", append("cart_9", 1, 1)),
        ("no events, behind", with_timer(append("cart_1", 1, 0), TimerChange::Clear)),
        ("no events, ahead", with_timer(append("cart_1", 5, 0), TimerChange::Clear)),
    ] {
        let batch = [append("cart_2", 0, 1), bad, append("cart_3", 0, 1)];
        assert_eq!(fixture.append(&batch).await, Err(AppendError::Conflict), "{what}");
        assert_eq!(fixture.all().await.len(), 2, "{what}");
    }
    let written = fixture.append(&[append("cart_2", 0, 1)]).await.unwrap();
    assert_eq!(written[0].pos, 3, "a refused batch takes no positions");
}

async fn one_batch_may_hold_a_whole_pipeline(fixture: Fixture) {
    let batch: Vec<Append> = (0..700).map(|seq| append("sku_hot", seq, 1)).collect();
    fixture.append(&batch).await.unwrap();
    let read = fixture.journal.read_entity(&EntityId::new("sku_hot"), 0, 1_000).await.unwrap();
    assert_eq!(read.len(), 700);
    assert!(read.iter().zip(1..).all(|(record, n)| record.seq == n && record.pos == n));
    assert!(fixture.append(&[]).await.unwrap().is_empty());
}

async fn a_gap_is_refused_however_many_entities_a_batch_has(fixture: Fixture) {
    let all = |after| -> Vec<Append> {
        (0..900).map(|nth| append(&format!("cart_{nth}"), after, 1)).collect()
    };
    fixture.append(&all(0)).await.unwrap();
    for behind_a_gap in [0, 23, 24, 767, 768, 899] {
        let mut batch = all(1);
        batch[behind_a_gap].after_seq = 2;
        assert_eq!(fixture.append(&batch).await, Err(AppendError::Conflict), "{behind_a_gap}");
    }
    assert_eq!(fixture.append(&all(1)).await.unwrap().len(), 900);
    assert_eq!(fixture.all().await.len(), 1_800);
}

async fn positions_are_dense_under_concurrent_writers(fixture: Fixture) {
    let writers = (0..8).map(|writer| {
        let journal = Arc::clone(&fixture.journal);
        let fence = fixture.fence;
        tokio::spawn(async move {
            for seq in 0..20 {
                let batch = [append(&format!("cart_{writer}"), seq, 1)];
                journal.append(&[fence], &batch).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let all = fixture.all().await;
    assert_eq!(all.len(), 160);
    assert!(all.iter().zip(1..).all(|(record, pos)| record.pos == pos));
    assert_eq!(fixture.journal.last_pos(0).await.unwrap(), 160);
}

async fn timers_go_with_their_append(fixture: Fixture) {
    let set =
        |entity: &str, after, due| with_timer(append(entity, after, 1), TimerChange::Set(at(due)));
    fixture
        .append(&[set("cart_2", 0, 50), set("cart_1", 0, 70), set("ord_1", 0, 60)])
        .await
        .unwrap();
    let due = fixture.journal.due_timers(0, at(65), None, 10).await.unwrap();
    let due: Vec<&str> = due.iter().map(|timer| timer.entity.as_str()).collect();
    assert_eq!(due, ["cart_2", "ord_1"], "the earliest first, none before its time");

    // The last word of a batch counts; a refused batch says nothing.
    fixture.append(&[set("cart_1", 1, 10), set("cart_1", 2, 40)]).await.unwrap();
    fixture.append(&[with_timer(append("cart_2", 1, 0), TimerChange::Clear)]).await.unwrap();
    let mixed = [
        with_timer(append("sku_1", 0, 0), TimerChange::Set(at(1))),
        append("sku_1", 0, 2),
        with_timer(append("sku_1", 2, 0), TimerChange::Clear),
    ];
    fixture.append(&mixed).await.unwrap();
    let refused = fixture.append(&[set("ord_1", 1, 1), set("ord_1", 7, 1)]).await;
    assert_eq!(refused, Err(AppendError::Conflict));
    let due = fixture.journal.due_timers(0, at(1_000), None, 10).await.unwrap();
    let due: Vec<_> = due.iter().map(|timer| (timer.entity.as_str(), timer.due_at)).collect();
    assert_eq!(due, [("cart_1", at(40)), ("ord_1", at(60))]);
    assert_eq!(fixture.journal.due_timers(0, at(1_000), None, 1).await.unwrap().len(), 1);
    fixture.append(&[set("sku_9", 0, 40), set("sku_8", 0, 40)]).await.unwrap();
    let (mut after, mut all) = (None, Vec::new());
    while let Some(next) = {
        let page = fixture.journal.due_timers(0, at(1_000), after.as_ref(), 1).await.unwrap();
        page.first().cloned()
    } {
        all.push(next.entity.to_string());
        after = Some(next);
    }
    assert_eq!(all, ["cart_1", "sku_8", "sku_9", "ord_1"]);
    assert_eq!(fixture.journal.due_timers(3, at(1_000), None, 9).await.unwrap(), []);
}

async fn timers_are_listed_by_prefix(fixture: Fixture) {
    let names = ["ord_1", "ord_2", "ord_3", "orders_1", "cart_1", "sku_1"];
    let batch: Vec<Append> =
        names.iter().map(|name| with_timer(append(name, 0, 1), TimerChange::Set(at(5)))).collect();
    fixture.append(&batch).await.unwrap();
    let first = fixture.journal.timers_of(0, "ord_", None, 2).await.unwrap();
    assert_eq!(first.iter().map(|t| t.entity.as_str()).collect::<Vec<_>>(), ["ord_1", "ord_2"]);
    let rest = fixture.journal.timers_of(0, "ord_", Some(&first[1].entity), 2).await.unwrap();
    assert_eq!(rest.iter().map(|t| t.entity.as_str()).collect::<Vec<_>>(), ["ord_3"]);
}

async fn many_timers_fit_one_batch(fixture: Fixture) {
    let name = |n: i64| format!("cart_{n:04}");
    let set = |n: i64| with_timer(append(&name(n), 0, 1), TimerChange::Set(at(n)));
    fixture.append(&(0..600).map(set).collect::<Vec<_>>()).await.unwrap();
    let clear = |n: i64| with_timer(append(&name(n), 1, 1), TimerChange::Clear);
    fixture.append(&(0..597).map(clear).collect::<Vec<_>>()).await.unwrap();
    let left = fixture.journal.due_timers(0, at(10_000), None, 1_000).await.unwrap();
    assert_eq!(left.len(), 3);
    assert_eq!(left[0].entity.as_str(), name(597));
}

async fn the_newest_snapshot_wins(fixture: Fixture) {
    let entity = EntityId::new("sku_1");
    let snapshot = |seq, state_version, data: &str| StateSnapshot {
        entity: entity.clone(),
        seq,
        state_version,
        data: data.to_owned(),
    };
    assert_eq!(fixture.journal.snapshot(&entity).await.unwrap(), None);
    fixture.journal.put_snapshot(snapshot(200, 1, "{}")).await.unwrap();
    fixture.journal.put_snapshot(snapshot(100, 1, "old")).await.unwrap();
    assert_eq!(fixture.journal.snapshot(&entity).await.unwrap(), Some(snapshot(200, 1, "{}")));
    fixture.journal.put_snapshot(snapshot(200, 2, "[]")).await.unwrap();
    assert_eq!(fixture.journal.snapshot(&entity).await.unwrap(), Some(snapshot(200, 2, "[]")));
}

async fn a_product_and_its_event_are_one(fixture: Fixture) {
    let change = |after_seq, version| Append {
        rows: vec![product_row("A1", version).change()],
        ..append("product_A1", after_seq, 1)
    };
    let sku: Sku = "A1".parse().unwrap();
    fixture.append(&[change(0, 1)]).await.unwrap();
    assert_eq!(fixture.row::<Product>(&sku).await, Some(product_row("A1", 1)));
    for bad in [change(1, 1), change(1, 3), change(0, 2)] {
        let version = bad.rows[0].version();
        assert_eq!(fixture.append(&[bad]).await, Err(AppendError::Conflict), "{version:?}");
        assert_eq!(fixture.all().await.len(), 1);
        assert_eq!(fixture.row::<Product>(&sku).await, Some(product_row("A1", 1)));
    }
    let mut renamed = product_row("A1", 2);
    renamed.value.name = "New".to_owned();
    let renamed = Append { rows: vec![renamed.change()], ..append("product_A1", 1, 1) };
    fixture.append(&[renamed, change(2, 3)]).await.unwrap();
    assert_eq!(fixture.row::<Product>(&sku).await, Some(product_row("A1", 3)));
}

/// What stands in a fixture: how many events, and the rows of two tables.
async fn stands(fixture: &Fixture) -> (usize, Vec<Option<Row<Zone>>>, Option<product::Row>) {
    let mut zones = Vec::new();
    for code in ["north", "south"] {
        zones.push(fixture.row::<Zone>(&code.to_owned()).await);
    }
    let product = fixture.row::<Product>(&"A1".parse().unwrap()).await;
    (fixture.all().await.len(), zones, product)
}

async fn rows_of_one_append_are_written_all_or_none(fixture: Fixture) {
    fixture.make_zones().await;
    let rows =
        |seq: i64, rows: &[RowChange]| Append { rows: rows.to_vec(), ..append("zone_all", seq, 1) };
    let zone_change = |code, fee, version| zone(code, fee, version).change();
    let product = |version| product_row("A1", version).change();

    // Two rows of one table, and two tables.
    let two = rows(0, &[zone_change("north", 9, 1), zone_change("south", 0, 1)]);
    fixture.append(&[two]).await.unwrap();
    fixture.append(&[rows(1, &[zone_change("north", 2, 2), product(1)])]).await.unwrap();
    let wanted = vec![Some(zone("north", 2, 2)), Some(zone("south", 0, 1))];
    let wanted = (2, wanted, Some(product_row("A1", 1)));
    assert_eq!(stands(&fixture).await, wanted);

    // One that is stale, ahead or there already spoils all of its batch, whichever table is first.
    for bad in [
        vec![zone_change("north", 3, 3), product(1)],
        vec![product(2), zone_change("north", 3, 2)],
        vec![product(2), zone_change("south", 3, 3)],
        vec![zone_change("south", 3, 2), zone_change("south", 4, 2)],
        vec![zone_change("north", 3, 3), zone_change("west", 1, 2)],
    ] {
        let batch = [append("cart_1", 0, 1), rows(2, &bad), append("cart_2", 0, 1)];
        assert_eq!(fixture.append(&batch).await, Err(AppendError::Conflict), "{bad:?}");
        assert_eq!(stands(&fixture).await, wanted, "{bad:?}");
    }

    // The same row twice, in one append and in two of a batch.
    let twice = rows(2, &[zone_change("south", 6, 2), zone_change("south", 7, 3)]);
    fixture.append(&[twice, rows(3, &[zone_change("south", 8, 4)])]).await.unwrap();
    assert_eq!(stands(&fixture).await.1[1], Some(zone("south", 8, 4)));
    if let Some(store) = &fixture.store {
        let behind = versioned::list_behind::<Zone>(store, Some(&"north".to_owned()), 9).await;
        assert_eq!(behind.unwrap(), [zone("south", 8, 4)]);
    }
}

async fn reads_have_limits(fixture: Fixture) {
    fixture.append(&[append("cart_1", 0, 5), append("cart_2", 0, 5)]).await.unwrap();
    let entity = EntityId::new("cart_2");
    let seqs = |records: Vec<Record>| records.iter().map(|r| r.seq).collect::<Vec<_>>();
    assert_eq!(seqs(fixture.journal.read_entity(&entity, 0, 2).await.unwrap()), [1, 2]);
    assert_eq!(seqs(fixture.journal.read_entity(&entity, 2, 9).await.unwrap()), [3, 4, 5]);
    assert_eq!(
        seqs(fixture.journal.read_entity(&EntityId::new("no_1"), 0, 9).await.unwrap()),
        [0; 0]
    );
    let upto = [("cart_2", 2), ("cart_1", 9), ("no_1", 5)];
    let upto = upto.map(|(entity, seq)| (EntityId::new(entity), seq));
    let read = fixture.journal.read_entities(&upto).await.unwrap();
    let read: Vec<(&str, i64)> = read.iter().map(|r| (r.entity.as_str(), r.seq)).collect();
    let one = (1..=5).map(|seq| ("cart_1", seq));
    assert_eq!(read, one.chain([("cart_2", 1), ("cart_2", 2)]).collect::<Vec<_>>());
    let pos = |records: Vec<Record>| records.iter().map(|r| r.pos).collect::<Vec<_>>();
    assert_eq!(pos(fixture.journal.read_shard(0, 4, 3).await.unwrap()), [5, 6, 7]);
    assert_eq!(pos(fixture.journal.read_shard(0, 10, 3).await.unwrap()), [0; 0]);
}

/// Runs each test on each implementation.
macro_rules! conformance {
    ($($test:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Fixture::memory().await).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Fixture::sqlite().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Fixture::postgres().await).await;
            })+
        }
    };
}

conformance!(
    a_record_reads_as_it_was_appended,
    a_stale_epoch_is_refused,
    a_lease_keeps_others_out_until_it_is_given_back,
    one_bad_entity_spoils_its_batch,
    one_batch_may_hold_a_whole_pipeline,
    a_gap_is_refused_however_many_entities_a_batch_has,
    positions_are_dense_under_concurrent_writers,
    timers_go_with_their_append,
    timers_are_listed_by_prefix,
    many_timers_fit_one_batch,
    the_newest_snapshot_wins,
    a_product_and_its_event_are_one,
    rows_of_one_append_are_written_all_or_none,
    reads_have_limits,
);

#[tokio::test]
async fn an_event_that_a_trigger_leaves_out_fails_its_batch_in_sqlite() {
    let fixture = Fixture::sqlite().await;
    let leaves_out = "CREATE TRIGGER thief BEFORE INSERT ON event WHEN new.seq = 2 \
                      BEGIN SELECT RAISE(IGNORE); END";
    fixture.sql(leaves_out).await;
    let refused = fixture.append(&[append("cart_1", 0, 1), append("cart_2", 0, 3)]).await;
    let Err(AppendError::Failed(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("3 of 4 events were inserted"), "{why}");
    assert_eq!(fixture.all().await, []);
    fixture.append(&[append("cart_1", 0, 1)]).await.unwrap();
}

#[tokio::test]
async fn unknown_append_is_written_or_not() {
    let fixture = Fixture::memory().await;
    let memory = fixture.memory.clone().unwrap();
    memory.inject(AppendFault::UnknownUnwritten);
    memory.inject(AppendFault::UnknownWritten);
    memory.inject(AppendFault::Refuse(AppendError::Failed("disk full".to_owned())));
    for (errors, written) in [("unwritten", 0), ("written", 1)] {
        let outcome = fixture.append(&[append("cart_1", 0, 1)]).await;
        assert!(matches!(outcome, Err(AppendError::Unknown(_))), "{errors}: {outcome:?}");
        assert_eq!(fixture.all().await.len(), written, "{errors}");
    }
    let refused = fixture.append(&[append("cart_1", 1, 1)]).await;
    assert_eq!(refused, Err(AppendError::Failed("disk full".to_owned())));
    fixture.append(&[append("cart_1", 1, 1)]).await.unwrap();
}

#[tokio::test]
async fn a_store_dropped_without_closing_has_all_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut seq = 0;
    for round in 1..=3 {
        let store = Store::open(dir.path(), &Options::default()).await.unwrap();
        let journal = store.journal();
        let fence = claim(journal.as_ref(), "test").await;
        assert_eq!(fence.epoch, Epoch(round));
        assert_eq!(journal.last_pos(0).await.unwrap(), seq);
        journal.append(&[fence], &[append("cart_1", seq, 10)]).await.unwrap();
        seq += 10;
    }
}

#[tokio::test]
async fn cancelled_append_leaves_the_connection_usable() {
    let fixture = Fixture::sqlite().await;
    for _ in 0..20 {
        let batch: Vec<Append> = (0..300).map(|n| append(&format!("cart_{n}"), 7, 1)).collect();
        let attempt = fixture.append(&batch);
        // Polled once or not to its end: dropped wherever it stands.
        let _either = tokio::time::timeout(std::time::Duration::from_micros(300), attempt).await;
    }
    let written = fixture.append(&[append("cart_1", 0, 1)]).await.unwrap();
    assert_eq!(written[0].pos, 1);
}

#[tokio::test]
async fn broken_write_is_rolled_back_and_the_next_succeeds() {
    let fixture = Fixture::sqlite().await;
    let dir = fixture.dir.as_ref().unwrap();
    let options = SqliteConnectOptions::new().filename(dir.path().join("kontor.db"));
    let mut saboteur = options.connect().await.unwrap();
    sqlx::query("ALTER TABLE timer RENAME TO hidden").execute(&mut saboteur).await.unwrap();
    let batch = [with_timer(append("cart_1", 0, 3), TimerChange::Set(at(1)))];
    for _ in 0..3 {
        let outcome = fixture.append(&batch).await;
        assert!(matches!(outcome, Err(AppendError::Failed(_))), "{outcome:?}");
    }
    assert_eq!(fixture.all().await, []);
    sqlx::query("ALTER TABLE hidden RENAME TO timer").execute(&mut saboteur).await.unwrap();
    saboteur.close().await.unwrap();
    assert_eq!(fixture.append(&batch).await.unwrap()[0].pos, 1);
}

#[tokio::test]
async fn events_are_never_changed_or_deleted() {
    let fixture = Fixture::sqlite().await;
    fixture.append(&[append("cart_1", 0, 1)]).await.unwrap();
    let dir = fixture.dir.as_ref().unwrap();
    let options = SqliteConnectOptions::new().filename(dir.path().join("kontor.db"));
    let mut vandal = options.connect().await.unwrap();
    for text in ["DELETE FROM event", "UPDATE event SET data = '{}'"] {
        assert!(sqlx::query(text).execute(&mut vandal).await.is_err(), "{text}");
    }
    assert_eq!(fixture.all().await.len(), 1);
}

/// One step of the twin test: which entities append after which seq.
type Step = Vec<(u8, i64, u8)>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_journals_behave_the_same(
        steps in prop::collection::vec(
            prop::collection::vec((0_u8..3, 0_i64..5, 0_u8..3), 1..4),
            1..20,
        )
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(twins(steps));
    }
}

async fn twins(steps: Vec<Step>) {
    let memory = Fixture::memory().await;
    let others = [Fixture::sqlite().await, Fixture::postgres().await];
    for step in steps {
        let batch: Vec<Append> = step
            .iter()
            .map(|(entity, after, count)| {
                let timer = match after % 3 {
                    0 => None,
                    1 => Some(TimerChange::Set(at(after * 10))),
                    _ => Some(TimerChange::Clear),
                };
                Append { timer, ..append(&format!("cart_{entity}"), *after, usize::from(*count)) }
            })
            .collect();
        let answer = memory.append(&batch).await;
        for other in &others {
            assert_eq!(answer, other.append(&batch).await);
        }
    }
    let until = at(1_000);
    for other in others {
        assert_eq!(memory.all().await, other.all().await);
        assert_eq!(memory.digests().await, other.digests().await);
        assert_eq!(
            memory.journal.due_timers(0, until, None, 100).await.unwrap(),
            other.journal.due_timers(0, until, None, 100).await.unwrap()
        );
        if let Some(store) = &other.store {
            store.close().await;
        }
    }
}
