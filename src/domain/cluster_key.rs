//! The key of a cluster: with it, nodes authenticate what they send each other and what they keep
//! where others can write. Whoever has no access to the store cannot forge a call, an answer, a
//! notice, an event or a cached value.
//!
//! The store has one or more generations of the key. A node signs with the newest one that all nodes
//! know by now, and accepts those before it for some minutes, so the key can be replaced while nodes
//! serve. Every generation is bound to the history of the store: what was signed before a backup was
//! restored is not accepted after it.

use std::sync::{Arc, PoisonError, RwLock};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::time::{Span, Timestamp};

/// How long a new generation is known before it is used, so that no node gets a message with a key
/// that it does not know. Nodes read the generations several times in this time.
pub const USED_AFTER: Span = Span::from_secs(10);
/// How long a generation is accepted after the next one is used.
pub const ACCEPTED_FOR: Span = Span::from_secs(300);

/// What a message is. A message of one kind cannot be used as one of another.
#[derive(Clone, Copy, Debug, strum::IntoStaticStr)]
pub enum MessageKind {
    /// A call to a node.
    Call,
    /// The answer to a call.
    Answer,
    /// Why a call is not answered.
    Refusal,
    /// A notice to all nodes.
    Notice,
    /// A committed event in the stream.
    Event,
    /// A value in the cache that nodes share.
    CachedValue,
    /// A revocation in the cache that nodes share.
    Revocation,
}

/// A generation of the key, as the store has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyGeneration {
    /// When it was drawn.
    pub since: Timestamp,
    /// The secret.
    pub secret: [u8; 32],
}

/// The key, which all nodes get from the store. It has no `Debug`, so that it cannot be logged.
/// Clones share the same generations.
#[derive(Clone)]
pub struct ClusterKey(Arc<RwLock<Generations>>);

struct Generations {
    signs: [u8; 32],
    /// Other generations that are accepted: those before, and those that are not used yet.
    accepted: Vec<[u8; 32]>,
}

impl ClusterKey {
    /// A key with one generation.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Arc::new(RwLock::new(Generations { signs: secret, accepted: Vec::new() })))
    }

    /// A key that nobody else has.
    #[must_use]
    pub fn alone() -> Self {
        Self::new([0; 32])
    }

    /// Takes over the generations that a store with this history has at a time; keeps the ones that
    /// are known if there are none.
    pub fn set(&self, generations: &[KeyGeneration], history: &str, now: Timestamp) {
        let mut all = generations.to_vec();
        all.sort_unstable();
        let used = all.iter().rposition(|one| one.since + USED_AFTER <= now).unwrap_or(0);
        let Some(signs) = all.get(used) else {
            return;
        };
        let is_accepted = |at: usize| match all.get(at + 1) {
            Some(next) if at < used => now < next.since + USED_AFTER + ACCEPTED_FOR,
            _ => true,
        };
        let others = (0..all.len()).filter(|at| *at != used && is_accepted(*at));
        let accepted = others.map(|at| of_history(&all[at].secret, history)).collect();
        let signs = of_history(&signs.secret, history);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Generations { signs, accepted };
    }

    /// The signature (HMAC-SHA-256) of a message, in hexadecimal: it covers the kind of message,
    /// each text, and the body.
    #[must_use]
    pub fn sign(&self, kind: MessageKind, texts: &[&str], body: &[u8]) -> String {
        let secret = self.0.read().unwrap_or_else(PoisonError::into_inner).signs;
        sign(&secret, kind, texts, body)
    }

    /// Whether this is the signature of a message, by an accepted generation.
    #[must_use]
    pub fn is_signed(
        &self,
        signature: &str,
        kind: MessageKind,
        texts: &[&str],
        body: &[u8],
    ) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(&known.signs).chain(&known.accepted).any(|secret| {
            let right = sign(secret, kind, texts, body);
            !right.is_empty() && bool::from(right.as_bytes().ct_eq(signature.as_bytes()))
        })
    }
}

fn sign(secret: &[u8; 32], kind: MessageKind, texts: &[&str], body: &[u8]) -> String {
    let kind: &str = kind.into();
    hex::encode(mac(secret, std::iter::once(&kind).chain(texts).copied(), body))
}

fn mac<'a>(secret: &[u8; 32], texts: impl Iterator<Item = &'a str>, body: &[u8]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        // HMAC accepts a key of any length.
        return [0; 32];
    };
    for text in texts {
        mac.update(&(text.len() as u64).to_be_bytes());
        mac.update(text.as_bytes());
    }
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// A generation in a history.
fn of_history(secret: &[u8; 32], history: &str) -> [u8; 32] {
    mac(secret, ["history", history].into_iter(), b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(key: &ClusterKey, texts: &[&str]) -> String {
        key.sign(MessageKind::Call, texts, b"body")
    }

    fn is_signed(key: &ClusterKey, signature: &str, texts: &[&str], body: &[u8]) -> bool {
        key.is_signed(signature, MessageKind::Call, texts, body)
    }

    #[test]
    fn signature_covers_key_kind_texts_and_body() {
        let key = ClusterKey::new([7; 32]);
        let signed = sign(&key, &["ab", "c"]);
        assert!(is_signed(&key, &signed, &["ab", "c"], b"body"));
        assert!(!key.is_signed(&signed, MessageKind::Answer, &["ab", "c"], b"body"));
        assert!(!is_signed(&key, &signed, &["a", "bc"], b"body"));
        assert!(!is_signed(&key, &signed, &["ab", "c"], b"bodY"));
        assert!(!is_signed(&key, &signed[1..], &["ab", "c"], b"body"));
        assert!(!is_signed(&key, "", &["ab", "c"], b"body"));
        assert!(!is_signed(&ClusterKey::new([8; 32]), &signed, &["ab", "c"], b"body"));
    }

    #[test]
    fn a_new_generation_is_known_before_it_is_used_and_ends_the_one_before_it_later() {
        let at = |secs: i64| Timestamp::from_millis(1_000_000) + Span::from_secs(secs);
        let old = KeyGeneration { since: Timestamp::from_millis(0), secret: [1; 32] };
        let new = KeyGeneration { since: at(0), secret: [2; 32] };
        let key = |generations: &[KeyGeneration], secs: i64| {
            let key = ClusterKey::new([9; 32]);
            key.set(generations, "h", at(secs));
            key
        };
        let accepts =
            |one: &ClusterKey, other: &ClusterKey| is_signed(one, &sign(other, &[]), &[], b"body");
        let (only_old, only_new) = (key(&[old], 0), key(&[new], 0));
        // Neither a node that knows the new one, nor one that does not, is refused by the other.
        for secs in [0, 9] {
            let both = key(&[new, old], secs);
            assert!(accepts(&only_old, &both) && !accepts(&only_new, &both), "{secs}");
            assert!(accepts(&both, &only_old) && accepts(&both, &only_new), "{secs}");
        }
        for secs in [10, 309] {
            let both = key(&[old, new], secs);
            assert!(accepts(&only_new, &both) && !accepts(&only_old, &both), "{secs}");
            assert!(accepts(&both, &only_old), "{secs}");
        }
        assert!(!accepts(&key(&[old, new], 310), &only_old));
        let unchanged = ClusterKey::new([9; 32]);
        unchanged.set(&[], "h", at(0));
        assert!(accepts(&unchanged, &ClusterKey::new([9; 32])));
        // The same secret in another history is another key.
        let restored = ClusterKey::new([9; 32]);
        restored.set(&[old], "i", at(0));
        assert!(!accepts(&restored, &only_old));
    }
}
