//! The checkout: from a buyer's request to an order whose saga continues by itself.
//!
//! `CheckoutFlow::run` reads from top to bottom: it prices the cart, checks its stock, spends the
//! cart, and places the order. After that the order's own steps are performed (`order_steps` lists
//! them, each next to its compensation): reserve stock, authorize money, allocate stock and draw a
//! number, capture money. The order's decisions are in `domain`; this file determines the sequence
//! of the calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use super::guests::{Guest, GuestRefusal, Guests};
use super::held_units::HeldUnits;
use super::payment::Payments;
use super::reservation::SKUS_AT_ONCE;
use crate::actors::engine::backoff::{Backoff, SHORTEST};
use crate::actors::engine::clock::Clock;
use crate::actors::engine::host::{self, Host, Until, View};
use crate::actors::engine::runtime::Runtime;
use crate::actors::locations::Locations;
use crate::actors::pricing::{Pricing, Requirement};
use crate::actors::settings::ShopSettings;
use crate::domain::cart;
use crate::domain::entity::{Cause, EntityId, Noun as _};
use crate::domain::id::{CartId, OrderId, Sku};
use crate::domain::money::Money;
use crate::domain::order::{self, Command, Order, PaymentMethod, Phase, Shortage};
use crate::domain::stock::{self, Stock};
use crate::domain::time::Span;
use crate::seeded_fault::{self, SeededFault};
use crate::store;

/// The most attempts to price and spend a cart, if it is changed meanwhile.
const SEALS_MAX: usize = 3;
/// The most attempts to place an order, if the order's node is overloaded or the order's shard
/// moves.
const PLACES_MAX: usize = 4;

/// A version that no entity has: only a repeated request is answered at it.
const NO_VERSION: i64 = -1;

/// A buyer's request.
#[derive(Debug)]
pub struct Request {
    /// The cart.
    pub cart: CartId,
    /// The payment method; not needed for a cart whose total is 0.
    pub method: Option<PaymentMethod>,
    /// The total that the buyer was shown.
    pub expected_total: Option<Money>,
    /// The cause: the caller, and the idempotency key.
    pub cause: Cause,
    /// How long to wait for the outcome; `None` to return once the order is placed.
    pub patience: Option<Duration>,
    /// The buyer, if the units that they hold are bounded.
    pub guest: Option<Guest>,
}

/// The outcome of a checkout.
#[derive(Debug)]
pub struct PlacedOrder {
    /// The order.
    pub order: Order,
    /// Its version.
    pub seq: i64,
    /// Whether the outcome of the checkout is known, so that the buyer can be answered
    /// ([`Order::has_outcome`]).
    pub has_outcome: bool,
    /// Whether it was placed before, under the same idempotency key.
    pub replayed: bool,
}

/// A cart that can no longer be changed.
enum Spent {
    /// It was spent by this checkout; this is the order to place, and what is counted for its guest.
    Sealed(order::Placed, Option<HeldUnits>),
    /// It was spent by an earlier checkout, whose order may not have been placed.
    SealedBefore(cart::Cart),
}

/// Why no order was placed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each means")]
pub enum CheckoutRefusal {
    #[error("there is no such cart")]
    CartNotFound,
    #[error("the cart has expired")]
    CartExpired,
    #[error("the cart has become an order")]
    CartSpent { order: OrderId },
    #[error("the cart is not complete")]
    Incomplete(Vec<Requirement>),
    #[error("the total of the cart is {total}")]
    Changed { total: Money },
    #[error("there is not enough stock")]
    OutOfStock(Vec<Shortage>),
    #[error("the cart costs something, and no payment was given")]
    PaymentRequired,
    #[error("there is no payment provider of this name")]
    UnknownProvider,
    #[error("{provider} is switched off")]
    ProviderOff { provider: String },
    #[error("checkout is switched off")]
    Closed,
    #[error("a payment of the order is in progress")]
    InProgress { order: OrderId },
    #[error(transparent)]
    Guest(#[from] GuestRefusal),
    #[error(transparent)]
    Host(host::Error<order::Rejection>),
    #[error(transparent)]
    Store(#[from] store::Error),
}

fn read_placed(view: host::View<'_, Order>) -> PlacedOrder {
    PlacedOrder {
        order: view.state.clone(),
        seq: view.seq,
        has_outcome: view.state.has_outcome(),
        replayed: view.replayed,
    }
}

fn refused(order: OrderId, error: host::Error<order::Rejection>) -> CheckoutRefusal {
    match error {
        host::Error::Rejected(order::Rejection::InProgress) => {
            CheckoutRefusal::InProgress { order }
        }
        host::Error::Rejected(order::Rejection::PaymentRequired) => {
            CheckoutRefusal::PaymentRequired
        }
        other => CheckoutRefusal::Host(other),
    }
}

fn of_cart(error: host::Error<cart::Rejection>) -> CheckoutRefusal {
    CheckoutRefusal::Host(match error {
        host::Error::Rejected(_) | host::Error::TryAgain => host::Error::TryAgain,
        host::Error::Moved => host::Error::Moved,
        host::Error::Busy => host::Error::Busy,
        host::Error::TimedOut => host::Error::TimedOut,
        host::Error::Storage(why) => host::Error::Storage(why),
        host::Error::Quarantined(why) => host::Error::Quarantined(why),
        host::Error::KeyReused => host::Error::KeyReused,
    })
}

/// Turns carts into orders.
pub struct CheckoutFlow {
    pub(super) carts: Host<cart::Cart>,
    pub(super) orders: Host<Order>,
    pub(super) stock: Host<Stock>,
    pub(super) locations: Arc<Locations>,
    pub(super) pricing: Pricing,
    pub(super) payments: Payments,
    pub(super) settings: ShopSettings,
    pub(super) runtime: Runtime,
    pub(super) clock: Clock,
    /// What guests may hold.
    pub guests: Guests,
}

impl CheckoutFlow {
    /// Places the order of a cart, or retries the payment of the order that exists for it.
    ///
    /// # Errors
    /// [`CheckoutRefusal`]: no order was placed, or the outcome is unknown.
    pub async fn run(&self, request: Request) -> Result<PlacedOrder, CheckoutRefusal> {
        self.admit(request.method.as_ref())?;
        let order = OrderId(request.cart.0);
        let entity = order::entity_id(order);
        let placed = match self.seal(&request).await? {
            Spent::Sealed(placed, held) => {
                let command = Command::Place { placed: placed.into(), method: request.method };
                let placed = self.place(&entity, &command, &request.cause).await;
                self.counted(order, held, placed)
            }
            Spent::SealedBefore(cart) => self.go_on(order, &cart, &request).await?,
        };
        let placed = placed.map_err(|error| match error {
            host::Error::Rejected(order::Rejection::NotPayable { phase })
                if !matches!(phase, Phase::Cancelling | Phase::Cancelled) =>
            {
                CheckoutRefusal::CartSpent { order }
            }
            other => refused(order, other),
        })?;
        Ok(self.outcome(order, placed, request.patience).await)
    }

    /// Makes another payment attempt for an order that awaits its payment.
    ///
    /// # Errors
    /// [`CheckoutRefusal`]: no attempt was made, or the outcome is unknown.
    pub async fn pay_again(
        &self,
        order: OrderId,
        method: PaymentMethod,
        guest: Option<&Guest>,
        (cause, patience): (Cause, Option<Duration>),
    ) -> Result<PlacedOrder, CheckoutRefusal> {
        self.admit(Some(&method))?;
        let placed = self.pay(order, Some(method), guest, cause).await?;
        let placed = placed.map_err(|error| refused(order, error))?;
        Ok(self.outcome(order, placed, patience).await)
    }

    /// Pays an order that awaits its payment. The units of a guest, which were not counted meanwhile,
    /// are counted again first. A repeated request gets its first outcome, and is counted nowhere.
    async fn pay(
        &self,
        order: OrderId,
        method: Option<PaymentMethod>,
        guest: Option<&Guest>,
        cause: Cause,
    ) -> Result<Result<PlacedOrder, host::Error<order::Rejection>>, CheckoutRefusal> {
        let (entity, command) = (order::entity_id(order), Command::Pay { method });
        let Some(guest) = guest else {
            return Ok(self.orders.ask(&entity, command, cause, read_placed).await);
        };
        let ask_at = |seq| {
            let (command, cause) = (command.clone(), cause.clone());
            self.orders.ask_at_version(&entity, Some(seq), command, cause, read_placed)
        };
        match ask_at(NO_VERSION).await {
            Ok(Ok(repeated)) => return Ok(Ok(repeated)),
            Ok(Err(_)) => {}
            Err(error) => return Ok(Err(error)),
        }
        for _ in 0..SEALS_MAX {
            let (decided, now) = (command.clone(), self.clock.now());
            let payable = move |view: View<'_, Order>| {
                let accepted = view.state.decide(&decided, now).is_ok();
                (view.state.placed().filter(|_| accepted).cloned(), view.seq)
            };
            let read = self.orders.read(&entity, payable).await;
            let (payable, seq) = read.map_err(CheckoutRefusal::Host)?;
            let held = match &payable {
                Some(placed) => self.admit_guest(Some(guest), placed).await?,
                None => None,
            };
            match ask_at(seq).await {
                Ok(Ok(placed)) => return Ok(self.counted(order, held, Ok(placed))),
                Err(error) => return Ok(self.counted(order, held, Err(error))),
                // It was changed meanwhile.
                Ok(Err(_)) => held.into_iter().for_each(HeldUnits::give_back),
            }
        }
        Err(CheckoutRefusal::Host(host::Error::TryAgain))
    }

    /// Counts units for an order until it is known to hold none, unless it was refused.
    fn counted(
        &self,
        order: OrderId,
        held: Option<HeldUnits>,
        placed: Result<PlacedOrder, host::Error<order::Rejection>>,
    ) -> Result<PlacedOrder, host::Error<order::Rejection>> {
        if let Some(held) = held {
            match &placed {
                Err(host::Error::Rejected(_) | host::Error::KeyReused) => held.give_back(),
                _ => self.guests.counted.add(order, held),
            }
        }
        placed
    }

    /// Whether the shop has a payment provider of this name.
    #[must_use]
    pub fn takes(&self, provider: &str) -> bool {
        self.payments.knows(provider)
    }

    /// Checks that the shop takes orders, paid in this way.
    fn admit(&self, method: Option<&PaymentMethod>) -> Result<(), CheckoutRefusal> {
        let provider = method.map(|method| method.provider.as_str());
        if provider.is_some_and(|provider| !self.payments.knows(provider)) {
            return Err(CheckoutRefusal::UnknownProvider);
        }
        let settings = self.runtime.current();
        if !settings.checkout {
            return Err(CheckoutRefusal::Closed);
        }
        match provider.filter(|one| settings.providers_off.contains(*one)) {
            Some(provider) => Err(CheckoutRefusal::ProviderOff { provider: provider.to_owned() }),
            None => Ok(()),
        }
    }

    /// Waits for the outcome of a payment, at most `patience`. The units of an order that holds none are
    /// counted no longer.
    async fn outcome(
        &self,
        order: OrderId,
        placed: PlacedOrder,
        patience: Option<Duration>,
    ) -> PlacedOrder {
        let placed = match patience.filter(|_| !placed.has_outcome) {
            Some(patience) => self.wait(&order::entity_id(order), placed, patience).await,
            None => placed,
        };
        self.guests.counted.settle(order, &placed.order);
        placed
    }

    async fn wait(
        &self,
        entity: &EntityId,
        placed: PlacedOrder,
        patience: Duration,
    ) -> PlacedOrder {
        match self.orders.wait(entity, patience, Until::Settled, read_placed).await {
            Ok(settled) => PlacedOrder { replayed: placed.replayed, ..settled },
            // The order is placed, and its saga continues; only the outcome is not known yet.
            Err(error) => {
                tracing::debug!(%error, entity = entity.as_str(), "cannot wait for the outcome \
                                                                    of a checkout");
                placed
            }
        }
    }

    /// Places the order of a cart that was just spent. It retries if the order's node is
    /// overloaded, because the cart is spent and the buyer needs its order.
    async fn place(
        &self,
        entity: &EntityId,
        command: &Command,
        cause: &Cause,
    ) -> Result<PlacedOrder, host::Error<order::Rejection>> {
        let mut backoff = Backoff::new(SHORTEST, &self.clock);
        for _ in 1..PLACES_MAX {
            let placed = self.orders.create(entity, command.clone(), cause.clone(), read_placed);
            match placed.await {
                Err(host::Error::Busy | host::Error::Moved | host::Error::TryAgain) => {
                    backoff.pause().await
                }
                settled => return settled,
            }
        }
        self.orders.ask(entity, command.clone(), cause.clone(), read_placed).await
    }

    /// A further checkout of a spent cart: retries the payment of its order, or places the order,
    /// if an earlier checkout spent the cart and then failed.
    async fn go_on(
        &self,
        order: OrderId,
        cart: &cart::Cart,
        request: &Request,
    ) -> Result<Result<PlacedOrder, host::Error<order::Rejection>>, CheckoutRefusal> {
        let Request { method, expected_total: expected, cause, guest, .. } = request;
        let entity = order::entity_id(order);
        let total = |view: host::View<'_, Order>| {
            let placed = view.state.placed()?;
            Some(Money::new(view.state.total(), placed.currency))
        };
        match self.orders.read(&entity, total).await.map_err(CheckoutRefusal::Host)? {
            Some(total) if expected.is_some_and(|expected| expected != total) => {
                Err(CheckoutRefusal::Changed { total })
            }
            Some(_) => self.pay(order, method.clone(), guest.as_ref(), cause.clone()).await,
            None => {
                let placed = match self.freeze(order, cart, *expected).await {
                    // The order can no longer be placed: the buyer has to make a new cart.
                    Err(CheckoutRefusal::Incomplete(_)) => {
                        return Err(CheckoutRefusal::CartExpired);
                    }
                    frozen => frozen?,
                };
                let held = self.admit_guest(guest.as_ref(), &placed).await?;
                let command = Command::Place { placed: placed.into(), method: method.clone() };
                let placed = self.orders.ask(&entity, command, cause.clone(), read_placed).await;
                Ok(self.counted(order, held, placed))
            }
        }
    }

    /// Admits the checkout of a guest, and counts its units.
    async fn admit_guest(
        &self,
        guest: Option<&Guest>,
        placed: &order::Placed,
    ) -> Result<Option<HeldUnits>, GuestRefusal> {
        match guest {
            Some(guest) => Ok(Some(self.guests.admit(guest, placed).await?)),
            None => Ok(None),
        }
    }

    /// Spends a cart at the version that was priced, so that the order equals the buyer's last view
    /// of the cart. Before the cart is spent, there can be no order.
    async fn seal(&self, request: &Request) -> Result<Spent, CheckoutRefusal> {
        let (entity, order) = (cart::entity_id(request.cart), OrderId(request.cart.0));
        for _ in 0..SEALS_MAX {
            let read = |view: host::View<'_, cart::Cart>| (view.state.clone(), view.seq);
            let (cart, seq) = self.carts.read(&entity, read).await.map_err(of_cart)?;
            match cart.open(self.clock.now()) {
                Ok(()) => {}
                Err(cart::Rejection::Expired) => return Err(CheckoutRefusal::CartExpired),
                Err(cart::Rejection::Spent { .. }) => return Ok(Spent::SealedBefore(cart)),
                Err(_) => return Err(CheckoutRefusal::CartNotFound),
            }
            let placed = self.freeze(order, &cart, request.expected_total).await?;
            if placed.totals.total > 0 && request.method.is_none() {
                return Err(CheckoutRefusal::PaymentRequired);
            }
            self.look_for_stock(&placed).await?;
            if seeded_fault::active(SeededFault::CartNotSealed) {
                return Ok(Spent::Sealed(placed, None));
            }
            let held = self.admit_guest(request.guest.as_ref(), &placed).await?;
            let seq = (!seeded_fault::active(SeededFault::CartSealedBlindly)).then_some(seq);
            let cause = Cause { idempotency: None, ..request.cause.clone() };
            let spend = cart::Command::Spend { order };
            let spent = self.carts.ask_at_version(&entity, seq, spend, cause, |_| ()).await;
            if let Ok(Ok(())) = spent {
                return Ok(Spent::Sealed(placed, held));
            }
            held.into_iter().for_each(HeldUnits::give_back);
            // The cart has another version: it was changed meanwhile, or another checkout was
            // first.
            spent.map_err(of_cart)?.ok();
        }
        Err(CheckoutRefusal::Host(host::Error::TryAgain))
    }

    /// Prices a cart with the prices that the store has, and returns the content of its order, which
    /// never changes afterwards.
    async fn freeze(
        &self,
        order: OrderId,
        cart: &cart::Cart,
        expected: Option<Money>,
    ) -> Result<order::Placed, CheckoutRefusal> {
        let priced = self.pricing.price_order(cart, self.clock.now()).await?;
        if !priced.requirements.is_empty() {
            return Err(CheckoutRefusal::Incomplete(priced.requirements));
        }
        let (Some(currency), Some(email), Some(shipping), Some(delivery)) =
            (cart.currency(), cart.email(), cart.shipping_address(), priced.delivery)
        else {
            return Err(CheckoutRefusal::CartNotFound);
        };
        let total = Money::new(priced.totals.total, currency);
        if expected.is_some_and(|expected| expected != total) {
            return Err(CheckoutRefusal::Changed { total });
        }
        Ok(order::Placed {
            order,
            currency,
            email: email.clone(),
            reference: cart.reference().cloned(),
            lines: priced.lines.into_iter().map(|line| line.line).collect(),
            shipping_address: shipping.clone(),
            billing_address: cart.billing_address().cloned(),
            delivery,
            totals: priced.totals,
            rounding: self.pricing.rules.rounding,
            capture: self.settings.capture,
            deadline_at: self.clock.now() + Span::from_secs(self.settings.payment_deadline_secs),
            hold: Span::from_secs(self.settings.hold_secs),
        })
    }

    /// Units of a SKU that can be sold now.
    async fn available(&self, entity: &EntityId) -> Result<i64, host::Error<stock::Rejection>> {
        let (closed, clock) = (self.locations.closed(), self.clock.clone());
        if closed.is_empty() {
            return self.stock.summary_number(entity).await;
        }
        let read = move |view: View<'_, Stock>| view.state.sellable_outside(&closed, clock.now());
        self.stock.read(entity, read).await
    }

    /// Checks the stock before the cart is spent: a buyer whose order could not be fulfilled can
    /// then still change the cart.
    async fn look_for_stock(&self, placed: &order::Placed) -> Result<(), CheckoutRefusal> {
        let mut units: BTreeMap<Sku, i64> = BTreeMap::new();
        for line in &placed.lines {
            *units.entry(line.sku.clone()).or_insert(0) += line.quantity;
        }
        let looks = units.into_iter().map(|(sku, requested)| async move {
            let entity = stock::entity_id(&sku);
            let available = self.available(&entity).await;
            available.map(|available| Shortage { sku, requested, available, held: 0 })
        });
        let all: Vec<_> = stream::iter(looks).buffer_unordered(SKUS_AT_ONCE).collect().await;
        // A SKU whose stock cannot be read now counts as available; the reservation decides.
        let mut short: Vec<Shortage> =
            all.into_iter().flatten().filter(|one| one.available < one.requested).collect();
        if short.is_empty() {
            return Ok(());
        }
        short.sort_by(|a, b| a.sku.cmp(&b.sku));
        let items = short.iter().map(|one| stock::entity_id(&one.sku)).collect::<Vec<_>>();
        let held = items.into_iter().map(|item| self.held(item));
        let held: Vec<_> = stream::iter(held).buffered(SKUS_AT_ONCE).collect().await;
        for (one, held) in short.iter_mut().zip(held) {
            one.held = held.unwrap_or_default();
        }
        Err(CheckoutRefusal::OutOfStock(short))
    }

    /// Units of a SKU that are held for orders that are being paid.
    async fn held(&self, entity: EntityId) -> Result<i64, host::Error<stock::Rejection>> {
        let (closed, clock) = (self.locations.closed(), self.clock.clone());
        let read = move |view: View<'_, Stock>| view.state.held_outside(&closed, clock.now());
        self.stock.read(&entity, read).await
    }
}
