//! A PostgreSQL server, and its replicas.
//!
//! PostgreSQL refuses to run as root; for root it runs as the user `postgres`, which gets the
//! folder. Every local user may connect; other machines cannot.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::process::{Care, PATIENCE, ServerProcess};
use super::{Error, Program, Signal, free_port, local, make};

/// The database user that exists from the start.
const USER: &str = "postgres";

/// Settings that differ from PostgreSQL's defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether commits are synced. Without syncs, commits survive the end of any process, but not a
    /// crash of the machine.
    pub fsync: bool,
    /// The most connections.
    pub connections: u16,
    /// More settings, each `name=value`.
    pub settings: Vec<String>,
    /// Whether the server's folder is removed when its starter is killed or ends without stopping
    /// it.
    pub remove: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { fsync: false, connections: 200, settings: Vec::new(), remove: false }
    }
}

/// How it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Connections are closed, transactions in progress are rolled back, all data are written.
    Fast,
    /// Everything is dropped; the next start recovers from the write-ahead log.
    Immediate,
    /// `kill -9`.
    Kill,
}

/// A server that keeps its port and its folder when it is stopped.
#[derive(Debug)]
pub struct PostgresServer {
    process: Option<ServerProcess>,
    bin: PathBuf,
    owner: Option<(u32, u32)>,
    dir: PathBuf,
    port: u16,
    options: Options,
}

impl PostgresServer {
    /// Creates one in a folder and starts it, for temporary data.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start(dir: &Path) -> Result<Self, Error> {
        Self::start_with(dir, Options::default())
    }

    /// Creates a server with these options in a folder and starts it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start_with(dir: &Path, options: Options) -> Result<Self, Error> {
        let mut postgres = Self::prepare(dir, options)?;
        let mut initdb = postgres.program("initdb");
        initdb
            .args(["--username", USER, "--auth", "trust", "--encoding", "UTF8"])
            .args(["--locale", "C.UTF-8", "--no-sync", "--no-instructions", "--pgdata"])
            .arg(postgres.data());
        run("initdb", initdb)?;
        postgres.start_again()?;
        Ok(postgres)
    }

    /// A replica of this one in another folder, which answers reads.
    ///
    /// # Errors
    /// [`Error`].
    pub fn replica(&self, dir: &Path) -> Result<Self, Error> {
        let mut replica = Self::prepare(dir, self.options.clone())?;
        let mut copy = replica.program("pg_basebackup");
        copy.args(["--host", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--username", USER, "--checkpoint", "fast", "--wal-method", "stream"])
            .args(["--no-sync", "--write-recovery-conf", "--pgdata"])
            .arg(replica.data());
        run("pg_basebackup", copy)?;
        replica.start_again()?;
        Ok(replica)
    }

    fn prepare(dir: &Path, options: Options) -> Result<Self, Error> {
        let missing = Error::Missing { program: "postgres", package: "postgresql" };
        let found = Program::Postgres.find()?;
        let bin = found.parent().ok_or(missing)?.to_owned();
        let (dir, port) = (make(dir.to_owned())?, free_port()?);
        let owner = owner()?;
        if let Some((user, group)) = owner {
            chown(&dir, Some(user), Some(group)).map_err(Error::io(dir.display().to_string()))?;
            dir.ancestors().skip(1).try_for_each(let_in)?;
        }
        Ok(Self { process: None, bin, owner, dir, port, options })
    }

    /// Starts it again, on the same port and folder; it answers when it has recovered.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start_again(&mut self) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.try_start() {
                // The last processes of a killed server are still ending.
                Err(Error::Failed { log, .. })
                    if log.contains("still in use") && Instant::now() < until =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }

    fn try_start(&mut self) -> Result<(), Error> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        let fixed = [
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            // Shared memory in the folder, so that none is left behind.
            "dynamic_shared_memory_type=mmap".to_owned(),
            "timezone=UTC".to_owned(),
            "log_timezone=UTC".to_owned(),
            format!("fsync={}", if self.options.fsync { "on" } else { "off" }),
            format!("max_connections={}", self.options.connections),
        ];
        for setting in fixed.iter().chain(&self.options.settings) {
            command.args(["-c", setting]);
        }
        let log = self.dir.join("postgres.log");
        let _ = std::fs::remove_file(&log);
        let remove = self.options.remove.then_some(self.dir.as_path());
        let care = Care { end: Signal::QUIT, remove };
        let mut process = ServerProcess::spawn("postgres", command, &log, care)?;
        let ready = self.bin.join("pg_isready");
        let port = self.port.to_string();
        process.until(|| {
            let mut ask = Command::new(&ready);
            ask.args(["-q", "-h", "127.0.0.1", "-p", &port, "-d", USER, "-U", USER]);
            plain(&mut ask).status().is_ok_and(|status| status.success())
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it, and waits until it has ended.
    ///
    /// # Errors
    /// [`Error`].
    pub fn stop(&mut self, how: Stop) -> Result<(), Error> {
        let Some(process) = self.process.take() else { return Ok(()) };
        let signal = match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
            Stop::Kill => Signal::KILL,
        };
        process.stop(signal, PATIENCE).map(drop)
    }

    /// Creates an empty database; returns its URL.
    ///
    /// # Errors
    /// [`Error`].
    pub fn create_database(&self, name: &str) -> Result<String, Error> {
        self.sql(USER, &format!("CREATE DATABASE \"{name}\""))?;
        Ok(self.url(name))
    }

    /// Runs statements in a database; returns their rows, one per line, columns separated by `|`.
    ///
    /// # Errors
    /// [`Error::Failed`] with PostgreSQL's message.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String, Error> {
        let mut psql = self.program("psql");
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", USER, "-d", database])
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statements]);
        run("psql", psql)
    }

    /// The URL of one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@{}/{database}", local(self.port))
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, while it runs. A signal reaches the postmaster only.
    #[must_use]
    pub fn process(&self) -> Option<&ServerProcess> {
        self.process.as_ref()
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// One of PostgreSQL's programs, as the user that may run it.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        plain(&mut command).current_dir(&self.dir);
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // If this fails, it is killed.
        let _ = self.stop(Stop::Immediate);
    }
}

/// Removes environment variables for other PostgreSQL servers, and sets the language to English.
fn plain(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C")
}

/// The user that PostgreSQL runs as, when we are root.
fn owner() -> Result<Option<(u32, u32)>, Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(Error::io("/etc/passwd"))?;
    let missing = Error::Missing { program: "the user postgres", package: "postgresql" };
    user(&users, USER).map(Some).ok_or(missing)
}

/// Lets every user traverse a temporary folder; any other must already allow it.
fn let_in(folder: &Path) -> Result<(), Error> {
    let told = || Error::io(folder.display().to_string());
    let mode = folder.metadata().map_err(told())?.permissions().mode();
    if mode & 0o001 != 0 {
        return Ok(());
    }
    let temporary = [Path::new("/tmp"), Path::new("/var/tmp"), &std::env::temp_dir()];
    if temporary.iter().any(|above| folder.starts_with(above)) {
        let mode = std::fs::Permissions::from_mode(mode | 0o001);
        return std::fs::set_permissions(folder, mode).map_err(told());
    }
    let what = format!("cannot enter {}, as the user {USER}", folder.display());
    Err(Error::Failed { name: "postgres".into(), what, log: "choose another folder".into() })
}

/// The numbers of a user and its group in the text of `/etc/passwd`.
fn user(users: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = users.lines().map(|line| line.split(':'));
    let mut found = fields.find_map(|mut line| (line.next()? == name).then_some(line))?;
    let user = found.nth(1)?.parse().ok()?;
    Some((user, found.next()?.parse().ok()?))
}

/// Runs a program to its end; returns its output.
fn run(name: &str, mut command: Command) -> Result<String, Error> {
    let told = command.output().map_err(Error::io(name))?;
    if told.status.success() {
        return Ok(String::from_utf8_lossy(&told.stdout).trim_end().to_owned());
    }
    let mut log = String::from_utf8_lossy(&told.stdout).into_owned();
    log.push_str(&String::from_utf8_lossy(&told.stderr));
    Err(Error::ended(name, told.status, log))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_lookup_matches_the_whole_user_name() {
        let users = "root:x:0:0::/:/bin/sh\npostgres2:x:7:8::/:\npostgres:x:105:113:Adm:/:\n";
        assert_eq!(user(users, "postgres"), Some((105, 113)));
        assert_eq!(user(users, "nobody"), None);
    }
}
