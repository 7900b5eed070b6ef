//! The commands know the master key as the server does, say what is wrong with it, and name where it
//! is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use kontor::store::DatabaseUrl;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::process::{kontor, serve_fails};
use crate::servers::database;
use crate::verify::shop::Shop;

const SETTING: &str = "KONTOR__STORE__MASTER_KEY";

/// A folder with an order in it.
async fn folder() -> (tempfile::TempDir, PathBuf) {
    let shop = Shop::open().await;
    shop.buy("mug", 1, "tok_ok", true).await;
    let data = shop.data();
    (shop.stop().await.dir, data)
}

/// The exit code of a command, what it says, and its errors.
fn told(command: &mut Command) -> (Option<i32>, String, String) {
    let ended = command.output().unwrap();
    let words = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ended.status.code(), words(ended.stdout), words(ended.stderr))
}

/// Moves a folder to a database.
fn moved(data: &Path, change: impl FnOnce(&mut Command)) -> (String, String) {
    let url = database();
    let mut command = kontor();
    command.args(["move", "--to", &url, "--shards", "4", "--data"]).arg(data);
    change(&mut command);
    let (code, said, warned) = told(&mut command);
    assert_eq!(code, Some(0), "{said} {warned}");
    (url, warned)
}

async fn change(url: &str, text: &str) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// What the doctor finds of a check: its exit code, the severity, and what it says and advises.
fn found(check: &str, change: impl FnOnce(&mut Command)) -> (Option<i32>, String, String) {
    let mut command = kontor();
    command.args(["doctor", "--json"]);
    change(&mut command);
    let (code, said, errors) = told(&mut command);
    let all: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said} {errors}"));
    let all = all["findings"].as_array().unwrap();
    let Some(one) = all.iter().find(|one| one["check"] == check) else {
        return (code, String::new(), String::new());
    };
    let words = format!("{} -> {}", one["message"], one["advice"]);
    (code, one["level"].as_str().unwrap().to_owned(), words)
}

fn verified(store: &[&str], key: Option<&str>) -> (Option<i32>, String) {
    let mut command = kontor();
    command.arg("verify").args(store).envs(key.map(|key| (SETTING, key)));
    let (code, said, errors) = told(&mut command);
    (code, said + &errors)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_without_its_master_key_is_bad_until_the_key_is_back_or_set() {
    let (_dir, data) = folder().await;
    let file = data.join("master.key");
    let key = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let at = |command: &mut Command| {
        command.arg("--data").arg(&data);
    };
    let copy =
        format!("copy the file master.key of the folder that it comes from to {}", file.display());
    assert!(serve_fails(&data).contains(&copy));
    let copy = copy.replace("it comes", "the store comes");
    let (code, level, words) = found("people", at);
    assert!(code == Some(1) && level == "bad" && words.contains(&copy), "{words}");
    let place = ["--data", data.to_str().unwrap()];
    let (code, words) = verified(&place, None);
    assert!(code == Some(2) && words.contains(&copy), "{words}");

    let (code, level, words) = found("people", |command| {
        at(command);
        command.env(SETTING, key.trim());
    });
    assert!(code == Some(0) && level == "ok" && words.contains("can be opened"), "{words}");
    let (code, words) = verified(&place, Some(key.trim()));
    assert_eq!(code, Some(0), "{words}");
    assert!(!file.exists());

    std::fs::write(&file, "ab".repeat(32)).unwrap();
    let (code, words) = verified(&place, None);
    let other = format!("or of the file {}", file.display());
    assert!(code == Some(2) && words.contains(&other), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_key_of_the_settings_that_is_none_is_named() {
    let (_dir, data) = folder().await;
    let key = "ab".repeat(32);
    let (url, _) = moved(&data, |command| {
        command.env(SETTING, &key);
    });
    let (code, words) = verified(&["--store", &url], Some("abc"));
    assert!(code == Some(2) && words.contains("store.master_key"), "{words}");
    assert!(words.contains("must be 64 hexadecimal digits"), "{words}");
    assert!(!words.contains("not known"), "{words}");
    // What else is wrong with the settings does not matter to a store that is named.
    let mut command = kontor();
    command.args(["verify", "--store", &url]).env(SETTING, &key);
    let (code, said, errors) = told(command.env("KONTOR__HTTP__LISTEN", "nowhere"));
    assert_eq!(code, Some(0), "{said} {errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_names_the_shard_whose_last_event_was_removed() {
    let (_dir, data) = folder().await;
    let (url, _) = moved(&data, |_| {});
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let last = "SELECT shard::BIGINT, pos FROM event ORDER BY pos DESC, shard LIMIT 1";
    let (shard, pos): (i64, i64) = sqlx::query_as(last).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let cut = format!(
        "ALTER TABLE event DISABLE TRIGGER USER; \
         DELETE FROM event WHERE shard = {shard} AND pos = {pos}; \
         ALTER TABLE event ENABLE TRIGGER USER"
    );
    change(&url, &cut).await;
    let (code, words) = verified(&["--store", &url], None);
    assert_eq!(code, Some(1), "{words}");
    let ends = format!(
        "according to its row its last event is at position {pos}, but it is at {}",
        pos - 1
    );
    assert!(words.contains(&format!("shard {shard}")) && words.contains(&ends), "{words}");
    let address = DatabaseUrl::from(url.as_str());
    let refused = kontor::store::Store::connect(&address, &Default::default()).await;
    let refused = refused.map(drop).unwrap_err().to_string();
    let names = format!("shard {shard} should end at event {pos}, and ends at {}", pos - 1);
    assert!(refused.contains(&names), "{refused}");
}
