//! The ledger over restarts, crashes and two processes.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kontor::providers::payment::{Authorization, AuthorizationStatus, Provider, Reversal};
use kontor::providers::sandbox::{Options, Sandbox};
use kontor_sandbox_psp::Error;

use super::fixture::{Fixture, Receiver, SECRET, authorize, code, gbp, operation, start_in, until};

#[tokio::test]
async fn facts_survive_a_restart() {
    let psp = Fixture::start().await;
    let receiver = Receiver::start(0).await;
    psp.client.subscribe(&receiver.url).await.unwrap();
    let request = authorize("order-1", "key-1", 1000, "tok_ok");
    let answer = psp.client.authorize(&request).await.unwrap();
    let Authorization::Authorized { payment: id, .. } = answer.clone() else {
        panic!("{answer:?}")
    };
    let receipt = psp.client.capture(&operation(&id, "c1", 400)).await.unwrap();
    psp.client.reverse("order-2").await.unwrap();
    psp.authorized("order-3", 500).await;
    psp.client.reverse("order-3").await.unwrap();
    let before = psp.client.list(None, 200).await.unwrap();
    receiver.until_received(4).await;

    let psp = psp.restart().await;
    assert_eq!(psp.client.list(None, 200).await.unwrap(), before);
    assert_eq!(psp.client.authorize(&request).await, Ok(answer));
    assert_eq!(psp.client.capture(&operation(&id, "c1", 400)).await, Ok(receipt));
    assert_eq!(psp.client.reverse("order-2").await, Ok(Reversal::Blocked));
    let blocked = psp.client.authorize(&authorize("order-2", "key-2", 1, "tok_ok")).await;
    assert_eq!(code(blocked), "reference_blocked");
    psp.client.capture(&operation(&id, "c2", 600)).await.unwrap();
    let received = receiver.until_received(5).await;
    assert_eq!(received.len(), 5, "the endpoint is known, and what was told is not told again");
}

#[tokio::test]
async fn a_pending_payment_is_decided_after_a_restart() {
    let psp = Fixture::start().await;
    let request = authorize("order-1", "key-1", 1000, "tok_webhook_only");
    psp.client.authorize(&request).await.unwrap();
    let psp = psp.restart().await;
    psp.until_status("order-1", AuthorizationStatus::Authorized).await;
}

#[tokio::test]
async fn a_torn_line_is_cut_off() {
    let psp = Fixture::start().await;
    psp.authorized("order-1", 1000).await;
    psp.running.stop().await;
    let path = psp.dir.path().join("ledger.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    let torn = &whole[..whole.len() / 2];
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(torn.as_bytes())
        .unwrap();

    let running = start_in(&psp.dir).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    let client = Sandbox::new(super::fixture::options(&running)).unwrap();
    assert_eq!(client.list(None, 10).await.unwrap().payments.len(), 1);
    client.authorize(&authorize("order-2", "key-2", 1, "tok_ok")).await.unwrap();
    running.stop().await;
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    start_in(&psp.dir).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_corrupt_line_is_named() {
    let psp = Fixture::start().await;
    for n in 0..3 {
        psp.authorized(&format!("order-{n}"), 1000).await;
    }
    psp.running.stop().await;
    let path = psp.dir.path().join("ledger.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<_> = whole.lines().collect();
    lines[1] = "{\"account\": broken";
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let error = start_in(&psp.dir).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { line: 2, .. }), "{error}");
    assert!(error.to_string().starts_with("line 2 of the ledger "), "{error}");

    // A line that is there twice is no fact either.
    let first = whole.lines().next().unwrap();
    std::fs::write(&path, format!("{first}\n{first}\n")).unwrap();
    let error = start_in(&psp.dir).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { line: 2, .. }), "{error}");
}

#[tokio::test]
async fn a_used_address_is_refused_and_frees_the_ledger() {
    let psp = Fixture::start().await;
    let dir = tempfile::tempdir().unwrap();
    let options = |listen| kontor_sandbox_psp::Options { data: dir.path().into(), listen };
    let error = kontor_sandbox_psp::start(options(psp.running.addr)).await.unwrap_err();
    assert!(matches!(error, Error::Listen { .. }), "{error}");
    start_in(&dir).await.unwrap().stop().await;
}

/// Ends the process when a test fails halfway.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const CHILD_DIR: &str = "KONTOR_TEST_SANDBOX_DIR";

/// The other process of the tests below; by itself it does nothing.
#[tokio::test]
async fn child_process() {
    let Some(dir) = std::env::var_os(CHILD_DIR).map(std::path::PathBuf::from) else { return };
    let options =
        kontor_sandbox_psp::Options { data: dir.clone(), listen: ([127, 0, 0, 1], 0).into() };
    let running = kontor_sandbox_psp::start(options).await.unwrap();
    std::fs::write(dir.join("addr.new"), running.url()).unwrap();
    std::fs::rename(dir.join("addr.new"), dir.join("addr")).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sandbox_psp::restart::child_process"]).env(CHILD_DIR, dir.path());
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut process = Process(process);
    let url = until(async || std::fs::read_to_string(dir.path().join("addr")).ok()).await;
    let error = start_in(&dir).await.unwrap_err();
    assert!(matches!(error, Error::InUse(_)), "two processes on one ledger: {error}");

    let client = Arc::new(
        Sandbox::new(Options {
            url,
            account: "shop".into(),
            webhook_secret: SECRET.into(),
            ..Options::default()
        })
        .unwrap(),
    );
    let (acknowledged, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (client, acknowledged) = (Arc::clone(&client), Arc::clone(&acknowledged));
            let over = Arc::clone(&over);
            tokio::spawn(async move {
                for n in 0..100_000 {
                    let reference = format!("order-{task}-{n}");
                    let request = authorize(&reference, &reference, 1000, "tok_ok");
                    match client.authorize(&request).await {
                        Ok(answer) => acknowledged.lock().unwrap().push((reference, answer)),
                        Err(_) if over.load(Ordering::SeqCst) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    until(async || (acknowledged.lock().unwrap().len() >= 200).then_some(())).await;
    over.store(true, Ordering::SeqCst);
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    for task in tasks {
        task.await.unwrap();
    }

    let running = start_in(&dir).await.unwrap();
    let client = Sandbox::new(super::fixture::options(&running)).unwrap();
    let acknowledged = acknowledged.lock().unwrap().clone();
    for (reference, answer) in acknowledged {
        let payment = client.find(&reference).await.unwrap().expect(&reference);
        let expected = Authorization::Authorized { payment: payment.id, amount: gbp(1000) };
        assert_eq!(answer, expected);
    }
    running.stop().await;
}
