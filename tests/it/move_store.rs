//! `kontor move`: a shop goes from a data folder to PostgreSQL, and is whole there.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use kontor::cli::{Error, backup, key, move_store};
use kontor::store::webhook::Parked;
use kontor::store::{Address, OpenError, Options, Store};
use kontor::verify::verify;
use tokio::sync::Notify;

use crate::journal::at;
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
async fn a_shop_is_whole_in_postgres() {
    let shop = Shop::open().await;
    shop.some_of_everything().await;
    shop.buy("mug", 1, "tok_timeout_lost", false).await;
    let (data, url) = (shop.data(), database());
    let to: Address = url.as_str().into();
    let args = || move_store::Args {
        data: data.clone(),
        to: to.clone(),
        shards: 16,
        sandbox_psp: None,
        json: true,
    };
    let in_use = move_store::run(args()).await;
    assert!(matches!(in_use, Err(Error::Open(OpenError::InUse { .. }))), "{in_use:?}");
    let shop = shop.stop().await;

    let from = Store::open_existing(&data).await.unwrap();
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

    // A move that breaks off leaves nothing there.
    let options = Options { shards: 16, ..Options::default() };
    let target = Store::connect(&to, &options).await.unwrap();
    let begun = Arc::new(Notify::new());
    tokio::select! {
        biased;
        () = begun.notified() => {}
        moved = from.move_to(&target, |moved| if moved.table == "timer" { begun.notify_one() }) => {
            panic!("{moved:?}")
        }
    }
    target.close().await;
    let (before, under_way) = (events(&from).await, timers(&from).await);
    assert!(!under_way.is_empty());
    from.close().await;

    let moved = move_store::run(args()).await.unwrap();
    assert_eq!(moved, ExitCode::SUCCESS);
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

    let again = move_store::run(args()).await;
    let refused = again.unwrap_err().to_string();
    assert!(refused.contains("not empty"), "{refused}");
    assert_eq!(events(&there).await, before);
    there.close().await;

    // The commands that work on a folder work on the database too, or say what does.
    let store = Some(to.clone());
    let command = key::Command::Create {
        data: data.clone(),
        store: store.clone(),
        scopes: scopes.to_vec(),
        name: "cli".to_owned(),
        json: true,
    };
    assert_eq!(key::run(key::Args { command }).await.unwrap(), ExitCode::SUCCESS);
    let file = data.join("copy.db");
    let copy = backup::Args { data, store, to: file.clone(), json: true };
    assert_eq!(backup::run(copy).await, ExitCode::FAILURE);
    assert!(!file.exists());
}
