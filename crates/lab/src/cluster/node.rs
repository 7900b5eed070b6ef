//! A node of the cluster: this program as a server in a process of its own, which can be stopped,
//! killed and started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::servers::{Care, Error, ServerProcess, Signal, free_port, get, local};
use crate::program::Kontor;

/// The longest time of an orderly stop.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// The addresses that a node uses.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The PostgreSQL database.
    pub store: String,
    /// NATS.
    pub bus: String,
    /// Redis.
    pub cache: String,
    /// The sandbox payment provider.
    pub psp: String,
    /// More settings: names as in `KONTOR__SECTION__KEY`, and values.
    pub settings: Vec<(&'static str, String)>,
}

/// A node that keeps its address and folder when it is killed.
#[derive(Debug)]
pub struct ServerNode {
    name: String,
    addr: SocketAddr,
    program: Kontor,
    dir: PathBuf,
    process: Option<ServerProcess>,
}

impl ServerNode {
    /// A node on a free port that is not running yet.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(name: &str, program: &Kontor, dir: &Path) -> Result<Self, Error> {
        let addr = local(free_port()?);
        let program = program.clone();
        Ok(Self { name: name.to_owned(), addr, program, dir: dir.join(name), process: None })
    }

    /// Starts or restarts it. It does not answer yet: [`ServerNode::answers`].
    ///
    /// # Errors
    /// [`Error`].
    pub fn start(&mut self, around: &Surroundings) -> Result<(), Error> {
        let made = std::fs::create_dir_all(&self.dir);
        made.map_err(Error::io(self.dir.display().to_string()))?;
        let mut command = self.program.command();
        command
            .args(["serve", "--listen", &self.addr.to_string(), "--data"])
            .arg(&self.dir)
            .args(["--sandbox-psp", &around.psp])
            // This folder has no configuration file.
            .current_dir(&self.dir)
            .env("KONTOR__STORE__URL", &around.store)
            .env("KONTOR__BUS__URL", &around.bus)
            .env("KONTOR__CACHE__URL", &around.cache)
            .env("KONTOR__CLUSTER__NODE", &self.name)
            .env("KONTOR__LOG__FILTER", "warn");
        for (name, value) in &around.settings {
            command.env(name, value);
        }
        let log = self.dir.join("log");
        self.process = Some(ServerProcess::spawn(&self.name, command, &log, Care::default())?);
        Ok(())
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// [`Error::Failed`], with the end of its log.
    pub fn answers(&mut self) -> Result<(), Error> {
        let addr = self.addr;
        match &mut self.process {
            Some(process) => {
                process.until(|| get(addr, "/livez").is_ok_and(|(status, _)| status == 200))
            }
            None => Ok(()),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Sends it a signal; no effect if it is not running.
    ///
    /// # Errors
    /// [`Error`].
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal(signal))
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it, and waits until it has ended.
    ///
    /// # Errors
    /// [`Error::Failed`], with the end of its log, after a timeout or a failure.
    pub fn stop(&mut self) -> Result<(), Error> {
        let Some(process) = self.process.take() else { return Ok(()) };
        let (status, log) = process.stop(Signal::TERM, STOP_WITHIN)?;
        if status.success() { Ok(()) } else { Err(Error::ended(&self.name, status, log)) }
    }

    /// Returns the exit status if the node has ended by itself; it can then be started again.
    pub fn take_ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.ended().ok()??;
        self.process = None;
        Some(status)
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.ended(), Ok(None)))
    }

    /// The end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(ServerProcess::log).unwrap_or_default()
    }
}
