//! A NATS server with JetStream.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::kept::KeptServer;
use super::{Error, Program, local};

/// Timeout of one answer.
const ANSWER: Duration = Duration::from_secs(1);

/// A server that keeps its port and its store when it is killed.
#[derive(Debug)]
pub struct Nats(KeptServer);

impl Deref for Nats {
    type Target = KeptServer;

    fn deref(&self) -> &KeptServer {
        &self.0
    }
}

impl DerefMut for Nats {
    fn deref_mut(&mut self) -> &mut KeptServer {
        &mut self.0
    }
}

impl Nats {
    /// Starts one in a folder.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start(dir: &Path) -> Result<Self, Error> {
        Self::start_with(dir, &[])
    }

    /// Starts one in a folder with these settings more, each an argument.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start_with(dir: &Path, settings: &[String]) -> Result<Self, Error> {
        let mut nats = Self(KeptServer::new(dir, settings)?);
        nats.start_again()?;
        Ok(nats)
    }

    /// Starts it again, on the same port and store.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start_again(&mut self) -> Result<(), Error> {
        let mut command = Command::new(Program::Nats.find()?);
        let port = self.0.port;
        let args = ["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"];
        command.args(args).arg(self.store()).args(&self.0.settings);
        self.0.run("nats-server", command, || answers(port))
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", local(self.0.port))
    }

    /// Kills it, and deletes JetStream's store.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn wipe(&mut self) -> Result<(), Error> {
        self.kill();
        let store = self.store();
        if store.exists() {
            std::fs::remove_dir_all(&store).map_err(Error::io(store.display().to_string()))?;
        }
        Ok(())
    }

    fn store(&self) -> PathBuf {
        self.0.dir.join("store")
    }
}

/// Whether it greets, with JetStream, and answers a ping. One that wants TLS or a password only greets.
fn answers(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&local(port), ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let mut line =
            || lines.next().unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()));
        let greeting = line()?;
        let wants = ["\"tls_required\":true", "\"auth_required\":true"];
        if wants.iter().any(|want| greeting.contains(want)) {
            return Ok(true);
        }
        stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n")?;
        let good = greeting.starts_with("INFO ") && greeting.contains("\"jetstream\":true");
        Ok::<bool, std::io::Error>(good && line()? == "PONG")
    };
    ask().unwrap_or(false)
}
