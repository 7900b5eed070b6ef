//! Signed heads: the digest of a shard's last event, signed with a key that is not in the database.
//! Whoever can write to the database can compute the digests of a changed history anew, but cannot
//! sign them; a head that was signed before shows that the history is another one.
//!
//! The signing key (Ed25519) is derived from the master key of personal data. The newest head of each
//! shard is in the database; the application can send them elsewhere.

use std::fmt;
use std::path::PathBuf;

use garde::Validate;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::both::{execute, fetch_all, fetch_optional};
use super::journal::chain;
use super::journal::{Digest, Head};
use super::personal::MasterKeys;
use super::{Error, Store, shard};
use crate::domain::limits::{holds, within};
use crate::domain::time::Timestamp;

/// When the ends of the chains are signed, and where they are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The pause between two rounds of signing, in seconds; 0 for none.
    #[garde(custom(within(0..=86_400)))]
    pub every_secs: u64,
    /// A file to which signed heads are appended, one JSON object per line; empty for none.
    #[garde(skip)]
    pub path: PathBuf,
    /// A URL to which signed heads are sent; empty for none.
    #[garde(custom(safe_url))]
    pub url: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { every_secs: 60, path: PathBuf::new(), url: String::new() }
    }
}

fn safe_url(url: &str, (): &()) -> garde::Result {
    let safe = reqwest::Url::parse(url).is_ok_and(|url| {
        let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        url.scheme() == "https" || (url.scheme() == "http" && local)
    });
    holds(
        url.is_empty() || safe,
        || "must be empty, or an https URL, or an http URL of this machine",
    )
}

/// A public key with which signed heads are verified.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The keys that master keys sign with, the newest first.
    #[must_use]
    pub fn of(master: &MasterKeys) -> Vec<Self> {
        let pairs = master.signing_seeds().filter_map(|seed| pair(&seed));
        pairs.map(|pair| public(&pair)).collect()
    }
}

impl std::str::FromStr for PublicKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        let read = hex::decode_to_slice(text, &mut bytes);
        read.map(|()| Self(bytes)).map_err(|_| "must be a public key of 64 hexadecimal digits")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn pair(seed: &[u8; 32]) -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(seed).ok()
}

fn public(pair: &Ed25519KeyPair) -> PublicKey {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(pair.public_key().as_ref());
    PublicKey(bytes)
}

/// The end of a shard's chain at some time, signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// The id of the store's history.
    pub history: String,
    /// The shard.
    pub shard: u16,
    /// The position of its last event.
    pub pos: i64,
    /// The digest of that event, in hexadecimal digits.
    pub digest: String,
    /// When it was signed.
    pub at: Timestamp,
    /// The public key, in hexadecimal digits.
    pub key: String,
    /// The signature (Ed25519) of the other fields, in hexadecimal digits.
    pub signature: String,
}

/// Why a signed head is not compared with the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// Its key is not one of those that are trusted.
    UnknownKey,
    /// The signature is not one of its key: the head is forged.
    Forged,
}

impl SignedHead {
    fn sign(pair: &Ed25519KeyPair, history: &str, shard: u16, head: Head, at: Timestamp) -> Self {
        let (history, digest) = (history.to_owned(), head.digest.to_string());
        let key = public(pair).to_string();
        let unsigned =
            Self { history, shard, pos: head.pos, digest, at, key, signature: String::new() };
        let signature = hex::encode(pair.sign(unsigned.message().as_bytes()));
        Self { signature, ..unsigned }
    }

    /// What is signed. No field but the first can contain a line feed without being refused, because
    /// the others are numbers and hexadecimal digits; the first comes last.
    fn message(&self) -> String {
        let Self { history, shard, pos, digest, at, key, .. } = self;
        let at = at.millis();
        format!("kontor signed head\n{shard}\n{pos}\n{digest}\n{at}\n{key}\n{history}")
    }

    /// The head, if one of these keys has signed it.
    ///
    /// # Errors
    /// Why it is not to be trusted.
    pub fn verify(&self, trusted: &[PublicKey]) -> Result<Head, Untrusted> {
        let key: PublicKey = self.key.parse().map_err(|_| Untrusted::Forged)?;
        if !trusted.contains(&key) {
            return Err(Untrusted::UnknownKey);
        }
        let signature = hex::decode(&self.signature).map_err(|_| Untrusted::Forged)?;
        let signed = UnparsedPublicKey::new(&ED25519, key.0);
        let checked = signed.verify(self.message().as_bytes(), &signature);
        checked.map_err(|_| Untrusted::Forged)?;
        let digest = hex::decode(&self.digest).ok().and_then(|bytes| bytes.try_into().ok());
        let digest = digest.map(Digest).ok_or(Untrusted::Forged)?;
        Ok(Head { pos: self.pos, digest })
    }
}

/// What one round of signing did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedRound {
    /// The new heads.
    pub signed: Vec<SignedHead>,
    /// Shards whose chain does not contain the head that was signed last. They are not signed.
    pub broken: Vec<SignedHead>,
}

impl Store {
    /// The newest signed head of each shard.
    ///
    /// # Errors
    /// [`Error`] of the store; a head that is not JSON.
    pub async fn signed_heads(&self) -> Result<Vec<SignedHead>, Error> {
        let text = "SELECT head FROM signed_head ORDER BY shard";
        let found = fetch_all!(self.readers(), sqlx::query(text))?;
        let read = |row: &super::FoundRow| -> Result<SignedHead, Error> {
            let text: String = row.try_get(0)?;
            serde_json::from_str(&text)
                .map_err(|error| Error::Row { table: "signed_head", reason: error.to_string() })
        };
        found.iter().map(read).collect()
    }

    /// Signs the heads of this node's shards that have events since their last signed head. A shard
    /// whose chain does not contain that head is not signed: its history was changed.
    ///
    /// # Errors
    /// [`Error`] of the store, or the master key is not known.
    pub async fn sign_heads(&self, node: &str, now: Timestamp) -> Result<SignedRound, Error> {
        let master = self.people().master()?;
        let newest = master.signing_seeds().next().and_then(|seed| pair(&seed));
        let pair = newest.ok_or_else(|| Error::Refused("there is no signing key".to_owned()))?;
        let trusted = PublicKey::of(&master);
        let history = self.history().await?.to_string();
        let last = self.signed_heads().await?;
        let mut round = SignedRound::default();
        for row in self.shards().await? {
            let known = last.iter().find(|head| head.shard == row.id);
            let own = row.owner == node || !self.is_shared();
            let Some(digest) = row.head.filter(|_| own && row.last_pos > 0) else { continue };
            // One that nobody trusts says nothing: it is replaced.
            let known = known.and_then(|head| Some((head, head.verify(&trusted).ok()?)));
            if let Some((signed, head)) = known {
                if head.pos == row.last_pos && head.digest == digest {
                    continue;
                }
                if !self.continues(&row, head).await? {
                    round.broken.push(signed.clone());
                    continue;
                }
            }
            let head = Head { pos: row.last_pos, digest };
            round.signed.push(SignedHead::sign(&pair, &history, row.id, head, now));
        }
        if !round.signed.is_empty() {
            self.put_signed_heads(&round.signed).await?;
        }
        Ok(round)
    }

    /// Whether a shard has an event with this digest at this position.
    async fn continues(&self, row: &shard::Row, head: Head) -> Result<bool, Error> {
        let text = "SELECT digest FROM event WHERE shard = $1 AND pos = $2";
        let (shard, pos) = (i64::from(row.id), head.pos);
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(shard).bind(pos))?;
        let Some(found) = found else { return Ok(false) };
        let bytes: Vec<u8> = found.try_get(0)?;
        Ok(chain::stored(Some(&bytes)) == Some(head.digest))
    }

    async fn put_signed_heads(&self, heads: &[SignedHead]) -> Result<(), Error> {
        let mut writing = self.begin_relaxed().await?;
        for head in heads {
            let text = "INSERT INTO signed_head (shard, head) VALUES ($1, $2) \
                        ON CONFLICT (shard) DO UPDATE SET head = excluded.head";
            let json = serde_json::to_string(head).unwrap_or_default();
            execute!(writing, sqlx::query(text).bind(i64::from(head.shard)).bind(json))?;
        }
        writing.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_head_is_trusted_only_as_it_was_signed_and_by_a_known_key() {
        let (master, other) = (MasterKeys::one([1; 32]), MasterKeys::one([2; 32]));
        let seed = master.signing_seeds().next().unwrap();
        let head = Head { pos: 7, digest: Digest([3; 32]) };
        let at = Timestamp::from_millis(5);
        let signed = SignedHead::sign(&pair(&seed).unwrap(), "abc", 1, head, at);
        let trusted = PublicKey::of(&master);
        assert_eq!(signed.verify(&trusted), Ok(head));
        assert_eq!(signed.verify(&PublicKey::of(&other)), Err(Untrusted::UnknownKey));
        assert_eq!(signed.verify(&PublicKey::of(&other.and(&master))), Ok(head));
        let opens = PublicKey::of(&other.and_open_with(&master));
        assert_eq!(signed.verify(&opens), Err(Untrusted::UnknownKey));
        let text = serde_json::to_string(&signed).unwrap();
        assert_eq!(serde_json::from_str::<SignedHead>(&text).unwrap().verify(&trusted), Ok(head));
        let forged = [
            SignedHead { pos: 8, ..signed.clone() },
            SignedHead { shard: 2, ..signed.clone() },
            SignedHead { at: Timestamp::from_millis(6), ..signed.clone() },
            SignedHead { history: "abd".to_owned(), ..signed.clone() },
            SignedHead { digest: Digest([4; 32]).to_string(), ..signed.clone() },
            SignedHead { signature: "00".repeat(64), ..signed.clone() },
            SignedHead { signature: String::new(), ..signed.clone() },
            SignedHead { key: "00".to_owned(), ..signed },
        ];
        for forged in forged {
            assert_eq!(forged.verify(&trusted), Err(Untrusted::Forged), "{forged:?}");
        }
    }
}
