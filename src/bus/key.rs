//! The key of a cluster: with it, nodes authenticate what they send each other. Whoever has no
//! access to the store cannot forge a call, an answer, a notice or an event.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// What a message is. A message of one kind cannot be used as one of another.
#[derive(Clone, Copy, Debug, strum::IntoStaticStr)]
pub enum MessageKind {
    /// A call to a node.
    Call,
    /// The answer to a call.
    Answer,
    /// A notice to all nodes.
    Notice,
    /// A committed event in the stream.
    Event,
}

/// The key, which all nodes get from the store. It has no `Debug`, so that it cannot be logged.
#[derive(Clone, Copy, Default)]
pub struct ClusterKey([u8; 32]);

impl ClusterKey {
    /// A key with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The signature (HMAC-SHA-256) of a message, in hexadecimal: it covers the kind of message,
    /// each text, and the body.
    #[must_use]
    pub fn sign(&self, kind: MessageKind, texts: &[&str], body: &[u8]) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            // HMAC accepts a key of any length.
            return String::new();
        };
        let kind: &str = kind.into();
        for text in std::iter::once(&kind).chain(texts) {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        }
        mac.update(body);
        hex::encode(mac.finalize().into_bytes())
    }

    /// Whether this is the signature of a message.
    #[must_use]
    pub fn is_signed(
        &self,
        signature: &str,
        kind: MessageKind,
        texts: &[&str],
        body: &[u8],
    ) -> bool {
        let right = self.sign(kind, texts, body);
        !right.is_empty() && bool::from(right.as_bytes().ct_eq(signature.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_covers_key_kind_texts_and_body() {
        let key = ClusterKey::new([7; 32]);
        let signed = key.sign(MessageKind::Call, &["ab", "c"], b"body");
        assert!(key.is_signed(&signed, MessageKind::Call, &["ab", "c"], b"body"));
        assert!(!key.is_signed(&signed, MessageKind::Answer, &["ab", "c"], b"body"));
        assert!(!key.is_signed(&signed, MessageKind::Call, &["a", "bc"], b"body"));
        assert!(!key.is_signed(&signed, MessageKind::Call, &["ab", "c"], b"bodY"));
        assert!(!key.is_signed(&signed[1..], MessageKind::Call, &["ab", "c"], b"body"));
        assert!(!key.is_signed("", MessageKind::Call, &["ab", "c"], b"body"));
        let other = ClusterKey::new([8; 32]);
        assert!(!other.is_signed(&signed, MessageKind::Call, &["ab", "c"], b"body"));
    }
}
