//! The personal data of an order or a cart, opened: in memory and in answers only.

use std::collections::BTreeSet;

use crate::domain::address::Address;
use crate::domain::cart::{Cart, Details};
use crate::domain::entity::EntityId;
use crate::domain::order::{Order, Placed};
use crate::domain::sealed::{KeyId, NewKey, Sealed};
use crate::domain::time::Timestamp;
use crate::store::personal::{AddressField, Keys, LookupKeys, PersonalField, PersonalKeys};
use crate::store::{self, Tables};

/// The personal data of a buyer. What is `None` was never given, or was erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuyerData {
    /// The email address.
    pub email: Option<String>,
    /// The buyer's own reference.
    pub reference: Option<String>,
    /// The shipping address.
    pub shipping_address: Option<Address>,
    /// The billing address, if it differs.
    pub billing_address: Option<Address>,
}

impl BuyerData {
    /// The personal data of an order, opened with these keys.
    #[must_use]
    pub fn open(placed: &Placed, keys: &Keys) -> Self {
        let billing = placed.billing_address.as_ref();
        let reference = placed.reference.as_ref();
        Self {
            email: keys.open(PersonalField::Email, &placed.email),
            reference: reference.and_then(|one| keys.open(PersonalField::Reference, one)),
            shipping_address: keys.open_address(AddressField::Shipping, &placed.shipping_address),
            billing_address: billing.and_then(|one| keys.open_address(AddressField::Billing, one)),
        }
    }

    /// The personal data of an order.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn of_order(store: &dyn Tables, order: &Order) -> Result<Self, store::Error> {
        let placed = order.placed().filter(|_| !order.is_erased());
        let Some(placed) = placed else { return Ok(Self::default()) };
        let mut ids = BTreeSet::new();
        key_ids(order, &mut ids);
        Ok(Self::open(placed, &store.personal_keys(&ids).await?))
    }

    /// The personal data of a cart.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn of_cart(store: &dyn Tables, cart: &Cart) -> Result<Self, store::Error> {
        let addresses = [cart.shipping_address(), cart.billing_address()].into_iter().flatten();
        let addresses = addresses.flat_map(|one| [one.name.key(), one.address.key()]);
        let texts = [cart.email(), cart.reference()].into_iter().flatten().map(Sealed::key);
        let ids: BTreeSet<KeyId> = addresses.chain(texts).collect();
        if ids.is_empty() {
            return Ok(Self::default());
        }
        let keys = store.personal_keys(&ids).await?;
        let address = |field, one| keys.open_address(field, one);
        Ok(Self {
            email: cart.email().and_then(|one| keys.open(PersonalField::Email, one)),
            reference: cart.reference().and_then(|one| keys.open(PersonalField::Reference, one)),
            shipping_address: cart
                .shipping_address()
                .and_then(|one| address(AddressField::Shipping, one)),
            billing_address: cart
                .billing_address()
                .and_then(|one| address(AddressField::Billing, one)),
        })
    }
}

/// Adds the ids of the keys with which the personal values of an order are sealed.
pub fn key_ids(order: &Order, ids: &mut BTreeSet<KeyId>) {
    let Some(placed) = order.placed().filter(|_| !order.is_erased()) else { return };
    key_ids_of(placed, ids);
}

/// The same for what a checkout places.
pub fn key_ids_of(placed: &Placed, ids: &mut BTreeSet<KeyId>) {
    let addresses = [Some(&placed.shipping_address), placed.billing_address.as_ref()];
    let addresses = addresses.into_iter().flatten();
    ids.insert(placed.email.key());
    ids.extend(placed.reference.as_ref().map(Sealed::key));
    ids.extend(addresses.flat_map(|address| [address.name.key(), address.address.key()]));
}

/// What a buyer enters, in clear: as in [`Details`], `None` leaves a value unchanged, and
/// `Some(None)` clears it.
#[derive(Clone, Debug, Default)]
pub struct NewBuyerData {
    /// The email address.
    pub email: Option<Option<String>>,
    /// The buyer's own reference.
    pub reference: Option<Option<String>>,
    /// The shipping address.
    pub shipping_address: Option<Option<Address>>,
    /// The billing address.
    pub billing_address: Option<Option<Address>>,
    /// The id of a delivery option, which is not personal.
    pub delivery_option: Option<Option<String>>,
}

impl NewBuyerData {
    /// The data that a cart has which was created with them.
    #[must_use]
    pub fn of_new_cart(self) -> BuyerData {
        BuyerData {
            email: self.email.flatten(),
            reference: self.reference.flatten(),
            shipping_address: self.shipping_address.flatten(),
            billing_address: self.billing_address.flatten(),
        }
    }

    /// The data of a cart, for another cart.
    ///
    /// # Errors
    /// The store's.
    pub async fn of_cart(store: &dyn Tables, cart: &Cart) -> Result<Self, store::Error> {
        let BuyerData { email, reference, shipping_address, billing_address } =
            BuyerData::of_cart(store, cart).await?;
        Ok(Self {
            email: email.map(Some),
            reference: reference.map(Some),
            shipping_address: shipping_address.map(Some),
            billing_address: billing_address.map(Some),
            delivery_option: cart.delivery_option().map(|option| Some(option.to_owned())),
        })
    }

    /// Seals the data with a new random key of the cart, for its command.
    ///
    /// # Errors
    /// The store's.
    pub async fn sealed(
        self,
        store: &dyn Tables,
        cart: &EntityId,
        (now, random): (Timestamp, ([u8; 32], u64)),
    ) -> Result<(Box<Details>, Option<Box<NewKey>>), store::Error> {
        let lookups = store.lookups().await?;
        self.seal((store.people(), &lookups), cart, now, random)
    }

    /// Seals the data with a new key of the cart; `None` instead of a key if there is nothing to seal.
    ///
    /// # Errors
    /// The store's, if its master key is not known.
    pub fn seal(
        self,
        (people, lookups): (&PersonalKeys, &LookupKeys),
        cart: &EntityId,
        now: Timestamp,
        random: ([u8; 32], u64),
    ) -> Result<(Box<Details>, Option<Box<NewKey>>), store::Error> {
        let Self { email, reference, shipping_address, billing_address, delivery_option } = self;
        let texts = [&email, &reference].into_iter().any(|one| matches!(one, Some(Some(_))));
        let addresses = [&shipping_address, &billing_address]
            .into_iter()
            .any(|one| matches!(one, Some(Some(_))));
        if !texts && !addresses {
            let cleared = Details {
                email: email.map(|_| None),
                reference: reference.map(|_| None),
                shipping_address: shipping_address.map(|_| None),
                billing_address: billing_address.map(|_| None),
                delivery_option,
            };
            return Ok((Box::new(cleared), None));
        }
        let subject = email.iter().flatten().next().map(|email| lookups.email(email));
        let (key, new) = people.sealing_key(cart.as_str(), subject, now, random)?;
        let text = |field, one: Option<String>| one.map(|one| key.seal(field, &one));
        let address = |field, one: Option<Address>| one.map(|one| key.seal_address(field, &one));
        let details = Details {
            email: email.map(|one| text(PersonalField::Email, one)),
            reference: reference.map(|one| text(PersonalField::Reference, one)),
            shipping_address: shipping_address.map(|one| address(AddressField::Shipping, one)),
            billing_address: billing_address.map(|one| address(AddressField::Billing, one)),
            delivery_option,
        };
        Ok((Box::new(details), Some(Box::new(new))))
    }
}
