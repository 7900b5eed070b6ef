//! What signals mean to `kontor serve`. How it stops under load is in `edge`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::process::Server;

#[test]
fn sighup_while_it_starts_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // A folder in use is waited for: that is a start which takes its time.
    let first = Server::start(dir.path(), "");
    let mut second = crate::process::kontor();
    second.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path());
    let mut second = second.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = second.id();
    // It catches the signal as soon as it listens for it: bit 0 of the signals that are caught.
    let catches = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 1 == 1
    };
    while !catches() {
        std::thread::yield_now();
    }
    Command::new("kill").args(["-HUP", &pid.to_string()]).status().unwrap();
    first.kill();
    let lines = BufReader::new(second.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.into_iter().any(|line| line.contains("is ready")), "it did not start");
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn sighup_reads_the_log_filter_again_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kontor.toml");
    let filter = |filter: &str| {
        std::fs::write(&file, format!("[log]\nfilter = \"{filter}\"\n")).unwrap();
    };
    filter("error");
    let mut server = Server::start_with(&dir.path().join("data"), "", |command| {
        command.env_remove("KONTOR__LOG__FILTER").arg("--config").arg(&file);
        command.stderr(Stdio::piped());
    });
    let mut log = server.log();
    let mut told = |what: &str| log.find(|line| line.contains(what)).expect("the log has ended");
    filter("kontor=loud");
    server.signal("-HUP");
    let line = told("the settings were not read again");
    assert!(line.contains("log.filter") && line.contains("kontor=loud"), "{line}");
    // A warning: the filter at the start leaves it out.
    filter("kontor=warn");
    server.signal("-HUP");
    let line = told("log.filter was read again");
    assert!(line.contains("kontor=warn"), "{line}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_server_whose_log_nobody_reads_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let server = Server::start_with(dir.path(), "", |command| {
        command.env("KONTOR__LOG__FILTER", "debug").stderr(writer);
    });
    assert_eq!(server.terminate(), Some(0));
}
