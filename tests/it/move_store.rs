//! `kontor move`: a shop goes from a data folder to PostgreSQL, and is whole there.

use std::collections::BTreeMap;
use std::sync::Arc;

use kontor::actors::read_models;
use kontor::store::relocate::MoveProgress;
use kontor::store::webhook::Parked;
use kontor::store::{DatabaseUrl, Options, Store};
use kontor::verify::verify;
use sqlx::Connection as _;
use tokio::sync::Notify;

use crate::journal::at;
use crate::process::kontor;
use crate::recipe::gift_card::actors::gift_card_rows::GiftCardRows;
use crate::recipe::{DELIVERY_ZONES, GIFT_CARDS};
use crate::servers::database;
use crate::verify::shop::Shop;

/// All events of a store by entity, without their places.
async fn events(store: &Store) -> BTreeMap<String, Vec<(i64, String)>> {
    let journal = store.journal();
    let mut all: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
    for shard in 0..journal.shards() {
        let records = journal.read_shard(shard, 0, 100_000).await.unwrap();
        assert!(records.iter().zip(1..).all(|(record, pos)| record.pos == pos), "dense");
        assert!(records.iter().all(|record| record.intact));
        for record in records {
            let of = all.entry(record.entity.to_string()).or_default();
            of.push((record.seq, record.data.to_string()));
        }
    }
    all
}

async fn timers(store: &Store) -> BTreeMap<String, i64> {
    let journal = store.journal();
    let mut all = BTreeMap::new();
    for shard in 0..journal.shards() {
        let due = journal.due_timers(shard, at(i64::MAX), None, 10_000).await.unwrap();
        all.extend(due.into_iter().map(|timer| (timer.entity.to_string(), timer.due_at.millis())));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moved_store_verifies_in_postgres() {
    let shop = Shop::open().await;
    shop.some_of_everything().await;
    shop.buy("mug", 1, "tok_timeout_lost", false).await;
    let (data, url) = (shop.data(), database());
    let to: DatabaseUrl = url.as_str().into();
    let moving = || {
        let mut command = kontor();
        command.args(["move", "--to", &url, "--shards", "16", "--json", "--data"]).arg(&data);
        let ended = command.output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let (code, in_use) = moving();
    assert!(code == Some(1) && in_use.contains("in use by process"), "{in_use}");
    let shop = shop.stop().await;

    let from = Store::open_existing(&data, &Options::default()).await.unwrap();
    let scopes = ["admin".to_owned()];
    let (_, key) = from.create_key("desk", &scopes, at(1)).await.unwrap();
    let parked = Parked {
        provider: "sandbox".to_owned(),
        notice_id: "n1".to_owned(),
        received_at: at(1),
        body: "{}".to_owned(),
        reason: "none".to_owned(),
        next_try_at: at(2),
    };
    assert!(from.park_webhook(&parked).await.unwrap());
    let secret = from.secret("cookie").await.unwrap();
    let history = from.history().await.unwrap();
    assert_eq!(from.sign_heads("desk", at(1)).await.unwrap().signed.len(), 1);

    // A move that breaks off leaves nothing there.
    let options = Options { shards: 16, ..Options::default() };
    let target = Store::connect(&to, &options).await.unwrap();
    let begun = Arc::new(Notify::new());
    let lists = read_models::all().tables();
    let told = |moved: MoveProgress<'_>| {
        if moved.table == "timer" {
            begun.notify_one()
        }
    };
    tokio::select! {
        biased;
        () = begun.notified() => {}
        moved = from.move_to(&target, &lists, told) => panic!("{moved:?}"),
    }
    target.close().await;
    let (before, under_way) = (events(&from).await, timers(&from).await);
    assert!(!under_way.is_empty());
    from.close().await;

    let (code, told) = moving();
    assert_eq!(code, Some(0), "{told}");
    let there = Store::connect_beside(&to).await.unwrap();
    assert_eq!(there.journal().shards(), 16);
    assert_eq!(events(&there).await, before);
    assert_eq!(timers(&there).await, under_way);
    assert!(there.find_key(key.reveal()).await.unwrap().is_some());
    assert_eq!(there.secret("cookie").await.unwrap(), secret);
    let webhooks = there.parked_webhooks(0, 9).await.unwrap();
    assert_eq!(webhooks[0].webhook, parked);
    let another = Parked { notice_id: "n2".to_owned(), ..parked };
    assert!(there.park_webhook(&another).await.unwrap(), "ids go on behind those that came along");
    let report = verify(&there, Some(&shop.provider), |_| {}).await.unwrap();
    assert!(report.ok && report.checked.order_rows > 0, "{report}");
    // Positions are others there: what was signed of the folder does not hold, and a new history begins.
    assert_eq!(there.current_history().await.unwrap(), None);
    assert_ne!(there.history().await.unwrap(), history);
    let owner = there.shards().await.unwrap()[0].owner.clone();
    assert!(there.sign_heads(&owner, at(9)).await.unwrap().broken.is_empty());

    let (code, refused) = moving();
    assert!(code == Some(1) && refused.contains("not empty"), "{refused}");
    assert_eq!(events(&there).await, before);
    there.close().await;

    // The commands that work on a folder work on the database too, or say what does.
    let words = ["key", "create", "--scope", "admin", "--name", "cli", "--json", "--store", &url];
    assert!(kontor().args(words).output().unwrap().status.success());
    let file = data.join("copy.db");
    let copy = kontor().args(["backup", "--store", &url, "--to"]).arg(&file).output().unwrap();
    assert_eq!(copy.status.code(), Some(1), "{copy:?}");
    assert!(!file.exists());
}

/// What a migration adds is moved, or made again, without a word anywhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_tables_are_copied_or_rebuilt() {
    let (dir, url) = (tempfile::tempdir().unwrap(), database());
    let from = Store::open(dir.path(), &Options::default()).await.unwrap();
    let options = Options { shards: 4, ..Options::default() };
    let target = Store::connect(&url.as_str().into(), &options).await.unwrap();
    let file = format!("sqlite://{}", dir.path().join("kontor.db").display());
    let mut sqlite = sqlx::SqliteConnection::connect(&file).await.unwrap();
    let mut postgres = sqlx::PgConnection::connect(&url).await.unwrap();
    for [for_sqlite, for_postgres] in [DELIVERY_ZONES, GIFT_CARDS] {
        sqlx::raw_sql(for_sqlite).execute(&mut sqlite).await.unwrap();
        sqlx::raw_sql(for_postgres).execute(&mut postgres).await.unwrap();
    }
    let zone = "INSERT INTO delivery_zone VALUES ('eu', 'Europe', '[\"DE\"]', 500, TRUE, 3, 7)";
    let card = "INSERT INTO gift_card_row VALUES ('ann-1', 'GBP', 500, 1, 7, 2)";
    for row in [zone, card] {
        sqlx::query(row).execute(&mut sqlite).await.unwrap();
    }

    let lists = read_models::all().with_live(GiftCardRows).tables();
    let names: Vec<&str> = lists.iter().map(|table| table.name()).collect();
    assert_eq!(names, ["order_row", "stock_row", "gift_card_row"]);
    // A list that is there already is not mixed with.
    sqlx::query(card).execute(&mut postgres).await.unwrap();
    let refused = from.move_to(&target, &lists, |_| {}).await.unwrap_err().to_string();
    assert!(refused.contains("rows in gift_card_row"), "{refused}");
    sqlx::query("DELETE FROM gift_card_row").execute(&mut postgres).await.unwrap();
    from.move_to(&target, &lists, |_| {}).await.unwrap();
    let there: (String, i64, bool, i64) =
        sqlx::query_as("SELECT code, fee, active, version FROM delivery_zone")
            .fetch_one(&mut postgres)
            .await
            .unwrap();
    assert_eq!(there, ("eu".to_owned(), 500, true, 3));
    let cards: i64 = sqlx::query_scalar("SELECT count(*) FROM gift_card_row")
        .fetch_one(&mut postgres)
        .await
        .unwrap();
    assert_eq!(cards, 0, "they are made again from events");
    from.close().await;
    target.close().await;
}
