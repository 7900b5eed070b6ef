//! A restore takes nothing from a backup that is not kontor's, and nobody is signed in after it.

use std::path::Path;

use kontor::domain::time::{Span, Timestamp};
use kontor::store::maintenance::restore;
use kontor::store::{OpenError, Options, Store};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use crate::journal::at;
use crate::process;

/// A store in this folder, and its backup.
async fn backed_up(dir: &Path, fill: impl AsyncFnOnce(&Store)) -> std::path::PathBuf {
    let store = Store::open(&dir.join("store"), &Options::default()).await.unwrap();
    fill(&store).await;
    let backup = dir.join("backup.db");
    store.backup(&backup).await.unwrap();
    store.close().await;
    backup
}

async fn change(file: &Path, text: &str) {
    let mut connection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_backup_with_another_schema_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let backup = backed_up(dir.path(), async |_| {}).await;
    let trigger = "CREATE TRIGGER odd AFTER INSERT ON api_key BEGIN DELETE FROM setting; END";
    for (number, (text, words)) in [
        (trigger, "not of kontor: trigger odd"),
        ("CREATE VIEW odd AS SELECT 1", "not of kontor: view odd"),
        ("CREATE TABLE odd (a)", "not of kontor: table odd"),
        ("CREATE TABLE \"o\ndd\u{1b}[31m\" (a)", "not of kontor: table o\\ndd\\u{1b}[31m"),
        ("DROP TRIGGER event_is_never_changed", "it lacks: trigger event_is_never_changed"),
        ("DROP TABLE timer", "table timer"),
        (
            "DROP TRIGGER event_is_never_deleted; CREATE TRIGGER event_is_never_deleted BEFORE \
             DELETE ON event BEGIN SELECT 1; END",
            "it lacks: trigger event_is_never_deleted",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let changed = dir.path().join(format!("changed{number}.db"));
        std::fs::copy(&backup, &changed).unwrap();
        change(&changed, text).await;
        let target = dir.path().join(format!("target{number}"));
        match restore(&changed, &target, &[], Timestamp::default()).await {
            Err(error @ OpenError::OtherSchema { .. }) => {
                let why = error.to_string();
                assert!(why.contains(words) && !why.contains("into an empty one"), "{text}: {why}");
            }
            other => panic!("{text}: {other:?}"),
        }
        assert!(!target.exists(), "{text}");
    }
    restore(&backup, &dir.path().join("target"), &[], Timestamp::default()).await.unwrap();
}

#[tokio::test]
async fn a_restore_ends_sessions_and_links_and_revokes_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (now, scopes) = (at(1_000), ["admin".to_owned()]);
    let mut ids = Vec::new();
    let backup = backed_up(dir.path(), async |store| {
        for name in ["stolen", "good"] {
            let (key, _) = store.create_key(name, &scopes, now).await.unwrap();
            store.sign_in_by_key(&key, now).await.unwrap();
            ids.push(key.id);
        }
        store.create_link("ann", &scopes, now, Span::from_millis(60_000)).await.unwrap();
    })
    .await;
    let target = dir.path().join("target");
    let revoked = [ids[0].clone(), "0000000000000000".to_owned()];
    let restored = restore(&backup, &target, &revoked, at(2_000)).await.unwrap();
    assert_eq!(restored.ended, 3);
    assert_eq!((&restored.revoked[..], &restored.unknown[..]), (&ids[..1], &revoked[1..]));
    assert_eq!(restored.keys, [(ids[1].clone(), "good".to_owned())]);
    let store = Store::open(&target, &Options::default()).await.unwrap();
    assert!(store.valid_key(&ids[0]).await.unwrap().is_none());
    assert!(store.valid_key(&ids[1]).await.unwrap().is_some());
    assert_eq!(store.end_all_sessions().await.unwrap(), (0, 0));
    store.close().await;
}

#[tokio::test]
async fn ids_of_revoked_keys_may_be_in_upper_case_and_those_of_no_key_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    let backup = backed_up(dir.path(), async |store| {
        let (key, _) = store.create_key("stolen", &["admin".to_owned()], at(1)).await.unwrap();
        ids.push(key.id);
    })
    .await;
    let (list, target) = (dir.path().join("revoked"), dir.path().join("target"));
    std::fs::write(&list, format!("{}\n00000000000000AB\n", ids[0].to_uppercase())).unwrap();
    let mut restore = process::kontor();
    restore.args(["restore", "--from"]).arg(&backup).arg("--data").arg(&target);
    restore.arg("--master-key").arg(dir.path().join("store").join("master.key"));
    let told = restore.arg("--revoked").arg(&list).output().unwrap();
    let said = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success(), "{said}");
    assert!(said.contains("1 API keys were revoked"), "{said}");
    assert!(said.contains("Not in this backup, so not revoked: 00000000000000ab."), "{said}");
    let store = Store::open(&target, &Options::default()).await.unwrap();
    assert!(store.valid_key(&ids[0]).await.unwrap().is_none());
    store.close().await;
}

#[tokio::test]
async fn what_a_restore_refuses_is_named_by_the_backup_and_the_doctor_and_can_be_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    Store::open(&data, &Options::default()).await.unwrap().close().await;
    let run = |words: &[&str], to: &Path| {
        let ended = process::kontor().args(words).arg("--data").arg(to).output().unwrap();
        let words = |bytes| String::from_utf8(bytes).unwrap();
        (ended.status.success(), words(ended.stdout), words(ended.stderr))
    };
    let backup = |name: &str| {
        let file = dir.path().join(name).to_str().unwrap().to_owned();
        let (done, _, warned) = run(&["backup", "--to", &file], &data);
        assert!(done, "{warned}");
        (file, warned)
    };
    let (_, warned) = backup("clean.db");
    assert!(!warned.contains("warning"), "{warned}");
    let odd = "CREATE TRIGGER odd AFTER INSERT ON api_key BEGIN SELECT 1; END; \
               CREATE VIEW seen AS SELECT 1; CREATE TABLE notes (a); \
               CREATE INDEX by_name ON api_key (name)";
    change(&data.join("kontor.db"), odd).await;
    let (file, warned) = backup("odd.db");
    let names = "index by_name, table notes, trigger odd, view seen";
    assert!(
        warned.contains("warning: kontor restore will refuse") && warned.contains(names),
        "{warned}"
    );
    let (done, found, _) = run(&["doctor"], &data);
    assert!(!done && found.contains("BAD  schema") && found.contains(names), "{found}");
    let target = dir.path().join("target");
    let (done, _, refused) = run(&["restore", "--from", &file], &target);
    assert!(!done && refused.contains(names) && !target.exists(), "{refused}");
    let drop =
        "sqlite3 COPY 'DROP INDEX by_name; DROP TABLE notes; DROP TRIGGER odd; DROP VIEW seen'";
    for told in [&warned, &refused] {
        assert!(told.contains(drop), "{told}");
    }

    let copy = dir.path().join("copy.db");
    std::fs::copy(&file, &copy).unwrap();
    change(&copy, drop.split('\'').nth(1).unwrap()).await;
    let (done, said, refused) = run(&["restore", "--from", copy.to_str().unwrap()], &target);
    assert!(done, "{said} {refused}");
}
