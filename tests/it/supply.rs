//! What the project is made of: the licenses, sources and versions of all dependencies are as
//! `deny.toml` says, and `sbom.cdx.json` lists what is in the binary.
//!
//! Advisories are not looked up: they change every day, and a test's outcome must not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use cyclonedx_bom::prelude::{Bom, Validate as _};
use serde_json::{Value, json};
use spdx::{Expression, Licensee, ParseMode};

/// The platform that releases are built for. Of others, only names and versions are looked at.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
const SBOM: &str = "sbom.cdx.json";

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn table(name: &str) -> toml::Table {
    read(name).parse().unwrap()
}

/// The manifests of the workspace's packages.
fn manifests() -> Vec<toml::Table> {
    let crates = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates")).unwrap();
    let names = crates.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let of_crates = names.map(|name| table(&format!("crates/{name}/Cargo.toml")));
    std::iter::once(table("Cargo.toml")).chain(of_crates).collect()
}

/// The packages of the lock file.
fn locked() -> Vec<toml::Value> {
    table("Cargo.lock")["package"].as_array().unwrap().clone()
}

fn text<'a>(value: &'a toml::Value, name: &str) -> &'a str {
    value.get(name).and_then(toml::Value::as_str).unwrap_or("")
}

fn texts(value: &toml::Value) -> BTreeSet<String> {
    let all = value.as_array().unwrap().iter();
    all.map(|one| one.as_str().unwrap_or_else(|| text(one, "name")).to_owned()).collect()
}

/// What cargo knows of the packages that are built for [`PLATFORM`].
fn metadata() -> Value {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    serde_json::from_slice(&told.stdout).unwrap()
}

fn license(package: &Value) -> Expression {
    let words = package["license"].as_str().unwrap_or("");
    Expression::parse_mode(words, ParseMode::LAX)
        .unwrap_or_else(|error| panic!("{}: {words:?}: {error}", package["name"]))
}

/// The license as SPDX writes it: some crates put a `/` for `OR`.
fn canonical(package: &Value) -> String {
    let words = package["license"].as_str().unwrap_or("");
    Expression::canonicalize(words).unwrap().unwrap_or_else(|| words.to_owned())
}

/// tokio's `test-util` lets a test turn the runtime's clock. Nothing of ours asks for it in a server's
/// build, and of others only `tryhard`, by which async-nats tries again: a slip of its manifest.
#[test]
fn no_dependency_enables_tokio_test_util() {
    let metadata = metadata();
    let built = built(&metadata);
    let packages = metadata["packages"].as_array().unwrap().iter();
    let built = packages.filter(|package| built.contains_key(package["id"].as_str().unwrap()));
    let asks = |needs: &Value| {
        let features = needs["features"].as_array().unwrap();
        let asked = features.iter().any(|feature| feature == "test-util");
        needs["name"] == "tokio" && needs["kind"].is_null() && asked
    };
    for package in built {
        let asked = package["dependencies"].as_array().unwrap().iter().any(asks);
        assert!(!asked || package["name"] == "tryhard", "{} asks for it", package["name"]);
        let ours = package["name"] == env!("CARGO_PKG_NAME");
        assert!(!ours || package["features"]["default"].is_null(), "the simulator is not default");
    }
}

#[test]
fn every_license_is_permissive() {
    let allowed: Vec<Licensee> = texts(&table("deny.toml")["licenses"]["allow"])
        .iter()
        .map(|name| Licensee::parse(name).unwrap())
        .collect();
    for package in metadata()["packages"].as_array().unwrap() {
        let fine = license(package)
            .evaluate(|asked| allowed.iter().any(|license| license.satisfies(asked)));
        assert!(fine, "{} is under {}", package["name"], package["license"]);
    }
}

#[test]
fn every_dependency_comes_from_the_registry_and_none_is_banned() {
    let rules = table("deny.toml");
    let sources = texts(&rules["sources"]["allow-registry"]);
    let banned = texts(&rules["bans"]["deny"]);
    let own = manifests();
    let names: BTreeSet<&str> = own.iter().map(|one| text(&one["package"], "name")).collect();
    for package in locked() {
        let name = text(&package, "name");
        assert!(!banned.contains(name), "{name} is banned");
        let source = text(&package, "source");
        let known = source.strip_prefix("registry+").is_some_and(|url| sources.contains(url));
        assert!(known || names.contains(name), "{name} comes from {source:?}");
    }
    let lists = own.iter().flat_map(|manifest| {
        let kinds = ["dependencies", "dev-dependencies", "build-dependencies"].into_iter();
        kinds.filter_map(|kind| manifest.get(kind)).chain(manifest.get("workspace"))
    });
    let lists = lists.map(|list| list.get("dependencies").unwrap_or(list));
    let asked = lists.flat_map(|list| list.as_table().unwrap());
    let asked = asked.filter(|(_, asked)| asked.get("workspace").or(asked.get("path")).is_none());
    for (name, asked) in asked {
        let version = asked.as_str().unwrap_or_else(|| text(asked, "version"));
        assert!(!version.is_empty() && !version.contains('*'), "{name} has a wildcard");
    }
}

#[test]
fn duplicate_crate_versions_have_a_reason() {
    let rules = table("deny.toml");
    let skipped = rules["bans"]["skip"].as_array().unwrap();
    let skipped: BTreeSet<&str> = skipped.iter().map(|one| text(one, "crate")).collect();
    let packages = locked();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &packages {
        versions.entry(text(package, "name")).or_default().insert(text(package, "version"));
    }
    let mut used = BTreeSet::new();
    for (name, versions) in versions {
        let spared = |version: &&&str| skipped.contains(format!("{name}@{version}").as_str());
        let left = versions.iter().filter(|version| !spared(version)).count();
        assert!(left <= 1, "{name} is there as {versions:?}: deny.toml has to say why");
        used.extend(versions.iter().filter(spared).map(|version| format!("{name}@{version}")));
    }
    let stale: Vec<_> = skipped.iter().filter(|one| !used.contains(**one)).collect();
    assert!(stale.is_empty(), "deny.toml skips what is not there: {stale:?}");
}

/// The packages that end up in the binary, or run while it is built, with what each needs.
fn built(metadata: &Value) -> BTreeMap<&str, Vec<&str>> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<&str, &Value> =
        nodes.iter().map(|node| (node["id"].as_str().unwrap(), node)).collect();
    let mut all = BTreeMap::new();
    let mut next = vec![metadata["resolve"]["root"].as_str().unwrap()];
    while let Some(id) = next.pop() {
        if all.contains_key(id) {
            continue;
        }
        let needs = nodes[id]["deps"].as_array().unwrap().iter();
        let needs = needs.filter(|need| {
            let mut kinds = need["dep_kinds"].as_array().unwrap().iter();
            kinds.any(|kind| kind["kind"] != "dev")
        });
        let needs: Vec<&str> = needs.map(|need| need["pkg"].as_str().unwrap()).collect();
        next.extend(&needs);
        all.insert(id, needs);
    }
    all
}

fn sbom() -> Value {
    let metadata = metadata();
    let lock = locked();
    let checksum = |name: &str, version: &str| {
        let is = |one: &&toml::Value| text(one, "name") == name && text(one, "version") == version;
        lock.iter().find(is).map_or("", |one| text(one, "checksum")).to_owned()
    };
    let built = built(&metadata);
    let packages = metadata["packages"].as_array().unwrap();
    let known: BTreeMap<&str, (String, Value)> = packages
        .iter()
        .map(|package| {
            let (name, version) =
                (package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
            let purl = format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"));
            let mut shape = json!({
                "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
                "licenses": [{"expression": canonical(package)}],
            });
            let sum = checksum(name, version);
            if package["id"] == metadata["resolve"]["root"] {
                shape["type"] = "application".into();
            }
            if !sum.is_empty() {
                shape["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
            }
            (package["id"].as_str().unwrap(), (purl, shape))
        })
        .collect();
    let root = metadata["resolve"]["root"].as_str().unwrap();
    let mut components: Vec<&Value> =
        built.keys().filter(|id| **id != root).map(|id| &known[id].1).collect();
    components.sort_by_key(|shape| shape["purl"].as_str());
    let mut needs: Vec<Value> = built
        .iter()
        .map(|(id, needs)| {
            let on: BTreeSet<&str> = needs.iter().map(|need| known[need].0.as_str()).collect();
            json!({"ref": known[id].0, "dependsOn": on})
        })
        .collect();
    needs.sort_by_key(|need| need["ref"].as_str().map(str::to_owned));
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": known[root].1},
        "components": components,
        "dependencies": needs,
    })
}

#[test]
fn the_bill_of_materials_is_valid_and_lists_what_is_built() {
    let expected = sbom();
    let bom = Bom::parse_json_value(expected.clone()).unwrap();
    assert!(bom.validate().passed(), "{:?}", bom.validate());
    if env::var_os("KONTOR_WRITE_SBOM").is_some() {
        let text = serde_json::to_string_pretty(&expected).unwrap() + "\n";
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(SBOM), text).unwrap();
    }
    let written: Value = serde_json::from_str(&read(SBOM)).unwrap();
    assert!(written == expected, "{SBOM} is not of this Cargo.lock: run scripts/sbom");
}
