//! The pages show the very files, and count the edits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

    let edits: Vec<[&str; 3]> = text.lines().filter_map(edit).collect();
    assert!((1..=EDITS_MAX).contains(&edits.len()), "{page}: {} edits", edits.len());
    for [path, beside, line] in edits {
        let there = read(path);
        assert!(there.contains(beside), "{page}: {path} has no {beside:?}");
        assert!(!there.contains(line), "{page}: {path} has {line:?} already");
    }
}

/// A line of the table of edits: a file that exists, what the new line stands beside, and the line.
fn edit(line: &str) -> Option<[&str; 3]> {
    let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix("` |")?.split("` | `").collect();
    cells.try_into().ok()
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
fn a_page_that_drifts_is_seen() {
    let page = "Text.\n\n`src/a.rs`:\n\n```rust\nfn a() {}\n```\n\nMore:\n\n```\nno file\n```\n";
    assert_eq!(shown(page), BTreeMap::from([("src/a.rs".to_owned(), "fn a() {}\n".to_owned())]));
    assert_eq!(
        edit("| `src/a.rs` | `mod b;` | `mod a;` |"),
        Some(["src/a.rs", "mod b;", "mod a;"])
    );
    assert_eq!(edit("| file | beside | the line |"), None);
}
