//! What commands print, and whom they take as their reader.

use std::io::Read as _;
use std::process::{Command, Stdio};

use kontor::http::Scope;
use kontor::store::DatabaseUrl;
use strum::VariantArray as _;

use crate::process::kontor;
use crate::servers::database;

/// Runs a command whose reader has gone before it prints anything; answers its status and its errors.
fn without_reader(command: &mut Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    // Security events are logged whoever reads the result.
    let said = errors.lines().filter(|line| !line.contains("\"target\":\"security\""));
    let errors = said.collect::<Vec<_>>().join("\n");
    (child.wait().unwrap().code(), errors)
}

#[test]
fn closed_pipe_ends_a_command_quietly() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let create = ["key", "create", "--scope", "admin", "--data", data];
    assert!(kontor().args(create).output().unwrap().status.success());
    let backup = format!("{data}/backup.sqlite");
    for args in [
        vec!["openapi"],
        vec!["asyncapi"],
        vec!["postman"],
        vec!["sbom"],
        vec!["completions", "bash"],
        vec!["config"],
        vec!["config", "--json"],
        vec!["verify", "--data", data],
        vec!["verify", "--data", data, "--json"],
        vec!["doctor", "--data", data],
        vec!["key", "list", "--data", data],
        vec!["key", "list", "--data", data, "--json"],
        vec!["sign-in", "--data", data],
        vec!["backup", "--data", data, "--to", &backup],
    ] {
        let (status, errors) = without_reader(kontor().args(&args));
        assert_eq!((status, errors.as_str()), (Some(141), ""), "{args:?}");
    }
}

#[test]
fn a_key_may_have_each_scope_that_a_route_asks_for() {
    let data = tempfile::tempdir().unwrap();
    for scope in Scope::VARIANTS.iter().map(|scope| scope.as_str()).chain(["admin"]) {
        for command in [["key", "create"].as_slice(), &["sign-in"]] {
            let mut run = kontor();
            let run = run.args(command).args(["--scope", scope, "--data"]).arg(data.path());
            let outcome = run.output().unwrap();
            assert!(outcome.status.success(), "{command:?} {scope}: {outcome:?}");
        }
    }
}

#[test]
fn commands_work_on_the_data_folder_of_the_configuration() {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("config.toml"), "[data]\ndir = \"shop\"\n").unwrap();
    let run = |args: &[&str], dir: Option<&str>| {
        let mut run = kontor();
        run.current_dir(here.path()).args(args);
        if let Some(dir) = dir {
            run.env("KONTOR__DATA__DIR", dir);
        }
        let outcome = run.output().unwrap();
        (outcome.status.success(), String::from_utf8(outcome.stdout).unwrap())
    };
    let create = ["key", "create", "--scope", "admin", "--name", "mine"];
    assert!(run(&create, None).0);
    assert!(here.path().join("shop/kontor.db").exists() && !here.path().join("data").exists());
    assert!(run(&["key", "list"], None).1.contains("mine"));
    assert!(!run(&["verify"], Some("elsewhere")).0, "there is no store");
    assert!(run(&["verify", "--data", "shop"], Some("elsewhere")).0);
}

#[test]
fn commands_work_on_the_database_of_the_configuration_unless_a_flag_names_another_store() {
    let here = tempfile::tempdir().unwrap();
    let url = database();
    std::fs::write(here.path().join("config.toml"), format!("[store]\nurl = \"{url}\"\n")).unwrap();
    let run = |args: &[&str]| {
        let outcome = kontor().current_dir(here.path()).args(args).output().unwrap();
        assert!(outcome.status.success(), "{args:?}: {outcome:?}");
        String::from_utf8(outcome.stdout).unwrap()
    };
    let shown = DatabaseUrl::new(&*url).to_string();
    run(&["key", "create", "--scope", "admin", "--name", "remote"]);
    assert!(!here.path().join("data").exists());
    run(&["key", "create", "--scope", "admin", "--name", "local", "--data", "shop"]);
    let names = |args: &[&str]| {
        let keys = run(&[&["key", "list"], args].concat());
        (keys.contains("remote"), keys.contains("local"))
    };
    assert_eq!(names(&[]), (true, false));
    assert_eq!(names(&["--data", "shop"]), (false, true));
    assert_eq!(names(&["--data", "shop", "--store", &url]), (true, false));
    assert!(run(&["verify"]).starts_with(&format!("Store: {shown}\n")));
    assert!(run(&["verify", "--data", "shop"]).starts_with("Store: shop\n"));
    let report = run(&["verify", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["store"], &report["ok"]), (&shown.into(), &true.into()));
}

#[test]
fn a_configuration_that_cannot_be_read_names_no_store() {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("config.toml"), "[store]\nurl = 1\n").unwrap();
    let create = ["key", "create", "--scope", "admin"];
    let outcome = kontor().current_dir(here.path()).args(create).output().unwrap();
    let errors = String::from_utf8(outcome.stderr).unwrap();
    assert!(!outcome.status.success() && errors.contains("store.url"), "{errors}");
    assert!(!here.path().join("data").exists());
}

#[test]
fn names_of_keys_are_one_line() {
    let data = tempfile::tempdir().unwrap();
    for name in ["a\nb", "a\u{202e}b", "a\u{1b}[31mb"] {
        for command in [["key", "create"].as_slice(), &["sign-in"]] {
            let mut run = kontor();
            let run = run.args(command).args(["--scope", "admin", "--name", name, "--data"]);
            let outcome = run.arg(data.path()).output().unwrap();
            let errors = String::from_utf8(outcome.stderr).unwrap();
            assert!(!outcome.status.success(), "{command:?} {name:?}");
            assert!(errors.contains("a key's name is one line"), "{errors}");
        }
    }
}

#[test]
fn configuration_file_of_a_parent_folder_is_not_read() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::write(parent.path().join("config.toml"), "[shop]\ncurrency = \"CHF\"\n").unwrap();
    let child = parent.path().join("child");
    std::fs::create_dir(&child).unwrap();
    for (folder, read) in [(parent.path(), true), (child.as_path(), false)] {
        let outcome = kontor().current_dir(folder).args(["config", "--json"]).output().unwrap();
        let text = String::from_utf8(outcome.stdout).unwrap();
        assert_eq!(text.contains("CHF"), read, "{folder:?}: {text}");
    }
}
