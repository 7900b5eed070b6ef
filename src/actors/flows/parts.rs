//! The services that flows use: the parts of a node that exist before it runs anything.

use std::sync::Arc;

use super::order_numbers::ArrivedNumbers;
use super::order_tally::OrderTally;
use super::payment::Payments;
use crate::actors::engine::clock::Clock;
use crate::actors::engine::host::Host;
use crate::actors::engine::hosts::Hosts;
use crate::actors::engine::runtime::Runtime;
use crate::actors::locations::Locations;
use crate::actors::pricing::Pricing;
use crate::actors::settings::ShopSettings;
use crate::cache::Cache;
use crate::domain::entity::Noun;
use crate::providers::challenge::ChallengeHook;
use crate::store::Tables;

/// The parts of a node.
pub struct Parts {
    /// The hosts of all nouns.
    pub hosts: Hosts,
    /// The database.
    pub store: Arc<dyn Tables>,
    /// The clock.
    pub clock: Clock,
    /// The locations that have stock.
    pub locations: Arc<Locations>,
    /// The shop's settings.
    pub settings: ShopSettings,
    /// The runtime settings.
    pub runtime: Runtime,
    /// The cache shared by nodes, which may lose its contents.
    pub cache: Cache,
    /// Prices, and the products.
    pub pricing: Pricing,
    /// The payment providers.
    pub payments: Payments,
    /// The hook that decides on suspicious checkouts.
    pub challenge_hook: Option<Arc<ChallengeHook>>,
    /// The orders that have stored their number, to be reported to the counter.
    pub arrived: Arc<ArrivedNumbers>,
    /// Counts of order events.
    pub tally: Arc<OrderTally>,
}

impl Parts {
    /// The host of a noun that this node runs, as [`Hosts::get`].
    #[must_use]
    pub fn host<N: Noun>(&self) -> Host<N> {
        self.hosts.get::<N>().clone()
    }
}
