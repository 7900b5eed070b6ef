//! The pages show the very files, and count the edits. Whoever follows one to the letter has a
//! library that keeps the rules of the house, and files as rustfmt wants them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::house::{broken_rules, library};

/// The most files that exist and are edited for a noun or a row.
const EDITS_MAX: usize = 12;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files that a page shows: each stands in a fence below its path.
fn shown(page: &str) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    let mut lines = page.lines().peekable();
    let mut path = None;
    while let Some(line) = lines.next() {
        if let Some(fenced) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| !line.starts_with("```"));
            let text: String = inside.map(|line| format!("{line}\n")).collect();
            if let Some(path) = path.take() {
                assert!(!fenced.is_empty(), "{path}: the fence names no language");
                assert!(shown.insert(path, text).is_none(), "a file is shown twice");
            }
        } else if !line.is_empty() {
            let named = line.strip_prefix('`').and_then(|rest| rest.strip_suffix("`:"));
            path = named.map(str::to_owned);
        }
    }
    shown
}

/// The files of a recipe, by their paths in a house of which they are a part, as they read there.
fn files(recipe: &str) -> BTreeMap<String, String> {
    let folder = root().join("tests/recipe").join(recipe);
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
            let text = read(&path).replace(&format!("crate::recipe::{recipe}::"), "crate::");
            files.insert(name, text.replace("kontor::", "crate::"));
        }
    }
    // It says which files there are, as many a mod.rs does in the house.
    files.remove("src/mod.rs").unwrap();
    files
}

fn check(page: &str, recipe: &str) {
    let (text, files) = (read(page), files(recipe));
    let shown = shown(&text);
    for (path, text) in &shown {
        let file = files.get(path).unwrap_or_else(|| panic!("{page}: {path} is no file"));
        let differs = text.lines().zip(file.lines()).find(|(shown, there)| shown != there);
        assert_eq!(differs, None, "{page}: {path} is not what is compiled");
        assert_eq!(text.lines().count(), file.lines().count(), "{page}: {path} has another end");
    }
    let hidden: Vec<&String> = files.keys().filter(|path| !shown.contains_key(*path)).collect();
    assert_eq!(hidden, Vec::<&String>::new(), "{page} does not show these");

    let edits: Vec<Edit<'_>> = text.lines().filter_map(edit).collect();
    assert!((1..=EDITS_MAX).contains(&edits.len()), "{page}: {} edits", edits.len());
    let mut library = library();
    let before = library.len();
    for (path, text) in &shown {
        assert!(!root().join(path).exists(), "{page}: {path} is there already");
        if path.starts_with("src/") {
            assert_eq!(unformatted(text), "", "{page}: {path} is not as rustfmt wants it");
            library.insert(path.clone(), text.clone());
        }
    }
    assert!(library.len() > before, "{page} adds nothing");
    for Edit { path, beside, line, names } in edits {
        let there = read(path);
        assert!(there.contains(beside), "{page}: {path} has no {beside:?}");
        for line in names.iter().chain([&line]) {
            assert!(!there.contains(line), "{page}: {path} has {line:?} already");
        }
        if path.starts_with("src/") {
            library.insert(path.to_owned(), edited(&there, beside, line, &names));
        }
    }
    let broken = broken_rules(&library);
    assert!(broken.is_empty(), "{page}, followed to the letter: {broken:#?}");
}

/// A line of the table of edits.
#[derive(Debug, PartialEq)]
struct Edit<'a> {
    /// A file that exists.
    path: &'a str,
    /// What the new line stands beside.
    beside: &'a str,
    line: &'a str,
    /// The lines at its top, which name what the line lists.
    names: Vec<&'a str>,
}

fn edit(line: &str) -> Option<Edit<'_>> {
    let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split(" | ").collect();
    let [path, beside, line, names] = cells.try_into().ok()?;
    Some(Edit {
        path: spans(path).next()?,
        beside: spans(beside).next()?,
        line: spans(line).next()?,
        names: spans(names).collect(),
    })
}

/// What stands in backquotes.
fn spans(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// A file with the lines of an edit.
fn edited(there: &str, beside: &str, line: &str, names: &[&str]) -> String {
    let field = |text: &str| text.split_once(": ").map(|(name, _)| name.to_owned());
    // A field is given another value; anything else is added.
    let new = if field(line).is_some() && field(line) == field(beside) {
        line.to_owned()
    } else {
        format!("{beside}\n{line}")
    };
    let mut text = there.replacen(beside, &new, 1);
    for name in names {
        let word = format!("\n{} ", name.split(' ').next().unwrap());
        let at = text.find(&word).unwrap_or_else(|| panic!("nothing is like {name:?}"));
        text.insert_str(at + 1, &format!("{name}\n"));
    }
    text
}

/// What rustfmt has against a file.
fn unformatted(text: &str) -> String {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--check", "--config-path"])
        .arg(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    rustfmt.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = rustfmt.wait_with_output().unwrap();
    String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap()
}

#[test]
fn the_page_of_nouns_shows_what_is_compiled() {
    check("docs/adding-a-noun.md", "gift_card");
}

#[test]
fn the_page_of_rows_shows_what_is_compiled() {
    check("docs/adding-a-row.md", "delivery_zone");
}

#[test]
fn outdated_recipe_page_is_detected() {
    let page = "Text.\n\n`src/a.rs`:\n\n```rust\nfn a() {}\n```\n\nMore:\n\n```\nno file\n```\n";
    assert_eq!(shown(page), BTreeMap::from([("src/a.rs".to_owned(), "fn a() {}\n".to_owned())]));
    let listed =
        edit("| `src/a.rs` | `.with(B)` | `.with(A)` | `mod a;` `use self::a::A;` |").unwrap();
    let names = vec!["mod a;", "use self::a::A;"];
    assert_eq!(
        listed,
        Edit { path: "src/a.rs", beside: ".with(B)", line: ".with(A)", names: names.clone() }
    );
    let there = "//! All.\n\nmod b;\n\nuse self::b::B;\n\nfn all() {\n    List.with(B)\n}\n";
    let wanted = "//! All.\n\nmod a;\nmod b;\n\nuse self::a::A;\nuse self::b::B;\n\n\
                  fn all() {\n    List.with(B)\n.with(A)\n}\n";
    assert_eq!(edited(there, ".with(B)", ".with(A)", &names), wanted);
    assert_eq!(edited("{ n: 1 }", "n: 1", "n: 2", &[]), "{ n: 2 }");
    assert_eq!(edit("| `src/a.rs` | `mod b;` | `mod a;` | |").unwrap().names, [""; 0]);
    assert_eq!(edit("| file | beside | the line | at its top |"), None);
    assert_ne!(unformatted("use b::B;\nuse a::A;\n"), "");
}
