//! API keys: `sk_<id>_<secret>`. The store contains a digest of the secret; the key itself is shown
//! once, when it is created, and is never stored or logged.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::both::{change, fetch_all, fetch_optional};
use super::found::FoundRow;
use super::{Error, LIST_MAX, Store};
use crate::domain::plain_text::odd_in_line;
use crate::domain::time::Timestamp;

const PREFIX: &str = "sk_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// An API key's row, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The id by which logs and causes name the API key, 16 hexadecimal digits.
    pub id: String,
    /// Its display name.
    pub name: String,
    /// Its scopes; no scope contains a space.
    pub scopes: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was revoked; `None` while it is valid.
    pub revoked_at: Option<Timestamp>,
}

/// A new API key, or another new secret (of a session or a sign-in link), with 256 random bits. It
/// is shown once and never stored.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(String);

impl KeySecret {
    /// Generates a secret: the prefix and 256 random bits as hexadecimal digits.
    pub(in crate::store) fn draw(prefix: &str) -> Self {
        Self(format!("{prefix}{}", hex::encode(rand::random::<[u8; SECRET_BYTES]>())))
    }

    /// The whole text, such as `sk_<id>_<secret>` for an API key.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Store {
    /// Creates an API key. Its secret is returned only here.
    ///
    /// # Errors
    /// [`Error::Refused`] if the name does not have 1 to 100 characters, or the scopes are not 1 to
    /// 20 words of lower-case letters, `:`, `_` and `-`; otherwise the store's errors.
    pub async fn create_key(
        &self,
        name: &str,
        scopes: &[String],
        at: Timestamp,
    ) -> Result<(Row, KeySecret), Error> {
        check(name, scopes)?;
        let id = new_id();
        let secret = hex::encode(rand::random::<[u8; SECRET_BYTES]>());
        let text = "INSERT INTO api_key (id, name, hash, scopes, created_at) \
                    VALUES ($1, $2, $3, $4, $5)";
        let digest = Sha256::digest(secret.as_bytes()).to_vec();
        change!(
            self,
            sqlx::query(text)
                .bind(id.as_str())
                .bind(name)
                .bind(digest)
                .bind(scopes.join(" "))
                .bind(at.millis())
        )?;
        let key = KeySecret(format!("{PREFIX}{id}_{secret}"));
        let row = Row {
            id,
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            created_at: at,
            revoked_at: None,
        };
        Ok((row, key))
    }

    /// The API key with this text; `None` if there is no such key, its secret differs, or it is
    /// revoked.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn find_key(&self, text: &str) -> Result<Option<Row>, Error> {
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
        let Some((id, secret)) = parts else { return Ok(None) };
        if id.len() != 2 * ID_BYTES || secret.len() != 2 * SECRET_BYTES {
            return Ok(None);
        }
        let text = "SELECT id, name, scopes, created_at, revoked_at, hash FROM api_key \
                    WHERE id = $1 AND revoked_at IS NULL";
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(id))?;
        let Some(found) = found else { return Ok(None) };
        let digest = Sha256::digest(secret.as_bytes());
        let hash: &[u8] = found.try_get(5)?;
        let same: bool = digest.as_slice().ct_eq(hash).into();
        if same { row(&found).map(Some) } else { Ok(None) }
    }

    /// The API key with this id, if it is not revoked.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn valid_key(&self, id: &str) -> Result<Option<Row>, Error> {
        let text = "SELECT id, name, scopes, created_at, revoked_at FROM api_key \
                    WHERE id = $1 AND revoked_at IS NULL";
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(id))?;
        found.as_ref().map(row).transpose()
    }

    /// All API keys, newest first, including revoked ones; at most [`LIST_MAX`].
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn keys(&self) -> Result<Vec<Row>, Error> {
        let text = "SELECT id, name, scopes, created_at, revoked_at FROM api_key \
                    ORDER BY created_at DESC, id LIMIT +$1";
        let found = fetch_all!(self.readers(), sqlx::query(text).bind(i64::from(LIST_MAX)))?;
        found.iter().map(row).collect()
    }

    /// Revokes an API key; `false` if there is none with this id, or it is revoked already.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn revoke_key(&self, id: &str, at: Timestamp) -> Result<bool, Error> {
        let text = "UPDATE api_key SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        Ok(change!(self, sqlx::query(text).bind(id).bind(at.millis()))? == 1)
    }
}

/// Checks the name and scopes of a new API key or sign-in link.
pub(in crate::store) fn check(name: &str, scopes: &[String]) -> Result<(), Error> {
    if name.is_empty() || name.chars().count() > 100 {
        return Err(Error::Refused("a key's name has 1 to 100 characters".to_owned()));
    }
    if let Some(letter) = odd_in_line(name) {
        let rule = "a key's name is one line, without control characters";
        return Err(Error::Refused(format!("{rule}: it has {}", letter.escape_unicode())));
    }
    let fits = |scope: &String| {
        let visible = |byte: u8| byte.is_ascii_lowercase() || b":_-".contains(&byte);
        !scope.is_empty() && scope.len() <= 64 && scope.bytes().all(visible)
    };
    if scopes.is_empty() || scopes.len() > 20 || !scopes.iter().all(fits) {
        let rule = "a key has 1 to 20 scopes of lower-case letters, ':', '_' and '-'";
        return Err(Error::Refused(rule.to_owned()));
    }
    Ok(())
}

/// The digest by which a secret is looked up. A secret has 256 random bits and only its digest is
/// compared, so the timing of a lookup does not help to guess it.
pub(in crate::store) fn secret_digest(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// A new id, 16 hexadecimal digits.
pub(in crate::store) fn new_id() -> String {
    hex::encode(rand::random::<[u8; ID_BYTES]>())
}

fn row(found: &FoundRow) -> Result<Row, Error> {
    let scopes: &str = found.try_get(2)?;
    Ok(Row {
        id: found.try_get(0)?,
        name: found.try_get(1)?,
        scopes: scopes.split(' ').map(str::to_owned).collect(),
        created_at: Timestamp::from_millis(found.try_get(3)?),
        revoked_at: found.try_get::<Option<i64>>(4)?.map(Timestamp::from_millis),
    })
}
