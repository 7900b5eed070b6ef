//! Shipments and returns: the commands to the stock for fulfillments and refunds.

use std::collections::BTreeMap;

use crate::actors::engine::backoff::{Backoff, SHORTEST};
use crate::actors::engine::clock::Clock;
use crate::actors::engine::host::{self, Host, Teller, saga};
use crate::domain::id::{OrderId, Sku};
use crate::domain::order::{Command, Order};
use crate::domain::stock::{self, Stock};

/// Records movements of sold goods.
pub struct StockMovements {
    pub(super) stock: Host<Stock>,
    pub(super) clock: Clock,
}

impl StockMovements {
    /// Records a fulfillment's shipment in the stock.
    pub(super) async fn ship(
        &self,
        order: OrderId,
        fulfillment: u32,
        units: BTreeMap<Sku, i64>,
        teller: &Teller<Order>,
    ) {
        let id = format!("f{fulfillment}");
        let moves = units
            .into_iter()
            .map(|(sku, quantity)| (sku, stock::Command::Ship { order, id: id.clone(), quantity }));
        match self.move_goods(moves.collect()).await {
            Ok(()) => teller.tell(Command::Shipped { fulfillment }),
            Err(why) => teller.tell(Command::GiveUp { step: format!("ship:{fulfillment}"), why }),
        }
    }

    /// Compensates [`StockMovements::ship`] for shipped units, and the allocation for unshipped
    /// ones: returns the goods of a refund to stock, or writes them off.
    pub(super) async fn restock(
        &self,
        order: OrderId,
        refund: u32,
        (units, restock): (BTreeMap<Sku, (i64, i64)>, bool),
        teller: &Teller<Order>,
    ) {
        let id = format!("r{refund}");
        let moves = units.into_iter().map(|(sku, (unshipped, shipped))| {
            let id = id.clone();
            (sku, stock::Command::TakeBack { order, id, unshipped, shipped, restock })
        });
        match self.move_goods(moves.collect()).await {
            Ok(()) => teller.tell(Command::RefundRestocked { refund }),
            Err(why) => teller.tell(Command::GiveUp { step: format!("restock:{refund}"), why }),
        }
    }

    /// Sends each SKU its command, and repeats it until it is done. A rejection or a quarantine
    /// ends this with an error.
    async fn move_goods(&self, moves: Vec<(Sku, stock::Command)>) -> Result<(), String> {
        for (sku, command) in moves {
            let mut backoff = Backoff::new(SHORTEST, &self.clock);
            let entity = stock::entity_id(&sku);
            loop {
                match self.stock.carry_out(&entity, command.clone(), saga()).await {
                    Ok(()) => break,
                    Err(host::Error::Rejected(why)) => return Err(format!("{sku}: {why}")),
                    Err(error @ host::Error::Quarantined(_)) => {
                        return Err(format!("{sku}: {error}"));
                    }
                    Err(_) => backoff.pause().await,
                }
            }
        }
        Ok(())
    }
}
