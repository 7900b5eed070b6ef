//! PostgreSQL, NATS, Redis and HAProxy as child processes: each in its own folder, on a free
//! loopback port, for the demo's cluster and for tests.
//!
//! A started server answers; it stops when it is dropped, and when its starter is killed. Other
//! servers on the machine are never touched. Deliberately not here: settings for a real
//! installation (`deploy/`), and the use of the servers.

mod ask;
mod haproxy;
mod kept;
mod nats;
mod postgres;
mod process;
mod programs;
mod redis;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};

pub use self::ask::get;
pub use self::haproxy::{Haproxy, ProxyPlan};
pub use self::kept::KeptServer;
pub use self::nats::Nats;
pub use self::postgres::{Options as PostgresOptions, PostgresServer, Stop};
pub use self::process::{Care, ServerProcess, Signal};
pub use self::programs::{Program, missing};
pub use self::redis::Redis;

/// The range of drawn ports: below those for outgoing connections, so that a restarted server finds
/// its port free.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Attempts to find a free port.
const PORT_TRIES: usize = 500;

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not installed.
    #[error("{program} is not installed: apt-get install {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Its Debian package.
        package: &'static str,
    },
    /// It ended, or did not answer in time.
    #[error("{name} {what}\n{log}")]
    Failed {
        /// The server.
        name: String,
        /// The failure.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// No port is free.
    #[error("no port from {} to {} is free", PORTS.start, PORTS.end)]
    NoPort,
    /// An operation of the system failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
}

impl Error {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(super) fn ended(name: &str, status: ExitStatus, log: String) -> Self {
        Self::Failed { name: name.to_owned(), what: format!("ended: {status}"), log }
    }
}

/// A free loopback port, which this process has not returned before.
///
/// # Errors
/// [`Error::NoPort`].
pub fn free_port() -> Result<u16, Error> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..PORT_TRIES {
        let port = rand::random_range(PORTS);
        if !given.contains(&port) && TcpListener::bind(local(port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    Err(Error::NoPort)
}

/// The loopback address of a port.
#[must_use]
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Creates a folder with its parents.
fn make(dir: PathBuf) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(&dir).map_err(Error::io(dir.display().to_string()))?;
    std::path::absolute(&dir).map_err(Error::io(dir.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_port_is_never_returned_twice() {
        let ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        let different: HashSet<u16> = ports.iter().copied().collect();
        assert_eq!(different.len(), ports.len());
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
