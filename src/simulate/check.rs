//! The checks: `verify` from time to time, and at the end that every saga has finished, that every
//! answer given to a buyer is still true, and that the journal and the provider's ledger agree on
//! all money.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::bank::Bank;
use super::clients::{AcknowledgedOrder, BuyerKnowledge, Clients};
use super::fleet::{Fleet, One};
use super::goods::sku;
use super::operators::REASON;
use super::run::RunCounts;
use super::watch::BooksWatch;
use super::world::World;
use crate::actors::engine::fold::load;
use crate::actors::engine::host::View;
use crate::actors::flows::payment::parse_reference;
use crate::actors::node::Node;
use crate::bus::stream::LocalStream;
use crate::domain::entity::{EntityId, Noun as _};
use crate::domain::id::OrderId;
use crate::domain::order::{self, Order, Phase};
use crate::domain::stock::{self, Stock};
use crate::domain::time::Span;
use crate::providers::payment::{AuthorizationStatus, NoticeKind, Payment, Provider};
use crate::store::journal::Journal as _;
use crate::store::journal::memory::MemoryJournal as Journal;
use crate::store::memory::MemoryStore;
use crate::store::{Tables as _, webhook};
use crate::verify::chain::ChainCheck;
use crate::verify::{Books, Violations, verify_with};

/// The checks, with counts.
pub struct Checks {
    books: fn() -> Books,
    counts: Mutex<RunCounts>,
}

impl Checks {
    /// No checks yet; `books` makes the books that `verify` uses.
    pub fn new(books: fn() -> Books) -> Self {
        Self { books, counts: Mutex::default() }
    }

    /// The counts.
    pub fn counts(&self) -> RunCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, count: impl FnOnce(&mut RunCounts)) {
        count(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Runs `kontor verify` on the store and the provider's ledger.
    pub async fn verify(&self, world: &World, tables: &MemoryStore, bank: &Bank, last: bool) {
        // The journal may not know yet what was moved in the provider's dashboard.
        let bank = (last || !bank.moved_elsewhere()).then(|| bank.ledger());
        let ledger = bank.as_ref().map(|bank| bank as &dyn Provider);
        self.verify_store(world, (tables, ledger), last).await;
    }

    /// Runs `kontor verify` on a store, and a provider's ledger if there is one.
    pub async fn verify_store(
        &self,
        world: &World,
        (tables, ledger): (&MemoryStore, Option<&dyn Provider>),
        last: bool,
    ) {
        self.count(|counts| counts.checks += 1);
        match verify_with((self.books)(), tables, ledger, |_| {}).await {
            Ok(report) => {
                if let Some(first) = report.violations.first() {
                    let rule = format!("verify {}", first.invariant);
                    world.violate(&rule, format!("{}: {}", first.entity, first.message));
                }
            }
            // A read may fail by a planned fault during the run, but not at the end.
            Err(error) if last => world.violate("the store is readable", error.to_string()),
            Err(_) => {}
        }
    }

    /// Checks every order, once nothing is in progress any more.
    pub async fn is_finished(
        &self,
        world: &World,
        journal: &Journal,
        bank: &Bank,
        known: &[BuyerKnowledge],
    ) {
        let payments = bank.payments();
        let carts =
            known.iter().flat_map(|buyer| [(buyer.cart, buyer.told.as_ref()), (buyer.next, None)]);
        for (cart, told) in carts {
            let Some(cart) = cart else { continue };
            let id = order::entity_id(OrderId(cart.0));
            let order = match load::<Order>(journal, &id, i64::MAX).await {
                Ok(Ok(folded)) => folded.state,
                other => {
                    let what = format!("{id}: {:?}", other.map(drop));
                    return world.violate("every order is readable", what);
                }
            };
            let mine: Vec<&Payment> = payments
                .iter()
                .filter(|one| parse_reference(&one.reference).is_some_and(|(of, ..)| of == id))
                .collect();
            let stuck = !order.stuck().is_empty() || order.alert().is_some();
            self.count(|counts| {
                counts.orders += u64::from(order.placed().is_some());
                counts.stuck += u64::from(stuck);
            });
            if let Some(told) = told {
                check_answers(world, &id, &order, told);
            }
            if !stuck {
                check_finished(world, &id, &order);
                check_ledger(world, &id, &order, &mine);
            }
        }
    }
}

/// Checks that what a buyer was told about an order is still true.
fn check_answers(world: &World, id: &EntityId, order: &Order, told: &AcknowledgedOrder) {
    let same = order.placed().is_some()
        && order.total() == told.total
        && order.units().values().sum::<i64>() == told.units
        && (told.number.is_none() || told.number == order.number());
    if !same {
        world.violate("answers stay true", format!("{id}: {told:?}"));
    }
    let by_operator = order.cancellation().is_none_or(|it| it.reason == REASON);
    if told.number.is_some() && order.phase() != Phase::Confirmed && !by_operator {
        let what = format!("{id}: {:?}, {:?}", order.phase(), order.cancellation());
        world.violate("a confirmed order stays confirmed", what);
    }
}

/// Checks that an order's saga has finished.
fn check_finished(world: &World, id: &EntityId, order: &Order) {
    let rest = matches!(order.phase(), Phase::Absent | Phase::Confirmed | Phase::Cancelled);
    if !rest || !order.effects().is_empty() {
        let steps: Vec<String> = order.effects().iter().map(order::Effect::step).collect();
        let what = format!("{id}: {:?}, unfinished steps {steps:?}", order.phase());
        world.violate("every saga ends", what);
    }
}

/// Checks that the provider's ledger agrees with the order, holds no money for an order that is not
/// confirmed, and holds only one payment for a confirmed one.
fn check_ledger(world: &World, id: &EntityId, order: &Order, payments: &[&Payment]) {
    let live = |payment: &&&Payment| {
        payment.status != AuthorizationStatus::Declined
            && !payment.voided
            && payment.captured < payment.amount.amount
    };
    let kept: i64 = payments.iter().map(|one| one.captured - one.refunded).sum();
    let holds = |one: &&&Payment| live(one) || one.captured > one.refunded;
    let holding = payments.iter().filter(holds).count();
    let live = payments.iter().filter(live).count();
    let confirmed = order.phase() == Phase::Confirmed;
    if kept != order.captured() - order.refunded() {
        let what = format!(
            "{id}: the provider keeps {kept}, the journal {}",
            order.captured() - order.refunded()
        );
        world.violate("both ledgers agree", what);
    } else if !confirmed && (kept != 0 || live > 0) {
        let what = format!("{id} is {:?}: {kept} captured, {live} authorized", order.phase());
        world.violate("nobody pays without an order", what);
    } else if holding > 1 {
        world.violate("an order is paid once", format!("{id}: {holding} times"));
    }
}

/// Checks that an acknowledged webhook is stored: applied to its order, or parked.
pub async fn check_notice_stored(clients: &Clients, bank: &Bank, body: &str) {
    let Clients { world, journal, tables, .. } = clients;
    let Some(notice) = bank.notice(body) else { return };
    let parked = tables.parked_webhooks(0, u32::MAX).await;
    let is_parked = |rows: &Vec<webhook::Row>| rows.iter().any(|row| row.webhook.notice_id == body);
    // If the table cannot be read, by a planned fault, the check is skipped.
    if parked.as_ref().is_ok_and(is_parked) || parked.is_err() {
        return;
    }
    let Some((id, _, attempt)) = parse_reference(&notice.payment.reference) else { return };
    let Ok(Ok(folded)) = load::<Order>(journal, &id, i64::MAX).await else { return };
    let order = folded.state;
    let attempt = order.attempts().iter().find(|known| known.number == attempt);
    let operation = notice.operation.as_ref().map(|operation| operation.id.as_str());
    let taken = match notice.kind {
        NoticeKind::Captured => {
            order.captures().iter().any(|one| one.operation.as_deref() == operation)
        }
        NoticeKind::Refunded => {
            order.refunds().iter().any(|one| one.operation.as_deref() == operation)
        }
        _ => attempt.is_some_and(|attempt| !attempt.open()),
    };
    if !taken {
        let what = format!("{body}: {:?} of {}", notice.kind, notice.payment.reference);
        world.violate("an acknowledged webhook is stored", what);
    }
}

/// Checks that the sellable units that each node answers equal those of the simulator's books, if
/// both are at the same version. Holds may have expired between the request and the answer, so any
/// value in between is accepted.
pub async fn check_sellable(
    clients: &Clients,
    fleet: &Fleet,
    watch: &Mutex<BooksWatch>,
    skus: usize,
) {
    for One { process, node } in fleet.all() {
        for number in 0..skus {
            let (sku, clock) = (sku(number), node.clock.clone());
            let entity = stock::entity_id(&sku);
            let read = move |view: View<'_, Stock>| {
                let now = clock.now();
                (view.summary_number(now), view.seq, now)
            };
            let (before, asked) = (clients.seen(&entity), node.clock.now());
            let looked = process.answers(node.stock.read(&entity, read)).await;
            let Some(Ok((sellable, seq, now))) = looked else { continue };
            clients.note_version(&entity, before, seq);
            let watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            let (then, (there, at)) = (watch.sellable(&sku, asked).0, watch.sellable(&sku, now));
            drop(watch);
            let is_said = (then.min(there)..=then.max(there)).contains(&sellable);
            if at == seq && !is_said && !clients.world.turned_lately() {
                let what = format!(
                    "{sku}: {sellable} sellable, the simulator's record has \
                                    {there}"
                );
                clients.world.violate("stock equals the books", what);
            }
        }
    }
}

/// Reads stock and orders through any node, repeatedly, until the time `until`, and checks that no
/// older version is answered than before.
pub async fn look_around(clients: Clients, fleet: Fleet, skus: usize, until: i64) {
    let world = clients.world.clone();
    while world.elapsed() < until {
        tokio::time::sleep(Duration::from_millis(200 + world.chance(800))).await;
        let known = clients.known();
        let drawn = usize::try_from(world.chance((skus + known.len()) as u64)).unwrap_or(0);
        let entity = match drawn.checked_sub(skus) {
            None => stock::entity_id(&sku(drawn)),
            Some(buyer) => match known.get(buyer).and_then(|known| known.cart) {
                Some(cart) => order::entity_id(OrderId(cart.0)),
                None => continue,
            },
        };
        let before = clients.seen(&entity);
        let look = async |node: Arc<Node>| match entity.prefix() {
            Stock::PREFIX => node.stock.read(&entity, |view| view.seq).await.ok(),
            _ => node.orders.read(&entity, |view| view.seq).await.ok(),
        };
        let looked = tokio::time::timeout(Duration::from_secs(2), fleet.through(look)).await;
        if let Ok(Some(Some(seq))) = looked {
            clients.note_version(&entity, before, seq);
        }
    }
}

/// Checks that `verify` names an event of each shard that is altered, and two that are swapped, with
/// their positions left as they were.
pub async fn check_changed_history(world: &World, journal: &Journal) {
    for shard in 0..journal.shards() {
        let Ok(events) = journal.read_chain(shard, 0, u32::MAX).await else { continue };
        let Some(at) = usize::try_from(world.chance(events.len() as u64)).ok() else { continue };
        let (mut altered, mut swapped) = (events.clone(), events);
        let Some(event) = altered.get_mut(at) else { continue };
        event.record.at = event.record.at + Span::from_millis(1);
        swapped.swap(0, at);
        let (first, other) = (swapped[0].record.pos, swapped[at].record.pos);
        (swapped[0].record.pos, swapped[at].record.pos) = (other, first);
        for (what, events) in [("altered", altered), ("swapped", swapped)] {
            if what == "swapped" && at == 0 {
                continue;
            }
            let (mut chain, mut findings) = (ChainCheck::new(shard), Violations::default());
            events.iter().for_each(|event| chain.follow(event, &mut findings));
            if chain.head().is_some() {
                let what = format!("event {} of shard {shard} is {what}", at + 1);
                world.violate("a changed history is found", what);
            }
        }
    }
}

/// Checks that all committed events are in the stream. It is called once nothing is in progress any
/// more.
pub fn check_relayed(world: &World, journal: &Journal, stream: &LocalStream) {
    for shard in 0..journal.shards() {
        let last = journal.epoch_and_head(shard).1.pos;
        let there = stream.positions(shard);
        if let Some(missing) = (1..=last).find(|pos| !there.contains(pos)) {
            let what = format!("{missing} of {last} in shard {shard}, which has {there:?}");
            world.violate("committed events are relayed", what);
        }
    }
}
