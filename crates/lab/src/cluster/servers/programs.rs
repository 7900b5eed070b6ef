//! The locations of the programs, and the Debian packages of missing ones.

use std::path::{Path, PathBuf};

use super::Error;

/// Folders with programs that are not in every user's path.
const MORE: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
/// Debian's folder of PostgreSQL, with one subfolder per version.
const POSTGRES: &str = "/usr/lib/postgresql";

/// A program that a cluster needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// PostgreSQL's programs, which are in one folder.
    Postgres,
    /// `nats-server`.
    Nats,
    /// `redis-server`.
    Redis,
    /// `haproxy`.
    Haproxy,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::Nats, Self::Redis, Self::Haproxy];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Nats => "nats-server",
            Self::Redis => "redis-server",
            Self::Haproxy => "haproxy",
        }
    }

    /// Debian's package.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            other => other.name(),
        }
    }

    /// Finds the program's path.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn find(self) -> Result<PathBuf, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        folders.extend(MORE.map(PathBuf::from));
        if self == Self::Postgres {
            folders = newest_first(Path::new(POSTGRES)).chain(folders).collect();
        }
        let mut all = folders.into_iter().map(|folder| folder.join(self.name()));
        let missing = Error::Missing { program: self.name(), package: self.package() };
        let found = all.find(|file| file.is_file()).ok_or(missing)?;
        if self == Self::Postgres {
            // The found program may be a link; its target is in the folder with PostgreSQL's other
            // programs.
            return found.canonicalize().map_err(Error::io(found.display().to_string()));
        }
        Ok(found)
    }
}

/// The packages of missing programs.
#[must_use]
pub fn missing() -> Vec<&'static str> {
    let missing = Program::ALL.into_iter().filter(|program| program.find().is_err());
    missing.map(Program::package).collect()
}

/// The `bin` folders of all versions, newest first.
fn newest_first(under: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(under).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_postgres_version_is_found_first() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["9", "15", "common", "16"] {
            std::fs::create_dir(dir.path().join(version)).unwrap();
        }
        let found: Vec<PathBuf> = newest_first(dir.path()).collect();
        assert_eq!(found, ["16", "15", "9"].map(|version| dir.path().join(version).join("bin")));
    }

    #[test]
    fn missing_program_is_reported_with_its_package() {
        let program = Program::Postgres;
        let error = Error::Missing { program: program.name(), package: program.package() };
        assert_eq!(error.to_string(), "postgres is not installed: apt-get install postgresql");
    }
}
