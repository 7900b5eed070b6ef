//! The keys with which values are opened.

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::lookup::LookupKeys;
use super::seal::{AddressField, DataKey, PersonalField};
use crate::domain::address::Address;
use crate::domain::sealed::{KeyId, Sealed, SealedAddress};

/// Keys that were looked up, to open values with. A value whose key is missing was erased.
#[derive(Clone, Debug)]
pub struct Keys {
    keys: HashMap<KeyId, Arc<DataKey>>,
    lookups: Arc<LookupKeys>,
}

impl Keys {
    /// These keys.
    #[must_use]
    pub const fn new(keys: HashMap<KeyId, Arc<DataKey>>, lookups: Arc<LookupKeys>) -> Self {
        Self { keys, lookups }
    }

    /// Adds other keys of the same store.
    pub fn extend(&mut self, others: Self) {
        self.keys.extend(others.keys);
    }

    /// Whether this key is there.
    #[must_use]
    pub fn has(&self, id: &KeyId) -> bool {
        self.keys.contains_key(id)
    }

    /// The keyed hashes by which rows are found.
    #[must_use]
    pub fn lookups(&self) -> &LookupKeys {
        &self.lookups
    }

    /// Opens a value; `None` if its key was destroyed, or the value was not sealed with it for this
    /// field.
    #[must_use]
    pub fn open<T: DeserializeOwned>(&self, field: PersonalField, sealed: &Sealed<T>) -> Option<T> {
        let plain = self.keys.get(&sealed.key())?.open_bytes(field.into(), sealed.sealed())?;
        serde_json::from_slice(&plain).ok()
    }

    /// Opens an address.
    #[must_use]
    pub fn open_address(&self, field: AddressField, sealed: &SealedAddress) -> Option<Address> {
        let (of_name, of_rest) = field.fields();
        let name = self.open(of_name, &sealed.name)?;
        Some(Address { name, ..self.open(of_rest, &sealed.address)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::personal::seal::SealingKey;

    fn sealing(entity: &str) -> SealingKey {
        let id = "01k8x4m5n6p7q8r9s0t1".parse().unwrap();
        SealingKey::new(id, DataKey::new([7; 32], entity))
    }

    fn keys(sealing: &SealingKey) -> Keys {
        let one = (sealing.id, Arc::new(sealing.key.clone()));
        Keys::new([one].into(), Arc::new(LookupKeys::new([1; 32])))
    }

    #[test]
    fn a_value_is_opened_with_its_key_for_its_entity_and_field_only() {
        let sealing = sealing("cart_1");
        let email: Sealed<String> = sealing.seal(PersonalField::Email, "ada@example.com");
        assert!(!email.as_str().contains("ada"));
        let opened = keys(&sealing).open(PersonalField::Email, &email);
        assert_eq!(opened.as_deref(), Some("ada@example.com"));
        assert_eq!(keys(&sealing).open(PersonalField::Reference, &email), None);
        assert_eq!(keys(&self::sealing("cart_2")).open(PersonalField::Email, &email), None);
        let other = SealingKey::new(sealing.id, DataKey::new([8; 32], "cart_1"));
        assert_eq!(keys(&other).open(PersonalField::Email, &email), None);
        let none = Keys::new(HashMap::new(), Arc::new(LookupKeys::new([1; 32])));
        assert_eq!(none.open(PersonalField::Email, &email), None);
        let mut changed = email.as_str().to_owned();
        let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
        changed.push(last);
        let changed: Sealed<String> = changed.parse().unwrap();
        assert_eq!(keys(&sealing).open(PersonalField::Email, &changed), None);
    }

    #[test]
    fn the_name_of_an_address_is_sealed_apart() {
        let address = Address {
            name: "Ada Lovelace".into(),
            company: None,
            line1: "12 St James's Square".into(),
            line2: None,
            city: "London".into(),
            region: None,
            postal_code: "SW1Y 4JH".into(),
            country: "GB".into(),
            phone: Some("+44 20 7946 0958".into()),
        };
        let sealing = sealing("cart_1");
        let sealed = sealing.seal_address(AddressField::Shipping, &address);
        let stored = serde_json::to_string(&sealed).unwrap();
        assert!(!stored.contains("Ada") && !stored.contains("London"), "{stored}");
        let keys = keys(&sealing);
        assert_eq!(keys.open_address(AddressField::Shipping, &sealed), Some(address));
        assert_eq!(keys.open_address(AddressField::Billing, &sealed), None);
        let name: Option<String> = keys.open(PersonalField::ShippingName, &sealed.name);
        assert_eq!(name.as_deref(), Some("Ada Lovelace"));
    }
}
