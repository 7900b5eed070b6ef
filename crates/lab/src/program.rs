//! Runs kontor's commands as processes, for what the API does not offer.
//!
//! Deliberately not here: long-running servers (`cluster`, `crash_test`).

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;

use crate::{Error, blocking};

/// The program `kontor`.
#[derive(Clone, Debug)]
pub struct Kontor(PathBuf);

/// The location of a shop's store.
#[derive(Clone, Copy, Debug)]
pub enum StoreLocation<'a> {
    /// In a data folder.
    Folder(&'a Path),
    /// In a PostgreSQL database, by its URL.
    Database(&'a str),
}

impl Kontor {
    /// The program at a path.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Creates a command of the program, without kontor's settings in its environment.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KONTOR_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Creates an administrator's API key, and the store if there is none.
    ///
    /// # Errors
    /// [`Error`]: the program cannot be run, or it failed, with its message.
    pub fn create_key(&self, store: StoreLocation<'_>, name: &str) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Created {
            key: String,
        }
        let words = ["key", "create", "--scope", "admin", "--name", name, "--json"];
        let done = self.ended(&words, store)?;
        let created = serde_json::from_slice::<Created>(&done.stdout);
        match created {
            Ok(created) if done.status.success() => Ok(created.key),
            _ => Err(Error::Failed(text(&done.stderr))),
        }
    }

    /// Runs `kontor verify` on a store, with `psp` also on the ledger of the sandbox payment
    /// provider at that URL.
    ///
    /// # Errors
    /// The violations, or why it could not be checked.
    pub fn verify(&self, store: StoreLocation<'_>, psp: &str) -> Result<(), String> {
        let done = self.ended(&["verify", "--sandbox-psp", psp], store);
        let done = done.map_err(|error| format!("cannot verify the store: {error}"))?;
        match done.status.code() {
            Some(0) => Ok(()),
            Some(1) => Err(text(&done.stdout)),
            _ => Err(format!("cannot verify the store: {}", text(&done.stderr))),
        }
    }

    /// Runs a command to its end. Its process group is its own, so Ctrl-C reaches only this
    /// process.
    fn ended(&self, words: &[&str], store: StoreLocation<'_>) -> Result<Output, Error> {
        let mut command = self.command();
        command.args(words).process_group(0);
        match store {
            StoreLocation::Folder(dir) => command.arg("--data").arg(dir),
            StoreLocation::Database(url) => command.args(["--store", url]),
        };
        Ok(blocking(|| command.output())?)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
