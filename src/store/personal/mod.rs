//! Personal data: the keys with which they are sealed, and who was erased.
//!
//! A key seals the personal values of one command of a cart, and is stored with the command's events,
//! sealed with the master key. It knows its entity and, if the command had an email address, the
//! keyed hash of it, so that all keys of a person are found. Without its key nobody can read a value,
//! wherever it was copied to. `seal` has the cryptography, `keys` opens, `master` the master key, `own_master` the
//! one that a database keeps, `lookup` the
//! hashes by which rows are found, `erasure` the erasures.

pub mod erasure;
mod keys;
pub mod lookup;
pub mod master;
pub mod own_master;
pub mod seal;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

pub use self::keys::Keys;
pub use self::lookup::{CodedSearch, LookupKeys};
pub use self::master::{MasterKeyText, MasterKeys};
pub use self::seal::{AddressField, DataKey, PersonalField, SealingKey};
use super::both::{Builder, change, execute, fetch_optional};
use super::found::FoundRow;
use super::row::{RowChange, TableRow as _, Value, list_behind};
use super::{Error, Store};
use crate::domain::sealed::{KeyId, NewKey, Sealed};
use crate::domain::time::Timestamp;

/// Keys in memory.
const CACHED: usize = 20_000;
/// How long a node may use a key that another node has destroyed.
const CACHE_TTL: Duration = Duration::from_secs(30);
/// How long the current key of payment tokens is used for new ones.
const TOKEN_KEY_PERIOD: Duration = Duration::from_secs(3_600);
/// How long a key of payment tokens is kept: no attempt to pay takes longer.
const TOKEN_KEY_LIFETIME_MS: i64 = 48 * 3_600_000;
/// The entity of the keys of payment tokens.
const PAYMENT_TOKENS: &str = "payment_tokens";
/// The id and the entity of the secret of the keyed hashes.
const LOOKUPS: (&str, &str) = ("lookups", "store");

crate::table_row! {
    /// A stored key.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct StoredKey in "personal_key", key(id) {
        /// Its id.
        pub id: String,
        /// The entity whose values it seals.
        pub entity: String,
        /// The keyed hash of the email address of whose values they are.
        pub subject: Option<String>,
        /// The key, sealed with the master key.
        pub wrapped: String,
    }
}

/// The row of a new key, to be written with its command's events.
#[must_use]
pub fn key_row(key: &NewKey) -> RowChange {
    let row = StoredKey {
        id: key.id.as_str().to_owned(),
        entity: key.entity.clone(),
        subject: key.subject.clone(),
        wrapped: key.wrapped.clone(),
    };
    let values = row.values().map(Value::into_owned).collect();
    RowChange::new(StoredKey::table(), 1, values)
}

/// A key in memory, and when it was read; `None` if it is destroyed.
type CachedKey = (Option<Arc<DataKey>>, Instant);

/// The keys of a store that are in memory. Clones share them.
#[derive(Clone)]
pub struct PersonalKeys {
    inner: Arc<Inner>,
}

struct Inner {
    master: RwLock<Option<MasterKeys>>,
    /// The folder whose master key may be replaced while this process runs.
    dir: Option<PathBuf>,
    cache: Cache<KeyId, CachedKey>,
    lookups: OnceCell<Arc<LookupKeys>>,
    token_key: Mutex<Option<(SealingKey, Instant)>>,
    /// Whether SQLite's write-ahead log may have keys that were destroyed.
    log_has_destroyed: AtomicBool,
}

impl std::fmt::Debug for PersonalKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PersonalKeys").field("master", &self.master()).finish_non_exhaustive()
    }
}

impl PersonalKeys {
    /// The keys of a store with this master key.
    #[must_use]
    pub fn new(master: Option<MasterKeys>, dir: Option<PathBuf>) -> Self {
        let inner = Inner {
            master: RwLock::new(master),
            dir,
            cache: Cache::new(CACHED),
            lookups: OnceCell::new(),
            token_key: Mutex::new(None),
            // A process that was killed may have left it.
            log_has_destroyed: AtomicBool::new(true),
        };
        Self { inner: Arc::new(inner) }
    }

    fn log_has_destroyed(&self) {
        self.inner.log_has_destroyed.store(true, Ordering::Relaxed);
    }

    /// The master key.
    ///
    /// # Errors
    /// [`Error::Locked`] if it is not known.
    pub fn master(&self) -> Result<MasterKeys, Error> {
        let master = self.inner.master.read().unwrap_or_else(PoisonError::into_inner);
        master.clone().ok_or_else(|| {
            let remedy = match &self.inner.dir {
                None => "set store.master_key".to_owned(),
                Some(dir) => format!(
                    "copy the file master.key of the folder that the store comes from to {}, or set \
                     store.master_key",
                    master::path_in(dir).display()
                ),
            };
            Error::Locked(format!(
                "the personal data are sealed, and the master key is not known: {remedy}"
            ))
        })
    }

    /// Opens a stored key.
    ///
    /// # Errors
    /// [`Error::Locked`] if the master key is not known, or is not the one that has sealed it;
    /// [`Error::DamagedKey`] if it is the one, and does not open it.
    pub fn unwrap(&self, key: &StoredKey) -> Result<DataKey, Error> {
        let opened = self.master()?.unwrap(&key.wrapped, &key.entity);
        opened.or_else(|name| self.with_new_master(key).ok_or_else(|| self.unopened(key, &name)))
    }

    /// Why a key that names this master key cannot be opened.
    fn unopened(&self, key: &StoredKey, name: &str) -> Error {
        let (id, entity) = (key.id.clone(), key.entity.clone());
        if self.master().is_ok_and(|master| master.has(name)) {
            return Error::DamagedKey { id, entity };
        }
        let from = match &self.inner.dir {
            None => "store.master_key".to_owned(),
            Some(dir) => format!("the file {}", master::path_in(dir).display()),
        };
        Error::Locked(format!(
            "the key {id} of the personal data of {entity} is sealed with the master key {name:?}, \
             which is not the one of {from}, or it is damaged"
        ))
    }

    /// Opens a key with a master key that the folder has got since it was opened.
    fn with_new_master(&self, key: &StoredKey) -> Option<DataKey> {
        self.read_master_again();
        self.master().ok()?.unwrap(&key.wrapped, &key.entity).ok()
    }

    /// Reads the master key of the data folder again: it may have been replaced.
    pub fn read_master_again(&self) {
        let Some(dir) = self.inner.dir.as_deref() else { return };
        if let Ok(Some(new)) = master::read(dir) {
            let all = self.master().map_or(new.clone(), |known| new.and(&known));
            *self.inner.master.write().unwrap_or_else(PoisonError::into_inner) = Some(all);
        }
    }

    /// A new key for the values of an entity, and how it is stored. `bytes` are 32 random bytes, and
    /// the id has 50 random bits of `random`.
    ///
    /// # Errors
    /// [`Error::Locked`] if the master key is not known.
    pub fn sealing_key(
        &self,
        entity: &str,
        subject: Option<String>,
        at: Timestamp,
        (bytes, random): ([u8; 32], u64),
    ) -> Result<(SealingKey, NewKey), Error> {
        let key = DataKey::new(bytes, entity);
        let (id, wrapped) = (KeyId::new(at, random), self.master()?.wrap(&key));
        let new = NewKey { id, entity: entity.to_owned(), subject, wrapped };
        self.inner.cache.insert(id, (Some(Arc::new(key.clone())), Instant::now()));
        Ok((SealingKey::new(id, key), new))
    }

    /// Forgets keys that were destroyed.
    pub fn forget(&self, ids: &[KeyId]) {
        for id in ids {
            self.inner.cache.insert(*id, (None, Instant::now()));
        }
    }

    /// The keys with these ids. Those that are not in memory are read by `read`, which returns them as
    /// they are stored.
    ///
    /// # Errors
    /// Those of `read`; [`Error::Locked`] if the master key is not the one that has sealed a key;
    /// [`Error::DamagedKey`].
    pub async fn keys<R>(
        &self,
        ids: &BTreeSet<KeyId>,
        lookups: Arc<LookupKeys>,
        read: impl FnOnce(Vec<KeyId>) -> R,
    ) -> Result<Keys, Error>
    where
        R: Future<Output = Result<Vec<StoredKey>, Error>>,
    {
        let (now, mut keys, mut missing) = (Instant::now(), HashMap::new(), Vec::new());
        for id in ids {
            match self.inner.cache.get(id) {
                Some((key, at)) if now.duration_since(at) < CACHE_TTL => {
                    keys.extend(key.map(|key| (*id, key)));
                }
                _ => missing.push(*id),
            }
        }
        if !missing.is_empty() {
            for stored in read(missing.clone()).await? {
                let Ok(id) = stored.id.parse::<KeyId>() else { continue };
                let key = Arc::new(self.unwrap(&stored)?);
                self.inner.cache.insert(id, (Some(Arc::clone(&key)), now));
                keys.insert(id, key);
            }
            // Only those that are not stored: others who look meanwhile take them for destroyed.
            missing.retain(|id| !keys.contains_key(id));
            self.forget(&missing);
        }
        Ok(Keys::new(keys, lookups))
    }
}

impl Store {
    /// The keys in memory.
    #[must_use]
    pub const fn people(&self) -> &PersonalKeys {
        &self.people
    }

    /// The keyed hashes by which rows are found. Their secret is made at first use, and is stored
    /// sealed with the master key.
    ///
    /// # Errors
    /// [`Error`] of the store; [`Error::Locked`] if its master key is not known.
    pub async fn lookups(&self) -> Result<Arc<LookupKeys>, Error> {
        let made = self.people.inner.lookups.get_or_try_init(|| self.read_lookups());
        made.await.map(Arc::clone)
    }

    async fn read_lookups(&self) -> Result<Arc<LookupKeys>, Error> {
        let (id, entity) = LOOKUPS;
        let master = self.people.master()?;
        let drawn = master.wrap(&DataKey::new(rand::random(), entity));
        let read = "SELECT wrapped FROM personal_key WHERE id = $1";
        let make = "INSERT INTO personal_key (id, entity, wrapped) VALUES ($1, $2, $3) \
                    ON CONFLICT (id) DO NOTHING";
        let mut found = fetch_optional!(self.readers(), sqlx::query(read).bind(id))?;
        if found.is_none() {
            change!(self, sqlx::query(make).bind(id).bind(entity).bind(drawn))?;
            // Read again: another node may have been first.
            found = fetch_optional!(self.readers(), sqlx::query(read).bind(id))?;
        }
        let found = found.ok_or_else(|| Error::Refused("the secret of hashes is gone".into()))?;
        let wrapped: String = found.try_get(0)?;
        let stored = StoredKey { id: id.into(), entity: entity.into(), subject: None, wrapped };
        let secret = self.people.unwrap(&stored)?;
        Ok(Arc::new(LookupKeys::new(*secret.bytes())))
    }

    /// The keys with these ids; those that are destroyed are missing.
    ///
    /// # Errors
    /// As [`Store::lookups`].
    pub async fn personal_keys(&self, ids: &BTreeSet<KeyId>) -> Result<Keys, Error> {
        let lookups = self.lookups().await?;
        self.people.keys(ids, lookups, |ids| self.read_keys(ids)).await
    }

    /// All keys in order of their ids, starting after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn keys_behind(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<StoredKey>, Error> {
        let key = after.map(|id| [Value::text(id)]);
        let key = key.as_ref().map(<[Value<'_>; 1]>::as_slice);
        let page = list_behind(self.readers(), StoredKey::table(), key, limit).await?;
        page.iter().map(StoredKey::decode).collect()
    }

    pub(super) async fn read_keys(&self, ids: Vec<KeyId>) -> Result<Vec<StoredKey>, Error> {
        let mut all = Vec::with_capacity(ids.len());
        for some in ids.chunks(500) {
            let ids: Vec<String> = some.iter().map(|id| id.as_str().to_owned()).collect();
            let from = self.readers();
            let mut query = Builder::new(from.dialect(), &StoredKey::table().select());
            query.push(" WHERE TRUE").push_in("", "id", &ids);
            let found: Vec<FoundRow> = query.fetch_all(from).await?;
            for row in &found {
                all.push(StoredKey::decode(row)?);
            }
        }
        Ok(all)
    }

    /// Seals a payment token, with a key that all tokens of an hour share. Such a key is destroyed
    /// two days after it was made: no attempt to pay takes longer.
    ///
    /// # Errors
    /// [`Error`] of the store; [`Error::Locked`] if its master key is not known.
    pub async fn seal_payment_token(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Sealed<String>, Error> {
        let mut current = self.people.inner.token_key.lock().await;
        if let Some((key, made)) = &*current
            && made.elapsed() < TOKEN_KEY_PERIOD
        {
            return Ok(key.seal(PersonalField::PaymentToken, token));
        }
        let (key, new) =
            self.people.sealing_key(PAYMENT_TOKENS, None, now, (rand::random(), rand::random()))?;
        self.put_key(&new).await?;
        let sealed = key.seal(PersonalField::PaymentToken, token);
        *current = Some((key, Instant::now()));
        Ok(sealed)
    }

    /// Stores a key that belongs to no command.
    async fn put_key(&self, key: &NewKey) -> Result<(), Error> {
        let text =
            "INSERT INTO personal_key (id, entity, subject, wrapped) VALUES ($1, $2, $3, $4)";
        let (id, entity) = (key.id.as_str(), key.entity.as_str());
        let (subject, wrapped) = (key.subject.as_deref(), key.wrapped.as_str());
        let done =
            change!(self, sqlx::query(text).bind(id).bind(entity).bind(subject).bind(wrapped));
        done.map(drop)
    }

    /// Destroys the keys of payment tokens that no attempt to pay needs any more; returns their
    /// number.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn destroy_old_token_keys(&self, now: Timestamp) -> Result<u64, Error> {
        let before = Timestamp::from_millis(now.millis() - TOKEN_KEY_LIFETIME_MS);
        let text = "DELETE FROM personal_key WHERE subject IS NULL AND entity = $1 AND id < $2";
        let until = KeyId::new(before, 0);
        let until = until.as_str().to_owned();
        let count = change!(self, sqlx::query(text).bind(PAYMENT_TOKENS).bind(until))?;
        if count > 0 {
            self.people.log_has_destroyed();
        }
        Ok(count)
    }

    /// Empties SQLite's write-ahead log if it may have keys that were destroyed; `false` if a long
    /// read, such as a backup, still needs it.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn empty_log_of_destroyed(&self) -> Result<bool, Error> {
        let destroyed = &self.people.inner.log_has_destroyed;
        if !destroyed.swap(false, Ordering::Relaxed) {
            return Ok(true);
        }
        let emptied = self.truncate_log().await;
        if !matches!(emptied, Ok(true)) {
            self.people.log_has_destroyed();
        }
        emptied
    }

    /// Seals with the newest master key all keys that an older one has sealed; returns their number.
    /// `told` is called with the number so far.
    ///
    /// # Errors
    /// [`Error`] of the store; [`Error::Locked`] if a master key is missing.
    pub async fn rewrap_keys(&self, mut told: impl FnMut(u64)) -> Result<u64, Error> {
        let master = self.people.master()?;
        let (mut after, mut count) = (None::<String>, 0);
        loop {
            let page = self.keys_behind(after.as_deref(), 1_000).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = Some(last.id.clone());
            let mut writing = self.begin().await?;
            for stored in page.iter().filter(|stored| !master.is_newest(&stored.wrapped)) {
                let wrapped = master.wrap(&self.people.unwrap(stored)?);
                let text = "UPDATE personal_key SET wrapped = $2 WHERE id = $1";
                let id = stored.id.as_str();
                count += execute!(writing, sqlx::query(text).bind(id).bind(wrapped.as_str()))?;
            }
            writing.commit().await?;
            told(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stored_key_is_never_taken_for_destroyed_because_another_one_cannot_be_opened() {
        let people = PersonalKeys::new(Some(MasterKeys::one([1; 32])), None);
        let stored = |entity: &str, random| {
            let bytes = ([7; 32], random);
            let (_, new) = people.sealing_key(entity, None, Timestamp::default(), bytes).unwrap();
            StoredKey {
                id: new.id.as_str().into(),
                entity: new.entity,
                subject: None,
                wrapped: new.wrapped,
            }
        };
        let (right, mut damaged) = (stored("cart_1", 1), stored("cart_2", 2));
        damaged.wrapped.truncate(damaged.wrapped.len() - 2);
        let reader = PersonalKeys::new(Some(MasterKeys::one([1; 32])), None);
        let lookups = Arc::new(LookupKeys::new([1; 32]));
        let ask = |ids: &[&StoredKey], found: Vec<StoredKey>| {
            let ids: BTreeSet<KeyId> = ids.iter().map(|key| key.id.parse().unwrap()).collect();
            let (reader, lookups) = (reader.clone(), Arc::clone(&lookups));
            async move {
                let keys = reader.keys(&ids, lookups, |_| std::future::ready(Ok(found))).await?;
                Ok::<_, Error>(format!("{keys:?}").matches("DataKey").count())
            }
        };
        let both = vec![damaged.clone(), right.clone()];
        assert!(ask(&[&right, &damaged], both).await.is_err());
        assert_eq!(ask(&[&right], vec![right.clone()]).await.unwrap(), 1);
        // One that is not stored is remembered as destroyed.
        let gone = stored("cart_3", 3);
        assert_eq!(ask(&[&gone], Vec::new()).await.unwrap(), 0);
        assert_eq!(ask(&[&gone], vec![gone.clone()]).await.unwrap(), 0);
    }
}
