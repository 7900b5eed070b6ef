//! One server process: it is watched while it starts, gets signals, and never outlives whoever
//! started it.
//!
//! A shell stands guard over each process. It waits on a pipe that closes when the starter is gone,
//! even by `kill -9`, and then ends the process and removes what it was told to.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

use super::Error;

/// How long a server may take to answer, or to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// So many lines of a log are shown.
const LOG_LINES: usize = 30;
/// What the guard does: `$1` process, `$2` its signal, `$3` a folder to remove, if any.
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

/// What is special about a process.
#[derive(Clone, Copy, Debug)]
pub struct Care<'a> {
    /// The signal that ends it when the starter is gone.
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
    /// Starts one whose output is added to the file `log`, in a process group of its own: Ctrl-C
    /// of a terminal does not reach it.
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

    /// Its number.
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

    /// How it ended, if it has.
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

    /// Tells it to end by a signal, and waits until it has; how it ended, and the end of its log.
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

    /// Ends it at once, as `kill -9` does, with all processes of its group.
    pub fn kill(self) {}

    /// The end of what it wrote.
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
        // The guard goes first: it must not signal a number that may be somebody else's by then.
        // What has ended already cannot be ended, and what cannot be ended cannot be helped.
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
    fn a_dropped_process_is_gone_with_its_children() {
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

    /// Whether a process runs; one that waits to be reaped by somebody else does not.
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
    fn one_that_ends_at_once_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no luck >&2; exit 3"]);
        let log = dir.path().join("log");
        let mut process = ServerProcess::spawn("loser", command, &log, Care::default()).unwrap();
        let error = process.until(|| false).unwrap_err().to_string();
        assert!(error.contains("loser ended") && error.contains("no luck"), "{error}");
    }

    #[test]
    fn a_guard_ends_what_its_starter_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let care = Care { end: Signal::TERM, remove: Some(&folder) };
        // The pipe closes with the end of the one who holds it.
        let mut guard = guard(&child, care).unwrap();
        drop(guard.stdin.take());
        let status = child.wait().unwrap();
        assert!(!status.success());
        guard.wait().unwrap();
        assert!(!folder.exists());
    }
}
