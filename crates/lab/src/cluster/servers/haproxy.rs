//! HAProxy in front of three nodes, with the configuration in `deploy/`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ask::get;
use super::process::{Care, PATIENCE, ServerProcess};
use super::{Error, Program, Signal, free_port, local, make};

/// The configuration that administrators use, too.
const CONFIG: &str = include_str!("../../../../../deploy/haproxy.cfg");

/// The addresses of the balancer and of the nodes.
#[derive(Clone, Copy, Debug)]
pub struct ProxyPlan {
    /// The balancer.
    pub balancer: SocketAddr,
    /// Its statistics page.
    pub stats: SocketAddr,
    /// The nodes behind it.
    pub nodes: [SocketAddr; 3],
}

impl ProxyPlan {
    /// A plan for a balancer on free ports in front of these nodes.
    ///
    /// # Errors
    /// [`Error::NoPort`].
    pub fn before(nodes: [SocketAddr; 3]) -> Result<Self, Error> {
        Ok(Self { balancer: local(free_port()?), stats: local(free_port()?), nodes })
    }

    /// The environment variables that the configuration reads.
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

/// A load balancer that keeps its ports when it is killed.
#[derive(Debug)]
pub struct Haproxy {
    process: Option<ServerProcess>,
    dir: PathBuf,
    plan: ProxyPlan,
}

impl Haproxy {
    /// Starts a balancer in a folder. It answers at once; it detects ready nodes within half a
    /// second.
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

    /// The shop's address, for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.plan.balancer)
    }

    /// The URL of the balancer's statistics page.
    #[must_use]
    pub fn stats_url(&self) -> String {
        format!("http://{}", self.plan.stats)
    }

    /// For each node, in the order of the plan: whether the balancer sends requests to it.
    ///
    /// # Errors
    /// [`Error::Io`] if its statistics cannot be read.
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

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it as an administrator does: open connections are finished first.
    ///
    /// # Errors
    /// [`Error`].
    pub fn stop(&mut self) -> Result<(), Error> {
        let Some(process) = self.process.take() else { return Ok(()) };
        process.stop(Signal::USR1, PATIENCE).map(drop)
    }

    /// All statistics, one per line.
    fn figures(&self) -> std::io::Result<String> {
        match get(self.plan.stats, "/;csv")? {
            (200, text) => Ok(text),
            (_, text) => Err(std::io::Error::other(text)),
        }
    }
}
