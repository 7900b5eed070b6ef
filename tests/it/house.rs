//! The rules of the house, as tests: which floor may use which, which wing of a floor, and what no
//! file may have. How it is found out which file uses which is in `graph`.

mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub use graph::code;
use graph::{Graph, Names};

/// Each room and what it may use beside itself. A room that is not here fails.
const ROOMS: [(&str, &[&str]); 17] = [
    ("crash", &[]),
    ("seeded_fault", &[]),
    ("domain", &["seeded_fault"]),
    ("store", &["domain", "crash", "seeded_fault"]),
    ("tls", &["domain"]),
    ("cache", &["domain", "tls"]),
    ("bus", &["domain", "seeded_fault", "telemetry", "tls"]),
    ("providers", &["domain", "crash"]),
    ("actors", &["domain", "store", "cache", "bus", "providers", "seeded_fault"]),
    ("http", &["domain", "store", "cache", "bus", "providers", "actors", "telemetry"]),
    ("telemetry", &[]),
    ("verify", &["domain", "store", "providers", "actors", "seeded_fault"]),
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
            "tls",
            "verify",
        ],
    ),
    ("doctor", &["domain", "store", "providers", "actors", "telemetry", "verify"]),
    ("fuzz", &["domain", "providers", "actors", "http", "config"]),
];

/// A wing, and the wings of its floor that it may use.
type Wing = (&'static str, &'static [&'static str]);

/// Each wing of a floor, by its folder or file, and what it may use of the same floor beside itself.
/// `*` stands for the name of a noun: each has such a file of its own, and uses none of another's. A
/// wing that is not here fails.
const WINGS: &[(&str, &[Wing])] = &[
    (
        "actors",
        &[
            ("engine", &[]),
            ("settings", &[]),
            ("catalog", &["engine"]),
            ("row_kinds", &["engine", "catalog"]),
            ("buyer_data", &[]),
            ("*_search", &["buyer_data"]),
            ("*_rows", &["engine", "buyer_data", "*_search"]),
            ("read_models", &["engine", "*_rows"]),
            ("locations", &["engine"]),
            ("pricing", &["engine", "catalog"]),
            ("flows", &["engine", "buyer_data", "catalog", "locations", "pricing", "settings"]),
            ("nouns", &["engine", "flows"]),
            (
                "node",
                &[
                    "engine",
                    "catalog",
                    "locations",
                    "row_kinds",
                    "read_models",
                    "pricing",
                    "settings",
                    "flows",
                    "nouns",
                ],
            ),
            ("report", &["engine", "node"]),
        ],
    ),
    (
        "http",
        &[
            ("edge", &[]),
            ("docs", &["edge"]),
            ("api", &["edge", "docs"]),
            ("operator", &["edge", "docs", "api"]),
            ("live", &["edge", "docs", "api", "operator"]),
            ("observe", &["edge", "live"]),
            ("routes", &["edge", "docs", "api", "operator", "live"]),
            ("server", &["edge", "docs", "operator", "live", "observe"]),
            ("fuzz", &["edge", "api", "operator", "live"]),
        ],
    ),
];

/// What a file of the domain has that is about one noun, or one kind of row.
const MAKES_A_NOUN: [&str; 2] = ["Noun for ", "Versioned for "];

/// What must know no noun.
const KNOW_NO_NOUN: [&[&str]; 3] = [&["actors", "engine"], &["http", "edge"], &["http", "docs"]];

/// Circles of files that there still are, each with why it is not wanted. One that is gone is struck
/// out; a new one is not put in, but cut.
const CIRCLES: &[(&[&str], &str)] = &[
    (
        &[
            "actors::engine::changes",
            "actors::engine::projections::news",
            "actors::engine::projections::projection",
            "actors::engine::projections::runner",
        ],
        "what changed, and who makes rows of it, name each other: a change should stand below both",
    ),
    (
        &["bus::calls", "bus::local", "bus::notices"],
        "the twin in memory plays calls and notices both: it should be a twin of each",
    ),
    (
        &["http::live::hub", "http::live::subscription"],
        "a subscription's turn is a method of the hub: the hub should hand in what it needs",
    ),
    (
        &[
            "simulate::check",
            "simulate::clients",
            "simulate::nodes",
            "simulate::operators",
            "simulate::run",
            "simulate::story",
        ],
        "the world that is simulated stands in the file that runs it: it should stand below",
    ),
];

/// What floor 0 must not know.
const NO_IO: [&str; 8] =
    ["tokio", "sqlx", "tracing", "rand", "reqwest", "actix_web", "SystemTime", "Instant"];

const LINES_MAX: usize = 800;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files under a folder whose names end so, by their paths, with their texts.
pub fn files(under: &str, ending: &str) -> Vec<(PathBuf, String)> {
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

/// The rooms that use one above them.
fn rooms_upward(library: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, text) in library.iter().filter(|(path, _)| *path != "src/lib.rs") {
        let room = room(Path::new(path));
        let allowed = ROOMS.iter().find(|(name, _)| *name == room);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{room} is not on the map"));
        for used in used(text) {
            let known = ROOMS.iter().any(|(name, _)| *name == used);
            if known && used != room && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{path} uses {used}"));
            }
        }
    }
    wrong
}

#[test]
fn imports_run_only_downwards() {
    let wrong = rooms_upward(&library());
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
fn files_are_short_documented_and_complete() {
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

/// The files of the library by their paths. The command line is another crate.
pub fn library() -> BTreeMap<String, String> {
    let all = files("src", "rs").into_iter();
    let all = all.map(|(path, text)| (path.to_str().unwrap().to_owned(), text));
    all.filter(|(path, _)| !path.starts_with("src/cli/") && path != "src/main.rs").collect()
}

fn graph_of(library: &BTreeMap<String, String>) -> Graph {
    let under = |path: &str| path.strip_prefix("src/").unwrap().to_owned();
    let all: Vec<_> = library.iter().map(|(path, text)| (under(path), text)).collect();
    Graph::read(all.iter().map(|(path, text)| (path.as_str(), text.as_str())))
}

/// What a library breaks of the rules of the house: a floor or a wing looks up, what serves all nouns
/// knows one, or files make a circle.
pub fn broken_rules(library: &BTreeMap<String, String>) -> Vec<String> {
    let graph = graph_of(library);
    let mut wrong = rooms_upward(library);
    wrong.extend(wings_upward(&graph));
    wrong.extend(known_nouns(&graph, &nouns(library)));
    wrong.extend(new_circles(&graph).iter().map(|circle| format!("a circle: {circle:?}")));
    wrong
}

/// The nouns and the kinds of rows of a library, by their modules in the domain.
fn nouns(library: &BTreeMap<String, String>) -> BTreeSet<String> {
    let all = library.iter().filter(|(_, text)| MAKES_A_NOUN.iter().any(|one| text.contains(one)));
    let module = |path: &str| {
        let rest = path.strip_prefix("src/domain/")?;
        rest.split(['/', '.']).next().map(str::to_owned)
    };
    all.filter_map(|(path, _)| module(path)).collect()
}

/// Whether a wing is the one of a name in [`WINGS`].
fn is_wing(named: &str, wing: &str) -> bool {
    named.strip_prefix('*').map_or(named == wing, |ending| wing.ends_with(ending))
}

/// What a graph has against the map of wings.
fn wings_upward(graph: &Graph) -> Vec<String> {
    let mut wrong = Vec::new();
    for (of, to) in graph.references() {
        let Some((_, wings)) =
            WINGS.iter().find(|(floor, _)| of.first().is_some_and(|own| own == floor))
        else {
            continue;
        };
        let ([_, own, ..], [floor, used, ..]) = (of.as_slice(), to.as_slice()) else { continue };
        if *floor != of[0] || own == used {
            continue;
        }
        let allowed = wings.iter().find(|(wing, _)| is_wing(wing, own));
        if !allowed.is_some_and(|(_, allowed)| allowed.iter().any(|wing| is_wing(wing, used))) {
            wrong.push(format!("{} uses {}", of.join("::"), to.join("::")));
        }
    }
    wrong
}

#[test]
fn parts_of_a_floor_import_only_lower_parts() {
    let wrong = wings_upward(&graph_of(&library()));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What serves all nouns, and knows one.
fn known_nouns(graph: &Graph, nouns: &BTreeSet<String>) -> Vec<String> {
    let noun = |to: &Names| to.len() > 1 && to[0] == "domain" && nouns.contains(&to[1]);
    let wing = |of: &Names| KNOW_NO_NOUN.iter().any(|wing| of.starts_with(&names(wing)));
    let wrong = graph.references().filter(|(of, to)| wing(of) && noun(to));
    wrong.map(|(of, to)| format!("{} knows {}", of.join("::"), to.join("::"))).collect()
}

#[test]
fn engine_and_edge_depend_on_no_noun() {
    let library = library();
    let nouns = nouns(&library);
    for noun in ["cart", "counter", "order", "product", "stock"] {
        assert!(nouns.contains(noun), "{nouns:?} lack {noun}");
    }
    let wrong = known_nouns(&graph_of(&library), &nouns);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The circles that are known.
fn known_circles() -> Vec<BTreeSet<String>> {
    let set = |circle: &[&str]| circle.iter().map(|&one| one.to_owned()).collect::<BTreeSet<_>>();
    CIRCLES.iter().map(|(circle, _)| set(circle)).collect()
}

fn new_circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let known = known_circles();
    let is_new = |one: &BTreeSet<String>| !known.iter().any(|known| one.is_subset(known));
    graph.circles().into_iter().filter(is_new).collect()
}

#[test]
fn files_have_no_import_cycles() {
    let graph = graph_of(&library());
    let new = new_circles(&graph);
    assert!(new.is_empty(), "{new:#?}");
    let (found, known) = (graph.circles(), known_circles());
    let is_there = |known: &BTreeSet<String>| found.iter().any(|one| one.is_subset(known));
    let gone: Vec<_> = known.iter().filter(|known| !is_there(known)).collect();
    assert!(gone.is_empty(), "strike out: {gone:#?}");
}

fn names(all: &[&str]) -> Names {
    all.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn forbidden_import_is_detected() {
    let text =
        "use crate::{http, store};\nlet x = crate::actors::engine::host::y;\n// crate::cli::z\n";
    assert_eq!(used(text), ["http", "store", "actors"]);
}

#[test]
fn upward_import_within_a_floor_is_detected() {
    let graph = |edge: &'static str| {
        Graph::read([("http/edge/error.rs", edge), ("http/api/order/mod.rs", "//! Orders.\n")])
    };
    for up in [
        "use crate::http::api::order;",
        "use super::super::api::order::{Shape, Row};",
        "use crate::{domain, http::{api::{order::Shape}, edge}};",
        "fn f() { crate::http::api::order::f(); }",
        "fn f(x: super::super::api::order::X) {}",
        "pub(crate) use crate::http::api::order::X as Y;",
    ] {
        assert_eq!(wings_upward(&graph(up)), ["http::edge::error uses http::api::order"], "{up}");
    }
    for fine in [
        "// use crate::http::api::order;",
        "const TEXT: &str = \"use crate::http::api::order;\";",
        "const RAW: &str = r#\"crate::http::api::order::x\"#;",
        "#[cfg(test)]\nmod tests {\n    use crate::http::api::order;\n}",
        "use crate::http::edge::error;",
    ] {
        assert!(wings_upward(&graph(fine)).is_empty(), "{fine}");
    }
}

#[test]
fn import_cycle_through_a_folder_is_detected() {
    let circles = |files: &[(&'static str, &'static str)]| {
        let all = Graph::read(files.iter().copied()).circles();
        all.into_iter().map(|one| one.into_iter().collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let direct =
        [("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "use crate::a;")];
    assert_eq!(circles(&direct), [["a", "b", "c"]]);
    let shown = [
        ("x/mod.rs", "mod a;\nmod b;\npub use self::a::A;\npub use b::B;"),
        ("x/a.rs", "use super::B;"),
        ("x/b.rs", "use crate::x::A;"),
    ];
    assert_eq!(circles(&shown), [["x::a", "x::b"]]);
    let family = [("x/mod.rs", "mod a;\npub struct X(a::A);"), ("x/a.rs", "use super::X;")];
    assert!(circles(&family).is_empty(), "a folder's own page is its files' common ground");
    let across =
        [("x/mod.rs", "use crate::y;\nmod a;"), ("x/a.rs", ""), ("y.rs", "use crate::x::a;")];
    assert!(circles(&across).is_empty());
    assert_eq!(code("a // b\n'\"' \"c\\\"d\" e"), "a \n  e");
}
