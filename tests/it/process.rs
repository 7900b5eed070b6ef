//! The real program as a process of its own, started on a free port and killed at will.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub struct Server {
    child: Child,
    pub url: String,
    /// The address of the admin page as it was shown, with its link if there was one.
    pub admin: String,
}

impl Server {
    /// Starts `kontor serve` on a folder and waits until it says where it listens.
    pub fn start(data: &Path, psp: &str) -> Self {
        Self::start_with(data, psp, |_| {})
    }

    /// The same, with a command that is changed first.
    pub fn start_with(data: &Path, psp: &str, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = kontor();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--sandbox-psp", psp, "--data"])
            .arg(data)
            .env("KONTOR__SHOP__TIMER_POLL_MS", "20")
            .env("KONTOR__SANDBOX__BREAKER__WAIT_MS", "100")
            .env("KONTOR__LOG__FILTER", "error")
            .stdout(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut admin = String::new();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.map_while(Result::ok).find_map(|line| {
            if let Some(url) = line.trim().strip_prefix("admin ") {
                admin = url.trim().to_owned();
            }
            let url = line.trim().strip_prefix("API ")?.trim().strip_suffix("/v1")?.to_owned();
            Some(url)
        });
        Self { child, url: url.expect("the server did not start"), admin }
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has died by itself as by `kill -9`.
    pub fn died(mut self) {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
    }

    /// Asks it to stop, and answers its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().unwrap().code()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// The lines of its log, if its command has a pipe for them.
    pub fn log(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.child.stderr.take().unwrap()).lines().map_while(Result::ok)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, away from any configuration of the folder that the tests run in.
pub fn kontor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kontor"));
    command.current_dir(std::env::temp_dir());
    command
}

/// What `kontor serve` says on a folder that it refuses.
pub fn serve_fails(data: &Path) -> String {
    let told =
        kontor().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).output().unwrap();
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!words.contains("panicked"), "{words}");
    words
}

/// Makes an admin key in a folder.
pub fn key(data: &Path) -> String {
    let made = kontor()
        .args(["key", "create", "--scope", "admin", "--json", "--data"])
        .arg(data)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let json: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    json["key"].as_str().unwrap().to_owned()
}
