//! The commands know the master key as the server does, say what is wrong with it, and name where it
//! is missing.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kontor::store::personal::MasterKeyText;
use kontor::store::{DatabaseUrl, Options, Store};
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
async fn the_doctor_has_the_master_key_of_the_settings() {
    let (_dir, data) = folder().await;
    let (new, wrong) = ("ab".repeat(32), "cd".repeat(32));
    let (url, _) = moved(&data, |_| {});
    let at = |key: Option<String>| {
        let url = url.clone();
        move |command: &mut Command| {
            command.args(["--store", &url]).envs(key.map(|key| (SETTING, key)));
        }
    };
    let mut rotate = kontor();
    at(Some(new.clone()))(rotate.args(["key", "rotate", "--master"]));
    assert_eq!(told(&mut rotate).0, Some(0));

    let (code, level, words) = found("people", at(Some(new.clone())));
    assert!(code == Some(0) && level == "ok" && words.contains("can be opened"), "{words}");
    let (code, level, words) = found("people", |command| {
        command.env("KONTOR__STORE__URL", &url).env(SETTING, &new);
    });
    assert!(code == Some(0) && level == "ok" && words.contains("can be opened"), "{words}");
    let (code, level, words) = found("people", at(None));
    assert!(code == Some(1) && level == "bad", "{level} {words}");
    assert!(words.contains("set store.master_key"), "{words}");
    // A server without the setting does not give the database a key that opens nothing.
    let refused = kontor().args(["serve", "--listen", "127.0.0.1:0", "--store", &url]).output();
    let refused = String::from_utf8(refused.unwrap().stderr).unwrap();
    assert!(refused.contains("set store.master_key"), "{refused}");
    let (_, _, words) = found("people", at(None));
    assert!(words.contains("is not known"), "{words}");
    // Nor is the store damaged because the doctor has another key.
    change(
        &url,
        "INSERT INTO secret (name, value) VALUES ('master key', decode(repeat('07', 32), 'hex'))",
    )
    .await;
    for key in [None, Some(wrong)] {
        let (code, level, words) = found("people", at(key));
        assert!(code == Some(1) && level == "bad", "{words}");
        assert!(words.contains("nothing is damaged if it opens them"), "{words}");
    }
    let (code, level, words) = found("people", at(Some(new)));
    assert!(code == Some(0) && level == "ok", "{words}");
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

    // A folder that has its key needs no other.
    std::fs::write(&file, &key).unwrap();
    let (code, words) = verified(&place, Some("abc"));
    assert_eq!(code, Some(0), "{words}");
    std::fs::write(&file, "ab".repeat(32)).unwrap();
    let (code, words) = verified(&place, None);
    let other = format!("not the one of the file {}", file.display());
    assert!(code == Some(2) && words.contains(&other), "{words}");
    std::fs::write(&file, "ab").unwrap();
    let (code, words) = verified(&place, None);
    let rule = format!("{}: it must be 64 hexadecimal digits", file.display());
    assert!(code == Some(2) && words.contains(&rule) && !words.contains("not full"), "{words}");
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
    let refused = Store::connect(&address, &Options::default()).await;
    let refused = refused.map(drop).unwrap_err().to_string();
    let names = format!("shard {shard} should end at event {pos}, and ends at {}", pos - 1);
    assert!(refused.contains(&names), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_keeps_its_master_key_is_named_until_nothing_needs_it() {
    let (_dir, data) = folder().await;
    let key = "ab".repeat(32);
    let (_, warned) = moved(&data, |command| {
        command.env(SETTING, &key);
    });
    assert!(!warned.contains("warning"), "{warned}");
    let (url, warned) = moved(&data, |_| {});
    let keeps = "warning: the database keeps its own master key: whoever reads the database";
    assert!(warned.contains(keeps), "{warned}");
    assert!(warned.contains("then run kontor key rotate --master"), "{warned}");
    let (code, level, words) = found("master", |command| {
        command.args(["--store", &url]);
    });
    assert!(code == Some(0) && level == "warn" && words.contains("its own"), "{words}");
    let mut rotate = kontor();
    let (code, _, errors) = told(rotate.args(["key", "rotate", "--master", "--store", &url]));
    assert!(code == Some(1) && errors.contains("store.master_key of every node"), "{errors}");

    let at = |command: &mut Command| {
        command.args(["--store", &url]).env(SETTING, &key);
    };
    let (code, level, words) = found("master", at);
    assert!(code == Some(0) && level == "warn" && words.contains("are still sealed"), "{words}");
    let mut serve = kontor();
    at(serve.args(["serve", "--profile", "production", "--listen", "127.0.0.1:0"]));
    serve.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut serve = serve.spawn().unwrap();
    let log = BufReader::new(serve.stderr.take().unwrap()).lines().map_while(Result::ok);
    let warned = log.take(50).find(|line| line.contains("are still sealed"));
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert!(warned.is_some_and(|line| line.contains("kontor key rotate --master")));

    let own = async || {
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        let text = "SELECT count(*) FROM secret WHERE name = 'master key'";
        let count: i64 = sqlx::query_scalar(text).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        count
    };
    // Not while a key is sealed with it.
    let address = DatabaseUrl::from(url.as_str());
    let store = Store::connect_beside_with(&address, MasterKeyText::new(&key)).await.unwrap();
    assert!(!store.remove_own_master_key().await.unwrap());
    store.close().await;
    assert_eq!(own().await, 1);
    let mut rotate = kontor();
    at(rotate.args(["key", "rotate", "--master"]));
    let (code, _, errors) = told(&mut rotate);
    assert!(code == Some(0) && errors.contains("it was removed"), "{errors}");
    assert_eq!(own().await, 0);
    let (_, level, words) = found("master", at);
    assert_eq!(level, "ok", "{words}");
    let (code, words) = verified(&["--store", &url], Some(&key));
    assert_eq!(code, Some(0), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_without_the_right_master_key_leaves_nothing() {
    let (dir, data) = folder().await;
    let backup = dir.path().join("backup.db");
    let (code, _, errors) =
        told(kontor().args(["backup", "--to"]).arg(&backup).arg("--data").arg(&data));
    assert_eq!(code, Some(0), "{errors}");
    let (wrong, target) = (dir.path().join("wrong.key"), dir.path().join("restored"));
    std::fs::write(&wrong, "ab".repeat(32)).unwrap();
    let restore = |key: Option<&Path>| {
        let mut command = kontor();
        command.args(["restore", "--from"]).arg(&backup).arg("--data").arg(&target);
        key.map(|key| command.arg("--master-key").arg(key));
        let (code, said, errors) = told(&mut command);
        (code, said + &errors)
    };
    for (key, words) in [(None, "and there is no "), (Some(&*wrong), "which is not in ")] {
        let (code, said) = restore(key);
        assert!(code == Some(1) && said.contains(words), "{said}");
        assert!(said.contains("--master-key") && !target.exists(), "{said}");
    }
    let (code, said) = restore(Some(&data.join("master.key")));
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = restore(Some(&data.join("master.key")));
    assert!(code == Some(1) && said.contains("is not empty: choose an empty one"), "{said}");
    assert!(!said.contains("not full") && target.join("kontor.db").exists(), "{said}");
}
