//! What a store in PostgreSQL has that one in a folder has not: many shards, others at the same
//! database, and a server that can be away. The suite and the story that both share are in
//! `journal.rs` and `store.rs`. Who stops a server has other threads to go on with what was begun with
//! it: a server that stops waits for whoever has connected and says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kontor::domain::entity::EntityId;
use kontor::domain::time::Span;
use kontor::store::journal::{Append, AppendError, Fence, Journal, NewEvent, TimerChange};
use kontor::store::maintenance::Check;
use kontor::store::projection::{Cursor, ProjectionBatch};
use kontor::store::{DatabaseUrl, Error, OpenError, Options, Store};
use kontor_lab::cluster::cut::{ProxyMode, TcpProxy};
use kontor_lab::cluster::servers::{Stop, local};
use sqlx::Connection as _;

use crate::journal::{append, at};
use crate::servers::{database, postgres};

const HOUR: Span = Span::from_secs(3_600);

async fn connect(url: &str) -> Store {
    Store::connect(&url.into(), &Options::default()).await.unwrap()
}

async fn claim_all(journal: &dyn Journal, owner: &str) -> Vec<Fence> {
    let shards: Vec<u16> = (0..journal.shards()).collect();
    journal.claim(&shards, owner, HOUR).await.unwrap()
}

async fn sql(url: &str, text: &'static str) -> Result<(), sqlx::Error> {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    let done = sqlx::query(text).execute(&mut connection).await;
    connection.close().await.unwrap();
    done.map(drop)
}

/// The columns of all tables, by table.
type Tables = BTreeMap<String, BTreeSet<String>>;

fn tables(columns: Vec<(String, String)>) -> Tables {
    let mut tables = Tables::new();
    for (table, column) in columns {
        tables.entry(table).or_default().insert(column);
    }
    tables.remove("_sqlx_migrations");
    tables
}

#[tokio::test]
async fn both_databases_have_the_same_migrations_tables_and_columns() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let names = |dialect: &str| -> BTreeSet<_> {
        let files = std::fs::read_dir(root.join(dialect)).unwrap();
        files.map(|file| file.unwrap().file_name()).collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));

    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path(), &Options::default()).await.unwrap().close().await;
    let file = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("kontor.db"));
    let mut sqlite = sqlx::ConnectOptions::connect(&file).await.unwrap();
    let in_sqlite = sqlx::query_as(
        "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c \
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
    );
    let mut in_sqlite = tables(in_sqlite.fetch_all(&mut sqlite).await.unwrap());
    // PostgreSQL's index of the texts of orders is no table.
    in_sqlite.retain(|name, _| !name.starts_with("order_search_"));
    assert!(in_sqlite.get_mut("order_search").unwrap().remove("nth"));
    let url = database();
    connect(&url).await.close().await;
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let in_postgres = sqlx::query_as(
        "SELECT table_name::TEXT, column_name::TEXT FROM information_schema.columns \
         WHERE table_schema = 'public'",
    );
    let in_postgres = tables(in_postgres.fetch_all(&mut connection).await.unwrap());
    assert_eq!(in_sqlite, in_postgres);

    let bytewise: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' \
         AND data_type = 'text' AND table_name <> '_sqlx_migrations' \
         AND collation_name IS DISTINCT FROM 'C'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(bytewise, 0, "texts are compared by their bytes");
}

#[tokio::test]
async fn a_batch_over_many_shards_has_dense_positions_in_each() {
    let url = database();
    let (store, other) = (connect(&url).await, connect(&url).await);
    let journal = store.journal();
    assert_eq!(journal.shards(), 64);
    let fences = claim_all(journal.as_ref(), "a").await;
    assert_eq!(fences.len(), 64);
    let names: Vec<String> = (0..200).map(|n| format!("cart_{n}")).collect();
    for round in 0..3 {
        let batch: Vec<Append> = names.iter().map(|name| append(name, round * 2, 2)).collect();
        let written = journal.append(&fences, &batch).await.unwrap();
        assert_eq!(written.len(), 400);
        let mut ends: BTreeMap<u16, i64> = BTreeMap::new();
        for record in &written {
            assert_eq!(record.shard, record.entity.shard(64));
            let end = ends.entry(record.shard).or_insert(record.pos - 1);
            assert_eq!(record.pos, *end + 1, "{record:?}");
            *end = record.pos;
        }
        assert!(ends.len() > 32);
        for (shard, end) in ends {
            assert_eq!(other.journal().last_pos(shard).await.unwrap(), end);
            let read = other.journal().read_shard(shard, 0, 1_000).await.unwrap();
            assert!(read.iter().zip(1..).all(|(record, pos)| record.pos == pos));
            assert!(read.iter().all(|record| record.intact));
            assert_eq!(read.len(), usize::try_from(end).unwrap());
        }
    }
    let shards = store.shards().await.unwrap();
    assert!(shards.iter().all(|shard| shard.last_pos == shard.max_pos && shard.owner == "a"));
    assert_eq!(store.check(Check::Full).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn stale_shard_refuses_its_whole_batch() {
    let url = database();
    let (one, two) = (connect(&url).await, connect(&url).await);
    let (one, two) = (one.journal(), two.journal());
    let old = one.claim(&(0..64).collect::<Vec<_>>(), "a", Span::from_millis(0)).await.unwrap();
    let batch: Vec<Append> = (0..200).map(|n| append(&format!("cart_{n}"), 0, 1)).collect();
    let stolen = batch[7].entity.shard(64);
    let new = two.claim(&[stolen], "b", HOUR).await.unwrap();
    assert_eq!(one.append(&old, &batch).await, Err(AppendError::StaleEpoch { shard: stolen }));
    for shard in 0..64 {
        assert_eq!(two.last_pos(shard).await.unwrap(), 0);
    }
    let others: Vec<Append> =
        batch.iter().filter(|it| it.entity.shard(64) != stolen).cloned().collect();
    assert_eq!(one.append(&old, &others).await.unwrap().len(), others.len());
    let theirs: Vec<Append> =
        batch.iter().filter(|it| it.entity.shard(64) == stolen).cloned().collect();
    assert_eq!(two.append(&new, &theirs).await.unwrap().len(), theirs.len());
    assert_eq!(two.renew(&old, HOUR).await.unwrap(), [], "their leases are over");
    let nowhere = Fence { shard: 64, ..old[0] };
    assert!(one.renew(&[nowhere], HOUR).await.is_err());
}

#[tokio::test]
async fn concurrent_claims_give_each_shard_one_owner() {
    let url = database();
    let first = connect(&url).await;
    let claims = (0..8).map(|n| {
        let url = url.clone();
        tokio::spawn(async move {
            let store = connect(&url).await;
            claim_all(store.journal().as_ref(), &format!("node{n}")).await
        })
    });
    let mut taken = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        taken.extend(claim.await.unwrap().into_iter().map(|fence| fence.shard));
    }
    taken.sort_unstable();
    assert_eq!(taken, (0..64).collect::<Vec<u16>>());
    assert!(first.shards().await.unwrap().iter().all(|shard| shard.epoch == 1));
}

#[tokio::test]
async fn lanes_of_two_nodes_never_deadlock() {
    let url = database();
    let journal = connect(&url).await.journal();
    let fences = claim_all(journal.as_ref(), "a").await;
    // Batches over the same shards, whose entities come in opposite orders.
    let writers = (0..4).map(|writer: i64| {
        let (journal, fences) = (journal.clone(), fences.clone());
        tokio::spawn(async move {
            for round in 0..20 {
                let mut batch: Vec<Append> =
                    (0..40).map(|n| append(&format!("cart_{writer}x{n}"), round, 1)).collect();
                if writer % 2 == 0 {
                    batch.reverse();
                }
                journal.append(&fences, &batch).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut all = 0;
    for shard in 0..64 {
        let read = journal.read_shard(shard, 0, 10_000).await.unwrap();
        assert!(read.iter().zip(1..).all(|(record, pos)| record.pos == pos));
        all += read.len();
    }
    assert_eq!(all, 4 * 20 * 40);
}

#[tokio::test]
async fn events_are_never_changed_or_deleted_and_damage_is_seen() {
    let url = database();
    let journal = connect(&url).await.journal();
    let fences = claim_all(journal.as_ref(), "a").await;
    journal.append(&fences, &[append("cart_1", 0, 2)]).await.unwrap();
    for text in ["DELETE FROM event", "UPDATE event SET data = '{}'", "TRUNCATE event"] {
        assert!(sql(&url, text).await.is_err(), "{text}");
    }
    sql(&url, "ALTER TABLE event DISABLE TRIGGER ALL").await.unwrap();
    sql(&url, "UPDATE event SET data = '{\"n\":9}' WHERE seq = 2").await.unwrap();
    let read = journal.read_entity(&EntityId::new("cart_1"), 0, 9).await.unwrap();
    assert_eq!(read.iter().map(|record| record.intact).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn database_contents_are_checked_before_use() {
    let url = database();
    let address: DatabaseUrl = url.as_str().into();
    let empty = Store::connect_beside(&address).await;
    assert!(matches!(empty, Err(OpenError::Empty(_))), "{empty:?}");
    connect(&url).await.close().await;
    Store::connect_beside(&address).await.unwrap().close().await;

    // The number of shards is kept.
    let other = Options { shards: 8, ..Options::default() };
    let store = Store::connect(&address, &other).await.unwrap();
    assert_eq!(store.journal().shards(), 64);
    store.close().await;

    sql(&url, "DELETE FROM _sqlx_migrations WHERE version > 6").await.unwrap();
    let older = Store::connect_beside(&address).await;
    assert!(matches!(older, Err(OpenError::Older { found: 6, .. })), "{older:?}");
    sql(
        &url,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', true, '', 0)",
    )
    .await
    .unwrap();
    for opened in
        [Store::connect(&address, &Options::default()).await, Store::connect_beside(&address).await]
    {
        assert!(matches!(opened, Err(OpenError::Newer { found: 9999, .. })), "{opened:?}");
    }

    let foreign = database();
    sql(&foreign, "CREATE TABLE invoices (id INTEGER)").await.unwrap();
    for opened in [
        Store::connect(&foreign.as_str().into(), &Options::default()).await,
        Store::connect_beside(&foreign.as_str().into()).await,
    ] {
        assert!(matches!(opened, Err(OpenError::Foreign(_))), "{opened:?}");
    }
    let count = sql(&foreign, "SELECT * FROM invoices").await;
    assert!(count.is_ok(), "it is left alone");
}

#[tokio::test]
async fn cursors_of_an_older_database_are_kept() {
    let (_, store) = of_one_projection().await;
    crate::store::goes_on(&store).await;
}

/// A database that was of one projection and is brought up to date; its address.
async fn of_one_projection() -> (String, Store) {
    let url = database();
    connect(&url).await.close().await;
    sql(&url, "DROP FUNCTION projection_moved, projection_reset, dead_letter_by_name CASCADE")
        .await
        .unwrap();
    for statement in crate::store::AS_ONE_PROJECTION {
        sql(&url, statement).await.unwrap();
    }
    // Later migrations let orders be made again; this is about the one alone.
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let migration = include_str!("../../migrations/postgres/0011_projections_by_name.sql");
    sqlx::raw_sql(migration).execute(&mut connection).await.unwrap();
    let store = connect(&url).await;
    (url, store)
}

/// Where a projection stands in the shards of which it has taken something.
async fn stands(store: &Store, name: &str) -> Vec<(u16, i64)> {
    let mut cursors = store.cursors(name).await.unwrap();
    cursors.retain(|(_, pos)| *pos > 0);
    cursors
}

/// Moves a cursor as this release does.
async fn moved(store: &Store, projection: &str, (shard, after, pos): (u16, i64, i64)) -> bool {
    let cursors = &[Cursor { shard, after, pos }];
    store
        .commit_projections(&[ProjectionBatch {
            projection,
            cursors,
            ..ProjectionBatch::default()
        }])
        .await
        .unwrap()
}

#[tokio::test]
async fn rolling_update_shares_cursors_between_releases() {
    let (url, store) = of_one_projection().await;
    let old = async |text| sql(&url, text).await.unwrap();

    // What a node of the release before moves; shard 1 had no events yet.
    old("UPDATE projection SET pos = 12 WHERE name = 'rows' AND shard = 0 AND pos = 7").await;
    old("INSERT INTO projection (name, shard, pos) VALUES ('rows', 1, 0) ON CONFLICT DO NOTHING")
        .await;
    old("UPDATE projection SET pos = 3 WHERE name = 'rows' AND shard = 1 AND pos = 0").await;
    for name in ["rows", "orders", "stock"] {
        assert_eq!(stands(&store, name).await, [(0, 12), (1, 3)], "{name}");
    }

    // It goes on where those of this release are, which is not further than either of them.
    assert!(moved(&store, "orders", (0, 12, 20)).await);
    assert_eq!(stands(&store, "rows").await, [(0, 12), (1, 3)]);
    assert!(moved(&store, "stock", (0, 12, 15)).await);
    assert!(moved(&store, "orders", (2, 0, 9)).await);
    assert_eq!(stands(&store, "rows").await, [(0, 15), (1, 3)]);
    assert!(moved(&store, "stock", (2, 0, 9)).await);
    assert_eq!(stands(&store, "rows").await, [(0, 15), (1, 3), (2, 9)]);

    // It writes over orders as they were at 18 what they were at 20: they are made again from there.
    old(
        "UPDATE projection SET pos = c.pos FROM (VALUES (0, 15, 18), (2, 9, 11)) AS c (s, a, pos) \
         WHERE name = 'rows' AND shard = c.s AND projection.pos = c.a",
    )
    .await;
    for name in ["rows", "orders", "stock"] {
        assert_eq!(stands(&store, name).await, [(0, 18), (1, 3), (2, 11)], "{name}");
    }
    old("INSERT INTO dead_letter (projection, shard, pos, entity, reason, at) \
         VALUES ('rows', 0, 16, 'ord_2', 'x', 1), ('rows', 0, 17, 'sku_b', 'x', 1) \
         ON CONFLICT (projection, shard, pos) DO UPDATE SET reason = excluded.reason")
    .await;
    let entity = EntityId::new("sku_b");
    assert_eq!(store.parked("stock", std::slice::from_ref(&entity)).await.unwrap(), [entity]);

    // Rows that one of them lets be made again.
    store.reset_projection("stock").await.unwrap();
    assert_eq!(stands(&store, "rows").await, []);
    assert_eq!(stands(&store, "orders").await, [(0, 18), (1, 3), (2, 11)]);
    assert!(moved(&store, "stock", (0, 0, 18)).await);
    assert_eq!(stands(&store, "rows").await, [(0, 18)]);
    old("DELETE FROM projection WHERE name = 'rows'").await;
    for name in ["rows", "orders", "stock"] {
        assert_eq!(stands(&store, name).await, [], "{name}");
    }
    assert_eq!(store.dead_letters(0, 10).await.unwrap(), []);
    for name in ["orders", "stock"] {
        assert!(moved(&store, name, (0, 0, 18)).await, "{name}");
    }
    assert_eq!(stands(&store, "rows").await, [(0, 18)]);
}

#[tokio::test]
async fn a_new_database_has_no_cursors_of_the_release_before() {
    let store = connect(&database()).await;
    for name in ["orders", "stock"] {
        assert!(moved(&store, name, (0, 0, 5)).await);
    }
    assert_eq!(store.cursors("rows").await.unwrap(), []);
}

#[tokio::test]
async fn unusable_database_error_hides_the_password() {
    let nobody = kontor_lab::cluster::servers::free_port().unwrap();
    let good = database();
    let no_database = good.replace("postgres@", "postgres:s3cret@").replace("/test", "/no_test");
    for (url, part) in [
        (format!("postgres://anna:s3cret@127.0.0.1:{nobody}/shop"), "check that it is running"),
        (no_database, "does not exist"),
        ("mysql://anna:s3cret@db/shop".to_owned(), "does not begin with postgres://"),
        ("postgres://anna:s3cret@db:port/shop".to_owned(), "invalid port"),
    ] {
        let error = Store::connect(&url.as_str().into(), &Options::default()).await.unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains(part), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[tokio::test]
async fn nodes_that_start_together_make_one_store() {
    let url = database();
    let starts = (0..4).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { connect(&url).await.shards().await.unwrap().len() })
    });
    for start in starts.collect::<Vec<_>>() {
        assert_eq!(start.await.unwrap(), 64);
    }
}

/// A batch that takes the server a moment.
fn large(seq: i64) -> Vec<Append> {
    (0..400).map(|n| append(&format!("cart_{n}"), seq, 3)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unanswered_commit_is_unknown_and_unsent_one_failed() {
    let mut own = postgres();
    let url = own.server.create_database("shop").unwrap();
    let line = TcpProxy::to(local(own.server.port())).await.unwrap();
    let store = connect(&line.instead(&url, local(own.server.port()))).await;
    let journal = store.journal();
    let fences = claim_all(journal.as_ref(), "a").await;
    journal.append(&fences, &large(0)).await.unwrap();

    // The answer does not come, and then the connection is gone.
    line.set(ProxyMode::Cut);
    let batch = large(3);
    let (outcome, ()) = tokio::join!(journal.append(&fences, &batch), async {
        let direct = connect(&url).await;
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            direct.setting("nothing").await.unwrap();
        }
        line.set(ProxyMode::Reset);
    });
    assert!(matches!(outcome, Err(AppendError::Unknown(_))), "{outcome:?}");

    own.server.stop(Stop::Fast).unwrap();
    let outcome = journal.append(&fences, &large(6)).await;
    assert!(matches!(outcome, Err(AppendError::Failed(_))), "{outcome:?}");
    assert!(store.put_setting("a", "b").await.is_err());

    // The server is back, and so is the line: nothing has to be opened again.
    own.server.start_again().unwrap();
    line.set(ProxyMode::Whole);
    let seq = journal.read_entity(&EntityId::new("cart_1"), 0, 100).await.unwrap().len();
    assert!(seq == 3 || seq == 6, "whole or not at all: {seq}");
    let written = journal.append(&fences, &large(i64::try_from(seq).unwrap())).await.unwrap();
    assert_eq!(written.len(), 1_200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_atomic_when_the_server_stops() {
    let mut own = postgres();
    let url = own.server.create_database("shop").unwrap();
    let store = connect(&url).await;
    let journal = store.journal();
    let fences = claim_all(journal.as_ref(), "a").await;
    for how in [Stop::Immediate, Stop::Fast, Stop::Kill] {
        let writer = {
            let (journal, fences) = (journal.clone(), fences.clone());
            let start = journal.read_entity(&EntityId::new("cart_1"), 0, 10_000).await.unwrap();
            let mut seq = i64::try_from(start.len()).unwrap();
            tokio::spawn(async move {
                loop {
                    match journal.append(&fences, &large(seq)).await {
                        Ok(_) => seq += 3,
                        Err(error) => return (seq, error),
                    }
                }
            })
        };
        while journal.last_pos(0).await.unwrap() == 0 {}
        own.server.stop(how).unwrap();
        let (seq, error) = writer.await.unwrap();
        assert!(
            matches!(error, AppendError::Unknown(_) | AppendError::Failed(_)),
            "{how:?}: {error:?}"
        );
        own.server.start_again().unwrap();
        let mut there = BTreeSet::new();
        for n in 0..400 {
            let entity = EntityId::new(&format!("cart_{n}"));
            there.insert(journal.read_entity(&entity, 0, 10_000).await.unwrap().len());
        }
        assert_eq!(there.len(), 1, "{how:?}: whole or not at all");
        let there = i64::try_from(there.pop_first().unwrap()).unwrap();
        assert!(there == seq || there == seq + 3, "{how:?}: {there} of {seq}, {error:?}");
        let known = matches!(error, AppendError::Failed(_));
        assert!(!known || there == seq, "{how:?}: what has failed is not there, {error:?}");
    }
}

#[tokio::test]
async fn silent_server_times_out() {
    let own = postgres();
    let url = own.server.create_database("shop").unwrap();
    let line = TcpProxy::to(local(own.server.port())).await.unwrap();
    let through = line.instead(&url, local(own.server.port()));
    let store = connect(&through).await;
    let journal = store.journal();
    let fences = claim_all(journal.as_ref(), "a").await;
    store.put_setting("a", "b").await.unwrap();
    journal.append(&fences, &large(0)).await.unwrap();
    line.set(ProxyMode::Cut);
    let (batch, address) = (large(3), through.as_str().into());
    let options = Options::default();
    let all = futures_util::future::join4(
        journal.append(&fences, &batch),
        store.setting("a"),
        store.put_setting("a", "c"),
        Store::connect(&address, &options),
    );
    // TCP itself would wait for a quarter of an hour.
    let given_up = tokio::time::timeout(Duration::from_secs(60), all).await;
    let (append, read, write, opened) = given_up.expect("somebody waits for ever");
    assert!(matches!(append, Err(AppendError::Unknown(_))), "{append:?}");
    assert!(matches!(read, Err(Error::Sql(_))), "{read:?}");
    assert!(matches!(write, Err(Error::Sql(_))), "{write:?}");
    assert!(matches!(opened, Err(OpenError::Unreachable { .. })), "{opened:?}");
    line.set(ProxyMode::Whole);
    assert!(store.setting("a").await.unwrap().is_some());
}

#[tokio::test]
async fn any_text_round_trips_in_postgres() {
    let url = database();
    let journal = connect(&url).await.journal();
    let fences = claim_all(journal.as_ref(), "a").await;
    let data = r#"{"text":"\u0000 {,} \" ' \\ NULL € 🦀"}"#;
    let mut odd = append("sku_a{\"b,c}", 0, 1);
    odd.events = vec![NewEvent { kind: "happened", version: 2, data: data.into() }];
    odd.cause = "NULL".into();
    odd.timer = Some(TimerChange::Set(at(5)));
    let written = journal.append(&fences, &[odd]).await.unwrap();
    let read = journal.read_entity(&written[0].entity, 0, 9).await.unwrap();
    assert_eq!(read, written);
    assert_eq!(&*read[0].data, data);
    let due = journal.due_timers(written[0].shard, at(9), None, 9).await.unwrap();
    assert_eq!(due[0].entity, written[0].entity);
}
