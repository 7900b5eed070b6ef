//! A gift card: a balance that is issued once and spent in parts.
//!
//! How it was paid for, and what it pays of an order, is not decided here.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use kontor::domain::entity::{self, EntityId, Noun};
use kontor::domain::id::OrderId;
use kontor::domain::money::{AMOUNT_MAX, Currency};
use kontor::domain::time::Timestamp;
use kontor::seeded_fault;

/// A deliberate bug for the simulator to find: a card forgets which orders it was spent on.
pub const FORGETS_ORDERS: &str = "gift-card-forgets-orders";
/// The most orders that one card is spent on.
const ORDERS_MAX: usize = 1_000;

/// The number of a card: 1 to 32 lower-case letters, digits and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CardNumber(String);

/// A text that is not a valid card number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 32 lower-case letters, digits and '-'")]
pub struct InvalidCardNumber;

impl FromStr for CardNumber {
    type Err = InvalidCardNumber;

    fn from_str(text: &str) -> Result<Self, InvalidCardNumber> {
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if (1..=32).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidCardNumber)
        }
    }
}

impl fmt::Display for CardNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The entity id of a card.
#[must_use]
pub fn entity_id(number: &CardNumber) -> EntityId {
    EntityId::new(&format!("{}_{number}", GiftCard::PREFIX))
}

/// A gift card; the default is one that does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiftCard {
    /// `None` until it is issued.
    currency: Option<Currency>,
    /// Minor units that are left.
    balance: i64,
    spent_on: BTreeSet<OrderId>,
}

impl GiftCard {
    /// Its currency; `None` if it was not issued.
    #[must_use]
    pub const fn currency(&self) -> Option<Currency> {
        self.currency
    }

    /// Minor units that are left.
    #[must_use]
    pub const fn balance(&self) -> i64 {
        self.balance
    }

    /// The number of orders that it was spent on.
    #[must_use]
    pub fn orders(&self) -> usize {
        self.spent_on.len()
    }

    /// Whether it was spent on an order.
    #[must_use]
    pub fn was_spent_on(&self, order: OrderId) -> bool {
        self.spent_on.contains(&order)
    }
}

/// The commands of a gift card.
#[derive(Clone, Debug, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Command {
    /// Issues it, once.
    Issue {
        /// Minor units.
        amount: i64,
        /// Their currency.
        currency: Currency,
    },
    /// Spends some of it on an order; repeating it for the same order changes nothing.
    Spend {
        /// The order.
        order: OrderId,
        /// Minor units.
        amount: i64,
    },
}

/// The events of a gift card.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Event {
    /// It was issued.
    Issued {
        /// Minor units.
        amount: i64,
        /// Their currency.
        currency: Currency,
    },
    /// Some of it was spent.
    Spent {
        /// The order.
        order: OrderId,
        /// Minor units.
        amount: i64,
    },
}

impl entity::Event for Event {
    fn kind(&self) -> &'static str {
        self.into()
    }
}

/// Why a gift card refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// It was not issued.
    #[error("there is no such gift card")]
    NotFound,
    /// It was issued.
    #[error("the gift card was issued before")]
    Exists,
    /// The amount is not allowed.
    #[error("must be from 1 to {AMOUNT_MAX} minor units")]
    Amount,
    /// The balance is too low.
    #[error("at most {balance} minor units are left")]
    TooLittle {
        /// Minor units.
        balance: i64,
    },
    /// It was spent on the maximum number of orders.
    #[error("it was spent on {ORDERS_MAX} orders")]
    TooManyOrders,
}

impl Noun for GiftCard {
    const PREFIX: &'static str = "gift";
    const NAME: &'static str = "gift_card";
    const STATE_VERSION: u32 = 1;

    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;
    type Effect = Infallible;

    fn command_name(command: &Command) -> &'static str {
        command.into()
    }

    fn decide(&self, command: &Command, _now: Timestamp) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Issue { .. } if self.currency.is_some() => Err(Rejection::Exists),
            Command::Issue { amount, currency } if (1..=AMOUNT_MAX).contains(amount) => {
                Ok(vec![Event::Issued { amount: *amount, currency: *currency }])
            }
            Command::Issue { .. } => Err(Rejection::Amount),
            Command::Spend { .. } if self.currency.is_none() => Err(Rejection::NotFound),
            Command::Spend { order, .. }
                if self.was_spent_on(*order) && !seeded_fault::active_by_name(FORGETS_ORDERS) =>
            {
                Ok(Vec::new())
            }
            Command::Spend { .. } if self.spent_on.len() >= ORDERS_MAX => {
                Err(Rejection::TooManyOrders)
            }
            Command::Spend { order, amount } if (1..=self.balance).contains(amount) => {
                Ok(vec![Event::Spent { order: *order, amount: *amount }])
            }
            Command::Spend { .. } => Err(Rejection::TooLittle { balance: self.balance }),
        }
    }

    fn evolve(&mut self, event: &Event, _at: Timestamp) {
        match event {
            Event::Issued { amount, currency } => {
                (self.balance, self.currency) = (*amount, Some(*currency));
            }
            Event::Spent { order, amount } => {
                self.balance -= amount;
                self.spent_on.insert(*order);
            }
        }
    }
}
