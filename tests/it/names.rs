//! One word, one meaning: which names several public types have, what each name means, and where it
//! may stand. Where files and imports belong is in `house`.

use std::collections::BTreeMap;

use crate::house::{code, files, root};

/// A name of several types, its one meaning, and the folders or files in which it has it.
type Shared = (&'static str, &'static str, &'static [&'static str]);

/// A word of the API is the same word in the domain, in the API's bodies and in the client.
const MIRRORED: &[&str] = &["src/domain/", "src/http/api/", "crates/client/src/"];
/// A module's own word, which its users read with the module's name: `order::Command`.
const EVERYWHERE: &[&str] = &["src/", "crates/"];

/// All names that more than one public type has. A new one is not put in, but called what it is.
const SHARED: &[Shared] = &[
    ("Address", "a postal address", MIRRORED),
    ("Args", "the arguments of a command", &["src/cli/", "crates/lab/src/"]),
    ("Cart", "a cart", MIRRORED),
    ("Command", "what can be asked of a noun", &["src/domain/"]),
    ("Delivery", "a chosen way of delivery with its price", MIRRORED),
    ("Error", "why the module's work was not done", EVERYWHERE),
    ("Event", "what has happened to a noun", &["src/domain/"]),
    (
        "FieldError",
        "a field of a body that is wrong, and why",
        &["src/http/edge/problem.rs", "crates/client/src/"],
    ),
    ("Filter", "which rows of a table a list shows", &["src/store/"]),
    ("ImportRow", "a row of an import of products", MIRRORED),
    (
        "InvalidId",
        "a text that is no identifier of a kind",
        &["src/domain/id.rs", "crates/lab/src/load/id.rs"],
    ),
    ("InvalidMoney", "why a number or a code is no money", MIRRORED),
    ("Line", "a line of a cart: units of a SKU", MIRRORED),
    ("Money", "an amount of one currency", MIRRORED),
    ("NewCart", "a cart to be made", MIRRORED),
    ("NewLine", "a line to be added to a cart", MIRRORED),
    ("Options", "how the module is set up, with its limits", EVERYWHERE),
    ("Order", "an order", MIRRORED),
    ("Page", "a page of a list", MIRRORED),
    ("PaymentMethod", "how a buyer pays: a provider and its token", MIRRORED),
    (
        "Problem",
        "why a request is refused (RFC 9457)",
        &[
            "src/http/edge/problem_body.rs",
            "crates/client/src/",
            "crates/sandbox-psp/src/problem.rs",
        ],
    ),
    ("Price", "the price of one unit", MIRRORED),
    ("Product", "what is sold under a SKU", MIRRORED),
    ("Refund", "money given back for an order", MIRRORED),
    ("RefundLine", "units of an order's line that are given back", MIRRORED),
    ("Rejection", "why a noun refuses a command", &["src/domain/"]),
    ("Row", "a row of a table", &["src/store/"]),
    ("Shortage", "a SKU of which there is too little", MIRRORED),
    ("Sku", "a stock keeping unit", &["src/domain/id.rs", "src/http/edge/checked.rs"]),
    ("Sort", "the order of a list of rows", &["src/store/"]),
    ("StockItem", "the stock of a SKU", MIRRORED),
    ("TaxRate", "a tax rate", &["src/domain/money.rs", "src/http/edge/checked.rs"]),
    (
        "Timestamp",
        "milliseconds since 1970",
        &["src/domain/time.rs", "crates/sandbox-psp/src/clock.rs"],
    ),
    ("Totals", "what a cart or an order comes to", MIRRORED),
    ("UnitPrice", "the price of one unit", MIRRORED),
];

/// The files by the public types that they declare, whoever may see these. Tests are left out.
fn declared<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, Vec<&'a str>> {
    let mut declared: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (path, text) in files {
        if path.contains("/tests/") || path.ends_with("/tests.rs") {
            continue;
        }
        for name in code(text).lines().filter_map(public_type) {
            declared.entry(name.to_owned()).or_default().push(path);
        }
    }
    declared
}

/// The type that a line declares for others.
fn public_type(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')')?.1,
        None => rest,
    };
    let (keyword, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let end = |letter: char| !(letter.is_alphanumeric() || letter == '_');
    let is_type = ["struct", "enum", "trait", "type", "union"].contains(&keyword);
    rest.split(end).next().filter(|name| is_type && !name.is_empty())
}

/// What the declared types have against the list: names with a second meaning, and names that are
/// listed and shared no longer.
fn ambiguous(declared: &BTreeMap<String, Vec<&str>>, shared: &[Shared]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, paths) in declared.iter().filter(|(_, paths)| paths.len() > 1) {
        match shared.iter().find(|(listed, ..)| listed == name) {
            None => wrong.push(format!("{name} has several meanings: {}", paths.join(", "))),
            Some((_, meaning, places)) => {
                let is_out = |path: &&&str| !places.iter().any(|place| path.starts_with(place));
                let out = paths.iter().filter(is_out);
                wrong.extend(out.map(|path| format!("{name} is {meaning}, but not in {path}")));
            }
        }
    }
    let is_shared = |name: &str| declared.get(name).is_some_and(|paths| paths.len() > 1);
    let gone = shared.iter().filter(|(name, ..)| !is_shared(name));
    wrong.extend(gone.map(|(name, ..)| format!("strike out {name}: it is shared no longer")));
    wrong
}

#[test]
fn a_name_of_several_public_types_has_one_meaning() {
    let all: Vec<_> = ["src", "crates"].into_iter().flat_map(|at| files(at, "rs")).collect();
    let texts = all.iter().map(|(path, text)| (path.to_str().unwrap(), text.as_str()));
    let declared = declared(texts);
    assert!(declared.len() > 500, "only {} types were found", declared.len());
    let wrong = ambiguous(&declared, SHARED);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_second_meaning_is_seen() {
    let shared: &[Shared] = &[("Row", "a row of a table", &["src/store/"])];
    let rows = [("src/store/a.rs", "pub struct Row;"), ("src/store/b.rs", "pub type Row = u8;")];
    let wrong = |more: &[(&'static str, &'static str)]| {
        let files = rows.iter().chain(more).copied();
        ambiguous(&declared(files), shared)
    };
    assert_eq!(wrong(&[]), Vec::<String>::new());

    let elsewhere = wrong(&[("src/bus/c.rs", "pub(super) enum Row { A }")]);
    assert_eq!(elsewhere, ["Row is a row of a table, but not in src/bus/c.rs"]);
    let twice =
        wrong(&[("src/bus/c.rs", "pub trait Place {}\n    pub(in crate::x) struct Place<T>;")]);
    assert_eq!(twice, ["Place has several meanings: src/bus/c.rs, src/bus/c.rs"]);
    let gone = ambiguous(&declared(rows[..1].iter().copied()), shared);
    assert_eq!(gone, ["strike out Row: it is shared no longer"]);

    for fine in [
        "struct Row;",
        "// pub struct Row;",
        "const TEXT: &str = \"pub struct Row;\";",
        "#[cfg(test)]\nmod tests {\n    pub struct Row;\n}",
        "pub fn Row() {}",
        "pub use crate::store::a::Row;",
    ] {
        assert_eq!(wrong(&[("src/bus/c.rs", fine)]), Vec::<String>::new(), "{fine}");
    }
    assert!(wrong(&[("src/bus/tests.rs", "pub struct Row;")]).is_empty());
}

/// A test that a document names can be run by that name.
#[test]
fn tests_named_in_documents_exist() {
    let named = regex::Regex::new(r"`([a-z]+(?:_[a-z0-9]+){3,})`").unwrap();
    let sources = ["src", "crates", "tests"].iter().flat_map(|folder| files(folder, "rs"));
    let text: String = sources.map(|(_, text)| text).collect();
    let mut missing = Vec::new();
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/reliability.md"] {
        let page = std::fs::read_to_string(root().join(document)).unwrap();
        for found in named.captures_iter(&page) {
            let name = &found[1];
            if !text.contains(name) {
                missing.push(format!("{document} names {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
