//! Secrets that a store generates for itself, such as the keys that sign tokens and page cursors.

use super::both::{change, execute, fetch_all, fetch_optional};
use super::found::FoundRow;
use super::{Error, Store};
use crate::domain::cluster_key::{ACCEPTED_FOR, KeyGeneration, USED_AFTER};
use crate::domain::time::Timestamp;

impl Store {
    /// The secret with this name, 32 random bytes, generated at the first call and never changed.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn secret(&self, name: &str) -> Result<[u8; 32], Error> {
        if let Some(secret) = self.read_secret(name).await? {
            return Ok(secret);
        }
        let drawn: [u8; 32] = rand::random();
        let text = "INSERT INTO secret (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        change!(self, sqlx::query(text).bind(name).bind(drawn.to_vec()))?;
        // Read again: another call may have been first.
        self.read_secret(name).await?.ok_or_else(|| broken("it is gone"))
    }

    pub(in crate::store) async fn read_secret(
        &self,
        name: &str,
    ) -> Result<Option<[u8; 32]>, Error> {
        let text = "SELECT value FROM secret WHERE name = $1";
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(name))?;
        let Some(found) = found else { return Ok(None) };
        let value: Vec<u8> = found.try_get(0)?;
        value.try_into().map(Some).map_err(|_| broken("it has not 32 bytes"))
    }
}

/// The name of the first generation of the cluster's key. The names of later ones have the time of
/// their drawing after a colon.
const CLUSTER: &str = "cluster";

impl Store {
    /// The generations of the cluster's key; draws the first one if there is none.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn cluster_key(&self) -> Result<Vec<KeyGeneration>, Error> {
        let found = self.read_generations().await?;
        if !found.is_empty() {
            return Ok(found);
        }
        self.secret(CLUSTER).await?;
        self.read_generations().await
    }

    /// Adds a generation of the cluster's key. `replace` removes all others, so that they are no
    /// longer accepted; otherwise those are removed that nodes have ceased to accept by then.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn add_cluster_key(&self, since: Timestamp, replace: bool) -> Result<(), Error> {
        let drawn: [u8; 32] = rand::random();
        let name = format!("{CLUSTER}:{:015}", since.millis());
        let mut writing = self.begin().await?;
        let add = "INSERT INTO secret (name, value) VALUES ($1, $2)";
        execute!(writing, sqlx::query(add).bind(&name).bind(drawn.to_vec()))?;
        // Names are in the order of time; the first one is before all others.
        let remove = "DELETE FROM secret WHERE (name = 'cluster' OR name LIKE 'cluster:%') AND \
                      name < (SELECT max(name) FROM secret WHERE name LIKE 'cluster:%' AND name <= $1)";
        let ended = since - USED_AFTER - ACCEPTED_FOR;
        let last = if replace { name } else { format!("{CLUSTER}:{:015}", ended.millis()) };
        execute!(writing, sqlx::query(remove).bind(last))?;
        writing.commit().await
    }

    async fn read_generations(&self) -> Result<Vec<KeyGeneration>, Error> {
        let text = "SELECT name, value FROM secret WHERE name = 'cluster' OR name LIKE 'cluster:%'";
        let found = fetch_all!(self.readers(), sqlx::query(text))?;
        found.iter().map(generation).collect()
    }
}

fn generation(found: &FoundRow) -> Result<KeyGeneration, Error> {
    let (name, value): (String, Vec<u8>) = (found.try_get(0)?, found.try_get(1)?);
    let secret = value.try_into().map_err(|_| broken("it has not 32 bytes"))?;
    let since = match name.split_once(':') {
        Some((_, since)) => since.parse().map_err(|_| broken("its name has no time"))?,
        None => 0,
    };
    Ok(KeyGeneration { since: Timestamp::from_millis(since), secret })
}

fn broken(reason: &str) -> Error {
    Error::Row { table: "secret", reason: reason.to_owned() }
}
