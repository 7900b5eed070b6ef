//! The rules of the house, as tests: which floor may use which, and what no file may have.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room and what it may use beside itself. A room that is not here fails.
const ROOMS: [(&str, &[&str]); 16] = [
    ("crash", &[]),
    ("seeded_fault", &[]),
    ("domain", &["seeded_fault"]),
    ("store", &["domain", "crash", "seeded_fault"]),
    ("cache", &["domain"]),
    ("bus", &["domain", "seeded_fault"]),
    ("providers", &["domain", "crash"]),
    ("actors", &["domain", "store", "cache", "bus", "providers", "seeded_fault"]),
    ("http", &["domain", "store", "cache", "bus", "providers", "actors"]),
    ("telemetry", &[]),
    ("verify", &["domain", "store", "providers", "actors"]),
    (
        "simulate",
        &["domain", "store", "cache", "bus", "providers", "actors", "verify", "seeded_fault"],
    ),
    ("config", &["domain", "store", "cache", "bus", "providers", "actors", "http", "telemetry"]),
    (
        "app",
        &[
            "domain",
            "store",
            "cache",
            "bus",
            "providers",
            "actors",
            "http",
            "telemetry",
            "config",
            "verify",
        ],
    ),
    ("doctor", &["domain", "store", "providers", "actors", "telemetry", "verify"]),
    ("fuzz", &["domain", "providers", "actors", "http", "config"]),
];

/// What floor 0 must not know.
const NO_IO: [&str; 8] =
    ["tokio", "sqlx", "tracing", "rand", "reqwest", "actix_web", "SystemTime", "Instant"];

const LINES_MAX: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(under: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(under)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// The room that a file belongs to: its folder or file name under `src`.
fn room(path: &Path) -> String {
    let first = path.components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms that a text names after `crate::`.
fn used(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let mut rooms = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or("").split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let end = |letter: char| !(letter.is_alphanumeric() || letter == '_');
            rooms.push(name.trim().split(end).next().unwrap_or("").to_owned());
        }
    }
    rooms
}

#[test]
fn imports_run_only_downwards() {
    let mut wrong = Vec::new();
    for (path, text) in files("src", "rs") {
        let room = room(&path);
        if ["main", "cli", "lib"].contains(&room.as_str()) {
            continue;
        }
        let allowed = ROOMS.iter().find(|(name, _)| *name == room);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{room} is not on the map"));
        for used in used(&text) {
            let known = ROOMS.iter().any(|(name, _)| *name == used);
            if known && used != room && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A manifest under `crates/` names no `kontor` among its dependencies, so no file there can import it.
#[test]
fn tools_know_the_server_by_its_api_only() {
    let manifests = files("crates", "toml");
    assert!(manifests.len() >= 3);
    for (path, text) in manifests {
        let depends = |line: &str| {
            let name = line.split(['.', '=', ' ']).next().unwrap_or("");
            name.trim_matches('"') == "kontor" || line.contains(r#"package = "kontor""#)
        };
        assert!(!text.lines().any(depends), "{} depends on the server", path.display());
    }
}

#[test]
fn the_domain_knows_no_io() {
    for (path, text) in files("src/domain", "rs") {
        for word in NO_IO {
            let named = text.lines().any(|line| {
                !line.trim_start().starts_with("//") && line.contains(&format!("{word}::"))
            });
            assert!(!named, "{} uses {word}", path.display());
        }
    }
}

#[test]
fn files_are_short_say_what_they_are_and_leave_nothing_open() {
    let left_over = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "#[ig".to_owned() + "nore"];
    let all =
        ["src", "crates", "tests", "fuzz/fuzz_targets"].into_iter().flat_map(|at| files(at, "rs"));
    for (path, text) in all {
        let path = path.display();
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines");
        assert!(text.starts_with("//!"), "{path} does not say what lives there");
        for word in &left_over {
            assert!(!text.contains(word.as_str()), "{path} has {word}");
        }
    }
}

#[test]
fn a_forbidden_import_is_seen() {
    let text =
        "use crate::{http, store};\nlet x = crate::actors::engine::host::y;\n// crate::cli::z\n";
    assert_eq!(used(text), ["http", "store", "actors"]);
}
