//! Changes of runtime settings. Each change is a row that is never updated, and the last row of a
//! setting is its current value. The settings and their valid values are defined by the callers.

use super::both::{Builder, change};
use super::row::TableRow as _;
use super::{Error, LIST_MAX, Store};
use crate::domain::time::Timestamp;

crate::table_row! {
    /// A change of a setting.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Row in "runtime_setting", key(name, version) {
        /// The name of the setting.
        pub name: String,
        /// The version of the setting after the change, from 1 without gaps.
        pub version: i64,
        /// The new value, as JSON; `None` for the default.
        pub value: Option<String>,
        /// The previous value, as JSON.
        pub before: String,
        /// The principal that made the change, and after a space the name of its key or sign-in
        /// link; old rows have no name.
        pub changed_by: String,
        /// The reason.
        pub reason: String,
        /// The id of the request that made the change.
        pub request_id: String,
        /// When the change was made.
        pub at: Timestamp,
    }
}

impl Row {
    /// The principal that made the change, and its name.
    #[must_use]
    pub fn author(&self) -> (&str, Option<&str>) {
        let named = self.changed_by.split_once(' ');
        named.map_or((&self.changed_by, None), |(by, name)| (by, Some(name)))
    }
}

/// Writes nothing if the version is not the next one of the setting.
const CHANGE: &str = "INSERT INTO runtime_setting \
     (name, version, value, before, changed_by, reason, request_id, at) \
     SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE $2 - 1 = \
     (SELECT coalesce(max(version), 0) FROM runtime_setting WHERE name = $1) \
     ON CONFLICT DO NOTHING";

impl Store {
    /// The last change of each setting that was ever changed, in order of name.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn runtime_settings(&self) -> Result<Vec<Row>, Error> {
        let readers = self.readers();
        let mut query = Builder::new(readers.dialect(), &Row::table().select());
        query.push(" AS this WHERE version = (SELECT max(version) FROM runtime_setting AS other");
        query.push(" WHERE other.name = this.name) ORDER BY name");
        query.fetch_all(readers).await?.iter().map(Row::decode).collect()
    }

    /// The changes of a setting, newest first: those before a version, or with `None` the last
    /// ones.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn runtime_setting_history(
        &self,
        name: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Row>, Error> {
        let readers = self.readers();
        let mut query = Builder::new(readers.dialect(), &Row::table().select());
        query.push(" WHERE name = ").push_bind(name.to_owned());
        query.push(" AND version < ").push_bind(before.unwrap_or(i64::MAX));
        query.push(" ORDER BY version DESC LIMIT +").push_bind(i64::from(limit.min(LIST_MAX)));
        query.fetch_all(readers).await?.iter().map(Row::decode).collect()
    }

    /// Changes a setting; `false`, with nothing written, if `row.version` is not the setting's next
    /// version.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn change_runtime_setting(&self, row: &Row) -> Result<bool, Error> {
        let changed = change!(
            self,
            sqlx::query(CHANGE)
                .bind(row.name.as_str())
                .bind(row.version)
                .bind(row.value.as_deref())
                .bind(row.before.as_str())
                .bind(row.changed_by.as_str())
                .bind(row.reason.as_str())
                .bind(row.request_id.as_str())
                .bind(row.at.millis())
        )?;
        Ok(changed == 1)
    }
}
