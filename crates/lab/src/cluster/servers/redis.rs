//! A Redis server without persistence.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::kept::KeptServer;
use super::{Error, Program, local};

/// Timeout of one answer.
const ANSWER: Duration = Duration::from_secs(1);

/// A server that keeps only its port when it is killed.
#[derive(Debug)]
pub struct Redis(KeptServer);

impl Deref for Redis {
    type Target = KeptServer;

    fn deref(&self) -> &KeptServer {
        &self.0
    }
}

impl DerefMut for Redis {
    fn deref_mut(&mut self) -> &mut KeptServer {
        &mut self.0
    }
}

impl Redis {
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
        let mut redis = Self(KeptServer::new(dir, settings)?);
        redis.start_again()?;
        Ok(redis)
    }

    /// Starts it again on the same port, empty.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start_again(&mut self) -> Result<(), Error> {
        let mut command = Command::new(Program::Redis.find()?);
        command
            .args(["--bind", "127.0.0.1", "--port", &self.0.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"])
            .arg(&self.0.dir)
            .args(&self.0.settings);
        let port = self.0.port;
        let well = || call(port, "PING").is_ok_and(|answer| answer == "+PONG");
        self.0.run("redis-server", command, well)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", local(self.0.port))
    }

    /// Deletes its whole content.
    ///
    /// # Errors
    /// [`Error`].
    pub fn flush(&self) -> Result<(), Error> {
        let answer = call(self.0.port, "FLUSHALL").map_err(Error::io("redis-server"))?;
        if answer == "+OK" {
            return Ok(());
        }
        let what = format!("does not flush: {answer}");
        Err(Error::Failed { name: "redis-server".into(), what, log: String::new() })
    }
}

/// Sends a command without arguments; returns the first line of its answer.
fn call(port: u16, word: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&local(port), ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(format!("{word}\r\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
