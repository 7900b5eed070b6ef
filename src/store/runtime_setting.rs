//! Settings that may change while nodes run: each change is a row and is never changed itself, so
//! that what holds now and how it came about cannot disagree. Which settings there are, and what
//! each may be, is not known here.

use super::both::{Builder, change};
use super::row::TableRow as _;
use super::{Error, LIST_MAX, Store};
use crate::domain::time::Timestamp;

crate::table_row! {
    /// A change of a setting.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Row in "runtime_setting", key(name, version) {
        /// The setting.
        pub name: String,
        /// The version that the change made, dense from 1.
        pub version: i64,
        /// What it became, as JSON; nothing for its default.
        pub value: Option<String>,
        /// What held before, as JSON.
        pub before: String,
        /// Who changed it.
        pub changed_by: String,
        /// Why.
        pub reason: String,
        /// Under which request.
        pub request_id: String,
        /// When.
        pub at: Timestamp,
    }
}

/// Nothing is written unless the version is the next one.
const CHANGE: &str = "INSERT INTO runtime_setting \
     (name, version, value, before, changed_by, reason, request_id, at) \
     SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE $2 - 1 = \
     (SELECT coalesce(max(version), 0) FROM runtime_setting WHERE name = $1) \
     ON CONFLICT DO NOTHING";

impl Store {
    /// The last change of each setting that was ever changed, by name.
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

    /// The changes of a setting before a version, or the last ones, the newest first.
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

    /// Changes a setting; `false`, and nothing is written, if its version is not the one before
    /// the row's.
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
