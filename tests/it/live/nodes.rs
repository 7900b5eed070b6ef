//! The live feed of several nodes over one store: a socket on one of them is shown what the others
//! decide, and goes on with its token on any, while shards go from one to another.

use kontor::app::App;
use kontor::providers::sandbox::Sandbox;
use kontor::store::Store;
use kontor::verify;
use reqwest::Method;
use serde_json::json;

use super::{Book, Client, buy, orders, read_all};
use crate::servers;
use crate::site::Site;

/// A node over a store that others may use, with the provider of the first of them.
pub async fn node(name: &str, database: &str, nats: Option<&str>, first: Option<&Site>) -> Site {
    let sandbox = first.map(|first| first.config.sandbox.url.clone());
    Site::with(|config| {
        config.store.url = database.into();
        config.bus.url = nats.unwrap_or_default().to_owned();
        config.cluster.node = name.to_owned();
        config.cluster.lease_ms = 3_000;
        config.cluster.renew_ms = 500;
        config.cluster.settle_ms = 200;
        config.cluster.leave_ms = 0;
        config.cluster.hand_over_max = 64;
        if let Some(sandbox) = sandbox {
            config.sandbox.url = sandbox;
        }
    })
    .await
}

fn owned(site: &Site) -> usize {
    site.app.as_ref().map_or(0, |app| app.node.owned.all().len())
}

/// Waits until each of them has some of the shards, and together all.
pub async fn shared(sites: [&Site; 2]) {
    let all = usize::from(sites[0].app.as_ref().unwrap().store.journal().shards());
    let both = async || {
        let counts = sites.map(owned);
        (counts.iter().sum::<usize>() == all && !counts.contains(&0)).then_some(())
    };
    sites[0].until_some(both).await;
}

async fn is_shown_all(nats: Option<&str>) {
    let database = servers::database();
    let one = node("one", &database, nats, None).await;
    let mut other = node("other", &database, nats, Some(&one)).await;
    shared([&one, &other]).await;
    one.sell("LAMP", 1_000, 1_000).await;

    let mut client = Client::open(&one).await;
    client.say(orders(None)).await;
    let mut book = Book::default();
    book.take(&client.next().await);
    let mut bought = buy(&other, 6).await;
    read_all(&mut client, &mut book, &one, &bought).await;

    // The other one leaves while there is something going on, and comes back.
    let app = other.app.take().unwrap();
    let ((), more) = tokio::join!(app.stop(), buy(&one, 6));
    bought.extend(more);
    read_all(&mut client, &mut book, &one, &bought).await;
    let (app, more) = tokio::join!(App::start(&other.config), buy(&one, 6));
    other.app = Some(app.unwrap());
    bought.extend(more);
    bought.extend(buy(&other, 3).await);
    shared([&one, &other]).await;
    bought.extend(buy(&other, 3).await);
    read_all(&mut client, &mut book, &one, &bought).await;

    // Who has seen that much of one goes on with the other.
    drop(client);
    bought.extend(buy(&one, 3).await);
    let mut client = Client::open(&other).await;
    client.say(orders(Some(&book.token))).await;
    bought.extend(buy(&other, 3).await);
    read_all(&mut client, &mut book, &other, &bought).await;
    assert_eq!(book.resyncs, 0);

    // Rows of both nodes' shards are in one list, and whoever has written is shown it on the other.
    let stock = json!({"on_hand": 500});
    let put = one.request(Method::PUT, "/v1/admin/stock/LAMP/main").bearer_auth(&one.key);
    let put = put.json(&stock).send().await.unwrap();
    assert_eq!(put.status(), 200);
    let position = put.headers()["kontor-position"].clone();
    let list = other.request(Method::GET, "/v1/admin/stock?sku=LAMP").bearer_auth(&other.key);
    let list = list.header("kontor-after", position).send().await.unwrap();
    assert!(!list.headers().contains_key("kontor-stale"));
    let list: serde_json::Value = list.json().await.unwrap();
    assert_eq!(list["data"][0]["on_hand"], 500, "{list:#}");
    let (mut one, mut other) = (one, other);
    for site in [&mut other, &mut one] {
        site.app.take().unwrap().stop().await;
    }
    let store = Store::connect(&database.as_str().into(), &one.config.store).await.unwrap();
    let options = verify::provider::sandbox_options(&store, &one.config.sandbox.url).await.unwrap();
    let provider = Sandbox::new(options).unwrap();
    let report = verify::verify(&store, Some(&provider), |_| {}).await.unwrap();
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_other_nodes_are_sent_once() {
    let nats = servers::nats();
    is_shown_all(Some(&nats.server.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_other_nodes_are_sent_without_nats() {
    is_shown_all(None).await;
}
