//! A real Redis server in a folder of its own, reached by a socket there, so that it needs no port.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use kontor::actors::engine::clock::Clock;
use kontor::cache::{Cache, CacheSeal, Options};
use kontor::domain::cluster_key::ClusterKey;
use tempfile::TempDir;

pub struct Redis {
    dir: TempDir,
    child: Option<Child>,
}

impl Redis {
    pub fn start() -> Self {
        let mut redis = Self { dir: tempfile::tempdir().unwrap(), child: None };
        redis.start_again();
        redis
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// Starts it where it was, empty. Whoever connects too early tries again.
    pub fn start_again(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is not there: scripts/test installs it");
        self.child = Some(child);
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// A new client of its own, as another node has one. It may not be connected yet.
    pub async fn client(&self) -> Cache {
        self.client_with(ClusterKey::new([1; 32])).await
    }

    /// A client of a node with this key.
    pub async fn client_with(&self, key: ClusterKey) -> Cache {
        let clock = Clock::system();
        let seal = CacheSeal::new(key, Arc::new(move || clock.now()));
        Cache::open(&self.options(), seal).await.unwrap()
    }

    /// A connection of somebody who is no node.
    pub async fn stranger(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Patient enough for a busy machine: what is tested is what happens, not how fast.
    pub fn options(&self) -> Options {
        let (timeout_ms, retry_ms, poll_ms) = (500, 20, 20);
        Options { url: self.url(), timeout_ms, retry_ms, poll_ms, ..Options::default() }
    }

    /// Empties it, as by hand.
    pub async fn flush(&self) {
        redis::cmd("FLUSHALL").query_async::<()>(&mut self.stranger().await).await.unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
