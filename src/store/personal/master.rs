//! The master key: every other key is stored sealed with it. It is never in the database or in a
//! backup: it comes from the settings (`store.master_key`), or from the file `master.key` beside a
//! database file.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::seal::DataKey;
use crate::store::folder::{create_private, sync_dir};

/// The name of the file with the master key, in a data folder.
pub const MASTER_KEY_FILE: &str = "master.key";
/// The field of a sealed key, in its associated data.
const WRAPPED: &str = "key";

/// The setting with the master key: 64 hexadecimal digits. During a rotation it has two, separated
/// by white space: the new one first. It is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct MasterKeyText(String);

impl MasterKeyText {
    /// A text of the configuration.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// The keys.
    ///
    /// # Errors
    /// What the text must be.
    pub fn read(&self) -> Result<MasterKeys, &'static str> {
        MasterKeys::parse(&self.0)
    }
}

impl fmt::Debug for MasterKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "***" })
    }
}

impl Serialize for MasterKeyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { "***" })
    }
}

/// The master keys that are known: the first seals, all open.
#[derive(Clone)]
pub struct MasterKeys {
    keys: Arc<[(String, [u8; 32])]>,
    /// How many of them, from the first, also sign. The others only open.
    signing: usize,
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(name, _)| name)).finish()
    }
}

impl MasterKeys {
    /// Keys in hexadecimal digits, separated by white space.
    ///
    /// # Errors
    /// What the text must be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rule = "must be 64 hexadecimal digits (openssl rand -hex 32), or several such keys \
                    separated by spaces, the newest first";
        let mut keys = Vec::new();
        for word in text.split_whitespace() {
            let mut bytes = [0; 32];
            hex::decode_to_slice(word, &mut bytes).map_err(|_| rule)?;
            keys.push(Self::named(bytes));
        }
        let signing = keys.len();
        if keys.is_empty() { Err(rule) } else { Ok(Self { keys: keys.into(), signing }) }
    }

    /// One key.
    #[must_use]
    pub fn one(bytes: [u8; 32]) -> Self {
        Self { keys: [Self::named(bytes)].into(), signing: 1 }
    }

    /// The keys, one a line, as they are stored in a file.
    fn text(&self) -> String {
        self.keys.iter().flat_map(|(_, bytes)| [hex::encode(bytes), "\n".to_owned()]).collect()
    }

    /// These keys, and older ones.
    #[must_use]
    pub fn and(&self, older: &Self) -> Self {
        let both = self.and_open_with(older);
        Self { signing: both.keys.len(), ..both }
    }

    /// These keys, and others that only open: no signature of theirs is trusted.
    #[must_use]
    pub fn and_open_with(&self, others: &Self) -> Self {
        let new = |one: &&(String, [u8; 32])| !self.keys.iter().any(|(name, _)| *name == one.0);
        let keys = self.keys.iter().chain(others.keys.iter().filter(new)).cloned().collect();
        Self { keys, signing: self.signing }
    }

    fn named(bytes: [u8; 32]) -> (String, [u8; 32]) {
        let digest = Sha256::new().chain_update(b"kontor master key").chain_update(bytes);
        (hex::encode(&digest.finalize()[..4]), bytes)
    }

    /// The name of the key that seals: 8 hexadecimal digits of its hash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.keys.first().map_or("", |(name, _)| name)
    }

    /// The seeds of the keys that sign the ends of the journal's chains, the newest first.
    pub fn signing_seeds(&self) -> impl Iterator<Item = [u8; 32]> {
        self.keys.iter().take(self.signing).map(|(_, bytes)| {
            let text = Sha256::new().chain_update(b"kontor signing key").chain_update(bytes);
            text.finalize().into()
        })
    }

    /// Seals a key with the newest master key.
    #[must_use]
    pub fn wrap(&self, key: &DataKey) -> String {
        let Some((name, bytes)) = self.keys.first() else { return String::new() };
        let sealed = DataKey::new(*bytes, key.entity()).seal_bytes(WRAPPED, key.bytes());
        format!("{name}.{}", sealed.unwrap_or_default())
    }

    /// Opens a key for the values of this entity.
    ///
    /// # Errors
    /// The name of the master key, if it is not known or does not open it.
    pub fn unwrap(&self, wrapped: &str, entity: &str) -> Result<DataKey, String> {
        let (name, sealed) = wrapped.split_once('.').unwrap_or((wrapped, ""));
        let known = self.keys.iter().find(|(there, _)| there == name);
        let opened = known
            .and_then(|(_, bytes)| DataKey::new(*bytes, entity).open_bytes(WRAPPED, sealed))
            .and_then(|plain| <[u8; 32]>::try_from(plain).ok());
        opened.map(|bytes| DataKey::new(bytes, entity)).ok_or_else(|| name.to_owned())
    }

    /// Whether a master key with this name is known.
    #[must_use]
    pub(super) fn has(&self, name: &str) -> bool {
        self.keys.iter().any(|(there, _)| there == name)
    }

    /// Whether a key is sealed with the newest master key.
    #[must_use]
    pub fn is_newest(&self, wrapped: &str) -> bool {
        wrapped.split_once('.').is_some_and(|(name, _)| name == self.name())
    }
}

/// The path of the master key of a data folder.
#[must_use]
pub fn path_in(dir: &Path) -> PathBuf {
    dir.join(MASTER_KEY_FILE)
}

/// Reads the master key of a data folder; `None` if there is none.
///
/// # Errors
/// The file cannot be read, or is not a key.
pub fn read(dir: &Path) -> io::Result<Option<MasterKeys>> {
    match fs::read_to_string(path_in(dir)) {
        Ok(text) => {
            MasterKeys::parse(&text).map(Some).map_err(|rule| io::Error::other(rule.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the master key of a data folder, or makes one.
///
/// # Errors
/// As [`read`]; or the file cannot be written.
pub fn read_or_make(dir: &Path) -> io::Result<MasterKeys> {
    if let Some(known) = read(dir)? {
        return Ok(known);
    }
    let bytes: [u8; 32] = rand::random();
    let made = MasterKeys::one(bytes);
    write(dir, &made.text())?;
    Ok(made)
}

/// Puts a new master key before those of a data folder; returns both.
///
/// # Errors
/// Those of the file system; or the file is not a key.
pub fn add(dir: &Path) -> io::Result<MasterKeys> {
    let known = read_or_make(dir)?;
    let new = MasterKeys::one(rand::random()).and(&known);
    write(dir, &new.text())?;
    Ok(new)
}

/// Removes all master keys of a data folder but the two newest: a server that runs may have sealed
/// with the one before until it has read the file again.
///
/// # Errors
/// As [`add`].
pub fn keep_two(dir: &Path) -> io::Result<()> {
    let text = read_or_make(dir)?.text();
    let two: String = text.split_inclusive('\n').take(2).collect();
    write(dir, &two)
}

/// Replaces the file of a data folder's master key: a crash leaves the old one or the new one.
///
/// # Errors
/// Those of the file system.
pub fn write(dir: &Path, text: &str) -> io::Result<()> {
    let part = dir.join(format!("{MASTER_KEY_FILE}.new"));
    let _left = fs::remove_file(&part);
    let mut file = create_private(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path_in(dir))?;
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_opened_with_the_master_key_that_has_sealed_it() {
        let (old, new) = (MasterKeys::one([1; 32]), MasterKeys::one([2; 32]));
        let key = DataKey::new([9; 32], "cart_1");
        let wrapped = old.wrap(&key);
        assert_eq!(old.unwrap(&wrapped, "cart_1").unwrap().bytes(), &[9; 32]);
        assert_eq!(old.unwrap(&wrapped, "cart_2").unwrap_err(), old.name());
        assert_eq!(new.unwrap(&wrapped, "cart_1").unwrap_err(), old.name());
        let text = format!("{}\n{}", hex::encode([2; 32]), hex::encode([1; 32]));
        let both = MasterKeys::parse(&text).unwrap();
        assert!(both.unwrap(&wrapped, "cart_1").is_ok() && !both.is_newest(&wrapped));
        assert!(both.is_newest(&both.wrap(&key)) && new.is_newest(&both.wrap(&key)));
        for wrong in ["", "00", &"0".repeat(63), &"x".repeat(64)] {
            assert!(MasterKeys::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_file_of_a_master_key_is_made_once_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_none());
        let made = read_or_make(dir.path()).unwrap();
        assert_eq!(read_or_make(dir.path()).unwrap().name(), made.name());
        let mode = fs::metadata(path_in(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(path_in(dir.path()), "secret").unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits") && !error.contains("secret"), "{error}");
    }
}
