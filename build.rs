//! Builds again when a migration is new: they are embedded in the binary. So is every file of the
//! admin page, `web/admin`, but for its tests: their table is written here.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

const PAGE: &str = "web/admin";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed={PAGE}");
    let at = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(name));
    let root = at("CARGO_MANIFEST_DIR")?.join(PAGE);
    let mut files = Vec::new();
    collect(&root, &root, &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for (name, path) in files {
        writeln!(table, "    ({name:?}, include_bytes!({path:?})),").map_err(io::Error::other)?;
    }
    table.push_str("]\n");
    fs::write(at("OUT_DIR")?.join("admin_page.rs"), table)
}

/// All files below a folder, by their path under `root`.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let aside = ["test", "tests", "node_modules"].contains(&name.as_str())
            || name.starts_with('.')
            || name.contains(".test.")
            || name.ends_with(".md")
            || ["package.json", "package-lock.json"].contains(&name.as_str());
        if aside {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if let Ok(under) = path.strip_prefix(root) {
            files.push((under.to_string_lossy().replace('\\', "/"), path));
        }
    }
    Ok(())
}
