//! Real servers for tests: one PostgreSQL for all of them, with a database for each; NATS, Redis
//! and HAProxy for each test that wants them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use kontor_lab::cluster::servers::{
    Haproxy, Nats, PostgresOptions, PostgresServer, ProxyPlan, Redis, Signal, Stop, free_port,
    local,
};
use tempfile::TempDir;

/// A fresh database in the PostgreSQL of this run of the tests; its address. It is not for tests
/// that stop the server: those start their own.
pub fn database() -> String {
    static SHARED: OnceLock<PostgresServer> = OnceLock::new();
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let shared = SHARED.get_or_init(|| {
        // No destructor runs at the end of a test run: the server's guard removes the folder.
        let dir = format!("kontor-test-postgres-{}", std::process::id());
        let options = PostgresOptions { remove: true, connections: 500, ..Default::default() };
        PostgresServer::start_with(&std::env::temp_dir().join(dir), options).unwrap()
    });
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    shared.create_database(&format!("test{number}")).unwrap()
}

/// A server with the folder that it lives in.
pub struct Own<S> {
    pub server: S,
    _dir: TempDir,
}

impl<S> Own<S> {
    fn new<E: std::fmt::Display>(start: impl FnOnce(&Path) -> Result<S, E>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = start(&dir.path().join("server")).unwrap_or_else(|error| panic!("{error}"));
        Self { server, _dir: dir }
    }
}

/// A PostgreSQL of the test's own, to be stopped and killed.
pub fn postgres() -> Own<PostgresServer> {
    Own::new(PostgresServer::start)
}

/// A NATS server with JetStream of the test's own.
pub fn nats() -> Own<Nats> {
    Own::new(Nats::start)
}

/// A Redis server of the test's own.
pub fn redis() -> Own<Redis> {
    Own::new(Redis::start)
}

fn table(postgres: &PostgresServer, url: &str) -> (String, String) {
    let name = url.rsplit('/').next().unwrap().to_owned();
    let made = postgres.sql(&name, "CREATE TABLE n (n int); INSERT INTO n VALUES (7)").unwrap();
    (name, made)
}

#[test]
fn postgres_keeps_commits_over_any_stop() {
    let mut own = postgres();
    let postgres = &mut own.server;
    let url = postgres.create_database("shop").unwrap();
    assert_eq!(url, format!("postgres://postgres@127.0.0.1:{}/shop", postgres.port()));
    let (name, _) = table(postgres, &url);
    for how in [Stop::Fast, Stop::Immediate, Stop::Kill] {
        let before = postgres.process().unwrap().pid();
        postgres.stop(how).unwrap();
        assert!(postgres.sql(&name, "SELECT 1").is_err(), "{how:?}");
        postgres.start_again().unwrap();
        assert_ne!(postgres.process().unwrap().pid(), before);
        assert_eq!(postgres.sql(&name, "SELECT n FROM n").unwrap(), "7", "{how:?}");
    }
    let error = postgres.sql(&name, "SELECT nothing").unwrap_err().to_string();
    assert!(error.contains("does not exist"), "{error}");
}

#[test]
fn a_replica_follows() {
    let mut own = postgres();
    own.server.create_database("shop").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let replica = own.server.replica(&dir.path().join("replica")).unwrap();
    own.server.sql("shop", "CREATE TABLE n (n int); INSERT INTO n VALUES (7)").unwrap();
    let sees = || replica.sql("shop", "SELECT n FROM n").is_ok_and(|answer| answer == "7");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !sees() {
        assert!(std::time::Instant::now() < until, "the replica never saw it");
    }
    assert!(replica.sql("shop", "INSERT INTO n VALUES (8)").is_err());
    own.server.stop(Stop::Fast).unwrap();
    assert!(sees());
}

#[test]
fn each_database_of_the_shared_server_is_fresh() {
    let (one, two) = (database(), database());
    assert_ne!(one, two);
}

#[tokio::test]
async fn nats_keeps_its_store_over_a_kill_and_loses_it_when_it_is_wiped() {
    let mut own = nats();
    let url = own.server.url();
    let stream = async || {
        let context = async_nats::jetstream::new(async_nats::connect(&url).await.unwrap());
        let stream = context.get_or_create_stream("TEST").await.unwrap();
        (stream.cached_info().state.messages, context)
    };
    let (_, context) = stream().await;
    context.publish("TEST", "one".into()).await.unwrap().await.unwrap();
    for (wiped, left) in [(false, 1), (true, 0)] {
        own.server.kill();
        assert!(async_nats::connect(&url).await.is_err());
        if wiped {
            own.server.wipe().unwrap();
        }
        own.server.start_again().unwrap();
        assert_eq!(stream().await.0, left, "wiped: {wiped}");
    }
}

#[tokio::test]
async fn redis_forgets_when_it_is_killed_or_flushed() {
    let mut own = redis();
    for flush in [false, true] {
        let client = redis::Client::open(own.server.url()).unwrap();
        let mut line = client.get_multiplexed_async_connection().await.unwrap();
        let set = redis::cmd("SET").arg("a").arg("1").to_owned();
        set.exec_async(&mut line).await.unwrap();
        if flush {
            own.server.flush().unwrap();
        } else {
            own.server.kill();
            assert!(client.get_multiplexed_async_connection().await.is_err());
            own.server.start_again().unwrap();
            line = client.get_multiplexed_async_connection().await.unwrap();
        }
        let mut get = redis::cmd("GET");
        let found: Option<String> = get.arg("a").query_async(&mut line).await.unwrap();
        assert_eq!(found, None);
    }
}

#[test]
fn the_balancer_knows_that_no_node_is_up() {
    let node = || local(free_port().unwrap());
    let plan = ProxyPlan::before([node(), node(), node()]).unwrap();
    let mut own = Own::new(|dir: &Path| Haproxy::start(dir, plan));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while own.server.up().unwrap() != [false; 3] {
        assert!(std::time::Instant::now() < until, "nodes that are not there are up");
    }
    own.server.process().unwrap().signal(Signal::STOP).unwrap();
    own.server.kill();
    assert!(own.server.up().is_err());
    own.server.start_again().unwrap();
    own.server.stop().unwrap();
}

#[test]
fn the_shared_folder_is_gone_with_its_run() {
    // A run of its own, of one test that needs the shared server.
    let test = "erasure::a_command_makes_no_master_key_in_a_database";
    let mut run = Command::new(std::env::current_exe().unwrap());
    let mut run = run.args(["--exact", test]).stdout(Stdio::null()).spawn().unwrap();
    let folder = std::env::temp_dir().join(format!("kontor-test-postgres-{}", run.id()));
    let mut was_there = false;
    let ended = loop {
        was_there |= folder.exists();
        match run.try_wait().unwrap() {
            Some(ended) => break ended,
            None => std::thread::yield_now(),
        }
    };
    assert!(ended.success() && was_there, "{ended}");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while folder.exists() {
        assert!(std::time::Instant::now() < until, "{} is left", folder.display());
    }
}
