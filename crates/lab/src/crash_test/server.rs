//! A kontor server as a process of its own, which the crash test kills. The load is in `buyers`.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::program::Kontor;

/// A `kontor serve` on a free port; killed when dropped.
#[derive(Debug)]
pub struct ServeProcess {
    child: Child,
    /// Its URL.
    pub url: String,
}

impl ServeProcess {
    /// Starts one on a folder and waits until it prints its address. It gets no settings from the
    /// environment.
    ///
    /// # Errors
    /// The system's error; also if the server ends before it listens.
    pub fn start(program: &Kontor, data: &Path, psp: &str) -> std::io::Result<Self> {
        let data = std::path::absolute(data)?;
        let mut command = program.command();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--sandbox-psp", psp, "--data"])
            .arg(&data)
            // This folder has no configuration file.
            .current_dir(&data)
            .env("KONTOR__LOG__FILTER", "error")
            .env("KONTOR__SHOP__TIMER_POLL_MS", "20")
            .env("KONTOR__SHOP__PAYMENT_DEADLINE_SECS", "20")
            .env("KONTOR__SANDBOX__BREAKER__WAIT_MS", "100")
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let out = child.stdout.take().map(BufReader::new);
        let mut lines = out.into_iter().flat_map(BufReader::lines).map_while(Result::ok);
        let url = lines.find_map(|line| {
            Some(line.trim().strip_prefix("API ")?.trim().strip_suffix("/v1")?.to_owned())
        });
        match url {
            Some(url) => Ok(Self { child, url }),
            None => Err(std::io::Error::other(format!("the server ended: {}", child.wait()?))),
        }
    }

    /// Kills it at once, as `kill -9` does.
    ///
    /// # Errors
    /// The system's error.
    pub fn kill(mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for ServeProcess {
    fn drop(&mut self) {
        // These fail only if it has ended already, or cannot be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
