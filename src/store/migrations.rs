//! The migrations of both databases, embedded by `build.rs`. Each is described in its file under
//! `migrations/`; they run when a store is opened.

use std::sync::LazyLock;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Migrations of SQLite.
pub(super) static SQLITE: LazyLock<Migrator> =
    LazyLock::new(|| migrator(include!(concat!(env!("OUT_DIR"), "/migrations_sqlite.rs"))));
/// Migrations of PostgreSQL.
pub(super) static POSTGRES: LazyLock<Migrator> =
    LazyLock::new(|| migrator(include!(concat!(env!("OUT_DIR"), "/migrations_postgres.rs"))));

/// A migrator of files named `NUMBER_DESCRIPTION.sql`, in the order of their numbers.
fn migrator(files: &[(&'static str, &'static str)]) -> Migrator {
    let migrations = files.iter().filter_map(|(name, sql)| {
        let (version, description) = name.strip_suffix(".sql")?.split_once('_')?;
        let description = description.replace('_', " ").into();
        let (version, sql) = (version.parse().ok()?, (*sql).into_sql_str());
        Some(Migration::new(version, description, MigrationType::Simple, sql, false))
    });
    Migrator::with_migrations(migrations.collect())
}

/// The version of the newest migration.
pub(super) fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_embedded_with_dense_versions_and_are_twins_of_both_databases() {
        let of = |migrator: &Migrator| -> Vec<(i64, String)> {
            migrator.iter().map(|one| (one.version, one.description.to_string())).collect()
        };
        let (sqlite, postgres) = (of(&SQLITE), of(&POSTGRES));
        assert_eq!(sqlite, postgres);
        let versions: Vec<i64> = sqlite.iter().map(|(version, _)| *version).collect();
        assert_eq!(versions, (1..=newest(&SQLITE)).collect::<Vec<_>>());
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite"));
        assert_eq!(sqlite.len(), files.unwrap().count(), "a file's name is NUMBER_WHAT.sql");
    }
}
