//! The clients: buyers who retry until they get an answer, and the courier that delivers webhooks,
//! each through any node. The answers that clients got outlive the nodes, and all nodes are checked
//! against them. Operators (`operators`) use the same network.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bank::{Bank, NAME, WebhookDelivery, webhook_request};
use super::check;
use super::fleet::Fleet;
use super::goods::sku;
use super::plan::{Net, PlannedBuyer};
use super::world::World;
use crate::actors::buyer_data::NewBuyerData;
use crate::actors::engine::host::{self, View};
use crate::actors::flows::checkout::{CheckoutRefusal, PlacedOrder, Request};
use crate::actors::flows::start_over::StartOverRefusal;
use crate::actors::flows::webhook::WebhookRefusal;
use crate::actors::node::Node;
use crate::domain::address::Address;
use crate::domain::cart::{self, Cart, NewLine};
use crate::domain::entity::{Cause, EntityId, Idempotency};
use crate::domain::id::{CartId, OrderId};
use crate::domain::money::Currency;
use crate::domain::order::{self, Order, PaymentMethod, Phase};
use crate::domain::sealed::Sealed;
use crate::store::Tables as _;
use crate::store::journal::Journal as _;
use crate::store::journal::memory::MemoryJournal as Journal;
use crate::store::memory::MemoryStore;
use crate::store::personal::LookupKeys;

/// The pause of a client before it retries a request without an answer.
const PAUSE: Duration = Duration::from_millis(1_500);
/// Attempts of a request before its sender gives up.
const TRIES_MAX: u32 = 60;

/// The network, and all answers that were received over it.
#[derive(Clone)]
pub struct Clients {
    /// The world.
    pub world: World,
    /// The failure rates of the network.
    pub net: Net,
    /// The journal on disk.
    pub journal: Journal,
    /// The other tables.
    pub tables: MemoryStore,
    known: Arc<Mutex<Vec<BuyerKnowledge>>>,
    /// The highest version of each entity that any client was told.
    seen: Arc<Mutex<BTreeMap<EntityId, i64>>>,
}

/// What a buyer knows.
#[derive(Clone, Debug, Default)]
pub struct BuyerKnowledge {
    /// The id of its cart, chosen before the cart is created.
    pub cart: Option<CartId>,
    made: bool,
    edited: bool,
    attempt: usize,
    /// The cart in the place of an order that it gave up.
    pub next: Option<CartId>,
    /// The last answer about its order.
    pub told: Option<AcknowledgedOrder>,
    /// The buyer sends no more requests.
    pub done: bool,
}

/// An acknowledged order.
#[derive(Clone, Debug)]
pub struct AcknowledgedOrder {
    /// The order's version then.
    pub seq: i64,
    /// Its total.
    pub total: i64,
    /// Its order number, if it was confirmed.
    pub number: Option<i64>,
    /// How many units it has.
    pub units: i64,
}

impl Clients {
    /// The clients of a run that has not started, with this many buyers.
    pub fn new(world: World, net: Net, stored: (Journal, MemoryStore), buyers: usize) -> Self {
        let known = Arc::new(Mutex::new(vec![BuyerKnowledge::default(); buyers]));
        let (journal, tables) = stored;
        Self { world, net, journal, tables, known, seen: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BuyerKnowledge>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all buyers know.
    pub fn known(&self) -> Vec<BuyerKnowledge> {
        self.lock().clone()
    }

    fn note(&self, me: usize, change: impl FnOnce(&mut BuyerKnowledge)) {
        if let Some(known) = self.lock().get_mut(me) {
            change(known);
        }
    }

    /// The highest version of an entity that any client was told so far.
    pub fn seen(&self, entity: &EntityId) -> i64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(entity).copied().unwrap_or(0)
    }

    /// Records a version that was answered, and checks that it is not older than versions answered
    /// before the request.
    pub fn note_version(&self, entity: &EntityId, before: i64, seq: i64) {
        if seq < before {
            let what = format!("{entity}: version {before} was answered before, now {seq}");
            self.world.violate("no node shows an older state than was answered", what);
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = seen.entry(entity.clone()).or_insert(0);
        *highest = seq.max(*highest);
    }

    /// Sends a request over the network, which may lose or duplicate it; `None` if there is no
    /// answer.
    pub async fn request<T, F>(&self, patience: Duration, send: impl Fn() -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let world = &self.world;
        tokio::time::sleep(Duration::from_millis(world.chance(20))).await;
        world.alive().await;
        let lost = world.happens(self.net.lost);
        if world.happens(self.net.doubled) {
            let (world, twin) = (world.clone(), send());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(world.chance(60))).await;
                drop(twin.await);
            });
        }
        if lost {
            tokio::time::sleep(patience).await;
            return None;
        }
        let answer = tokio::time::timeout(patience, send()).await.ok();
        world.alive().await;
        answer.filter(|_| !world.happens(self.net.unanswered))
    }

    /// Sends a request until there is a definite answer; `None` if there is none after 60 attempts.
    pub async fn insist<T, F>(&self, patience: Duration, send: impl Fn() -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = Option<T>> + Send + 'static,
    {
        for _ in 0..TRIES_MAX {
            if let Some(Some(answer)) = self.request(patience, &send).await {
                return Some(answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// A buyer shops, continuing where it was when the node died.
    pub async fn buy(self, fleet: Fleet, me: usize, buyer: PlannedBuyer) {
        let wait = buyer.at - self.world.elapsed();
        tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
        let known = self.lock().get(me).cloned().unwrap_or_default();
        if known.done {
            return;
        }
        let cart = known.cart.unwrap_or_else(|| CartId(self.world.clock().new_key()));
        self.note(me, |known| known.cart = Some(cart));
        if !known.made && !self.make_cart(&fleet, me, cart, &buyer).await {
            return self.note(me, |known| known.done = true);
        }
        if !known.edited {
            for edit in 0..buyer.edits {
                self.edit(&fleet, cart, &buyer, edit).await;
            }
            self.note(me, |known| known.edited = true);
        }
        let mut unpaid = true;
        for attempt in known.attempt..buyer.tokens.len() {
            self.note(me, |known| known.attempt = attempt);
            unpaid = self.pay(&fleet, me, cart, &buyer).await;
            if !unpaid {
                break;
            }
        }
        if unpaid {
            self.give_up(&fleet, me, OrderId(cart.0)).await;
        }
        self.note(me, |known| known.done = true);
    }

    async fn make_cart(
        &self,
        fleet: &Fleet,
        me: usize,
        cart: CartId,
        buyer: &PlannedBuyer,
    ) -> bool {
        let who = format!("buyer {me}");
        let command = self.create(cart, (me, buyer)).await;
        let send = || {
            let (fleet, command) = (fleet.clone(), command.clone());
            let cause = cause("buyer", &format!("{me}-cart"));
            async move {
                let ask = async |node: Arc<Node>| {
                    node.carts.ask(&cart::entity_id(cart), command, cause, |view| view.seq).await
                };
                // A rejection means that the cart exists already. It may even be spent: a repeated
                // checkout returns its order.
                let made = fleet.through(ask).await?;
                matches!(made, Ok(_) | Err(host::Error::Rejected(_))).then_some(())
            }
        };
        let patience = Duration::from_millis(u64::try_from(buyer.patience).unwrap_or(0));
        let made = self.insist(patience, send).await.is_some();
        self.world.tell(&who, |line| write!(line, "has {cart}: {made}"));
        self.note(me, |known| known.made = made);
        made
    }

    async fn edit(&self, fleet: &Fleet, cart: CartId, buyer: &PlannedBuyer, edit: u32) {
        let line = buyer.lines.first().map_or(0, |(sku, _)| *sku);
        let send = || {
            let fleet = fleet.clone();
            async move {
                let lines = vec![NewLine {
                    sku: sku(line),
                    quantity: 1,
                    agreed_price: None,
                    agreed_until: None,
                }];
                let command = cart::Command::AddLines { lines, lines_max: cart::LINES_MAX };
                let cause = cause("buyer", &format!("{cart}-edit-{edit}"));
                let read = |view: View<'_, Cart>| view.seq;
                let ask = async |node: Arc<Node>| {
                    node.carts.ask(&cart::entity_id(cart), command, cause, read).await.is_ok()
                };
                fleet.through(ask).await
            }
        };
        if edit == 0 {
            let _answered = self.request(Duration::from_secs(5), send).await;
        } else {
            // The buyer changes the cart from another device, concurrently with the checkout.
            tokio::spawn(send());
        }
    }

    /// One payment attempt; returns whether another one may follow.
    async fn pay(&self, fleet: &Fleet, me: usize, cart: CartId, buyer: &PlannedBuyer) -> bool {
        let attempt = self.lock().get(me).map_or(0, |known| known.attempt);
        let token = buyer.tokens[attempt];
        let wait = if buyer.patience > 1_000 { Duration::from_secs(10) } else { Duration::ZERO };
        let sealed = self.card(token).await;
        let send = || {
            let (fleet, token) = (fleet.clone(), sealed.clone());
            async move {
                let card = PaymentMethod { provider: NAME.to_owned(), token };
                let request = |method| Request {
                    cart,
                    method,
                    expected_total: None,
                    cause: cause("buyer", &format!("{cart}-pay-{attempt}")),
                    patience: (!wait.is_zero()).then_some(wait),
                    guest: None,
                };
                let ask = async |node: Arc<Node>| {
                    // Every second buyer pays again by the order.
                    if attempt > 0 && me % 2 == 1 {
                        let Request { cause, patience, .. } = request(None);
                        let again = (cause, patience);
                        let order = OrderId(cart.0);
                        return node.flows.checkout.pay_again(order, card, None, again).await;
                    }
                    // Every fourth buyer first tries a checkout without a payment.
                    let free = me % 4 == 3;
                    let first = request((!free).then(|| card.clone()));
                    match node.flows.checkout.run(first).await {
                        Err(CheckoutRefusal::PaymentRequired) => {
                            node.flows.checkout.run(request(Some(card))).await
                        }
                        answer => answer,
                    }
                };
                heard(fleet.through(ask).await?)
            }
        };
        let patience = Duration::from_millis(u64::try_from(buyer.patience).unwrap_or(0)) + wait;
        let answer = self.insist(patience, send).await;
        let who = format!("buyer {me}");
        match answer {
            Some(Heard::Placed(placed)) => self.acknowledged(me, &placed).await,
            Some(Heard::Busy) => {
                self.world.tell(&who, |line| {
                    write!(
                        line,
                        "gets the answer that a payment is in \
                                                           progress"
                    )
                });
            }
            Some(Heard::No(why)) => {
                self.world.tell(&who, |line| write!(line, "is refused: {why}"));
                return false;
            }
            None => {
                self.world.tell(&who, |line| write!(line, "gives up"));
                return false;
            }
        }
        let patience = if buyer.hasty && attempt == 0 { 2 } else { TRIES_MAX };
        let known = self.await_outcome(fleet, me, OrderId(cart.0), patience).await;
        known.is_none() || known == Some(Phase::AwaitingPayment)
    }

    /// After its last card, some buyers cancel the order, and some go on with a new cart.
    async fn give_up(&self, fleet: &Fleet, me: usize, order: OrderId) {
        let (wait, patience) = (Duration::from_secs(5), Duration::from_secs(10));
        match me % 3 {
            1 => {
                let send = || {
                    let fleet = fleet.clone();
                    async move {
                        let cause = cause("buyer", &format!("{order}-cancel"));
                        let ask = async |node: Arc<Node>| {
                            node.flows.start_over.cancel(order, None, (cause, wait)).await
                        };
                        definite(fleet.through(ask).await?)
                    }
                };
                let answer = self.insist(patience, send).await;
                if let Some(Ok(Ok((cancelled, _)))) = answer
                    && !cancelled.given_up()
                {
                    let what = format!("{order} is {:?}", cancelled.phase());
                    self.world.violate("what a buyer cancels is cancelled", what);
                }
            }
            2 => {
                let next = self.lock().get(me).and_then(|known| known.next);
                let next = next.unwrap_or_else(|| CartId(self.world.clock().new_key()));
                self.note(me, |known| known.next = Some(next));
                self.start_over(fleet, order, next).await;
            }
            _ => {}
        }
    }

    /// A buyer goes on with a new cart, and pays for it.
    async fn start_over(&self, fleet: &Fleet, order: OrderId, next: CartId) {
        let (wait, patience) = (Duration::from_secs(5), Duration::from_secs(10));
        let send = || {
            let fleet = fleet.clone();
            async move {
                let how = (cause("buyer", &format!("{order}-cart")), wait);
                let ask =
                    async |node: Arc<Node>| node.flows.start_over.new_cart(order, next, how).await;
                match fleet.through(ask).await? {
                    Ok(_) => Some(true),
                    Err(StartOverRefusal::Order(error)) => {
                        definite::<(), _>(Err(error)).map(|_| false)
                    }
                    Err(StartOverRefusal::Cart(error)) => {
                        definite::<(), _>(Err(error)).map(|_| false)
                    }
                    Err(StartOverRefusal::Store(_)) => None,
                }
            }
        };
        if self.insist(patience, send).await != Some(true) {
            return;
        }
        let sealed = self.card("tok_ok").await;
        let send = || {
            let (fleet, token) = (fleet.clone(), sealed.clone());
            async move {
                let card = PaymentMethod { provider: NAME.to_owned(), token };
                let request = Request {
                    cart: next,
                    method: Some(card),
                    expected_total: None,
                    cause: cause("buyer", &format!("{next}-pay")),
                    patience: Some(wait),
                    guest: None,
                };
                let ask = async |node: Arc<Node>| node.flows.checkout.run(request).await;
                heard(fleet.through(ask).await?)
            }
        };
        let _answered = self.insist(patience, send).await;
    }

    /// Reads the order from time to time until its outcome is known.
    async fn await_outcome(
        &self,
        fleet: &Fleet,
        me: usize,
        order: OrderId,
        tries: u32,
    ) -> Option<Phase> {
        let id = order::entity_id(order);
        for _ in 0..tries {
            let send = || {
                let (fleet, id) = (fleet.clone(), id.clone());
                async move {
                    let read = |view: View<'_, Order>| (view.state.clone(), view.seq);
                    let look = async |node: Arc<Node>| node.orders.read(&id, read).await.ok();
                    fleet.through(look).await.flatten()
                }
            };
            let before = self.seen(&id);
            if let Some(Some((order, seq))) = self.request(Duration::from_secs(5), send).await {
                self.note_version(&id, before, seq);
                let has_outcome = order.has_outcome();
                let placed = PlacedOrder { order, seq, has_outcome, replayed: false };
                self.acknowledged(me, &placed).await;
                if has_outcome {
                    return Some(placed.order.phase());
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// Records an acknowledgment, and checks it against the journal at once.
    async fn acknowledged(&self, me: usize, placed: &PlacedOrder) {
        let PlacedOrder { order, seq, .. } = placed;
        self.world.tell(&format!("buyer {me}"), |line| {
            write!(
                line,
                "gets the answer {:?} at {seq}, number \
                          {:?}",
                order.phase(),
                order.number()
            )
        });
        let Some(frozen) = order.placed() else {
            return self.world.violate("answered orders exist", format!("buyer {me}: no order"));
        };
        let told = AcknowledgedOrder {
            seq: *seq,
            total: order.total(),
            number: order.number(),
            units: order.units().values().sum(),
        };
        let id = order::entity_id(frozen.order);
        let before = self.lock().get(me).and_then(|known| known.told.clone());
        if let Some(before) = before
            && (before.total != told.total || before.seq > told.seq)
        {
            let what = format!("{id}: {before:?}, later {told:?}");
            self.world.violate("answers stay true", what);
        }
        self.note(me, |known| known.told = Some(told));
        let there = self.journal.read_entity(&id, seq - 1, 1).await;
        if there.is_ok_and(|there| there.is_empty()) {
            let what = format!("{id} was answered at {seq}, which is not on disk");
            self.world.violate("answers are durable", what);
        }
    }

    /// Delivers webhooks until all nodes have stopped.
    pub async fn bring(self, fleet: Fleet, bank: Bank) {
        loop {
            for delivery in bank.due() {
                tokio::spawn(self.clone().deliver(fleet.clone(), bank.clone(), delivery));
            }
            let wait = bank.next().map_or(1_000, |at| at - self.world.elapsed());
            let wait = u64::try_from(wait).unwrap_or(0).clamp(1, 1_000);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    async fn deliver(self, fleet: Fleet, bank: Bank, delivery: WebhookDelivery) {
        let body = delivery.notice.clone();
        let mut again = Undelivered { bank, delivery: Some(delivery) };
        let sent = fleet.through(async |node: Arc<Node>| {
            node.flows.webhooks.accept(NAME, &webhook_request(&body)).await
        });
        let answer = tokio::time::timeout(Duration::from_secs(10), sent).await;
        if self.world.is_dead() {
            return;
        }
        let said = match answer {
            Ok(None) => "not accepted by any node",
            Ok(Some(Ok(()))) => {
                again.delivery = None;
                check::check_notice_stored(&self, &again.bank, &body).await;
                "taken"
            }
            Ok(Some(Err(WebhookRefusal::TryAgain))) => "must be sent again",
            Ok(Some(Err(error))) => {
                let what = format!("{body}: {error}");
                return self.world.violate("a signed webhook is accepted", what);
            }
            Err(_) => "not answered",
        };
        self.world.tell("courier", |line| write!(line, "{body} is answered {said}"));
    }
}

/// A webhook in delivery. If it is dropped without an acknowledgment, also because the courier died
/// with the nodes, it is sent again.
struct Undelivered {
    bank: Bank,
    delivery: Option<WebhookDelivery>,
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            self.bank.send_again(delivery);
        }
    }
}

enum Heard {
    Busy,
    Placed(Box<PlacedOrder>),
    No(String),
}

/// Interprets an answer to a checkout; `None` if the request must be repeated.
fn heard(answer: Result<PlacedOrder, CheckoutRefusal>) -> Option<Heard> {
    match answer {
        Ok(placed) => Some(Heard::Placed(Box::new(placed))),
        Err(CheckoutRefusal::InProgress { .. }) => Some(Heard::Busy),
        Err(CheckoutRefusal::Store(_)) => None,
        Err(CheckoutRefusal::Host(error)) => match error {
            host::Error::Rejected(_) | host::Error::KeyReused | host::Error::Quarantined(_) => {
                Some(Heard::No(error.to_string()))
            }
            _ => None,
        },
        Err(other) => Some(Heard::No(format!("{other:?}"))),
    }
}

/// A definite answer; `None` if the request must be repeated.
fn definite<T, R>(answer: Result<T, host::Error<R>>) -> Option<Result<T, host::Error<R>>> {
    match answer {
        Ok(_)
        | Err(host::Error::Rejected(_) | host::Error::KeyReused | host::Error::Quarantined(_)) => {
            Some(answer)
        }
        Err(_) => None,
    }
}

/// The cause of a request by a principal, with an idempotency key.
pub fn cause(by: &str, key: &str) -> Cause {
    let idempotency = Some(Idempotency { key: key.to_owned(), digest: 1 });
    Cause { by: by.to_owned(), idempotency, ..Cause::default() }
}

/// The email address of a buyer.
pub fn email_of(buyer: usize) -> String {
    format!("buyer{buyer}@example.com")
}

/// The personal data of a buyer.
fn buyer_data(buyer: usize) -> NewBuyerData {
    let address = Address {
        name: "Ada".into(),
        company: None,
        line1: "1 High Street".into(),
        line2: None,
        city: "London".into(),
        region: None,
        postal_code: "N1 1AA".into(),
        country: "GB".into(),
        phone: None,
    };
    NewBuyerData {
        email: Some(Some(email_of(buyer).as_str().into())),
        shipping_address: Some(Some(address)),
        delivery_option: Some(Some("standard".into())),
        ..NewBuyerData::default()
    }
}

impl Clients {
    /// A payment token, sealed.
    async fn card(&self, token: &str) -> Sealed<String> {
        let sealed = self.tables.seal_payment_token(token, self.journal.now()).await;
        sealed.unwrap_or_else(|_| unreachable!("the key is always there"))
    }

    /// The command that creates a buyer's cart. Its key is drawn from the cart's id, so that every run
    /// of a seed seals alike.
    async fn create(&self, cart: CartId, (me, buyer): (usize, &PlannedBuyer)) -> cart::Command {
        let random: [u8; 8] = cart.0.as_bytes()[8..].try_into().unwrap_or_default();
        let random = ([random[7]; 32], u64::from_be_bytes(random));
        let lookups = self.tables.lookups().await;
        let lookups = lookups.unwrap_or_else(|_| Arc::new(LookupKeys::new([8; 32])));
        let people = self.tables.people();
        let (entity, at) = (cart::entity_id(cart), self.journal.now());
        let sealed = buyer_data(me).seal((people, &lookups), &entity, at, random);
        let (details, key) = sealed.unwrap_or_default();
        let line = |(number, quantity): &(usize, i64)| NewLine {
            sku: sku(*number),
            quantity: *quantity,
            agreed_price: None,
            agreed_until: None,
        };
        cart::Command::Create {
            currency: Currency::GBP,
            details,
            key,
            lines_max: cart::LINES_MAX,
            lines: buyer.lines.iter().map(line).collect(),
        }
    }
}
