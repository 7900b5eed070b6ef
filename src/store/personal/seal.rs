//! Sealing and opening: AES-256-GCM under a key for the values of one command. The associated data
//! are the entity and the field, so that a sealed value moved elsewhere cannot be opened there.

use std::fmt;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::Serialize;
use sha2::Sha256;

use crate::domain::address::Address;
use crate::domain::sealed::{KeyId, Sealed, SealedAddress};

/// What a sealed value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum PersonalField {
    /// The buyer's email address.
    Email,
    /// The buyer's own reference.
    Reference,
    /// The recipient's name in the shipping address.
    ShippingName,
    /// The shipping address without the name.
    ShippingAddress,
    /// The name in the billing address.
    BillingName,
    /// The billing address without the name.
    BillingAddress,
    /// The provider's token for a card.
    PaymentToken,
}

/// The fields of an address: those of its name and of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressField {
    /// The shipping address.
    Shipping,
    /// The billing address.
    Billing,
}

impl AddressField {
    pub(super) const fn fields(self) -> (PersonalField, PersonalField) {
        match self {
            Self::Shipping => (PersonalField::ShippingName, PersonalField::ShippingAddress),
            Self::Billing => (PersonalField::BillingName, PersonalField::BillingAddress),
        }
    }
}

/// A key of 256 bits, and the data that are authenticated with each value. It has no `Debug` with its
/// bytes, so that it cannot be logged.
#[derive(Clone)]
pub struct DataKey {
    bytes: [u8; 32],
    entity: Arc<str>,
    /// The key of the cipher, once something was opened with it.
    cipher: OnceLock<Option<Box<LessSafeKey>>>,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.entity)
    }
}

impl DataKey {
    /// A key with these bytes, for values of this entity.
    #[must_use]
    pub fn new(bytes: [u8; 32], entity: &str) -> Self {
        Self { bytes, entity: entity.into(), cipher: OnceLock::new() }
    }

    /// The entity whose values it seals.
    #[must_use]
    pub fn entity(&self) -> &str {
        &self.entity
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &self.bytes).ok().map(LessSafeKey::new)
    }

    fn associated(&self, field: &str) -> Vec<u8> {
        ["kontor ", &self.entity, " ", field].concat().into_bytes()
    }

    /// The key, ready for many values.
    fn sealer(&self) -> Option<Sealer> {
        Some(Sealer { cipher: self.cipher()?, nonces: keyed(&self.bytes) })
    }

    /// Seals bytes: the nonce, the ciphertext and the tag, as base64url.
    pub(in crate::store) fn seal_bytes(&self, field: &str, plain: &[u8]) -> Option<String> {
        self.sealer()?.seal(self, field, plain)
    }

    /// Opens what [`DataKey::seal_bytes`] has sealed; `None` if it was not sealed with this key for
    /// this entity and field.
    pub(in crate::store) fn open_bytes(&self, field: &str, sealed: &str) -> Option<Vec<u8>> {
        let mut text = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(text.get(..NONCE_LEN)?).ok()?;
        let aad = Aad::from(self.associated(field));
        let cipher = self.cipher.get_or_init(|| self.cipher().map(Box::new)).as_ref()?;
        let plain = cipher.open_within(nonce, aad, &mut text, NONCE_LEN..).ok()?;
        Some(plain.to_vec())
    }
}

/// An HMAC with its key, for which a key is as long as a block of the hash.
pub(super) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    Hmac::new(&block.into())
}

/// What of a key is computed once for all its values.
struct Sealer {
    cipher: LessSafeKey,
    nonces: Hmac<Sha256>,
}

impl Sealer {
    /// A nonce that only the same value of the same field has: it is computed from both with the key.
    fn nonce(&self, field: &str, plain: &[u8]) -> Option<[u8; NONCE_LEN]> {
        let mut mac = self.nonces.clone();
        mac.update(field.as_bytes());
        mac.update(&[0]);
        mac.update(plain);
        mac.finalize().into_bytes().first_chunk().copied()
    }

    fn seal(&self, key: &DataKey, field: &str, plain: &[u8]) -> Option<String> {
        let nonce = self.nonce(field, plain)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let aad = Aad::from(key.associated(field));
        let (nonce, text) = (Nonce::assume_unique_for_key(nonce), &mut sealed[NONCE_LEN..]);
        let tag = self.cipher.seal_in_place_separate_tag(nonce, aad, text).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }
}

/// A new key with its id.
#[derive(Clone)]
pub struct SealingKey {
    pub(super) id: KeyId,
    pub(super) key: DataKey,
    sealer: Option<Arc<Sealer>>,
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({:?}, {:?})", self.id, self.key)
    }
}

impl SealingKey {
    /// A key with this id, which its values name.
    #[must_use]
    pub fn new(id: KeyId, key: DataKey) -> Self {
        let sealer = key.sealer().map(Arc::new);
        Self { id, key, sealer }
    }

    /// Seals a value.
    #[must_use]
    pub fn seal<T>(&self, field: PersonalField, value: &(impl Serialize + ?Sized)) -> Sealed<T> {
        let plain = serde_json::to_vec(value).unwrap_or_default();
        let sealer = self.sealer.as_ref();
        let sealed = sealer.and_then(|sealer| sealer.seal(&self.key, field.into(), &plain));
        let sealed = sealed.unwrap_or_default();
        Sealed::new(&self.id, &sealed)
    }

    /// Seals an address, its name apart.
    #[must_use]
    pub fn seal_address(&self, field: AddressField, address: &Address) -> SealedAddress {
        let (of_name, of_rest) = field.fields();
        let rest = Address { name: String::new(), ..address.clone() };
        SealedAddress {
            country: address.country.clone(),
            name: self.seal(of_name, &address.name),
            address: self.seal(of_rest, &rest),
        }
    }
}
