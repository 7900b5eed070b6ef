//! What is embedded in the binary: every migration, and every file of the admin page (`web/admin`)
//! but its tests. Their tables are written here.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

const PAGE: &str = "web/admin";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed={PAGE}");
    let at = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(name));
    let (root, out) = (at("CARGO_MANIFEST_DIR")?, at("OUT_DIR")?);
    let page = files(&root.join(PAGE))?;
    fs::write(out.join("admin_page.rs"), table(&page, "include_bytes")?)?;
    for database in ["sqlite", "postgres"] {
        let migrations = files(&root.join("migrations").join(database))?;
        let to = out.join(format!("migrations_{database}.rs"));
        fs::write(to, table(&migrations, "include_str")?)?;
    }
    Ok(())
}

/// A Rust expression: the names of files, each with its content.
fn table(files: &[(String, PathBuf)], include: &str) -> io::Result<String> {
    let mut table = String::from("&[\n");
    for (name, path) in files {
        writeln!(table, "    ({name:?}, {include}!({path:?})),").map_err(io::Error::other)?;
    }
    table.push_str("]\n");
    Ok(table)
}

/// All files below a folder, by their path under it, in order.
fn files(root: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    files.sort();
    Ok(files)
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
