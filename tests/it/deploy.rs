//! What `deploy/` gives to administrators: it is accepted by the programs it is for, and explained.

use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

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

#[test]
fn nginx_takes_its_configuration_where_it_is_installed() {
    let Some(program) =
        ["/usr/sbin/nginx", "/usr/bin/nginx"].iter().find(|at| Path::new(at).exists())
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut config = text("nginx.conf").replace("LISTEN;", "127.0.0.1:12001;");
    for number in 1..=3 {
        config =
            config.replace(&format!("NODE_{number} "), &format!("127.0.0.1:1200{} ", number + 1));
    }
    let file = dir.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let pid = format!("pid {}; error_log stderr;", dir.path().join("pid").display());
    let told = Command::new(program)
        .args(["-t", "-g", &pid, "-p"])
        .arg(dir.path())
        .arg("-c")
        .arg(&file)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success() && !words.contains("[warn]"), "{words}");
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
