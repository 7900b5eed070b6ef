//! `kontor doctor`, `backup` and `restore`, as their commands are called.

use std::path::Path;

use kontor::doctor::{self, Finding, Installation, Severity};
use kontor::store::{DatabaseUrl, Options, Store};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::process::kontor;
use crate::servers::database;

fn installation(data: &Path) -> Installation {
    Installation { data: data.into(), ..Installation::default() }
}

/// Runs a command on a folder; whether it did its work.
fn done(words: &[&str], data: &Path) -> bool {
    kontor().args(words).arg("--data").arg(data).output().unwrap().status.success()
}

fn of<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("{check} is not in {findings:?}"))
}

#[tokio::test]
async fn a_fresh_store_has_nothing_bad() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let store = Store::open(&data, &Options::default()).await.unwrap();
    let findings = doctor::examine(&installation(&data)).await;
    assert!(findings.iter().all(|one| one.level != Severity::Bad), "{findings:?}");
    assert!(of(&findings, "server").message.contains(&std::process::id().to_string()));
    assert_eq!(of(&findings, "backup").level, Severity::Warn);
    assert_eq!(of(&findings, "keys").level, Severity::Warn);
    store.close().await;
    let findings = doctor::examine(&installation(&data)).await;
    assert!(of(&findings, "server").message.contains("no server runs"), "{findings:?}");
}

#[tokio::test]
async fn doctor_findings_have_remedies() {
    let dir = tempfile::tempdir().unwrap();
    let missing = doctor::examine(&installation(&dir.path().join("nowhere"))).await;
    assert_eq!(of(&missing, "folder").level, Severity::Bad);
    let empty = doctor::examine(&installation(dir.path())).await;
    assert_eq!(of(&empty, "store").level, Severity::Bad);
    let data = dir.path().join("data");
    Store::open(&data, &Options::default()).await.unwrap().close().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = Some(taken.local_addr().unwrap());
    let sandbox_psp = Some(format!("http://{free}"));
    let asked = Installation { listen, sandbox_psp, ..installation(&data) };
    let findings = doctor::examine(&asked).await;
    assert_eq!(of(&findings, "port").level, Severity::Bad, "{findings:?}");
    assert_eq!(of(&findings, "provider").level, Severity::Bad, "{findings:?}");
    assert!(findings.iter().all(|one| (one.level == Severity::Ok) == one.advice.is_none()));
    let command = kontor().args(["doctor", "--json", "--data"]).arg(&data).output().unwrap();
    let told: Value = serde_json::from_slice(&command.stdout).unwrap();
    assert_eq!((command.status.code(), &told["ok"]), (Some(0), &Value::Bool(true)), "{told}");
    assert!(!done(&["doctor", "--listen", &taken.local_addr().unwrap().to_string()], &data));
}

#[tokio::test]
async fn failed_backup_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let store = Store::open(&data, &Options::default()).await.unwrap();
    let to = dir.path().join("backup.db");
    let take = || done(&["backup", "--to", to.to_str().unwrap()], &data);
    std::fs::write(dir.path().join("backup.db.part"), "a backup that was killed").unwrap();
    assert!(take());
    assert!(to.is_file() && !dir.path().join("backup.db.part").exists());
    assert!(!take(), "never over a file");
    let findings = doctor::examine(&installation(&data)).await;
    assert_eq!(of(&findings, "backup").level, Severity::Ok, "{findings:?}");
    store.close().await;
    let into = |data: &Path| done(&["restore", "--from", to.to_str().unwrap()], data);
    assert!(!into(&data), "the folder is not empty");
    let elsewhere = dir.path().join("elsewhere");
    assert!(into(&elsewhere));
    Store::open(&elsewhere, &Options::default()).await.unwrap().close().await;
}

/// A trigger of somebody else would change what is written, and a view is only worth a look.
#[tokio::test]
async fn what_was_attached_to_the_tables_of_a_store_is_named_by_the_doctor() {
    let url = database();
    let address = DatabaseUrl::from(url.as_str());
    Store::connect(&address, &Options::default()).await.unwrap().close().await;
    let store = Some(address);
    let found = async || {
        let installation = Installation { store: store.clone(), ..Installation::default() };
        let found = doctor::examine(&installation).await;
        let schema = found.into_iter().find(|one| one.check == "schema").unwrap();
        (schema.level, schema.message)
    };
    let change = async |text: &str| {
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    let (level, message) = found().await;
    assert_eq!(level, Severity::Ok, "{message}");
    change("CREATE VIEW seen AS SELECT id FROM order_row").await;
    let (level, message) = found().await;
    assert_eq!((level, &*message), (Severity::Warn, "it has what is not of kontor: view seen"));
    change(
        "CREATE FUNCTION odd() RETURNS TRIGGER LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE TRIGGER odd BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION odd(); \
         CREATE RULE silent AS ON INSERT TO api_key DO INSTEAD NOTHING; \
         ALTER TABLE event DISABLE TRIGGER event_is_never_changed",
    )
    .await;
    let (level, message) = found().await;
    let all = "it has what is not of kontor: rule silent on api_key, trigger odd on event, view seen; \
               it lacks: trigger event_is_never_changed on event";
    assert_eq!((level, &*message), (Severity::Bad, all));
}
