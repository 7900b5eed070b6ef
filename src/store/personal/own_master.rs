//! The master key that a database in PostgreSQL has of its own, in its table of secrets, if it was made
//! without `store.master_key`: whoever reads the database reads everything.

use super::MasterKeys;
use crate::store::both::{Writing, execute, fetch_optional};
use crate::store::{Error, Store};

/// Its name in the table of secrets.
pub(in crate::store) const OWN_MASTER_KEY: &str = "master key";

/// What a database needs its own master key for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnMasterKey {
    /// There is none, or it seals nothing.
    Unused,
    /// All keys of personal data are sealed with it: there is no other.
    Only,
    /// Some keys of personal data are still sealed with it, although there is `store.master_key`.
    StillNeeded,
}

impl OwnMasterKey {
    /// What to do about one that is used.
    pub const REMEDY: &str = "put a new key (openssl rand -hex 32) into store.master_key of every node, \
                              unless it is there, restart them, then run kontor key rotate --master \
                              with the same setting";

    /// What its use means.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Unused => "the database has no master key of its own in use",
            Self::Only => {
                "the database keeps its own master key: whoever reads the database, or a dump of it, \
                 can read all personal data"
            }
            Self::StillNeeded => {
                "keys of personal data are still sealed with the master key that the database keeps, \
                 not with store.master_key: whoever reads the database, or a dump of it, can read them"
            }
        }
    }
}

impl Store {
    /// What the database needs its own master key for.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn own_master_key(&self) -> Result<OwnMasterKey, Error> {
        let Some(own) = self.read_secret(OWN_MASTER_KEY).await? else {
            return Ok(OwnMasterKey::Unused);
        };
        let own = MasterKeys::one(own);
        if self.people().master().is_ok_and(|master| master.name() == own.name()) {
            return Ok(OwnMasterKey::Only);
        }
        let text = "SELECT 1 FROM personal_key WHERE wrapped LIKE $1 LIMIT 1";
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(sealed_by(&own)))?;
        Ok(found.map_or(OwnMasterKey::Unused, |_| OwnMasterKey::StillNeeded))
    }

    /// Removes the database's own master key, if there is another and no key of personal data is sealed
    /// with it; says whether it did.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn remove_own_master_key(&self) -> Result<bool, Error> {
        if !self.is_shared() || self.own_master_key().await? != OwnMasterKey::Unused {
            return Ok(false);
        }
        let Some(own) = self.read_secret(OWN_MASTER_KEY).await? else { return Ok(false) };
        let mut writing = self.begin().await?;
        if let Writing::Postgres(writing) = &mut writing {
            // No node seals a key with it between the look and the removal.
            writing.execute(sqlx::query("LOCK TABLE personal_key IN SHARE MODE")).await?;
        }
        let text = "DELETE FROM secret WHERE name = $1 AND value = $2 \
                    AND NOT EXISTS (SELECT 1 FROM personal_key WHERE wrapped LIKE $3)";
        let (value, sealed) = (own.to_vec(), sealed_by(&MasterKeys::one(own)));
        let (value, sealed) = (value.as_slice(), sealed.as_str());
        let removed =
            execute!(writing, sqlx::query(text).bind(OWN_MASTER_KEY).bind(value).bind(sealed))?;
        writing.commit().await?;
        Ok(removed == 1)
    }
}

/// The pattern of the keys that are sealed with a master key.
fn sealed_by(master: &MasterKeys) -> String {
    format!("{}.%", master.name())
}
