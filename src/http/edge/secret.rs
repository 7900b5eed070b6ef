//! The secret in the store from which tokens, the ids of carts with an idempotency key, and what events
//! keep of such keys and of bodies are derived.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The secret. It has no `Debug`, so that it cannot be logged.
#[derive(Clone)]
pub struct ServerSecret(Hmac<Sha256>);

impl ServerSecret {
    /// A secret with these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        // A key is as long as a block of the hash.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&bytes);
        Self(Hmac::new(&block.into()))
    }

    /// A keyed digest (HMAC-SHA-256) of a list of texts.
    #[must_use]
    pub fn mac(&self, texts: &[impl AsRef<[u8]>]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for text in texts.iter().map(AsRef::as_ref) {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text);
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
