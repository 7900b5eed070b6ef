//! The checkout: a cart becomes an order, its stock is held, and later allocated and numbered.
//!
//! What the order decides is the domain's; here is only who is asked, and in what order. The
//! money is in `payments`.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use crate::actors::engine::backoff::{Backoff, SHORTEST};
use crate::actors::engine::host::{self, Teller, Until};
use crate::actors::node::Node;
use crate::actors::pricing::Requirement;
use crate::domain::cart;
use crate::domain::counter;
use crate::domain::entity::{Cause, EntityId};
use crate::domain::id::{CartId, OrderId, Sku};
use crate::domain::money::Money;
use crate::domain::order::{self, Command, Order, PaymentMethod, Shortage};
use crate::domain::stock;
use crate::domain::time::Span;
use crate::seeded_fault::{self, SeededFault};
use crate::store;

/// How many SKUs are asked at once for one order.
const SKUS_AT_ONCE: usize = 64;
/// How often a cart is priced again because it was changed meanwhile.
const SEALS_MAX: usize = 3;
/// How often an order is placed again because there was too much under way.
const PLACES_MAX: usize = 4;

/// What a buyer asks for.
#[derive(Debug)]
pub struct Request {
    /// The cart.
    pub cart: CartId,
    /// How it is paid.
    pub method: PaymentMethod,
    /// What the buyer was shown.
    pub expected_total: Option<Money>,
    /// Who asks; it carries the idempotency key.
    pub cause: Cause,
    /// How long to wait for the outcome.
    pub patience: Option<Duration>,
}

/// An order after a checkout.
#[derive(Debug)]
pub struct Placed {
    /// The order.
    pub order: Order,
    /// Its version.
    pub seq: i64,
    /// Whether it is known how it went.
    pub settled: bool,
    /// Whether this was done before, under the same key.
    pub replayed: bool,
}

/// A cart that can no longer be changed.
enum Cart {
    /// It was spent just now, and this is what it comes to.
    Sealed(order::Placed),
    /// It was spent by an earlier checkout, whose order may not have come to be.
    SealedBefore(cart::Cart),
}

/// Why nothing was placed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each means")]
pub enum Refusal {
    #[error("there is no such cart")]
    CartNotFound,
    #[error("the cart has expired")]
    CartExpired,
    #[error("the cart has become an order")]
    CartSpent { order: OrderId },
    #[error("the cart is not complete")]
    Incomplete(Vec<Requirement>),
    #[error("the cart comes to {total}")]
    Changed { total: Money },
    #[error("there is too little stock")]
    OutOfStock(Vec<Shortage>),
    #[error("there is no payment provider of this name")]
    UnknownProvider,
    #[error("{provider} takes no new payments now")]
    ProviderOff { provider: String },
    #[error("no orders are taken now")]
    Closed,
    #[error("the order is being paid for")]
    InProgress { order: OrderId },
    #[error(transparent)]
    Host(host::Error<order::Rejection>),
    #[error(transparent)]
    Store(#[from] store::Error),
}

fn read_placed(view: host::View<'_, Order>) -> Placed {
    Placed {
        order: view.state.clone(),
        seq: view.seq,
        settled: view.state.settled(),
        replayed: view.replayed,
    }
}

fn of_cart(error: host::Error<cart::Rejection>) -> Refusal {
    Refusal::Host(match error {
        host::Error::Rejected(_) | host::Error::TryAgain => host::Error::TryAgain,
        host::Error::Moved => host::Error::Moved,
        host::Error::Busy => host::Error::Busy,
        host::Error::TimedOut => host::Error::TimedOut,
        host::Error::Storage(why) => host::Error::Storage(why),
        host::Error::Quarantined(why) => host::Error::Quarantined(why),
        host::Error::KeyReused => host::Error::KeyReused,
    })
}

impl Node {
    /// Makes an order of a cart, or tries once more to pay the order that it has become.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was placed, or nothing is known to have been.
    pub async fn checkout(&self, request: Request) -> Result<Placed, Refusal> {
        if !self.payments.knows(&request.method.provider) {
            return Err(Refusal::UnknownProvider);
        }
        let settings = self.runtime.current();
        if !settings.checkout {
            return Err(Refusal::Closed);
        }
        if settings.providers_off.contains(&request.method.provider) {
            return Err(Refusal::ProviderOff { provider: request.method.provider });
        }
        let order = OrderId(request.cart.0);
        let entity = order::entity_id(order);
        let placed = match self.seal(&request).await? {
            Cart::Sealed(placed) => {
                let command = Command::Place { placed: placed.into(), method: request.method };
                self.place(&entity, &command, &request.cause).await
            }
            Cart::SealedBefore(cart) => {
                let command =
                    self.go_on(order, &cart, request.method, request.expected_total).await?;
                self.orders.ask(&entity, command, request.cause, read_placed).await
            }
        };
        let placed = placed.map_err(|error| match error {
            host::Error::Rejected(order::Rejection::InProgress) => Refusal::InProgress { order },
            host::Error::Rejected(order::Rejection::NotPayable { .. }) => {
                Refusal::CartSpent { order }
            }
            other => Refusal::Host(other),
        })?;
        let Some(patience) = request.patience.filter(|_| !placed.settled) else {
            return Ok(placed);
        };
        match self.orders.wait(&entity, patience, Until::Settled, read_placed).await {
            Ok(settled) => Ok(Placed { replayed: placed.replayed, ..settled }),
            // It is placed, and goes on: only how it went cannot be told here and now.
            Err(error) => {
                tracing::debug!(%error, entity = entity.for_log(), "nobody tells how it went");
                Ok(placed)
            }
        }
    }

    /// Places an order whose cart was spent just now. What is too much for a moment is tried again:
    /// the buyer can no longer change the cart.
    async fn place(
        &self,
        entity: &EntityId,
        command: &Command,
        cause: &Cause,
    ) -> Result<Placed, host::Error<order::Rejection>> {
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

    /// What another checkout of a spent cart asks of its order: to be paid, or to be placed, if it
    /// was not because nothing went on after its cart was spent.
    async fn go_on(
        &self,
        order: OrderId,
        cart: &cart::Cart,
        method: PaymentMethod,
        expected: Option<Money>,
    ) -> Result<Command, Refusal> {
        let total = |view: host::View<'_, Order>| {
            let placed = view.state.placed()?;
            Some(Money::new(view.state.total(), placed.currency))
        };
        match self.orders.look(&order::entity_id(order), total).await.map_err(Refusal::Host)? {
            Some(total) if expected.is_some_and(|expected| expected != total) => {
                Err(Refusal::Changed { total })
            }
            Some(_) => Ok(Command::Pay { method }),
            None => match self.freeze(order, cart, expected).await {
                Ok(placed) => Ok(Command::Place { placed: placed.into(), method }),
                // It cannot be completed any more: its buyer has to make a new one.
                Err(Refusal::Incomplete(_)) => Err(Refusal::CartExpired),
                Err(other) => Err(other),
            },
        }
    }

    /// Spends a cart at the version that was priced, so that what its buyer was told last is what
    /// is ordered. Before that no order can be there.
    async fn seal(&self, request: &Request) -> Result<Cart, Refusal> {
        let (entity, order) = (cart::entity_id(request.cart), OrderId(request.cart.0));
        for _ in 0..SEALS_MAX {
            let read = |view: host::View<'_, cart::Cart>| (view.state.clone(), view.seq);
            let (cart, seq) = self.carts.look(&entity, read).await.map_err(of_cart)?;
            match cart.open(self.clock.now()) {
                Ok(()) => {}
                Err(cart::Rejection::Expired) => return Err(Refusal::CartExpired),
                Err(cart::Rejection::Spent { .. }) => return Ok(Cart::SealedBefore(cart)),
                Err(_) => return Err(Refusal::CartNotFound),
            }
            let placed = self.freeze(order, &cart, request.expected_total).await?;
            self.look_for_stock(&placed).await?;
            if seeded_fault::active(SeededFault::CartNotSealed) {
                return Ok(Cart::Sealed(placed));
            }
            let seq = (!seeded_fault::active(SeededFault::CartSealedBlindly)).then_some(seq);
            let cause = Cause { idempotency: None, ..request.cause.clone() };
            let spend = cart::Command::Spend { order };
            let spent = self.carts.ask_if(&entity, seq, spend, cause, |_| ()).await;
            // Another version: it was changed meanwhile, or another checkout was first.
            if spent.map_err(of_cart)?.is_ok() {
                return Ok(Cart::Sealed(placed));
            }
        }
        Err(Refusal::Host(host::Error::TryAgain))
    }

    /// Prices a cart for good.
    async fn freeze(
        &self,
        order: OrderId,
        cart: &cart::Cart,
        expected: Option<Money>,
    ) -> Result<order::Placed, Refusal> {
        let priced = self.price(cart).await?;
        if !priced.requirements.is_empty() {
            return Err(Refusal::Incomplete(priced.requirements));
        }
        let (Some(currency), Some(email), Some(shipping), Some(delivery)) =
            (cart.currency(), cart.email(), cart.shipping_address(), priced.delivery)
        else {
            return Err(Refusal::CartNotFound);
        };
        let total = Money::new(priced.totals.total, currency);
        if expected.is_some_and(|expected| expected != total) {
            return Err(Refusal::Changed { total });
        }
        Ok(order::Placed {
            order,
            currency,
            email: email.to_owned(),
            reference: cart.reference().map(str::to_owned),
            lines: priced.lines.into_iter().map(|line| line.line).collect(),
            shipping_address: shipping.clone(),
            billing_address: cart.billing_address().cloned(),
            delivery,
            totals: priced.totals,
            rounding: self.rules.rounding,
            capture: self.settings.capture,
            deadline_at: self.clock.now() + Span::from_secs(self.settings.payment_deadline_secs),
            hold: Span::from_secs(self.settings.hold_secs),
        })
    }

    /// Looks whether there is stock, so that the buyer of a cart that cannot be filled keeps it.
    async fn look_for_stock(&self, placed: &order::Placed) -> Result<(), Refusal> {
        let mut units: BTreeMap<Sku, i64> = BTreeMap::new();
        for line in &placed.lines {
            *units.entry(line.sku.clone()).or_insert(0) += line.quantity;
        }
        let looks = units.into_iter().map(|(sku, requested)| async move {
            let entity = stock::entity_id(&sku);
            let available = self.stock.figure(&entity).await;
            available.map(|available| Shortage { sku, requested, available })
        });
        let all: Vec<_> = stream::iter(looks).buffer_unordered(SKUS_AT_ONCE).collect().await;
        // What cannot be looked at now is decided when it is reserved.
        let mut short: Vec<Shortage> =
            all.into_iter().flatten().filter(|one| one.available < one.requested).collect();
        if short.is_empty() {
            return Ok(());
        }
        short.sort_by(|a, b| a.sku.cmp(&b.sku));
        Err(Refusal::OutOfStock(short))
    }

    /// Holds stock for an order, all of it or none.
    pub(in crate::actors) async fn reserve(
        &self,
        order: OrderId,
        generation: u32,
        (units, hold): (BTreeMap<Sku, i64>, Span),
        teller: &Teller<Order>,
    ) {
        let mut backoff = Backoff::new(SHORTEST, &self.clock);
        loop {
            let hold_until = self.clock.now() + hold;
            let asked = units.clone().into_iter().map(|(sku, quantity)| {
                let reserve = stock::Reserve {
                    order,
                    generation,
                    quantity,
                    hold_until,
                    priority: self.settings.locations.clone(),
                };
                self.reserve_one(sku, reserve)
            });
            let answers = stream::iter(asked).buffer_unordered(SKUS_AT_ONCE).collect::<Vec<_>>();
            let mut shortages = Vec::new();
            let mut again = false;
            for answer in answers.await {
                match answer {
                    Ok(()) => {}
                    Err(Short::Of(shortage)) => shortages.push(shortage),
                    Err(Short::Released) => return,
                    Err(Short::TryAgain) => again = true,
                }
            }
            if !shortages.is_empty() {
                shortages.sort_by(|a, b| a.sku.cmp(&b.sku));
                return teller.tell(Command::OutOfStock { generation, shortages });
            }
            if !again {
                return teller.tell(Command::Reserved { generation });
            }
            backoff.pause().await;
        }
    }

    async fn reserve_one(&self, sku: Sku, reserve: stock::Reserve) -> Result<(), Short> {
        let entity = stock::entity_id(&sku);
        let command = stock::Command::Reserve(reserve);
        match self.stock.carry_out(&entity, command, saga()).await {
            Ok(()) => Ok(()),
            Err(host::Error::Rejected(stock::Rejection::OutOfStock { requested, available })) => {
                Err(Short::Of(Shortage { sku, requested, available }))
            }
            Err(host::Error::Rejected(stock::Rejection::Released)) => Err(Short::Released),
            Err(host::Error::Rejected(stock::Rejection::TooMany)) => {
                Err(Short::Of(Shortage { sku, requested: 0, available: 0 }))
            }
            Err(_) => Err(Short::TryAgain),
        }
    }

    /// Turns an order's holds into allocations and draws its number.
    pub(in crate::actors) async fn commit(
        &self,
        order: OrderId,
        generation: u32,
        units: BTreeMap<Sku, i64>,
        teller: &Teller<Order>,
    ) {
        let mut backoff = Backoff::new(SHORTEST, &self.clock);
        loop {
            let answers = self.ask_each(&units, &stock::Command::Commit { order }).await;
            if let Some(why) = quarantined(&answers) {
                return teller.tell(Command::GiveUp { step: format!("commit:{generation}"), why });
            }
            if answers.iter().any(|answer| matches!(answer, Err(host::Error::Rejected(_)))) {
                return teller.tell(Command::HoldLapsed { generation });
            }
            if answers.iter().all(Result::is_ok)
                && let Some(number) = self.draw_number(order).await
            {
                return teller.tell(Command::Confirm { number });
            }
            backoff.pause().await;
        }
    }

    /// Asks the stock of every SKU of an order the same thing.
    async fn ask_each(
        &self,
        units: &BTreeMap<Sku, i64>,
        command: &stock::Command,
    ) -> Vec<Result<(), host::Error<stock::Rejection>>> {
        let asked = units.clone().into_keys().map(|sku| {
            let command = command.clone();
            async move {
                let entity = stock::entity_id(&sku);
                self.stock.carry_out(&entity, command, saga()).await
            }
        });
        stream::iter(asked).buffer_unordered(SKUS_AT_ONCE).collect().await
    }

    async fn draw_number(&self, order: OrderId) -> Option<i64> {
        let arrived = self.numbers.take();
        let draw = counter::Draw { order, arrived: arrived.clone() };
        let read =
            move |view: host::View<'_, counter::Counter>| view.state.open().get(&order).copied();
        let drawn = self.counters.ask(&counter::order_numbers(), draw, saga(), read).await;
        if drawn.is_err() {
            self.numbers.give_back(arrived);
        }
        drawn.ok().flatten()
    }

    /// Gives back all stock of an order.
    pub(in crate::actors) async fn release(
        &self,
        order: OrderId,
        mut units: BTreeMap<Sku, i64>,
        teller: &Teller<Order>,
    ) {
        if seeded_fault::active(SeededFault::ReleaseForgetsSku) {
            units.pop_last();
        }
        let mut backoff = Backoff::new(SHORTEST, &self.clock);
        loop {
            let answers = self.ask_each(&units, &stock::Command::Release { order }).await;
            if let Some(why) = quarantined(&answers) {
                return teller.tell(Command::GiveUp { step: "release".into(), why });
            }
            if answers.iter().all(Result::is_ok) {
                return teller.tell(Command::Released);
            }
            backoff.pause().await;
        }
    }
}

/// Why an operator has to look before the stock can answer.
fn quarantined(answers: &[Result<(), host::Error<stock::Rejection>>]) -> Option<String> {
    answers.iter().find_map(|answer| match answer {
        Err(error @ host::Error::Quarantined(_)) => Some(error.to_string()),
        _ => None,
    })
}

/// Why a SKU was not reserved.
enum Short {
    Of(Shortage),
    Released,
    TryAgain,
}

pub(in crate::actors) fn saga() -> Cause {
    Cause { by: "saga".into(), ..Cause::default() }
}
