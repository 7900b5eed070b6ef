//! A server process: it is watched while it starts, gets signals, and never outlives its starter.
//!
//! A shell guards each process. It waits on a pipe that closes when the starter ends, even by `kill
//! -9`, and then ends the process and removes the given folder.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

use super::Error;

/// Timeout of a server's start and of its end.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The polling interval.
const LOOK: Duration = Duration::from_millis(5);
/// The number of log lines that are shown.
const LOG_LINES: usize = 30;
/// The guard: `$1` process, `$2` its signal, `$3` a folder to remove, if any.
const GUARD: &str = r#"
read -r _
kill -"$2" "$1" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.1
done
kill -KILL "-$1" 2>/dev/null
[ -z "$3" ] || rm -rf -- "$3"
"#;

/// A running server. It is killed when this is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    name: String,
    child: Child,
    guard: Child,
    log: PathBuf,
}

/// How a process ends when its starter has ended.
#[derive(Clone, Copy, Debug)]
pub struct Care<'a> {
    /// The signal that ends the process.
    pub end: Signal,
    /// The folder that is then removed.
    pub remove: Option<&'a Path>,
}

impl Default for Care<'_> {
    fn default() -> Self {
        Self { end: Signal::KILL, remove: None }
    }
}

impl ServerProcess {
    /// Starts a process whose output is appended to the file `log`, in a process group of its own:
    /// Ctrl-C in a terminal does not reach it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn spawn(
        name: &str,
        mut command: Command,
        log: &Path,
        care: Care<'_>,
    ) -> Result<Self, Error> {
        let file = || File::options().create(true).append(true).open(log);
        let out = file().map_err(Error::io(log.display().to_string()))?;
        let err = file().map_err(Error::io(log.display().to_string()))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let mut child = command.spawn().map_err(Error::io(format!("{name} does not start")))?;
        match guard(&child, care) {
            Ok(guard) => Ok(Self { name: name.to_owned(), child, guard, log: log.to_owned() }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Error::io(format!("cannot start the guard of {name}"))(error))
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// [`Error::Io`], also when it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let sent = kill_process(Pid::from_child(&self.child), signal);
        sent.map_err(|error| Error::io(format!("signal to {}", self.name))(error.into()))
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(Error::io(self.name.clone()))
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// [`Error::Failed`], with the end of its log, when it ends before or takes too long.
    pub fn until(&mut self, mut answers: impl FnMut() -> bool) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        while !answers() {
            if let Some(status) = self.ended()? {
                return Err(Error::ended(&self.name, status, self.log()));
            }
            if Instant::now() >= until {
                return Err(self.too_long("does not answer"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Stops it with a signal, and waits until it has ended; returns its exit status and the end of
    /// its log.
    ///
    /// # Errors
    /// [`Error::Failed`] when it takes longer than `within`; it is killed then.
    pub fn stop(mut self, signal: Signal, within: Duration) -> Result<(ExitStatus, String), Error> {
        self.signal(signal)?;
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.ended()? {
                return Ok((status, self.log()));
            }
            if Instant::now() >= until {
                return Err(self.too_long("does not end"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Kills it at once, as `kill -9` does, with its whole process group.
    pub fn kill(self) {}

    /// The end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        let Ok(file) = File::open(&self.log) else { return String::new() };
        let lines: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn too_long(&self, what: &str) -> Error {
        Error::Failed { name: self.name.clone(), what: what.to_owned(), log: self.log() }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // The guard is ended first: it must not signal a process id that may have been reused.
        // Errors mean that a process has ended already, or cannot be ended.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn guard(child: &Child, care: Care<'_>) -> std::io::Result<Child> {
    Command::new("sh")
        .args(["-c", GUARD, "guard", &child.id().to_string(), &care.end.as_raw().to_string()])
        .arg(care.remove.unwrap_or(Path::new("")))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(log: &Path) -> ServerProcess {
        let mut command = Command::new("sh");
        command.args(["-c", "echo here; sleep 1000 & wait"]);
        ServerProcess::spawn("sleeper", command, log, Care::default()).unwrap()
    }

    fn lives(pid: Pid) -> bool {
        rustix::process::test_kill_process(pid).is_ok()
    }

    #[test]
    fn dropped_process_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut process = sleeper(&log);
        let group = Pid::from_child(&process.child);
        process.until(|| std::fs::read_to_string(&log).is_ok_and(|text| text == "here\n")).unwrap();
        let child = child_of(process.pid());
        assert!(lives(group) && lives(child));
        drop(process);
        assert!(!lives(group));
        let until = Instant::now() + PATIENCE;
        while running(child) {
            assert!(Instant::now() < until, "its child lives on");
            std::thread::sleep(LOOK);
        }
    }

    /// Whether a process runs; a zombie does not.
    fn running(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn child_of(pid: u32) -> Pid {
        let until = Instant::now() + PATIENCE;
        loop {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let found = std::fs::read_to_string(path).unwrap();
            if let Some(child) = found.split_whitespace().next() {
                return Pid::from_raw(child.parse().unwrap()).unwrap();
            }
            assert!(Instant::now() < until, "it has no child");
            std::thread::sleep(LOOK);
        }
    }

    #[test]
    fn failed_start_reports_the_end_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no luck >&2; exit 3"]);
        let log = dir.path().join("log");
        let mut process = ServerProcess::spawn("loser", command, &log, Care::default()).unwrap();
        let error = process.until(|| false).unwrap_err().to_string();
        assert!(error.contains("loser ended") && error.contains("no luck"), "{error}");
    }

    #[test]
    fn guard_kills_the_process_of_a_killed_starter() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let care = Care { end: Signal::TERM, remove: Some(&folder) };
        // The pipe closes when its holder ends.
        let mut guard = guard(&child, care).unwrap();
        drop(guard.stdin.take());
        let status = child.wait().unwrap();
        assert!(!status.success());
        guard.wait().unwrap();
        assert!(!folder.exists());
    }
}
