//! The stock steps of an order before shipment: reserve, allocate and release.
//!
//! Each step sends its command to all SKUs of the order, and again until all have answered. Stock
//! recognizes repeated commands of an order, so nothing is reserved twice. Shipped and returned
//! goods are in `stock_movements`.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};

use super::order_numbers::OrderNumbers;
use crate::actors::engine::backoff::{Backoff, SHORTEST};
use crate::actors::engine::clock::Clock;
use crate::actors::engine::host::{self, Host, Teller, saga};
use crate::actors::locations::Locations;
use crate::domain::id::{OrderId, Sku};
use crate::domain::order::{Command, Order, Shortage};
use crate::domain::stock::{self, Stock};
use crate::domain::time::Span;
use crate::seeded_fault::{self, SeededFault};

/// The most SKUs to which commands are in flight at once for one order.
pub(super) const SKUS_AT_ONCE: usize = 64;

/// Reserves, allocates and releases stock.
pub struct Reservation {
    pub(super) stock: Host<Stock>,
    pub(super) numbers: OrderNumbers,
    /// The locations from which stock is taken, and those from which it is not.
    pub(super) locations: Arc<Locations>,
    pub(super) clock: Clock,
}

impl Reservation {
    /// Reserves stock for an order, all of it or none.
    pub(super) async fn reserve(
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
                    priority: self.locations.order(),
                    closed: if seeded_fault::active(SeededFault::ClosedLocationSold) {
                        Arc::default()
                    } else {
                        self.locations.closed()
                    },
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
            Err(host::Error::Rejected(stock::Rejection::OutOfStock {
                requested,
                available,
                held,
            })) => Err(Short::Of(Shortage { sku, requested, available, held })),
            Err(host::Error::Rejected(stock::Rejection::Released)) => Err(Short::Released),
            Err(host::Error::Rejected(stock::Rejection::TooMany)) => {
                Err(Short::Of(Shortage { sku, requested: 0, available: 0, held: 0 }))
            }
            Err(_) => Err(Short::TryAgain),
        }
    }

    /// Lets the holds of an order that waits for another payment yield to other orders. A SKU in
    /// quarantine is left as it is: its hold expires.
    pub(super) async fn yield_holds(
        &self,
        order: OrderId,
        generation: u32,
        units: BTreeMap<Sku, i64>,
        teller: &Teller<Order>,
    ) {
        let mut backoff = Backoff::new(SHORTEST, &self.clock);
        let kept = seeded_fault::active(SeededFault::HoldKeptAfterDecline);
        let command = stock::Command::Yield { order, generation };
        loop {
            let answers = if kept { Vec::new() } else { self.ask_each(&units, &command).await };
            let done = |answer: &Result<(), _>| {
                matches!(
                    answer,
                    Ok(()) | Err(host::Error::Rejected(_) | host::Error::Quarantined(_))
                )
            };
            if answers.iter().all(done) {
                return teller.tell(Command::HoldYielded { generation });
            }
            backoff.pause().await;
        }
    }

    /// Compensates [`Reservation::reserve`] and [`Reservation::allocate`]: releases all stock of an
    /// order.
    pub(super) async fn release(
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

    /// Turns an order's holds into allocations and gets the order number.
    pub(super) async fn allocate(
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
                && let Some(number) = self.numbers.draw(order).await
            {
                return teller.tell(Command::Confirm { number });
            }
            backoff.pause().await;
        }
    }

    /// Sends the same command to the stock of every SKU of an order.
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
}

/// Returns the reason of a quarantine, if one of the SKUs is quarantined: an operator must release
/// it before its stock can answer.
fn quarantined(answers: &[Result<(), host::Error<stock::Rejection>>]) -> Option<String> {
    answers.iter().find_map(|answer| match answer {
        Err(error @ host::Error::Quarantined(_)) => Some(error.to_string()),
        _ => None,
    })
}

/// Why the stock of a SKU was not reserved.
enum Short {
    Of(Shortage),
    Released,
    TryAgain,
}
