//! A client that issues gift cards and spends them on orders, repeats each request until it is
//! answered, and remembers the answers: they must stay true.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use kontor::actors::engine::fold::load;
use kontor::actors::engine::host;
use kontor::domain::entity::Cause;
use kontor::domain::id::OrderId;
use kontor::domain::money::Currency;
use kontor::simulate::{Clients, Fleet, Story};

use crate::recipe::gift_card::domain::gift_card::{CardNumber, Command, GiftCard, entity_id};

/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a card is worth, in minor units.
const WORTH: i64 = 1_000;

/// The requests for one card, step by step.
struct Plan {
    /// When it is issued, in milliseconds of simulated time.
    at: i64,
    /// The amounts to spend, in minor units, and the delay after the previous step, in
    /// milliseconds. Each is for another order.
    spends: Vec<(i64, i64)>,
}

/// A client with cards.
pub struct CardHolder {
    plans: Vec<Plan>,
    /// The orders that cards were spent on, by the index of the card's plan.
    orders: Mutex<Vec<Vec<OrderId>>>,
    /// Successful answers: the card and the step; step 0 is the issue.
    told: Mutex<BTreeSet<(usize, usize)>>,
}

impl CardHolder {
    /// Draws one from a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Arc<dyn Story> {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x6769_6674);
        let mut plan = || Plan {
            at: 2_000 + rng.random_range(0..5) * 20_000,
            spends: (0..rng.random_range(1..=5))
                .map(|_| (rng.random_range(1..=400), rng.random_range(0..8_000)))
                .collect(),
        };
        let plans: Vec<Plan> = (0..2).map(|_| plan()).collect();
        let orders = Mutex::new(vec![Vec::new(); plans.len()]);
        Arc::new(Self { plans, orders, told: Mutex::default() })
    }

    /// The order of a step; a repeated step has the same order.
    fn order(&self, clients: &Clients, card: usize, step: usize) -> OrderId {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let of_card = &mut orders[card];
        while of_card.len() <= step {
            of_card.push(OrderId(clients.world.clock().new_key()));
        }
        of_card[step]
    }

    fn was_told(&self, card: usize, step: usize) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).contains(&(card, step))
    }

    async fn use_card(&self, clients: &Clients, fleet: &Fleet, card: usize) {
        let plan = &self.plans[card];
        clients.world.until(plan.at).await;
        let issue = Command::Issue { amount: WORTH, currency: Currency::GBP };
        self.insist(clients, fleet, (card, 0), issue).await;
        for (step, (amount, pause)) in (1..).zip(&plan.spends) {
            clients.world.until(plan.at + pause).await;
            let order = self.order(clients, card, step);
            self.insist(clients, fleet, (card, step), Command::Spend { order, amount: *amount })
                .await;
        }
    }

    /// Repeats the request until answered. It needs no idempotency key: a card knows its orders.
    async fn insist(
        &self,
        clients: &Clients,
        fleet: &Fleet,
        (card, step): (usize, usize),
        command: Command,
    ) {
        if self.was_told(card, step) {
            return;
        }
        let number = number(card);
        let send = || {
            let (fleet, command) = (fleet.clone(), command.clone());
            let entity = entity_id(&number);
            async move {
                let asked = fleet.through(async |node| {
                    let cards = node.host::<GiftCard>();
                    cards.ask(&entity, command, Cause::default(), |view| view.seq).await
                });
                match asked.await? {
                    Ok(_) => Some(true),
                    // If the first answer was lost, a repeated request finds the card.
                    Err(host::Error::Rejected(_)) => Some(step == 0),
                    Err(_) => None,
                }
            }
        };
        let done = clients.insist(PATIENCE, send).await;
        let who = format!("card {card}");
        clients.world.tell(&who, |line| write!(line, "step {step}: {command:?}: {done:?}"));
        if done == Some(true) {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.insert((card, step));
        }
    }
}

/// The number of a card.
fn number(card: usize) -> CardNumber {
    // The number is valid by construction.
    format!("card-{card}").parse().unwrap_or_else(|_| unreachable!("letters, a digit and '-'"))
}

#[async_trait]
impl Story for CardHolder {
    async fn act(&self, clients: &Clients, fleet: &Fleet) {
        let all = (0..self.plans.len()).map(|card| self.use_card(clients, fleet, card));
        futures_util::future::join_all(all).await;
    }

    async fn check(&self, clients: &Clients) {
        for (card, plan) in self.plans.iter().enumerate() {
            let entity = entity_id(&number(card));
            let Ok(Ok(folded)) = load::<GiftCard>(&clients.journal, &entity, i64::MAX).await else {
                clients.world.violate("every gift card can be read", entity.to_string());
                continue;
            };
            let mut left = WORTH;
            for (step, (amount, _)) in (1..).zip(&plan.spends) {
                let spent = folded.state.was_spent_on(self.order(clients, card, step));
                left -= if spent { *amount } else { 0 };
                if self.was_told(card, step) && !spent {
                    let what = format!("{entity}: step {step} was answered, and is not there");
                    clients.world.violate("answers about a gift card stay true", what);
                }
            }
            if folded.seq > 0 && folded.state.balance() != left {
                let what = format!("{entity}: {} are left, not {left}", folded.state.balance());
                clients.world.violate("a gift card is spent once per order", what);
            }
        }
    }
}
