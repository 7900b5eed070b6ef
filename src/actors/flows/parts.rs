//! What flows are made of: the parts of a node that are there before it runs anything.

use std::sync::Arc;

use super::order_numbers::ArrivedNumbers;
use super::order_tally::OrderTally;
use super::payment::Payments;
use crate::actors::engine::clock::Clock;
use crate::actors::engine::host::Host;
use crate::actors::engine::hosts::Hosts;
use crate::actors::engine::runtime::Runtime;
use crate::actors::pricing::Pricing;
use crate::actors::settings::ShopSettings;
use crate::cache::Cache;
use crate::domain::entity::Noun;
use crate::store::Tables;

/// The parts of a node.
pub struct Parts {
    /// The hosts of all nouns.
    pub hosts: Hosts,
    /// The data.
    pub store: Arc<dyn Tables>,
    /// The time.
    pub clock: Clock,
    /// How the shop is run.
    pub settings: ShopSettings,
    /// What may change while it runs.
    pub runtime: Runtime,
    /// What nodes share and may lose.
    pub cache: Cache,
    /// Prices, and the products that have them.
    pub pricing: Pricing,
    /// Who moves money.
    pub payments: Payments,
    /// Orders that have their number for good.
    pub arrived: Arc<ArrivedNumbers>,
    /// What has happened to orders.
    pub tally: Arc<OrderTally>,
}

impl Parts {
    /// The host of a noun that this node runs, as [`Hosts::get`].
    #[must_use]
    pub fn host<N: Noun>(&self) -> Host<N> {
        self.hosts.get::<N>().clone()
    }
}
