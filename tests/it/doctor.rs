//! `kontor doctor`, `backup` and `restore`, as their commands are called.

use std::path::Path;
use std::process::ExitCode;

use kontor::cli::doctor::{self, Args, Finding, Level};
use kontor::cli::{backup, restore};
use kontor::store::{Options, Store};

fn args(data: &Path) -> Args {
    Args { data: data.into(), store: None, listen: None, sandbox_psp: None, json: true }
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
    let findings = doctor::examine(&args(&data)).await;
    assert!(findings.iter().all(|one| one.level != Level::Bad), "{findings:?}");
    assert!(of(&findings, "server").message.contains(&std::process::id().to_string()));
    assert_eq!(of(&findings, "backup").level, Level::Warn);
    assert_eq!(of(&findings, "keys").level, Level::Warn);
    store.close().await;
    let findings = doctor::examine(&args(&data)).await;
    assert!(of(&findings, "server").message.contains("no server runs"), "{findings:?}");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = doctor::examine(&args(&dir.path().join("nowhere"))).await;
    assert_eq!(of(&missing, "folder").level, Level::Bad);
    let empty = doctor::examine(&args(dir.path())).await;
    assert_eq!(of(&empty, "store").level, Level::Bad);
    let data = dir.path().join("data");
    Store::open(&data, &Options::default()).await.unwrap().close().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = Some(taken.local_addr().unwrap());
    let asked = Args { listen, sandbox_psp: Some(format!("http://{free}")), ..args(&data) };
    let findings = doctor::examine(&asked).await;
    assert_eq!(of(&findings, "port").level, Level::Bad, "{findings:?}");
    assert_eq!(of(&findings, "provider").level, Level::Bad, "{findings:?}");
    assert!(findings.iter().all(|one| (one.level == Level::Ok) == one.advice.is_none()));
}

#[tokio::test]
async fn a_backup_is_whole_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let store = Store::open(&data, &Options::default()).await.unwrap();
    let to = dir.path().join("backup.db");
    let take = || {
        backup::run(backup::Args { data: data.clone(), store: None, to: to.clone(), json: true })
    };
    std::fs::write(dir.path().join("backup.db.part"), "a backup that was killed").unwrap();
    assert_eq!(take().await, ExitCode::SUCCESS);
    assert!(to.is_file() && !dir.path().join("backup.db.part").exists());
    assert_eq!(take().await, ExitCode::FAILURE, "never over a file");
    let findings = doctor::examine(&args(&data)).await;
    assert_eq!(of(&findings, "backup").level, Level::Ok, "{findings:?}");
    store.close().await;
    let into = |data: &Path| {
        restore::run(restore::Args { from: to.clone(), data: data.into(), json: true })
    };
    assert_eq!(into(&data).await, ExitCode::FAILURE, "the folder is not empty");
    let elsewhere = dir.path().join("elsewhere");
    assert_eq!(into(&elsewhere).await, ExitCode::SUCCESS);
    Store::open(&elsewhere, &Options::default()).await.unwrap().close().await;
}
