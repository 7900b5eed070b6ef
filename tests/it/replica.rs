//! A real replica of a store in PostgreSQL: what is read from it, what never is, and what happens
//! when it is behind or away.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kontor::store::list_row::Batch;
use kontor::store::projection::{Cursor, ProjectionBatch};
use kontor::store::{Options, Store, order, product};
use kontor_lab::cluster::servers::Stop;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::journal::at;
use crate::servers::postgres;

fn order_row(n: i64) -> order::Row {
    order::Row {
        id: format!("ord_{n}"),
        status: "pending".to_owned(),
        email: "buyer@example.com".to_owned(),
        currency: "GBP".to_owned(),
        placed_at: at(n),
        version: 1,
        ..order::Row::default()
    }
}

async fn place(store: &Store, n: i64) {
    let rows = Batch::of(vec![order_row(n)]);
    let cursors = [Cursor { shard: 0, after: n - 1, pos: n }];
    let (projection, rows) = ("orders", Some(&rows));
    let batch =
        ProjectionBatch { projection, cursors: &cursors, rows, ..ProjectionBatch::default() };
    assert!(store.commit_projections(&[batch]).await.unwrap());
    assert!(store.order(&format!("ord_{n}")).await.unwrap().is_some(), "one is read as it is");
}

async fn listed(store: &Store) -> usize {
    store.orders(&order::Filter { limit: 100, ..Default::default() }).await.unwrap().len()
}

/// Asks again and again until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::task::yield_now().await;
    }
}

async fn is_read(store: &Store, wanted: bool) {
    let what = if wanted { "the replica is read" } else { "the primary is read" };
    until(what, async || store.replica_lag().unwrap().is_read == wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_use_a_replica_that_lags_little() {
    let own = postgres();
    let url = own.server.create_database("shop").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut replica = own.server.replica(&dir.path().join("replica")).unwrap();
    let options = |lag_ms| Options {
        replica_url: replica.url("shop").as_str().into(),
        replica_lag_max_ms: lag_ms,
        ..Options::default()
    };
    let patient = Store::connect(&url.as_str().into(), &options(3_600_000)).await.unwrap();
    let strict = Store::connect(&url.as_str().into(), &options(500)).await.unwrap();
    place(&patient, 1).await;
    is_read(&patient, true).await;
    is_read(&strict, true).await;
    until("the replica has it", async || listed(&patient).await == 1).await;

    // Replay stands still: what is written now is in no list of the replica.
    replica.sql("shop", "SELECT pg_wal_replay_pause()").unwrap();
    let paused = || replica.sql("shop", "SELECT pg_get_wal_replay_pause_state()").unwrap();
    until("it is paused", async || paused() == "paused").await;
    place(&patient, 2).await;
    is_read(&strict, false).await;
    assert_eq!(listed(&strict).await, 2, "from the primary");
    assert_eq!(listed(&patient).await, 1, "from the replica");
    assert_eq!(patient.count_orders().await.unwrap()["pending"], 1, "reports too");
    let lamp = "INSERT INTO product (sku, name, description, prices, tax_rate, active, version, \
                updated_at) VALUES ('LAMP', 'Lamp', '', '{}', 0, TRUE, 1, 1)";
    own.server.sql("shop", lamp).unwrap();
    let all = product::Filter { limit: 10, ..product::Filter::default() };
    assert_eq!(patient.products(&all).await.unwrap().len(), 0);
    let kept = patient.products_for_cache(&all).await.unwrap();
    assert_eq!(kept.len(), 1, "what is kept for others is not old already");
    until("the lag grows", async || {
        patient.replica_lag().unwrap().behind.unwrap() > Duration::from_millis(500)
    })
    .await;
    // Decisions are not read from it: keys, the cursor, what the journal says.
    let scopes = ["admin".to_owned()];
    let (row, key) = patient.create_key("desk", &scopes, at(1)).await.unwrap();
    assert_eq!(patient.find_key(key.reveal()).await.unwrap(), Some(row));
    assert_eq!(patient.cursor("orders", 0).await.unwrap(), 2);

    replica.sql("shop", "SELECT pg_wal_replay_resume()").unwrap();
    is_read(&strict, true).await;
    until("it has caught up", async || listed(&patient).await == 2).await;

    // Without it the primary answers, and when it is back it is read again.
    replica.stop(Stop::Fast).unwrap();
    is_read(&patient, false).await;
    assert_eq!(listed(&patient).await, 2);
    replica.start_again().unwrap();
    is_read(&patient, true).await;
    assert_eq!(listed(&patient).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn primary_may_be_its_own_replica_and_an_outage_is_harmless() {
    let url = crate::servers::database();
    let both = Options { replica_url: url.as_str().into(), ..Options::default() };
    let store = Store::connect(&url.as_str().into(), &both).await.unwrap();
    is_read(&store, true).await;
    assert_eq!(store.replica_lag().unwrap().behind, Some(Duration::ZERO));
    place(&store, 1).await;
    assert_eq!(listed(&store).await, 1);

    let nobody = kontor_lab::cluster::servers::free_port().unwrap();
    let away = format!("postgres://postgres@127.0.0.1:{nobody}/shop");
    let away = Options { replica_url: away.as_str().into(), ..Options::default() };
    let store = Store::connect(&url.as_str().into(), &away).await.unwrap();
    assert_eq!(listed(&store).await, 1);
    let lag = store.replica_lag().unwrap();
    assert_eq!((lag.behind, lag.is_read), (None, false));
}

/// An address that leads to one server or to another, as a balancer's does.
async fn way(to: watch::Receiver<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let to = *to.borrow();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    here
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_at_the_primary_address_is_refused_for_writes() {
    let own = postgres();
    let url = own.server.create_database("shop").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let second = own.server.replica(&dir.path().join("replica")).unwrap();
    let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let (primary, replica) = (addr(own.server.port()), addr(second.port()));
    let to = watch::Sender::new(primary);
    let way = way(to.subscribe()).await;
    let url = url.replacen(&primary.to_string(), &way.to_string(), 1);
    let store = Store::connect(&url.as_str().into(), &Options::default()).await.unwrap();
    store.put_setting("name", "first").await.unwrap();
    until("the replica has it", async || {
        let there = "SELECT count(*) FROM setting WHERE name = 'name'";
        second.sql("shop", there).unwrap() == "1"
    })
    .await;
    to.send_replace(replica);
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = 'shop' AND pid <> pg_backend_pid()";
    own.server.sql("shop", end).unwrap();
    for _ in 0..20 {
        assert!(store.put_setting("name", "lost").await.is_err());
        assert!(store.setting("name").await.is_err(), "it may be old");
    }
    to.send_replace(primary);
    store.put_setting("name", "second").await.unwrap();
    assert_eq!(store.setting("name").await.unwrap().as_deref(), Some("second"));
}
