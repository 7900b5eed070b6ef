//! Tokens of a store that was put back to an earlier state: whoever has one is told so, and does not
//! miss the events that got the positions of the lost ones.

use std::path::Path;

use kontor::app::App;
use kontor::domain::time::Timestamp;
use kontor::store::maintenance::restore;
use reqwest::Method;
use serde_json::json;
use sqlx::Connection as _;

use super::{Client, bought, buy, orders};
use crate::process;
use crate::servers::database;
use crate::site::Site;

/// The token of a client that has read all changes.
async fn token(site: &Site) -> String {
    let mut path = "/changes".to_owned();
    loop {
        let page = site.admin(Method::GET, &path, None).await.expect(200);
        let token = page["token"].as_str().unwrap().to_owned();
        if page["more"] == false {
            return token;
        }
        path = format!("/changes?after={token}");
    }
}

async fn is_known(site: &Site, token: &str) {
    let path = format!("/changes?after={token}");
    site.admin(Method::GET, &path, None).await.expect(200);
    let mut client = Client::open(site).await;
    client.say(orders(Some(token))).await;
    buy(site, 1).await;
    assert_eq!(client.next().await["type"], "changes");
}

async fn is_refused(site: &Site, token: &str) {
    let refused = site.admin(Method::GET, &format!("/changes?after={token}"), None).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid_cursor"));
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("restored") && detail.contains("copy the lists again"), "{detail}");
    let mut client = Client::open(site).await;
    client.say(orders(Some(token))).await;
    let resync = client.next().await;
    assert_eq!((&resync["type"], &resync["reason"]), (&json!("resync"), &json!("other_history")));
    let snapshot = client.next().await;
    assert_eq!(snapshot["type"], "snapshot");
    is_known(site, snapshot["token"].as_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_before_a_restore_is_refused_with_the_reason() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 1_000).await;
    bought(&site, 1).await;
    let backup = site.dir.path().join("backup.db");
    site.app.as_ref().unwrap().store.backup(&backup).await.unwrap();
    bought(&site, 1).await;
    let token = token(&site).await;
    is_known(&site, &token).await;
    site.app.take().unwrap().stop().await;
    let old = site.config.data.dir.clone();
    site.config.data.dir = site.dir.path().join("restored");
    restore(&backup, &site.config.data.dir, &[], Timestamp::default()).await.unwrap();
    let key = |dir: &Path| dir.join("master.key");
    std::fs::copy(key(&old), key(&site.config.data.dir)).unwrap();
    site.app = Some(App::start(&site.config).await.unwrap());
    // Other events get the positions of the lost ones.
    bought(&site, 3).await;
    is_refused(&site, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_database_has_a_history_of_its_own() {
    let first = database();
    let mut site = Site::with(|config| config.store.url = first.as_str().into()).await;
    site.sell("LAMP", 1_000, 1_000).await;
    let token = token(&site).await;
    site.restart().await;
    is_known(&site, &token).await;
    site.app.take().unwrap().stop().await;
    // As after pg_dump and pg_restore, the tables are others.
    let mut elsewhere = sqlx::PgConnection::connect(&database()).await.unwrap();
    let (server, name) = first.rsplit_once('/').unwrap();
    let copy = format!("CREATE DATABASE {name}copy TEMPLATE {name}");
    sqlx::query(sqlx::AssertSqlSafe(copy)).execute(&mut elsewhere).await.unwrap();
    site.config.store.url = format!("{server}/{name}copy").as_str().into();
    site.app = Some(App::start(&site.config).await.unwrap());
    is_refused(&site, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_the_history_of_a_store_that_was_put_back() {
    let new_history = |site: &Site| {
        let mut command = process::kontor();
        command.arg("new-history").arg("--data").arg(&site.config.data.dir);
        let url = site.config.store.url.reveal();
        if !url.is_empty() {
            command.args(["--store", url]);
        }
        command.output().unwrap()
    };
    for url in [String::new(), database()] {
        let mut site = Site::with(|config| config.store.url = url.as_str().into()).await;
        site.sell("LAMP", 1_000, 1_000).await;
        let token = token(&site).await;
        assert!(!new_history(&site).status.success(), "a server is running");
        site.app.take().unwrap().stop().await;
        let told = new_history(&site);
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        site.app = Some(App::start(&site.config).await.unwrap());
        is_refused(&site, &token).await;
    }
}
