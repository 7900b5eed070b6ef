//! The connection to NATS, and a server of a test's own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use kontor::bus::Options;
use kontor::bus::nats::Connection;
use kontor_lab::cluster::servers::Nats;

use super::until;
use crate::servers;

pub struct Server(servers::Own<Nats>);

impl Server {
    pub fn start() -> Self {
        Self(servers::nats())
    }

    /// Starts it again where it was, on what its folder has.
    pub fn resume(&mut self) {
        self.0.server.start_again().unwrap();
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.0.server.kill();
    }

    /// Removes all that it keeps, while it does not run.
    pub fn wipe(&mut self) {
        self.0.server.wipe().unwrap();
    }

    pub fn addr(&self) -> std::net::SocketAddr {
        kontor_lab::cluster::servers::local(self.0.server.port())
    }

    pub fn options(&self) -> Options {
        Options { url: self.0.server.url(), ..Options::default() }
    }

    /// A connection that is not one of a node, and what it hears of a subject from now on.
    pub async fn stranger(&self, subject: &str) -> (async_nats::Client, async_nats::Subscriber) {
        let client = async_nats::connect(self.0.server.url()).await.unwrap();
        let heard = client.subscribe(subject.to_owned()).await.unwrap();
        // The server does what one connection asks for in order.
        let mut ready = client.subscribe("ready").await.unwrap();
        client.publish("ready", "".into()).await.unwrap();
        ready.next().await.unwrap();
        (client, heard)
    }

    pub async fn connect(&self, node: &str) -> Connection {
        let nats = Connection::open(&self.options(), node).await.unwrap().unwrap();
        up(&nats, true).await;
        nats
    }
}

fn read_port(file: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(file).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
}

/// Waits until a connection stands, or does not.
pub async fn up(nats: &Connection, up: bool) {
    let mut state = nats.connected();
    let waited = tokio::time::timeout(super::PATIENCE, state.wait_for(|is| *is == up));
    assert!(waited.await.is_ok(), "NATS: never {up}");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_connects_to_nats_later_and_reconnects() {
    let mut server = Server::start();
    server.kill();
    let options = Options { start_wait_ms: 50, ..server.options() };
    let nats = Connection::open(&options, "a").await.unwrap().unwrap();
    assert!(!nats.is_up());
    server.resume();
    up(&nats, true).await;
    assert!(nats.trouble().is_none());
    assert!(nats.server().unwrap().jetstream);
    server.kill();
    up(&nats, false).await;
    server.resume();
    up(&nats, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_address_there_is_no_connection_and_with_a_wrong_one_an_error() {
    assert!(Connection::open(&Options::default(), "a").await.unwrap().is_none());
    let options = Options { url: "http://u:secret@a".into(), ..Options::default() };
    let error = Connection::open(&options, "a").await.unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_the_address_opens_the_server_and_a_wrong_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("nats.conf");
    let text = "authorization { user: kontor, password: \"p@ss\" }";
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new("nats-server")
        .args(["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir"])
        .arg(dir.path())
        .arg("--config")
        .arg(&config)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ports = dir.path().join(format!("nats-server_{}.ports", child.id()));
    let mut port = None;
    until("nats-server listens", async || {
        port = read_port(&ports);
        port.is_some()
    })
    .await;
    let url = |password: &str| format!("nats://kontor:{password}@127.0.0.1:{}", port.unwrap());
    let right = Options { url: url("p%40ss"), ..Options::default() };
    let nats = Connection::open(&right, "a").await.unwrap().unwrap();
    up(&nats, true).await;
    let wrong = Options { url: url("guess"), start_wait_ms: 50, ..Options::default() };
    let nats = Connection::open(&wrong, "a").await.unwrap().unwrap();
    until("it says what is wrong", async || nats.trouble().is_some()).await;
    assert!(!nats.is_up());
    nats.flush(Duration::from_millis(1)).await;
    child.kill().unwrap();
    child.wait().unwrap();
}
