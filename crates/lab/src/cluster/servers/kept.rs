//! A server (NATS or Redis) that keeps its port and folder when it is killed and restarted. The
//! program of each, and the check that it answers, are in a file of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Care, PATIENCE, ServerProcess};
use super::{Error, Signal, free_port, make};

/// A server's port and folder, and its process while it runs.
#[derive(Debug)]
pub struct KeptServer {
    process: Option<ServerProcess>,
    pub(super) dir: PathBuf,
    pub(super) port: u16,
    /// More arguments of its program.
    pub(super) settings: Vec<String>,
}

impl KeptServer {
    /// A free port, and a folder.
    pub(super) fn new(dir: &Path, settings: &[String]) -> Result<Self, Error> {
        let (dir, port) = (make(dir.to_owned())?, free_port()?);
        Ok(Self { process: None, dir, port, settings: settings.to_vec() })
    }

    /// Starts its program, and waits until it answers.
    pub(super) fn run(
        &mut self,
        name: &str,
        command: Command,
        answers: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let log = self.dir.join(format!("{name}.log"));
        let mut process = ServerProcess::spawn(name, command, &log, Care::default())?;
        process.until(answers)?;
        self.process = Some(process);
        Ok(())
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<&ServerProcess> {
        self.process.as_ref()
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it as an administrator does.
    ///
    /// # Errors
    /// [`Error`].
    pub fn stop(&mut self) -> Result<(), Error> {
        let Some(process) = self.process.take() else { return Ok(()) };
        process.stop(Signal::TERM, PATIENCE).map(drop)
    }
}
