//! Options of cluster membership.

use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::domain::limits::{holds, web_address, within};
use crate::domain::time::Span;
use crate::domain::tls_files::TlsFiles;

/// Options of cluster membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The node's name; if empty, it is made from its address.
    #[garde(custom(node_name))]
    pub node: String,
    /// The address at which other nodes reach it; if empty, the address on which it listens.
    #[garde(custom(web_address))]
    pub url: String,
    /// The files for TLS between nodes, which prove with it to each other who they are; empty for calls
    /// in clear.
    #[garde(dive, custom(all_or_none))]
    pub tls: TlsFiles,
    /// Duration of a lease, in milliseconds.
    #[garde(custom(within(1_000..=120_000)))]
    pub lease_ms: u64,
    /// Period of lease renewals, in milliseconds.
    #[garde(custom(renewed_in_time(self.lease_ms)))]
    pub renew_ms: u64,
    /// How long a new node must be alive before it gets shards of other nodes, in milliseconds.
    #[garde(custom(within(0..=600_000)))]
    pub settle_ms: u64,
    /// Shards that are handed over at once.
    #[garde(custom(within(1..=1_024)))]
    pub hand_over_max: usize,
    /// How long a stopping node goes on serving, so that load balancers notice, in milliseconds.
    #[garde(custom(within(0..=60_000)))]
    pub leave_ms: u64,
}

fn node_name(name: &str, (): &()) -> garde::Result {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    holds(
        name.len() <= 64 && name.bytes().all(letter),
        || "must have at most 64 letters, digits, - and _, and differ from all other nodes",
    )
}

fn all_or_none(tls: &TlsFiles, (): &()) -> garde::Result {
    holds(
        tls.ca().is_some() == tls.own().is_some(),
        || "must have ca, cert and key, or none of them: nodes prove to each other who they are",
    )
}

fn renewed_in_time(lease_ms: u64) -> impl Fn(&u64, &()) -> garde::Result {
    move |renew_ms, ()| {
        holds(
            *renew_ms >= 100 && renew_ms.saturating_mul(3) <= lease_ms,
            || "must be at least 100, and at most a third of cluster.lease_ms",
        )
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node: String::new(),
            url: String::new(),
            tls: TlsFiles::default(),
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

    /// How long a lease is relied on, counted from the request: its duration less a tenth.
    pub(super) fn lease_trusted_for(&self) -> Duration {
        self.lease() - self.lease() / 10
    }
}
