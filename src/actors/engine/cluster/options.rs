//! How a node lives among others.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::time::Span;

/// How a node lives among others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The node's name; empty for one made of its address.
    pub node: String,
    /// Where other nodes reach it; empty for where it listens.
    pub url: String,
    /// How long a shard is had without being asked for again, in milliseconds.
    pub lease_ms: u64,
    /// How often leases are prolonged, in milliseconds.
    pub renew_ms: u64,
    /// How long a node must have been there before others give it their shards, in milliseconds.
    pub settle_ms: u64,
    /// How many shards are given away at once.
    pub hand_over_max: usize,
    /// How long a node that stops goes on serving, so that balancers notice, in milliseconds.
    pub leave_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node: String::new(),
            url: String::new(),
            lease_ms: 10_000,
            renew_ms: 3_000,
            settle_ms: 5_000,
            hand_over_max: 8,
            leave_ms: 3_000,
        }
    }
}

impl Options {
    pub(super) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    pub(super) fn lease_span(&self) -> Span {
        Span::from_millis(i64::try_from(self.lease_ms).unwrap_or(i64::MAX))
    }

    /// How long a lease is relied on, from when it was asked for: a tenth less than it lasts.
    pub(super) fn tenure(&self) -> Duration {
        self.lease() - self.lease() / 10
    }
}
