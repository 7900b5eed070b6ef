//! The secret in the store from which order tokens and the ids of carts with an idempotency key are
//! derived.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The secret. It has no `Debug`, so that it cannot be logged.
#[derive(Clone, Copy)]
pub struct ServerSecret([u8; 32]);

impl ServerSecret {
    /// A secret with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A keyed digest (HMAC-SHA-256) of a list of texts.
    #[must_use]
    pub fn mac(&self, texts: &[&str]) -> [u8; 32] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            // HMAC accepts a key of any length.
            return [0; 32];
        };
        for text in texts {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_where_its_texts_end() {
        let secret = ServerSecret::new([7; 32]);
        assert_eq!(secret.mac(&["ab", "c"]), secret.mac(&["ab", "c"]));
        assert_ne!(secret.mac(&["ab", "c"]), secret.mac(&["a", "bc"]));
        assert_ne!(secret.mac(&["ab"]), ServerSecret::new([8; 32]).mac(&["ab"]));
    }
}
