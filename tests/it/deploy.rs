//! What `deploy/` gives to administrators: it is accepted by the programs it is for, and explained;
//! and what is for nodes and administrators only does not pass through it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use kontor_lab::cluster::servers::{Haproxy, ProxyPlan, free_port, local};
use regex::Regex;

/// What no balancer forwards: metrics and calls of nodes, however they are written.
const INTERNAL: [&str; 12] = [
    "/metrics",
    "/metrics?a=b",
    "/metrics/",
    "/%6Detrics",
    "/%6d%65trics",
    "//metrics",
    "/./metrics",
    "/%2e/metrics",
    "http://kontor/metrics",
    "/v1/node/calls",
    "/v1//node/calls",
    "/v1/%6Eode/calls",
];
const FOR_BUYERS: [&str; 4] =
    ["/v1/store/products", "/v1/store/products?q=/metrics", "/admin", "/v1/nodes"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(deploy().join(name)).unwrap()
}

/// Everything in a text that looks like a placeholder.
fn found(pattern: &str, text: &str) -> Vec<String> {
    let all = Regex::new(pattern).unwrap();
    let mut names: Vec<String> = all.find_iter(text).map(|one| one.as_str().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn every_placeholder_is_explained_and_there_are_no_others() {
    let told = text("README.md");
    let balancer = found(r"KONTOR_[A-Z0-9_]*[A-Z0-9]", &text("haproxy.cfg"));
    let nginx = found(r"\b(LISTEN|NODE_\d)\b", &text("nginx.conf"));
    assert_eq!((balancer.len(), nginx.len()), (5, 4), "{balancer:?} {nginx:?}");
    let rows: String = told.lines().filter(|line| line.starts_with("| `")).collect();
    for name in balancer.iter().chain(&nginx) {
        assert!(rows.contains(&format!("`{name}`")), "{name} is not explained");
    }
    for name in found(r"KONTOR_(BALANCER|NODE)[A-Z0-9_]*", &told) {
        assert!(balancer.contains(&name), "{name} is explained, and nowhere");
    }
}

#[test]
fn haproxy_takes_its_configuration() {
    let program = kontor_lab::cluster::servers::Program::Haproxy.find().unwrap();
    let mut check = Command::new(program);
    check.arg("-c").arg("-f").arg(deploy().join("haproxy.cfg"));
    for (number, name) in
        found(r"KONTOR_[A-Z0-9_]*[A-Z0-9]", &text("haproxy.cfg")).iter().enumerate()
    {
        check.env(name, format!("127.0.0.1:{}", 12_001 + number));
    }
    let told = check.output().unwrap();
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success() && !words.contains("WARNING"), "{words}");
}

/// nginx with its configuration in a folder, listening on a port, before nodes that are not there.
/// `None` where it is not installed.
fn nginx(dir: &Path, port: u16, more: &str) -> Option<Command> {
    let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].iter().find(|at| Path::new(at).exists())?;
    let mut config = text("nginx.conf").replace("LISTEN;", &format!("127.0.0.1:{port};"));
    for number in 1..=3 {
        let node = format!("127.0.0.1:{} ", free_port().unwrap());
        config = config.replace(&format!("NODE_{number} "), &node);
    }
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let main = format!("pid {}; error_log stderr; {more}", dir.join("pid").display());
    let mut command = Command::new(program);
    command.args(["-g", &main, "-p"]).arg(dir).arg("-c").arg(&file);
    Some(command)
}

#[test]
fn nginx_takes_its_configuration_where_it_is_installed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut command) = nginx(dir.path(), 12_001, "") else { return };
    let told = command.arg("-t").output().unwrap();
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success() && !words.contains("[warn]"), "{words}");
}

/// The status of the answer to a request whose path is sent as it is written.
fn status(at: &str, path: &str) -> Option<String> {
    let mut wire = TcpStream::connect(at).ok()?;
    write!(wire, "GET {path} HTTP/1.1\r\nHost: kontor\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    wire.read_to_string(&mut answer).ok()?;
    Some(answer.split(' ').nth(1)?.to_owned())
}

/// Checks that a balancer before nodes that are not there refuses by itself what is internal, and
/// only that.
fn forwards_nothing_internal(at: &str, no_node: &str) {
    for path in INTERNAL {
        assert_eq!(status(at, path).as_deref(), Some("404"), "{path}");
    }
    for path in FOR_BUYERS {
        assert_eq!(status(at, path).as_deref(), Some(no_node), "{path}");
    }
}

#[test]
fn haproxy_forwards_nothing_internal() {
    let dir = tempfile::tempdir().unwrap();
    let node = || local(free_port().unwrap());
    let plan = ProxyPlan::before([node(), node(), node()]).unwrap();
    let mut balancer = Haproxy::start(&dir.path().join("haproxy"), plan).unwrap();
    forwards_nothing_internal(&plan.balancer.to_string(), "503");
    balancer.stop().unwrap();
}

/// A program that ends with its test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn nginx_forwards_nothing_internal_where_it_is_installed() {
    let (dir, at) = (tempfile::tempdir().unwrap(), local(free_port().unwrap()));
    let main = "daemon off; master_process off;";
    let Some(mut command) = nginx(dir.path(), at.port(), main) else { return };
    let _running = Ends(command.spawn().unwrap());
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while TcpStream::connect(at).is_err() {
        assert!(std::time::Instant::now() < until, "nginx does not listen");
    }
    forwards_nothing_internal(&at.to_string(), "502");
}

#[test]
fn systemd_unit_runs_existing_commands() {
    let unit = text("kontor.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("/usr/local/bin/kontor"));
    let told = crate::process::kontor().args(words).arg("--help").output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}
