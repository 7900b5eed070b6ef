//! What one checkout costs, in counts that do not wobble: a two-line cart becomes an order whose
//! money is taken, over HTTP, with the sandbox provider.
//!
//! Whoever changes a count on purpose changes it here, in the same commit, and says why. Commits
//! are not counted exactly: appends that are under way together share one. Times are measured in
//! `benches/limits`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kontor::actors::engine::host::Gauge;
use kontor::store::Store;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::site::{Site, start_psp};

/// Events of a checkout of two SKUs, by noun and kind.
const EVENTS: [(&str, &str, usize); 10] = [
    ("cart", "created", 1),
    ("cart", "spent", 1),
    ("ctr", "drawn", 1),
    ("ord", "captured", 1),
    ("ord", "confirmed", 1),
    ("ord", "payment_authorized", 1),
    ("ord", "payment_requested", 1),
    ("ord", "placed", 1),
    ("sku", "committed", 2),
    ("sku", "reserved", 2),
];
/// Each event is an append of its own.
const APPENDS: u64 = 12;
/// Those that can wait for each other only: the rest may share a commit.
const COMMITS_MIN: u64 = 8;
/// The order's: at its deadline, after the authorization sooner, none. Each SKU's: its hold.
const TIMER_WRITES: i64 = 5;
/// Authorize, capture.
const PROVIDER_CALLS: usize = 2;
/// The provider tells of both.
const WEBHOOKS: &str = "2";

/// Requests that kontor has sent to its provider.
#[derive(Default)]
struct Calls {
    /// Of money.
    posts: AtomicUsize,
    /// Where its webhooks go.
    puts: AtomicUsize,
}

/// Lets bytes pass between kontor and the provider, and counts requests that change something.
async fn counted(psp: String) -> (String, Arc<Calls>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let calls = Arc::<Calls>::default();
    let counted = Arc::clone(&calls);
    let to = psp.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&to).await.unwrap();
            let ((mut from, mut back), counted) = (client.into_split(), Arc::clone(&counted));
            let (mut answers, mut requests) = server.into_split();
            tokio::spawn(async move { copy(&mut answers, &mut back).await });
            tokio::spawn(async move {
                let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
                while let Ok(length @ 1..) = from.read(&mut piece).await {
                    seen.extend_from_slice(&piece[..length]);
                    for (word, count) in [("POST /", &counted.posts), ("PUT /v", &counted.puts)] {
                        let found = seen.windows(6).filter(|six| *six == word.as_bytes()).count();
                        count.fetch_add(found, Ordering::SeqCst);
                    }
                    // A word that is cut in two is found with the next piece.
                    seen.drain(..seen.len().saturating_sub(5));
                    requests.write_all(&piece[..length]).await.unwrap();
                }
            });
        }
    });
    (url, calls)
}

/// Lets the database count writes of timers itself.
async fn count_timers(site: &Site) -> SqliteConnection {
    let file = site.config.data.dir.join("kontor.db");
    let options = SqliteConnectOptions::new().filename(file);
    let mut connection = options.connect().await.unwrap();
    for text in [
        "CREATE TABLE timer_write (entity TEXT NOT NULL)",
        "CREATE TRIGGER timer_set AFTER INSERT ON timer \
         BEGIN INSERT INTO timer_write VALUES (NEW.entity); END",
        "CREATE TRIGGER timer_moved AFTER UPDATE ON timer \
         BEGIN INSERT INTO timer_write VALUES (NEW.entity); END",
        "CREATE TRIGGER timer_cleared AFTER DELETE ON timer \
         BEGIN INSERT INTO timer_write VALUES (OLD.entity); END",
    ] {
        sqlx::query(text).execute(&mut connection).await.unwrap();
    }
    connection
}

/// What `/metrics` says of the requests of an operation.
async fn requests(site: &Site, operation: &str) -> String {
    let text = site.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    let text = text.text().await.unwrap();
    let name = format!("kontor_http_requests_total{{operation=\"{operation}\"");
    let line = text.lines().find(|line| line.starts_with(&name));
    line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0").to_owned()
}

async fn events(store: &Store, after: i64) -> Vec<(String, String, usize)> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for record in store.journal().read_shard(0, after, 1_000).await.unwrap() {
        let of = (record.entity.prefix().to_owned(), record.kind.to_string());
        *counts.entry(of).or_default() += 1;
    }
    counts.into_iter().map(|((noun, kind), count)| (noun, kind, count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn checkout_cost_is_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let behind = start_psp(&dir, "127.0.0.1:0").await;
    let (url, provider_calls) = counted(behind.url()).await;
    let site = Site::with(|config| {
        config.sandbox.url = url;
        config.payments.sweep_secs = 0;
    })
    .await;
    site.sell("LAMP", 1_250, 5).await;
    site.sell("MUG", 300, 5).await;
    let node = Arc::clone(&site.app.as_ref().unwrap().node);
    let journal = node.store.journal();
    let mut timers = count_timers(&site).await;
    let (pos, before) = (journal.last_pos(0).await.unwrap(), node.lanes.of(0).counters());
    site.until_some(async || (provider_calls.puts.load(Ordering::SeqCst) == 1).then_some(())).await;

    let cart = site.cart(&[("LAMP", 2), ("MUG", 1)]).await;
    site.checkout(&cart, &cart, "tok_ok", 30).await.expect(201);
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    site.until_some(async || (requests(&site, "take_webhook").await == WEBHOOKS).then_some(()))
        .await;

    let wanted = EVENTS.map(|(noun, kind, count)| (noun.to_owned(), kind.to_owned(), count));
    assert_eq!(events(&site.app.as_ref().unwrap().store, pos).await, wanted);
    let after = node.lanes.of(0).counters();
    assert_eq!(after.appends - before.appends, APPENDS);
    assert_eq!(after.records - before.records, APPENDS);
    assert_eq!(after.refused, before.refused);
    let commits = after.commits - before.commits;
    assert!((COMMITS_MIN..=APPENDS).contains(&commits), "{commits}");
    let written: i64 = sqlx::query_scalar("SELECT count(*) FROM timer_write")
        .fetch_one(&mut timers)
        .await
        .unwrap();
    assert_eq!(written, TIMER_WRITES);
    assert_eq!(provider_calls.posts.load(Ordering::SeqCst), PROVIDER_CALLS);
    assert_eq!(requests(&site, "create_cart").await, "1");
    assert_eq!(requests(&site, "check_out").await, "1");
    timers.close().await.unwrap();
    behind.stop().await;
}

/// The load of the actors of orders.
fn orders(site: &Site) -> Gauge {
    site.app.as_ref().unwrap().node.hosts().named("ord").unwrap().gauge()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_wakes_only_orders_whose_rows_differ_from_the_list() {
    let site = Site::with(|config| config.payments.sweep_secs = 0).await;
    site.sell("LAMP", 1_000, 100).await;
    for nth in 0..12 {
        let cart = site.cart(&[("LAMP", 1)]).await;
        site.checkout(&cart, &format!("order-{nth}"), "tok_ok", 10).await.expect(201);
        site.until(&cart, |order| order["payment_status"] == "captured").await;
    }
    // A webhook or a step that comes later would wake its order.
    let heard = (12 * WEBHOOKS.parse::<u32>().unwrap()).to_string();
    site.until_some(async || (requests(&site, "take_webhook").await == heard).then_some(())).await;
    let node = &site.app.as_ref().unwrap().node;
    let file = site.config.data.dir.join("kontor.db");
    let mut rows = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    for (changed, wrong) in [(0, "0"), (1, "7"), (3, "2, 3, 11")] {
        // The sweep begins at the start of the list again.
        let text = format!(
            "UPDATE order_row SET captured = captured - 1 WHERE number IN ({wrong}); \
             UPDATE setting SET value = '' WHERE name LIKE 'sweep_after_%'"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut rows).await.unwrap();
        site.until_some(async || (orders(&site).awake == 0).then_some(())).await;
        let before = orders(&site).woken;
        assert_eq!(node.flows.reconciliation.sweep_all().await.unwrap(), ["sandbox"]);
        assert_eq!(orders(&site).woken - before, changed);
        let after = node.store.setting("sweep_after_sandbox").await.unwrap();
        assert!(after.is_some_and(|after| after.starts_with("pay_")));
        let text = "UPDATE order_row SET captured = total";
        sqlx::query(text).execute(&mut rows).await.unwrap();
    }
    rows.close().await.unwrap();
}
