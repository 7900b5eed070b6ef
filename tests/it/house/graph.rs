//! Which file of the program refers to which: read out of `use` lines and of paths in the code, down
//! to the file in which a name is declared, whoever re-exports it.
//!
//! Comments, texts and tests are not read. What is allowed is said in `house`.

use std::collections::{BTreeMap, BTreeSet};

/// A path of names, such as `http::edge::error`.
pub type Names = Vec<String>;

/// All files by the module that each is, with the modules that it refers to.
pub struct Graph(BTreeMap<Names, BTreeSet<Names>>);

impl Graph {
    /// Reads files, each with its path under `src`.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let files: BTreeMap<Names, Vec<Reference>> =
            files.into_iter().map(|(path, text)| (module(path), references(&code(text)))).collect();
        let known: BTreeSet<Names> = files.keys().cloned().collect();
        let mut shown: BTreeMap<Names, BTreeMap<String, Names>> = BTreeMap::new();
        let mut all: BTreeMap<Names, Vec<Names>> = BTreeMap::new();
        for (of, references) in &files {
            let own = all.entry(of.clone()).or_default();
            for one in references {
                let Some(path) = absolute(of, &one.path, &known) else { continue };
                if one.shown
                    && let Some(name) = path.last()
                {
                    shown.entry(of.clone()).or_default().insert(name.clone(), path.clone());
                }
                own.push(path);
            }
        }
        let edges = all.into_iter().map(|(of, paths)| {
            let to = paths.into_iter().map(|path| declared(path, &known, &shown));
            (of.clone(), to.filter(|to| *to != of && !to.is_empty()).collect())
        });
        Self(edges.collect())
    }

    /// Every reference, from a file to a file.
    pub fn references(&self) -> impl Iterator<Item = (&Names, &Names)> {
        self.0.iter().flat_map(|(of, all)| all.iter().map(move |to| (of, to)))
    }

    /// The circles of files: sets of which each file leads to each.
    ///
    /// A file's use of its own folder's `mod.rs` does not count: what stands there is the common
    /// ground of the folder, and it names its files to show them. What it only re-exports counts as
    /// a use of the file that declares it, so that two files of a folder cannot hide a circle there.
    pub fn circles(&self) -> Vec<BTreeSet<String>> {
        let of_folder = |of: &Names, to: &Names| of.len() > to.len() && of.starts_with(to);
        let next = |of: &Names| -> Vec<&Names> {
            let all = self.0.get(of).into_iter().flatten();
            all.filter(|to| !of_folder(of, to)).collect()
        };
        let reach = |from: &Names| -> BTreeSet<Names> {
            let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
            while let Some(one) = left.pop() {
                for to in next(one) {
                    if let Some((to, _)) = self.0.get_key_value(to)
                        && seen.insert(to.clone())
                    {
                        left.push(to);
                    }
                }
            }
            seen
        };
        let reached: BTreeMap<&Names, BTreeSet<Names>> =
            self.0.keys().map(|of| (of, reach(of))).collect();
        let circle = |of: &Names| -> BTreeSet<String> {
            let back = reached[of].iter().filter(|to| reached[*to].contains(of));
            back.map(|names| names.join("::")).collect()
        };
        let all: BTreeSet<BTreeSet<String>> = self.0.keys().map(circle).collect();
        all.into_iter().filter(|circle| circle.len() > 1).collect()
    }
}

/// The module that a file is: `http/edge/mod.rs` is `http::edge`.
fn module(path: &str) -> Names {
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|name| *name != "lib").map(str::to_owned).collect()
}

/// A path that a file names, and whether it shows it to others.
struct Reference {
    path: Names,
    shown: bool,
}

/// A text without comments, texts and tests.
pub fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let skipped = match letter {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '\'' if rest.starts_with("'\"'") => 3,
            'r' if rest.starts_with("r\"") || rest.starts_with("r#") => raw(rest),
            '"' => quoted(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(letter);
            rest = &rest[letter.len_utf8()..];
        } else {
            rest = &rest[skipped..];
        }
    }
    code
}

/// How long a text in quotes is, quotes included.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, letter)| {
        let end = *letter == '"' && !escaped;
        escaped = *letter == '\\' && !escaped;
        end
    });
    end.map_or(rest.len(), |(at, _)| at + 1)
}

/// How long a raw text is; 0 for what is none.
fn raw(rest: &str) -> usize {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = &rest[2 + hashes..];
    2 + hashes + body.find(&end).map_or(body.len(), |at| at + end.len())
}

fn references(code: &str) -> Vec<Reference> {
    let mut all = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let begun = statement.rfind("use ").filter(|at| {
            let before = statement[..*at].trim_end();
            before.is_empty() || before.ends_with(['}', '{', ']', ')']) || before.ends_with("pub")
        });
        match begun {
            Some(at) => {
                let before = &statement[..at];
                let line = before.rsplit(['}', '{', ']', '\n']).next().unwrap_or("");
                let shown = line.contains("pub") || before.trim_end().ends_with(')');
                let tree = statement[at + 4..].trim_end_matches(';');
                let mut paths = Vec::new();
                expand(&[], tree, &mut paths);
                all.extend(paths.into_iter().map(|path| Reference { path, shown }));
                rest.push_str(before);
            }
            None => rest.push_str(statement),
        }
    }
    let paths = in_code(&rest).into_iter().map(|path| Reference { path, shown: false });
    all.extend(paths);
    all
}

/// The paths of a tree of `use`.
fn expand(before: &[String], tree: &str, paths: &mut Vec<Names>) {
    let tree = tree.trim();
    let (head, list) = match tree.split_once('{') {
        Some((head, list)) => (head, Some(list.rsplit_once('}').map_or(list, |(list, _)| list))),
        None => (tree.split(" as ").next().unwrap_or(tree), None),
    };
    let names = head.split("::").map(str::trim).filter(|name| !name.is_empty());
    let path: Names = before.iter().cloned().chain(names.map(str::to_owned)).collect();
    let Some(list) = list else {
        if path.last().is_some_and(|name| name == "self") {
            paths.push(path[..path.len() - 1].to_vec());
        } else if !path.is_empty() {
            paths.push(path);
        }
        return;
    };
    let (mut depth, mut begin) = (0_usize, 0);
    for (at, letter) in list.char_indices().chain([(list.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                let one = &list[begin..at];
                if !one.trim().is_empty() {
                    expand(&path, one, paths);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// Paths of two names or more.
fn in_code(code: &str) -> Vec<Names> {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let words = code.split(|letter| !part(letter)).filter(|word| word.contains("::"));
    let names = |word: &str| -> Names {
        let all = word.split("::").filter(|name| !name.is_empty() && !name.contains(':'));
        all.map(str::to_owned).collect()
    };
    words.filter(|word| !word.starts_with("::")).map(names).filter(|path| path.len() > 1).collect()
}

/// A path from the root, if it is one of ours.
fn absolute(of: &Names, path: &[String], known: &BTreeSet<Names>) -> Option<Names> {
    let mut at = of.clone();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            at.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|name| name == "super") {
                at.pop()?;
                rest = &rest[1..];
            }
        }
        child => {
            at.push(child.to_owned());
            if !known.contains(&at) {
                return None;
            }
            rest = &path[1..];
        }
    }
    at.extend(rest.iter().cloned());
    Some(at)
}

/// The file that declares what a path names.
fn declared(
    mut path: Names,
    known: &BTreeSet<Names>,
    shown: &BTreeMap<Names, BTreeMap<String, Names>>,
) -> Names {
    // A name is shown through a few files at most.
    for _ in 0..8 {
        let depth = (0..=path.len()).rev().find(|depth| known.contains(&path[..*depth]));
        let (file, rest) = path.split_at(depth.unwrap_or(0));
        let through = rest.first().and_then(|name| shown.get(file)?.get(name));
        match through {
            Some(to) if !to.starts_with(&path[..=file.len()]) => {
                path = to.iter().chain(&rest[1..]).cloned().collect();
            }
            _ => return file.to_vec(),
        }
    }
    path
}
