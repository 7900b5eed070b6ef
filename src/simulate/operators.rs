//! Operators: their commands to stock and orders have idempotency keys and are repeated until there
//! is an answer. An action that was answered must have been done exactly once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::bank::Bank;
use super::clients::{Clients, cause, email_of};
use super::fleet::Fleet;
use super::goods::{product, sku};
use super::plan::OperatorAction;
use crate::actors::catalog::Expect;
use crate::actors::engine::host;
use crate::actors::node::Node;
use crate::domain::entity::Cause;
use crate::domain::id::OrderId;
use crate::domain::location::StockLocation;
use crate::domain::order::{
    self, Command, FulfillmentRequest, RefundFrom, RefundLineRequest, RefundRequest,
};
use crate::domain::stock::{self, Location};

/// How long an operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The reason of all operators' actions.
pub const REASON: &str = "the operator said so";

/// All operators, and their completed actions.
#[derive(Clone)]
pub struct Operators {
    clients: Clients,
    skus: usize,
    bank: Bank,
    done: Arc<Mutex<BTreeSet<String>>>,
    /// The number of requests to write a row.
    requests: Arc<AtomicU64>,
}

/// The answer to an action.
enum Answer {
    Done,
    Refused(String),
}

impl Operators {
    /// Operators without any actions, in a shop of so many SKUs.
    pub fn new(clients: Clients, skus: usize, bank: Bank) -> Self {
        Self { clients, skus, bank, done: Arc::default(), requests: Arc::default() }
    }

    fn finished(&self, name: &str) -> bool {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn finish(&self, name: &str) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// Creates products and stock.
    pub async fn open_shop(self, fleet: Fleet, units: Vec<Vec<i64>>, history: i64) {
        for (number, places) in units.iter().enumerate() {
            self.reprice(&fleet, number, 1_000, "open").await;
            for (place, quantity) in places.iter().enumerate().filter(|(_, units)| **units > 0) {
                let receive = receive(place, *quantity);
                self.stock(&fleet, number, receive, &format!("open-{number}-{place}")).await;
            }
        }
        for unit in 0..history {
            self.stock(&fleet, 0, receive(0, 1), &format!("history-{unit}")).await;
        }
    }

    /// Performs one action at its time.
    pub async fn act(self, fleet: Fleet, at: i64, number: usize, action: OperatorAction) {
        let wait = at - self.clients.world.elapsed();
        tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
        let name = format!("deed-{number}");
        match action {
            OperatorAction::Receive { sku, quantity } => {
                self.stock(&fleet, sku, receive(0, quantity), &name).await;
            }
            OperatorAction::Adjust { sku, delta } => {
                let (location, reason) = (place(0), REASON.to_owned());
                let command = stock::Command::Adjust { location, delta, reason };
                self.stock(&fleet, sku, command, &name).await;
            }
            OperatorAction::Set { sku, on_hand } => {
                let (location, change_from) = (place(0), None);
                let command = stock::Command::Set { location, on_hand, change_from, reason: None };
                self.stock(&fleet, sku, command, &name).await;
            }
            OperatorAction::Transfer { sku, quantity } => {
                let (from, to) = (place(0), place(1));
                let command = stock::Command::Transfer { from, to, quantity, reason: None };
                self.stock(&fleet, sku, command, &name).await;
            }
            OperatorAction::Close { place, for_sale } => {
                self.locate(&fleet, location(place, for_sale, false), &name).await;
            }
            OperatorAction::Delete { place } => self.delete(&fleet, place, &name).await,
            OperatorAction::Reprice { sku, price } => self.reprice(&fleet, sku, price, &name).await,
            OperatorAction::RemakeRows => {
                self.clients.world.tell("operator", |line| write!(line, "rebuilds all rows"));
                if let Some(one) = fleet.all().first() {
                    let begun = one.process.answers(one.node.replay_rows()).await;
                    if let Some(Err(error)) = begun {
                        let say = |line: &mut String| write!(line, "is refused: {error}");
                        self.clients.world.tell("operator", say);
                    }
                }
            }
            OperatorAction::MoveElsewhere { order, kind, amount } => {
                if let Some(cart) = self.clients.known().get(order).and_then(|known| known.cart) {
                    let order = order::entity_id(OrderId(cart.0));
                    self.bank.move_elsewhere(&order, kind, amount);
                }
            }
            OperatorAction::Erase { order } => self.erase(&fleet, order, &name).await,
            of_order => {
                let (order, command) = command_of(&of_order);
                self.order(&fleet, order, command, &name).await;
            }
        }
    }

    /// From `from` on, retries the steps of stuck orders once a minute; in every third round it
    /// cancels these orders instead.
    pub async fn keep(self, fleet: Fleet, from: i64) {
        let mut round = 0;
        loop {
            let wait = u64::try_from(from - self.clients.world.elapsed()).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(wait.max(60_000))).await;
            for (number, known) in self.clients.known().into_iter().enumerate() {
                let Some(cart) = known.cart else { continue };
                let entity = order::entity_id(OrderId(cart.0));
                let stuck = |view: host::View<'_, order::Order>| {
                    let order = view.state;
                    order.alert().is_some() || !order.stuck().is_empty()
                };
                let look = async |node: Arc<Node>| node.orders.read(&entity, stuck).await;
                if fleet.through(look).await == Some(Ok(true)) {
                    // A permanent difference between the ledgers can only be resolved by cancelling
                    // the order.
                    let reason = REASON.to_owned();
                    let command = match round % 3 {
                        2 => Command::Cancel { reason },
                        _ => Command::Retry { reason },
                    };
                    self.order(&fleet, number, command, &format!("keep-{round}-{number}")).await;
                }
            }
            // A node does this every ten minutes: orders that kept their data are complete by now, and
            // an erasure may have been interrupted.
            let go_on = async |node: Arc<Node>| node.flows.erasure.go_on_with_all().await.is_ok();
            fleet.through(go_on).await;
            round += 1;
        }
    }

    /// Erases a buyer.
    async fn erase(&self, fleet: &Fleet, buyer: usize, name: &str) {
        let send = || {
            let (fleet, cause) = (fleet.clone(), self.cause(name));
            async move {
                let email = email_of(buyer);
                let ask = async |node: Arc<Node>| node.flows.erasure.erase(&email, &cause).await;
                fleet.through(ask).await?.ok().map(|_| Answer::Done)
            }
        };
        self.insist(name, &format!("erasing buyer {buyer}"), send).await;
    }

    async fn stock(&self, fleet: &Fleet, number: usize, command: stock::Command, name: &str) {
        let entity = stock::entity_id(&sku(number));
        let send = || {
            let (fleet, clients) = (fleet.clone(), self.clients.clone());
            let (entity, command, cause) = (entity.clone(), command.clone(), self.cause(name));
            async move {
                let before = clients.seen(&entity);
                let ask = async |node: Arc<Node>| {
                    node.stock.ask(&entity, command, cause, |view| view.seq).await
                };
                let asked = fleet.through(ask).await?;
                if let Ok(seq) = asked {
                    clients.note_version(&entity, before, seq);
                }
                answer(asked)
            }
        };
        self.insist(name, &format!("{}: {command:?}", entity), send).await;
    }

    async fn order(&self, fleet: &Fleet, number: usize, command: Command, name: &str) {
        let Some(cart) = self.clients.known().get(number).and_then(|known| known.cart) else {
            return;
        };
        let entity = order::entity_id(OrderId(cart.0));
        let send = || {
            let (fleet, clients) = (fleet.clone(), self.clients.clone());
            let (entity, command, cause) = (entity.clone(), command.clone(), self.cause(name));
            async move {
                let before = clients.seen(&entity);
                let ask = async |node: Arc<Node>| {
                    node.orders.ask(&entity, command, cause, |view| view.seq).await
                };
                let asked = fleet.through(ask).await?;
                if let Ok(seq) = asked {
                    clients.note_version(&entity, before, seq);
                }
                answer(asked)
            }
        };
        self.insist(name, &format!("{entity}: {command:?}"), send).await;
    }

    async fn reprice(&self, fleet: &Fleet, number: usize, price: i64, name: &str) {
        let name = format!("{name}-price-{number}");
        let Some(product) = product(number, price) else {
            return;
        };
        let send = || {
            let (fleet, product) = (fleet.clone(), product.clone());
            let cause = self.row_cause(&name);
            async move {
                let put =
                    async |node: Arc<Node>| node.catalog.put(product, Expect::Any, cause).await;
                fleet.through(put).await?.ok().map(|_| Answer::Done)
            }
        };
        self.insist(&name, "a new price", send).await;
    }

    async fn locate(&self, fleet: &Fleet, location: StockLocation, name: &str) {
        let what = format!("{location:?}");
        let send = || {
            let (fleet, location) = (fleet.clone(), location.clone());
            let cause = self.row_cause(name);
            async move {
                let put =
                    async |node: Arc<Node>| node.locations.put(location, Expect::Any, cause).await;
                fleet.through(put).await?.ok().map(|_| Answer::Done)
            }
        };
        self.insist(name, &what, send).await;
    }

    /// Moves the free units of a location to the first one, and deletes it if it is empty then.
    /// Units may come back to it later.
    async fn delete(&self, fleet: &Fleet, number: usize, name: &str) {
        let (from, skus) = (place(number), self.skus);
        for sku_number in 0..skus {
            let units = self.units(fleet, sku_number, &from).await;
            if units.0 > 0 {
                let (from, to) = (from.clone(), place(0));
                let command =
                    stock::Command::Transfer { from, to, quantity: units.0, reason: None };
                self.stock(fleet, sku_number, command, &format!("{name}-{sku_number}")).await;
            }
        }
        for sku_number in 0..skus {
            if self.units(fleet, sku_number, &from).await != (0, 0) {
                return;
            }
        }
        self.locate(fleet, location(number, true, true), name).await;
    }

    /// The free units of a SKU at a location, and all; one unit that is not free if no node answers.
    async fn units(&self, fleet: &Fleet, number: usize, at: &Location) -> (i64, i64) {
        let (entity, at) = (stock::entity_id(&sku(number)), at.clone());
        let read = async |node: Arc<Node>| {
            let read = move |view: host::View<'_, stock::Stock>| {
                let level = view.state.levels().get(&at).copied().unwrap_or_default();
                (level.sellable(), level.on_hand + level.incoming)
            };
            node.stock.read(&entity, read).await.ok()
        };
        fleet.through(read).await.flatten().unwrap_or((0, 1))
    }

    fn cause(&self, name: &str) -> Cause {
        cause("key:operator", name)
    }

    /// The cause of one request to write a row. No idempotency key is needed: a repeated write sets the
    /// row to the same values. Each request has an id, because none may be carried out twice.
    fn row_cause(&self, name: &str) -> Cause {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        Cause { idempotency: None, request: Some(format!("row-{request}")), ..self.cause(name) }
    }

    async fn insist<F>(&self, name: &str, what: &str, send: impl Fn() -> F)
    where
        F: Future<Output = Option<Answer>> + Send + 'static,
    {
        if self.finished(name) {
            return;
        }
        let outcome = match self.clients.insist(PATIENCE, send).await {
            Some(Answer::Done) => "done".to_owned(),
            Some(Answer::Refused(why)) => format!("refused: {why}"),
            None => "given up".to_owned(),
        };
        self.finish(name);
        self.clients.world.tell("operator", |line| write!(line, "{name}: {what} is {outcome}"));
    }
}

fn answer<R: std::fmt::Display>(answer: Result<i64, host::Error<R>>) -> Option<Answer> {
    match answer {
        Ok(_) => Some(Answer::Done),
        Err(host::Error::Rejected(why)) => Some(Answer::Refused(why.to_string())),
        Err(_) => None,
    }
}

/// A location of the shop.
fn place(number: usize) -> Location {
    let name = if number == 0 { "main" } else { "annex" };
    // Always a valid location.
    name.parse().unwrap_or_else(|_| unreachable!("a location of letters"))
}

fn location(number: usize, for_sale: bool, deleted: bool) -> StockLocation {
    StockLocation { for_sale, deleted, ..StockLocation::undescribed(place(number)) }
}

fn receive(at: usize, quantity: i64) -> stock::Command {
    stock::Command::Receive { location: place(at), quantity, from_incoming: false, reason: None }
}

/// The command of an action, and its order.
fn command_of(action: &OperatorAction) -> (usize, Command) {
    let reason = REASON.to_owned();
    let refund = |request: RefundRequest| {
        Command::Refund(RefundRequest { reason: REASON.to_owned(), ..request })
    };
    let unit = |restock, shipped: bool| {
        let from = shipped.then_some(RefundFrom::Fulfilled);
        let lines = vec![RefundLineRequest { line: 1, quantity: 1, amount: None, from }];
        refund(RefundRequest { lines, restock, ..RefundRequest::default() })
    };
    match action {
        OperatorAction::Cancel { order } => (*order, Command::Cancel { reason }),
        OperatorAction::RefundAll { order, restock } => {
            let two = RefundLineRequest { line: 1, quantity: 2, amount: None, from: None };
            let request =
                RefundRequest { lines: vec![two], restock: *restock, ..Default::default() };
            (*order, refund(request))
        }
        OperatorAction::RefundUnit { order, restock, shipped } => {
            (*order, unit(*restock, *shipped))
        }
        OperatorAction::RefundFree { order, amount } => {
            (*order, refund(RefundRequest { free: *amount, ..RefundRequest::default() }))
        }
        OperatorAction::Fulfill { order } => {
            (*order, Command::Fulfill(FulfillmentRequest::default()))
        }
        OperatorAction::FulfillUnit { order } => {
            let request = FulfillmentRequest { lines: vec![(1, 1)], tracking: None };
            (*order, Command::Fulfill(request))
        }
        OperatorAction::Capture { order, amount } => (*order, Command::Capture { amount: *amount }),
        OperatorAction::Skip { order } => (*order, Command::Skip { step: None, reason }),
        OperatorAction::Retry { order } => (*order, Command::Retry { reason }),
        OperatorAction::PlaceLegalHold { order } => (*order, Command::PlaceLegalHold { reason }),
        // Actions on stock, prices and rows do not get here; `act` performs them.
        _ => (usize::MAX, Command::Retry { reason }),
    }
}
