//! The id of a store's history: the order of events in which a position of the journal means the
//! same event. It is part of the tokens that clients keep, because a restore puts the store back:
//! other events then get the positions of those that were lost.
//!
//! A history ends with `kontor restore` and `kontor new-history`. In PostgreSQL, it also ends when
//! the tables are not those in which it began, because a dump was restored, or a database was
//! copied.

use std::fmt;

use super::both::{change, execute_returning, fetch_optional};
use super::found::FoundRow;
use super::{Error, Store};

/// The name of its row among the settings of the store: the id and the origin, separated by a space.
const NAME: &str = "history";
/// Ends the history; the next server begins another one.
pub(in crate::store) const END: &str = "DELETE FROM setting WHERE name = 'history'";
/// Begins a history, unless there is one. `$2` is a new one, whose origin is added in PostgreSQL: by
/// it, a restored or copied table is recognized.
const BEGIN_SQLITE: &str = "INSERT INTO setting (name, value) VALUES ($1, $2) \
     ON CONFLICT (name) DO UPDATE SET value = setting.value RETURNING value";
const BEGIN_POSTGRES: &str = "INSERT INTO setting (name, value) \
     SELECT $1, concat($2, ' ', system_identifier, '/', \
     (SELECT oid FROM pg_database WHERE datname = current_database()), '/', \
     'event'::REGCLASS::OID) FROM pg_control_system() ON CONFLICT (name) DO UPDATE SET \
     value = CASE WHEN split_part(setting.value, ' ', 2) = split_part(excluded.value, ' ', 2) \
     THEN setting.value ELSE excluded.value END RETURNING value";

/// Reads the history, unless it has ended.
const READ_SQLITE: &str = "SELECT value FROM setting WHERE name = $1";
const READ_POSTGRES: &str = "SELECT value FROM setting, pg_control_system() WHERE name = $1 AND \
     split_part(value, ' ', 2) = concat(system_identifier, '/', \
     (SELECT oid FROM pg_database WHERE datname = current_database()), '/', 'event'::REGCLASS::OID)";

/// The id of a store's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryId(pub u64);

impl fmt::Display for HistoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Store {
    /// The id of the store's history; begins one if the last one has ended.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn history(&self) -> Result<HistoryId, Error> {
        let drawn = HistoryId(rand::random()).to_string();
        let text = if self.is_shared() { BEGIN_POSTGRES } else { BEGIN_SQLITE };
        let mut writing = self.begin().await?;
        let found = execute_returning!(writing, sqlx::query(text).bind(NAME).bind(drawn))?;
        writing.commit().await?;
        found.as_ref().and_then(read).ok_or_else(|| Error::Row {
            table: "setting",
            reason: "the id of the history has not 16 hexadecimal digits".to_owned(),
        })
    }

    /// The id of the store's history; `None` if it has ended, and no server has begun another one.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn current_history(&self) -> Result<Option<HistoryId>, Error> {
        let text = if self.is_shared() { READ_POSTGRES } else { READ_SQLITE };
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(NAME))?;
        Ok(found.as_ref().and_then(read))
    }

    /// Ends the store's history, because the store was put back to an earlier state; the next
    /// server begins another one. No server may be running.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn end_history(&self) -> Result<(), Error> {
        change!(self, sqlx::query(END))?;
        Ok(())
    }
}

fn read(found: &FoundRow) -> Option<HistoryId> {
    let value: &str = found.try_get(0).ok()?;
    let id = value.split(' ').next()?;
    u64::from_str_radix(id, 16).ok().map(HistoryId)
}
