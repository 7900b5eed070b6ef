//! HAProxy in front of three nodes, with the configuration that `deploy/` gives to everybody.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ask::get;
use super::process::{Care, PATIENCE, ServerProcess};
use super::{Error, Program, Signal, free_port, local, make};

/// What is run: the same file that an administrator takes.
const CONFIG: &str = include_str!("../../../../../deploy/haproxy.cfg");

/// Where everything listens.
#[derive(Clone, Copy, Debug)]
pub struct ProxyPlan {
    /// The balancer.
    pub balancer: SocketAddr,
    /// Its page of figures.
    pub stats: SocketAddr,
    /// The nodes behind it.
    pub nodes: [SocketAddr; 3],
}

impl ProxyPlan {
    /// A balancer on free ports.
    ///
    /// # Errors
    /// [`Error::NoPort`].
    pub fn before(nodes: [SocketAddr; 3]) -> Result<Self, Error> {
        Ok(Self { balancer: local(free_port()?), stats: local(free_port()?), nodes })
    }

    /// What the configuration asks of the environment.
    fn names(&self) -> [(&'static str, SocketAddr); 5] {
        let [one, two, three] = self.nodes;
        [
            ("KONTOR_BALANCER", self.balancer),
            ("KONTOR_BALANCER_STATS", self.stats),
            ("KONTOR_NODE_1", one),
            ("KONTOR_NODE_2", two),
            ("KONTOR_NODE_3", three),
        ]
    }
}

/// A load balancer that keeps its ports over a kill.
#[derive(Debug)]
pub struct Haproxy {
    process: Option<ServerProcess>,
    dir: PathBuf,
    plan: ProxyPlan,
}

impl Haproxy {
    /// Starts one in a folder. It answers at once; nodes are found in the half second after.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start(dir: &Path, plan: ProxyPlan) -> Result<Self, Error> {
        let dir = make(dir.to_owned())?;
        let file = dir.join("haproxy.cfg");
        std::fs::write(&file, CONFIG).map_err(Error::io(file.display().to_string()))?;
        let mut haproxy = Self { process: None, dir, plan };
        haproxy.start_again()?;
        Ok(haproxy)
    }

    /// Starts it again, on the same ports.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start_again(&mut self) -> Result<(), Error> {
        let mut command = Command::new(Program::Haproxy.find()?);
        command.arg("-db").arg("-f").arg(self.dir.join("haproxy.cfg")).current_dir(&self.dir);
        for (name, addr) in self.plan.names() {
            command.env(name, addr.to_string());
        }
        let log = self.dir.join("haproxy.log");
        let mut process = ServerProcess::spawn("haproxy", command, &log, Care::default())?;
        process.until(|| self.figures().is_ok())?;
        self.process = Some(process);
        Ok(())
    }

    /// Where the shop is, for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.plan.balancer)
    }

    /// Its page of figures.
    #[must_use]
    pub fn stats_url(&self) -> String {
        format!("http://{}", self.plan.stats)
    }

    /// Which nodes it sends requests to, in the order of the plan.
    ///
    /// # Errors
    /// [`Error::Io`] when it does not say.
    pub fn up(&self) -> Result<[bool; 3], Error> {
        let figures = self.figures().map_err(Error::io("haproxy"))?;
        let up = |node: &str| {
            let mut rows = figures.lines().map(|line| line.split(',').collect::<Vec<_>>());
            rows.any(|row| row.starts_with(&["nodes", node]) && row.get(17) == Some(&"UP"))
        };
        Ok([up("node1"), up("node2"), up("node3")])
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<&ServerProcess> {
        self.process.as_ref()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends it as an administrator does: connections may end first.
    ///
    /// # Errors
    /// [`Error`].
    pub fn stop(&mut self) -> Result<(), Error> {
        let Some(process) = self.process.take() else { return Ok(()) };
        process.stop(Signal::USR1, PATIENCE).map(drop)
    }

    /// All figures, a line each.
    fn figures(&self) -> std::io::Result<String> {
        match get(self.plan.stats, "/;csv")? {
            (200, text) => Ok(text),
            (_, text) => Err(std::io::Error::other(text)),
        }
    }
}
