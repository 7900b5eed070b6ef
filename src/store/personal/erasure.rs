//! Who was erased: the keys of a person are destroyed, and every cart and order that they belong to
//! is told. An erasure stays open until no order must
//! keep its data.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::StoredKey;
use crate::domain::entity::EntityId;
use crate::domain::sealed::KeyId;
use crate::domain::time::Timestamp;
use crate::store::both::{Builder, change, execute, fetch_all};
use crate::store::row::TableRow as _;
use crate::store::{Error, Store};

/// Records an erasure, unless it is known.
const ADD: &str = "INSERT INTO erasure (subject, erased_at, by) VALUES ($1, $2, $3) \
                   ON CONFLICT (subject, erased_at) DO NOTHING";

/// An erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    /// The keyed hash of the email address.
    pub subject: String,
    /// When.
    pub erased_at: Timestamp,
    /// Who asked for it, as a cause names them.
    pub by: String,
}

impl Store {
    /// The keys of a person: all of the carts that have had the email address, also those of values
    /// that came without one or with another one, which the buyer has corrected.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn keys_of_subject(&self, subject: &str) -> Result<Vec<StoredKey>, Error> {
        let from = self.readers();
        let mut query = Builder::new(from.dialect(), &StoredKey::table().select());
        query.push(" WHERE entity IN (SELECT entity FROM personal_key WHERE subject = ");
        query.push_bind(subject.to_owned()).push(") ORDER BY id");
        query.fetch_all(from).await?.iter().map(StoredKey::decode).collect()
    }

    /// Those of these keys that are stored.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn stored_keys(&self, ids: &BTreeSet<KeyId>) -> Result<Vec<StoredKey>, Error> {
        self.read_keys(ids.iter().cloned().collect()).await
    }

    /// The orders whose rows have the email address with this hash.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn orders_of_subject(&self, subject: &str) -> Result<BTreeSet<EntityId>, Error> {
        let text = "SELECT id FROM order_row WHERE email_hash = $1";
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(subject))?;
        let id = |row: &super::FoundRow| Ok(EntityId::new(&row.try_get::<String>(0)?));
        Ok(found.iter().map(id).collect::<Result<_, sqlx::Error>>()?)
    }

    /// Destroys keys, and records the erasure, in one transaction. They may still be in SQLite's log
    /// ([`Store::empty_log_of_destroyed`]).
    ///
    /// # Errors
    /// [`Error`] of the store; nothing is destroyed then.
    pub async fn erase_keys(&self, erasure: &Erasure, keys: &[StoredKey]) -> Result<(), Error> {
        let mut writing = self.begin().await?;
        for key in keys {
            let text = "DELETE FROM personal_key WHERE id = $1";
            execute!(writing, sqlx::query(text).bind(key.id.clone()))?;
        }
        let (at, by) = (erasure.erased_at.millis(), erasure.by.as_str());
        execute!(writing, sqlx::query(ADD).bind(erasure.subject.as_str()).bind(at).bind(by))?;
        writing.commit().await?;
        let ids: Vec<KeyId> = keys.iter().filter_map(|key| key.id.parse().ok()).collect();
        self.people.forget(&ids);
        if !ids.is_empty() {
            self.people.log_has_destroyed();
        }
        Ok(())
    }

    /// Records an erasure that a server continues; returns 1 if it was not known, otherwise 0.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn add_erasure(&self, erasure: &Erasure) -> Result<u64, Error> {
        let (subject, by) = (erasure.subject.as_str(), erasure.by.as_str());
        let at = erasure.erased_at.millis();
        change!(self, sqlx::query(ADD).bind(subject).bind(at).bind(by))
    }

    /// Records that every cart and order of an erasure was told.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn end_erasure(&self, erasure: &Erasure) -> Result<(), Error> {
        let text = if self.is_shared() {
            "UPDATE erasure SET done = true WHERE subject = $1 AND erased_at = $2"
        } else {
            "UPDATE erasure SET done = 1 WHERE subject = $1 AND erased_at = $2"
        };
        let (subject, at) = (erasure.subject.as_str(), erasure.erased_at.millis());
        change!(self, sqlx::query(text).bind(subject).bind(at)).map(drop)
    }

    /// All erasures, the oldest first; with `open`, those of which not every order was told.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn erasures(&self, open: bool) -> Result<Vec<Erasure>, Error> {
        let text = match (open, self.is_shared()) {
            (false, _) => "SELECT subject, erased_at, by FROM erasure ORDER BY erased_at, subject",
            (true, false) => {
                "SELECT subject, erased_at, by FROM erasure WHERE done = 0 ORDER BY erased_at"
            }
            (true, true) => {
                "SELECT subject, erased_at, by FROM erasure WHERE NOT done ORDER BY erased_at"
            }
        };
        let found = fetch_all!(self.readers(), sqlx::query(text))?;
        let erasure = |row: &super::FoundRow| {
            let at = Timestamp::from_millis(row.try_get(1)?);
            Ok(Erasure { subject: row.try_get(0)?, erased_at: at, by: row.try_get(2)? })
        };
        Ok(found.iter().map(erasure).collect::<Result<_, sqlx::Error>>()?)
    }
}
