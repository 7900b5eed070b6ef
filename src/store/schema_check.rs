//! Compares what a database declares with a new store: a folder with one in memory, PostgreSQL with the
//! text of the migrations.

use std::collections::BTreeSet;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::schema::{Declared, SchemaFaults};
use super::{Backend, Error, OpenError, Store, migrations, open};

impl Store {
    /// How what the database declares differs from a new store. In PostgreSQL only triggers, rules and
    /// views are compared.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn schema_faults(&self) -> Result<SchemaFaults, Error> {
        match &self.backend {
            Backend::Sqlite(folder) => {
                let mut connection = folder.readers().acquire().await?;
                let faults = faults(&mut connection).await;
                faults.map_err(|error| Error::Refused(error.to_string()))
            }
            Backend::Postgres(database) => {
                let mut found = BTreeSet::new();
                for row in database.readers().fetch_all(sqlx::query(ATTACHED)).await? {
                    found.insert(Declared { kind: row.try_get(0)?, name: row.try_get(1)? });
                }
                Ok(compare(&found, &triggers_of_migrations()))
            }
        }
    }
}

/// What changes or hides what is written to the tables of a store in PostgreSQL: triggers that are not
/// disabled, rules and views.
const ATTACHED: &str = "\
    SELECT 'trigger', tgname || ' on ' || relname FROM pg_trigger JOIN pg_class \
    ON pg_class.oid = tgrelid WHERE relnamespace = current_schema()::regnamespace \
    AND NOT tgisinternal AND tgenabled IN ('O', 'A') \
    UNION ALL SELECT 'rule', rulename || ' on ' || relname FROM pg_rewrite JOIN pg_class \
    ON pg_class.oid = ev_class WHERE relnamespace = current_schema()::regnamespace \
    AND rulename <> '_RETURN' \
    UNION ALL SELECT CASE relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, relname::TEXT \
    FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('v', 'm')";

/// The triggers that the migrations of PostgreSQL make, as [`ATTACHED`] names them.
fn triggers_of_migrations() -> BTreeSet<Declared> {
    let mut all = BTreeSet::new();
    for migration in migrations::POSTGRES.iter() {
        for statement in migration.sql.as_str().split("CREATE TRIGGER ").skip(1) {
            let mut words = statement.split_whitespace().map(|word| word.trim_end_matches(';'));
            let name = words.next().unwrap_or_default();
            let table = words.skip_while(|word| *word != "ON").nth(1).unwrap_or_default();
            all.insert(Declared { kind: "trigger".to_owned(), name: format!("{name} on {table}") });
        }
    }
    all
}

fn compare(found: &BTreeSet<Declared>, expected: &BTreeSet<Declared>) -> SchemaFaults {
    let foreign = found.difference(expected).cloned().collect();
    let missing = expected.difference(found).cloned().collect();
    SchemaFaults { foreign, missing }
}

/// How what a database file declares differs from a new store.
pub(super) async fn faults(connection: &mut SqliteConnection) -> Result<SchemaFaults, OpenError> {
    let corrupt = |error: sqlx::Error| OpenError::Corrupt(error.to_string());
    let memory = SqliteConnectOptions::new().in_memory(true);
    let mut new = memory.connect().await.map_err(corrupt)?;
    open::migrate(&mut new).await?;
    let expected = declared(&mut new).await.map_err(corrupt)?;
    new.close().await.map_err(corrupt)?;
    let found = declared(connection).await.map_err(corrupt)?;
    let named = |(kind, name, _): &(String, String, String)| {
        let (kind, name) = (kind.clone(), name.clone());
        Declared { kind, name }
    };
    let foreign = found.difference(&expected).map(named).collect();
    let missing = expected.difference(&found).map(named).collect();
    Ok(SchemaFaults { foreign, missing })
}

/// The kind, the name and the text of all that a database declares. SQLite's own tables and indexes
/// are left out: some exist only once they are used.
async fn declared(
    connection: &mut SqliteConnection,
) -> Result<BTreeSet<(String, String, String)>, sqlx::Error> {
    let text = "SELECT type, name, ifnull(sql, '') FROM sqlite_schema \
                WHERE NOT (type IN ('table', 'index') AND name LIKE 'sqlite\\_%' ESCAPE '\\')";
    Ok(sqlx::query_as(text).fetch_all(connection).await?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_triggers_of_the_migrations_are_found_in_their_text() {
        let all = triggers_of_migrations();
        assert!(
            all.contains(&Declared {
                kind: "trigger".into(),
                name: "event_is_never_changed on event".into()
            }),
            "{all:?}"
        );
        let each = migrations::POSTGRES.iter().map(|one| one.sql.as_str());
        let named = each.map(|sql| sql.replace("RETURNS TRIGGER", ""));
        let count: usize = named.map(|sql| sql.matches(" TRIGGER ").count()).sum();
        assert_eq!(all.len(), count, "a trigger that is dropped or replaced needs more here");
    }
}
