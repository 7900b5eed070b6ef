//! The list of the nouns that a node runs. A noun is defined in `domain`; its effects are performed
//! by its flow.

use std::convert::Infallible;
use std::sync::Arc;

use ractor::ActorCell;

use super::engine::clock::Clock;
use super::engine::host::{self, Flow, Host, NoFlow};
use super::engine::hosts::{ErasedHost, Hosted, Hosts};
use super::engine::stored::StoredShapes;
use super::flows;
use super::flows::parts::Parts;
use crate::domain::cart::Cart;
use crate::domain::counter::Counter;
use crate::domain::entity::Noun;
use crate::domain::order::Order;
use crate::domain::stock::Stock;
use crate::store::journal::Journal;
use crate::store::journal::lanes::Lanes;

/// The nouns of a shop, in an order in which each may send commands to those after it. A new noun
/// is added here, or by the caller with [`Nouns::with`].
#[must_use]
pub fn all() -> Nouns {
    Nouns { entries: Vec::new() }
        .with(NounEntry::<Cart>::without_flow())
        .with(NounEntry::<Order>::with_flow(flows::order_steps).resumed())
        .with(NounEntry::<Stock>::without_flow())
        .with(NounEntry::<Counter>::with_flow(flows::remembered_numbers))
}

/// A list of nouns.
pub struct Nouns {
    entries: Vec<Entry>,
}

/// A noun's entry: its flow and options.
pub struct NounEntry<N: Noun> {
    flow: MakeFlow<N>,
    resumed: bool,
}

type MakeFlow<N> = Box<dyn FnOnce(&Parts) -> Arc<dyn Flow<N>> + Send>;

impl<N: Noun<Effect = Infallible>> NounEntry<N> {
    /// A noun without effects.
    #[must_use]
    pub fn without_flow() -> Self {
        Self::with_flow(|_| NoFlow)
    }
}

impl<N: Noun> NounEntry<N> {
    /// A noun, and the flow that performs its effects.
    #[must_use]
    pub fn with_flow<F: Flow<N>>(flow: impl FnOnce(&Parts) -> F + Send + 'static) -> Self {
        Self { flow: Box::new(|parts| Arc::new(flow(parts))), resumed: false }
    }

    /// Wakes entities with a timer as soon as a node opens their shard: they have pending work and
    /// need not wait for the timer.
    #[must_use]
    pub fn resumed(mut self) -> Self {
        self.resumed = true;
        self
    }
}

/// An entry of any noun.
struct Entry {
    shapes: StoredShapes,
    resumed: bool,
    host: fn(&HostStart) -> Arc<dyn ErasedHost>,
    connect: Box<dyn FnOnce(&Parts) + Send>,
}

/// Arguments of a new host.
#[derive(Clone)]
pub(super) struct HostStart {
    pub journal: Arc<dyn Journal>,
    pub lanes: Lanes,
    pub clock: Clock,
    pub options: host::Options,
    pub supervisor: ActorCell,
}

impl Nouns {
    /// Adds a noun, which replaces one with the same prefix.
    #[must_use]
    pub fn with<N: Noun>(mut self, entry: NounEntry<N>) -> Self {
        let NounEntry { flow, resumed } = entry;
        let entry = Entry {
            shapes: StoredShapes::of::<N>(),
            resumed,
            host: |start| {
                let HostStart { journal, lanes, clock, options, supervisor } = start.clone();
                Arc::new(Host::<N>::new(journal, lanes, clock, options, supervisor))
            },
            connect: Box::new(|parts| parts.host::<N>().set_flow(flow(parts))),
        };
        self.entries.retain(|there| there.shapes.prefix != N::PREFIX);
        self.entries.push(entry);
        self
    }

    /// The stored forms of each noun's events and states.
    pub fn shapes(&self) -> impl Iterator<Item = &StoredShapes> {
        self.entries.iter().map(|entry| &entry.shapes)
    }

    /// A host for each noun, without a flow.
    pub(super) fn hosts(&self, start: &HostStart) -> Hosts {
        let hosted = |entry: &Entry| Hosted { host: (entry.host)(start), resumed: entry.resumed };
        Hosts::new(self.entries.iter().map(hosted).collect())
    }

    /// Sets each host's flow.
    pub(super) fn connect(self, parts: &Parts) {
        self.entries.into_iter().for_each(|entry| (entry.connect)(parts));
    }
}
