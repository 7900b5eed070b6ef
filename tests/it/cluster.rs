//! Three nodes, HAProxy, PostgreSQL, NATS and Redis under load, and what can happen to them: by the
//! command that also does it hundreds of times, `kontor crash-test --cluster`.
//!
//! Each test is a story of several faults on one cluster. After each, what buyers were told must be
//! there; at the end `kontor verify` must hold, with the provider's ledger, and PostgreSQL itself has
//! noted for every event that its writer was the owner of its shard.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process;

fn story(faults: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let told = process::kontor()
        .args(["crash-test", "--cluster", "--rounds", "1", "--json", "--fault", faults, "--data"])
        .arg(dir.path().join("cluster"))
        .output()
        .unwrap();
    let (out, words) =
        (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{out}{words}");
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    println!("{words}{report}");
    let struck: Vec<&str> = report["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["fault"].as_str().unwrap())
        .collect();
    assert_eq!(struck.join(","), faults);
    assert_eq!(report["violations_total"], 0);
    for some in ["checkouts", "acknowledged", "compared", "confirmed", "witnessed"] {
        assert!(report[some].as_u64().unwrap() > 0, "{some}: {report:#}");
    }
    report
}

#[test]
fn nodes_are_killed_and_frozen() {
    let report = story("kill,freeze");
    for fault in report["faults"].as_array().unwrap() {
        assert!(fault["takeover_ms"].as_u64().unwrap() > 0, "{fault}");
    }
}

#[test]
fn nodes_are_cut_off() {
    story("cut-postgres,cut-nats,cut-both,cut-redis");
}

#[test]
fn postgres_stops_and_crashes() {
    story("postgres-stop,postgres-crash");
}

#[test]
fn nats_and_redis_are_killed_and_lose_what_they_had() {
    story("nats-kill,nats-wipe,redis-kill,redis-flush");
}

#[test]
fn all_nodes_are_restarted_and_no_request_fails() {
    let report = story("rolling");
    assert_eq!(report["faults"][0]["failed"], 0, "{report:#}");
}

/// A person who tries what happens.
#[test]
fn a_node_of_the_demo_that_is_killed_is_started_again_and_all_is_verified() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = process::kontor();
    demo.args(["demo", "--cluster", "--rate", "10"]).env("TMPDIR", temporary.path());
    let mut demo = demo.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut shown = |what: &str| {
        let found = lines.find(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("{what:?} was not shown"))
    };
    shown("Kill a node with kill -9");
    shown(" sold");
    let node = format!("{}/kontor-demo-{}/node2", temporary.path().display(), demo.id());
    let found = Command::new("pgrep").args(["-f", &format!("serve .*--data {node}")]).output();
    let pid = String::from_utf8(found.unwrap().stdout).unwrap();
    assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success(), "{pid}");
    let line = shown("node2 ended");
    assert!(line.contains("signal: 9") && line.contains("started again"), "{line}");
    shown(" sold");
    let demo_pid = demo.id().to_string();
    assert!(Command::new("kill").args(["-INT", &demo_pid]).status().unwrap().success());
    shown("All invariants hold");
    assert!(demo.wait().unwrap().success());
}

#[test]
fn the_demo_shows_a_whole_cluster_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let told = process::kontor()
        .args(["demo", "--cluster", "--for", "5s", "--rate", "10"])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let (out, words) =
        (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{out}{words}");
    for shown in ["admin ", "node1 ", "node2 ", "node3 ", "database ", "NATS ", "API key "] {
        assert!(out.contains(shown), "{shown} is missing: {out}");
    }
    assert!(out.contains("All invariants hold"), "{out}");
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let addresses = regex::Regex::new(r"127\.0\.0\.1:\d+").unwrap();
    for address in addresses.find_iter(&out).map(|found| found.as_str()) {
        assert!(std::net::TcpStream::connect(address).is_err(), "{address} still answers");
    }
}
