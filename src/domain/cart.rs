//! A cart: a buyer's selection, until it is spent on an order.
//!
//! A cart stores no prices except agreed ones. Its current prices, taxes and names are looked up
//! and its totals computed (`pricing`) for every answer; they are fixed when the order is placed.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::entity::{self, Issuer};
use super::id::{CartId, OrderId, Sku};
use super::money::{Currency, UnitPrice};
use super::sealed::{NewKey, Sealed, SealedAddress};
use super::time::{Span, Timestamp};

/// The most lines in a cart.
pub const LINES_MAX: usize = 2_000;
/// The most units on a line.
pub const QUANTITY_MAX: i64 = 1_000_000;
/// How long a cart stays open after its last change.
pub const LIFETIME: Span = Span::from_secs(30 * 24 * 3600);

/// The journal's id for a cart.
#[must_use]
pub fn entity_id(id: CartId) -> entity::EntityId {
    entity::EntityId::new(&id.to_string())
}

/// A line: units of one SKU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The line's number in the cart, never reused.
    pub id: u32,
    /// The SKU.
    pub sku: Sku,
    /// The number of units.
    #[serde(rename = "qty")]
    pub quantity: i64,
    /// A price that was agreed for these units of this line only.
    #[serde(rename = "price", default, skip_serializing_if = "Option::is_none")]
    pub agreed_price: Option<UnitPrice>,
    /// Until when the agreed price holds; `None` for as long as the cart is open.
    #[serde(rename = "until", default, skip_serializing_if = "Option::is_none")]
    pub agreed_until: Option<Timestamp>,
}

impl Line {
    /// The agreed price, if there is one that holds at `now`.
    #[must_use]
    pub fn agreed_price_at(&self, now: Timestamp) -> Option<UnitPrice> {
        self.agreed_price.filter(|_| self.agreed_until.is_none_or(|until| now < until))
    }
}

/// A new line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLine {
    /// The SKU.
    pub sku: Sku,
    /// Units, 1 to [`QUANTITY_MAX`].
    pub quantity: i64,
    /// A price that was agreed for these units of this line only.
    pub agreed_price: Option<UnitPrice>,
    /// Until when the agreed price holds.
    #[serde(default)]
    pub agreed_until: Option<Timestamp>,
}

/// What a buyer enters for an order in addition to the lines. `None` leaves a field unchanged,
/// `Some(None)` clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// The buyer's email address.
    #[serde(skip_serializing_if = "Option::is_none", with = "double_option")]
    pub email: Option<Option<Sealed<String>>>,
    /// The buyer's own reference.
    #[serde(skip_serializing_if = "Option::is_none", with = "double_option")]
    pub reference: Option<Option<Sealed<String>>>,
    /// The shipping address.
    #[serde(skip_serializing_if = "Option::is_none", with = "double_option")]
    pub shipping_address: Option<Option<SealedAddress>>,
    /// The billing address; the shipping address if there is none.
    #[serde(skip_serializing_if = "Option::is_none", with = "double_option")]
    pub billing_address: Option<Option<SealedAddress>>,
    /// The id of a delivery option.
    #[serde(skip_serializing_if = "Option::is_none", with = "double_option")]
    pub delivery_option: Option<Option<String>>,
}

/// Distinguishes a field that is `null` from an absent one.
pub mod double_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Deserializes a present field: `null` becomes `Some(None)`.
    ///
    /// # Errors
    /// The errors of the inner type.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Option::<T>::deserialize(deserializer).map(Some)
    }

    /// Serializes the inner option.
    ///
    /// # Errors
    /// The errors of the inner type.
    pub fn serialize<T, S>(value: &Option<Option<T>>, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Serialize,
        S: Serializer,
    {
        value.as_ref().and_then(Option::as_ref).serialize(serializer)
    }
}

/// A cart; the default value is a cart that does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cart {
    currency: Option<Currency>,
    lines: Vec<Line>,
    last_line: u32,
    details: Details,
    spent_on: Option<OrderId>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Cart {
    /// Its currency; `None` if the cart does not exist.
    #[must_use]
    pub const fn currency(&self) -> Option<Currency> {
        self.currency
    }

    /// Its lines, in the order in which they were added.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The buyer's email address.
    #[must_use]
    pub fn email(&self) -> Option<&Sealed<String>> {
        self.details.email.as_ref()?.as_ref()
    }

    /// The buyer's own reference.
    #[must_use]
    pub fn reference(&self) -> Option<&Sealed<String>> {
        self.details.reference.as_ref()?.as_ref()
    }

    /// The shipping address.
    #[must_use]
    pub fn shipping_address(&self) -> Option<&SealedAddress> {
        self.details.shipping_address.as_ref()?.as_ref()
    }

    /// The billing address.
    #[must_use]
    pub fn billing_address(&self) -> Option<&SealedAddress> {
        self.details.billing_address.as_ref()?.as_ref()
    }

    /// The chosen delivery option.
    #[must_use]
    pub fn delivery_option(&self) -> Option<&str> {
        self.details.delivery_option.as_ref()?.as_deref()
    }

    /// A command that creates another cart with its contents, in its place. The buyer's data are sealed
    /// for that cart.
    #[must_use]
    pub fn replacement(
        &self,
        order: OrderId,
        (details, key): (Box<Details>, Option<Box<NewKey>>),
    ) -> Option<Command> {
        let lines = self.lines.iter().map(|line| NewLine {
            sku: line.sku.clone(),
            quantity: line.quantity,
            agreed_price: line.agreed_price,
            agreed_until: line.agreed_until,
        });
        Some(Command::Replace {
            order,
            currency: self.currency?,
            details,
            lines: lines.collect(),
            key,
        })
    }

    /// The order that it was spent on.
    #[must_use]
    pub const fn spent_on(&self) -> Option<OrderId> {
        self.spent_on
    }

    /// When it was created.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// When it was last changed.
    #[must_use]
    pub const fn updated_at(&self) -> Timestamp {
        self.updated_at
    }

    /// When it expires, unless it is changed.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.updated_at + LIFETIME
    }

    /// Checks that the cart can still be changed.
    ///
    /// # Errors
    /// [`Rejection`]: the cart does not exist, is spent, or has expired.
    pub fn open(&self, now: Timestamp) -> Result<(), Rejection> {
        if self.currency.is_none() {
            return Err(Rejection::NotFound);
        }
        if let Some(order) = self.spent_on {
            return Err(Rejection::Spent { order });
        }
        if now >= self.expires_at() {
            return Err(Rejection::Expired);
        }
        Ok(())
    }

    fn line(&self, id: u32) -> Result<&Line, Rejection> {
        self.lines.iter().find(|line| line.id == id).ok_or(Rejection::UnknownLine { line: id })
    }

    /// Returns the lines that an addition creates or changes. Units of a SKU are added to its
    /// existing line if the agreed price is the same.
    fn added(&self, new: &[NewLine], lines_max: usize) -> Result<Vec<Line>, Rejection> {
        let mut lines: Vec<Line> = Vec::with_capacity(new.len());
        let mut last = self.last_line;
        let mut full = Vec::new();
        for (index, line) in new.iter().enumerate() {
            if !(1..=QUANTITY_MAX).contains(&line.quantity) {
                return Err(Rejection::Quantity);
            }
            let same = |other: &&mut Line| {
                other.sku == line.sku && other.agreed_price == line.agreed_price
            };
            let merged = if let Some(there) = lines.iter_mut().find(same) {
                there.quantity += line.quantity;
                there.agreed_until = line.agreed_until;
                there.quantity
            } else {
                let there = self
                    .lines
                    .iter()
                    .find(|other| other.sku == line.sku && other.agreed_price == line.agreed_price);
                let id = there.map_or_else(
                    || {
                        last += 1;
                        last
                    },
                    |there| there.id,
                );
                let quantity = line.quantity + there.map_or(0, |there| there.quantity);
                let NewLine { sku, agreed_price, agreed_until, .. } = line.clone();
                lines.push(Line { id, sku, quantity, agreed_price, agreed_until });
                quantity
            };
            if merged > QUANTITY_MAX {
                let left = (QUANTITY_MAX - (merged - line.quantity)).max(0);
                full.push(FullLine { index, left });
            }
        }
        if !full.is_empty() {
            return Err(Rejection::TooManyUnits { full });
        }
        let fresh = lines.iter().filter(|line| line.id > self.last_line).count();
        let lines_max = lines_max.min(LINES_MAX);
        if fresh > 0 && self.lines.len() + fresh > lines_max {
            return Err(Rejection::TooManyLines { lines_max });
        }
        Ok(lines)
    }
}

/// A command for a cart.
#[derive(Clone, Debug, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Command {
    /// Creates the cart.
    Create {
        /// The currency of all prices of the cart.
        currency: Currency,
        /// The details that are known already.
        details: Box<Details>,
        /// The first lines.
        lines: Vec<NewLine>,
        /// The most lines that its caller may put into a cart, at most [`LINES_MAX`].
        #[serde(default = "lines_max")]
        lines_max: usize,
        /// The key with which the details are sealed, if one of them is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Box<NewKey>>,
    },
    /// Creates it with the contents of a cart whose order was given up.
    Replace {
        /// That order.
        order: OrderId,
        /// The currency of all its prices.
        currency: Currency,
        /// The buyer's data.
        details: Box<Details>,
        /// The lines.
        lines: Vec<NewLine>,
        /// The key with which the data are sealed, if there are any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Box<NewKey>>,
    },
    /// Adds lines.
    AddLines {
        /// The lines.
        lines: Vec<NewLine>,
        /// The most lines that its caller may put into a cart, at most [`LINES_MAX`].
        #[serde(default = "lines_max")]
        lines_max: usize,
    },
    /// Sets the units of a line; 0 is rejected, because removing is a command of its own.
    SetQuantity {
        /// The line.
        line: u32,
        /// Units, 1 to [`QUANTITY_MAX`].
        quantity: i64,
        /// Whether its caller may agree prices: the units of a line with an agreed price are a part
        /// of what was agreed.
        #[serde(default)]
        agrees_prices: bool,
    },
    /// Removes a line.
    RemoveLine {
        /// The line.
        line: u32,
    },
    /// Changes the details.
    Update {
        /// The changes.
        details: Box<Details>,
        /// The key with which they are sealed, if one of them is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Box<NewKey>>,
    },
    /// Clears the buyer's personal data, whose keys are destroyed.
    Erase,
    /// Spends the cart on an order, even if it has expired.
    Spend {
        /// The order.
        order: OrderId,
    },
}

const fn lines_max() -> usize {
    LINES_MAX
}

/// An event of a cart.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the commands say what each field means")]
pub enum Event {
    /// The cart was created.
    Created {
        currency: Currency,
        #[serde(default)]
        details: Box<Details>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<Line>,
    },
    /// It was created in the place of a cart whose order was given up.
    Replaced { order: OrderId },
    /// These lines were added or replaced.
    LinesSet { lines: Vec<Line> },
    /// A line was removed.
    LineRemoved { line: u32 },
    /// The details were changed.
    Updated { details: Box<Details> },
    /// The cart was spent on an order.
    Spent { order: OrderId },
    /// The buyer's personal data were erased: their keys are destroyed.
    PersonalDataErased {},
}

impl entity::Event for Event {
    fn kind(&self) -> &'static str {
        self.into()
    }
}

/// Why a cart rejects a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each means")]
pub enum Rejection {
    #[error("there is no such cart")]
    NotFound,
    #[error("the cart has become an order")]
    Spent { order: OrderId },
    #[error("the cart was not changed for 30 days and has expired")]
    Expired,
    #[error("a cart with this id exists")]
    Exists,
    #[error("the cart has no line {line}")]
    UnknownLine { line: u32 },
    #[error("must leave a line with 1 to 1000000 units")]
    Quantity,
    #[error("must leave each line with at most 1000000 units")]
    TooManyUnits { full: Vec<FullLine> },
    #[error("must leave the cart with at most {lines_max} lines")]
    TooManyLines { lines_max: usize },
    #[error("must stay {quantity}: the price of the line was agreed for so many units")]
    AgreedQuantity { quantity: i64 },
}

/// Units that the line of the cart cannot take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullLine {
    /// The place of the units in the command, from 0.
    pub index: usize,
    /// How many units the line can take.
    pub left: i64,
}

impl entity::Noun for Cart {
    const PREFIX: &'static str = "cart";
    const STATE_VERSION: u32 = 2;

    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;
    type Effect = std::convert::Infallible;

    fn may_issue(issuer: Issuer, command: &Command) -> bool {
        issuer != Issuer::Buyer || !matches!(command, Command::Erase)
    }

    fn command_name(command: &Command) -> &'static str {
        command.into()
    }

    fn decide(&self, command: &Command, now: Timestamp) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Create { currency, details, lines, lines_max, .. } => {
                Ok(vec![self.created(*currency, details, (lines, *lines_max))?])
            }
            Command::Replace { order, currency, details, lines, .. } => {
                let created = self.created(*currency, details, (lines, LINES_MAX))?;
                Ok(vec![created, Event::Replaced { order: *order }])
            }
            Command::Erase => {
                // Of a cart that became an order, the order tells it.
                let open = self.currency.is_some() && self.spent_on.is_none();
                let there = open && self.has_personal_data();
                Ok(there.then_some(Event::PersonalDataErased {}).into_iter().collect())
            }
            Command::Spend { order } if self.spent_on == Some(*order) => Ok(Vec::new()),
            Command::Spend { order } if self.currency.is_some() && self.spent_on.is_none() => {
                Ok(vec![Event::Spent { order: *order }])
            }
            _ => {
                self.open(now)?;
                self.change(command)
            }
        }
    }

    fn evolve(&mut self, event: &Event, at: Timestamp) {
        self.updated_at = at;
        match event {
            Event::Created { currency, details, lines } => {
                self.currency = Some(*currency);
                self.details = (**details).clone();
                self.created_at = at;
                self.last_line = lines.iter().map(|line| line.id).max().unwrap_or(0);
                self.lines.clone_from(lines);
            }
            Event::LinesSet { lines } => {
                for line in lines {
                    self.last_line = self.last_line.max(line.id);
                    match self.lines.iter_mut().find(|there| there.id == line.id) {
                        Some(there) => there.clone_from(line),
                        None => self.lines.push(line.clone()),
                    }
                }
            }
            Event::LineRemoved { line } => self.lines.retain(|there| there.id != *line),
            Event::Updated { details } => {
                let Details { email, reference, shipping_address, .. } = (**details).clone();
                let Details { billing_address, delivery_option, .. } = (**details).clone();
                let mine = &mut self.details;
                mine.email = email.or(mine.email.take());
                mine.reference = reference.or(mine.reference.take());
                mine.shipping_address = shipping_address.or(mine.shipping_address.take());
                mine.billing_address = billing_address.or(mine.billing_address.take());
                mine.delivery_option = delivery_option.or(mine.delivery_option.take());
            }
            Event::Spent { order } => self.spent_on = Some(*order),
            Event::PersonalDataErased {} => {
                let delivery_option = self.details.delivery_option.take();
                self.details = Details { delivery_option, ..Details::default() };
            }
            Event::Replaced { .. } => {}
        }
    }

    fn new_key(command: &Command) -> Option<&NewKey> {
        match command {
            Command::Create { key, .. }
            | Command::Update { key, .. }
            | Command::Replace { key, .. } => key.as_deref(),
            _ => None,
        }
    }

    fn is_finished(&self) -> bool {
        self.spent_on.is_some()
    }

    fn weight(&self) -> usize {
        1 + self.lines.len()
    }
}

impl Cart {
    fn has_personal_data(&self) -> bool {
        self.email().is_some()
            || self.reference().is_some()
            || self.shipping_address().is_some()
            || self.billing_address().is_some()
    }

    fn created(
        &self,
        currency: Currency,
        details: &Details,
        (lines, lines_max): (&[NewLine], usize),
    ) -> Result<Event, Rejection> {
        if self.currency.is_some() {
            return Err(Rejection::Exists);
        }
        let (details, lines) = (Box::new(details.clone()), self.added(lines, lines_max)?);
        Ok(Event::Created { currency, details, lines })
    }

    /// Returns the events of a command that changes an open cart.
    fn change(&self, command: &Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::AddLines { lines, .. } if lines.is_empty() => Ok(Vec::new()),
            Command::AddLines { lines, lines_max } => {
                Ok(vec![Event::LinesSet { lines: self.added(lines, *lines_max)? }])
            }
            Command::SetQuantity { line, quantity, agrees_prices } => {
                let there = self.line(*line)?;
                if !(1..=QUANTITY_MAX).contains(quantity) {
                    return Err(Rejection::Quantity);
                }
                if there.quantity == *quantity {
                    return Ok(Vec::new());
                }
                if there.agreed_price.is_some() && !agrees_prices {
                    return Err(Rejection::AgreedQuantity { quantity: there.quantity });
                }
                let changed = Line { quantity: *quantity, ..there.clone() };
                Ok(vec![Event::LinesSet { lines: vec![changed] }])
            }
            Command::RemoveLine { line } => {
                self.line(*line)?;
                Ok(vec![Event::LineRemoved { line: *line }])
            }
            Command::Update { details, .. } if **details == Details::default() => Ok(Vec::new()),
            Command::Update { details, .. } => {
                Ok(vec![Event::Updated { details: details.clone() }])
            }
            Command::Create { .. }
            | Command::Replace { .. }
            | Command::Erase
            | Command::Spend { .. } => Ok(Vec::new()),
        }
    }
}
