//! What the documents say of the code: files that they name exist, and a walk in ARCHITECTURE.md
//! names, step by step, functions that stand in the files of that step. Links are not followed.

use std::path::Path;

const DOCUMENTS: [&str; 3] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"];
const WALKS: [&str; 3] = ["a checkout", "an admin's stock change", "a takeover"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands between backticks, outside of fenced blocks.
fn quoted(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Whether a quoted text is a path of a source file, a migration or a document.
fn names_a_file(text: &str) -> bool {
    let ending = [".rs", ".sql", ".md", ".toml"].iter().any(|ending| text.ends_with(ending));
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./".contains(letter);
    ending && text.contains('/') && text.chars().all(plain)
}

/// The file of a path that a document names: from the root, or from a folder that is plain.
fn find(path: &str) -> Option<std::path::PathBuf> {
    let folders = ["", "src", "migrations/sqlite", "tests"];
    folders.iter().map(|folder| root().join(folder).join(path)).find(|path| path.is_file())
}

fn documents() -> Vec<(String, String)> {
    let mut paths: Vec<_> = DOCUMENTS.iter().map(|name| root().join(name)).collect();
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root()).unwrap().display().to_string(), text)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn files_that_documents_name_exist() {
    let mut missing = Vec::new();
    for (document, text) in documents() {
        // The recipes name files that a reader is about to make.
        if document.starts_with("docs/adding-") {
            continue;
        }
        for path in quoted(&text).into_iter().filter(|text| names_a_file(text)) {
            if find(path).is_none() {
                missing.push(format!("{document} names {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The numbered steps of the walk with this title.
fn steps(text: &str, title: &str) -> Vec<String> {
    let mut sections = text.split("\n## ").filter(|one| one.starts_with("Walk"));
    let section = sections.find(|one| one.lines().next().is_some_and(|line| line.contains(title)));
    let section = section.unwrap_or_else(|| panic!("ARCHITECTURE.md has no walk: {title}"));
    let mut steps: Vec<String> = Vec::new();
    for line in section.lines().skip(1) {
        let number = line.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if number {
            steps.push(line.to_owned());
        } else if let Some(step) = steps.last_mut().filter(|_| line.starts_with("   ")) {
            step.push(' ');
            step.push_str(line.trim());
        }
    }
    steps
}

/// What a step says of functions and types that its files do not have.
fn strangers(step: &str) -> Vec<String> {
    let quoted = quoted(step);
    let (files, names): (Vec<&str>, Vec<&str>) =
        quoted.into_iter().partition(|text| names_a_file(text));
    let sources: Vec<String> = files
        .iter()
        .map(|path| {
            let found = find(path).unwrap_or_else(|| panic!("{path} does not exist: {step}"));
            std::fs::read_to_string(found).unwrap()
        })
        .collect();
    let names = names.into_iter().filter(|name| {
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
        name.chars().all(letter) && name.chars().any(|letter| letter.is_ascii_lowercase())
    });
    // Of `Type::function`, both stand in one of the files.
    let known = |name: &str| {
        sources.iter().any(|source| name.split("::").all(|part| source.contains(part)))
    };
    names.filter(|name| !known(name)).map(str::to_owned).collect()
}

#[test]
fn documented_walks_name_existing_functions() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for title in WALKS {
        let steps = steps(&text, title);
        assert!(steps.len() >= 4, "{title} has {} steps", steps.len());
        for step in steps {
            assert!(quoted(&step).iter().any(|text| names_a_file(text)), "no file: {step}");
            assert_eq!(strangers(&step), [""; 0], "{step}");
        }
    }
}

#[test]
fn wrong_functions_and_missing_files_are_detected() {
    let step = "1. `actors/engine/timers.rs` has `fire` and `Order::nowhere`.";
    assert_eq!(strangers(step), ["Order::nowhere"]);
    assert!(find("actors/engine/nowhere.rs").is_none());
    assert!(!names_a_file("POST /v1/store/carts") && !names_a_file("tests/golden/<noun>/"));
}
