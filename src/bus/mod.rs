//! Floor 1: communication between nodes. There are calls from one node to another, notices to all
//! nodes, job notices to any one node (`queue`), and the stream of committed events. All of them
//! also have an in-process implementation, for several nodes in one process and for a single node.
//!
//! No message is authoritative, and any message may be lost: a receiver that has missed some reads
//! the store.

pub mod calls;
pub mod cluster_key;
mod feed;
pub mod follow;
pub mod local;
pub mod nats;
mod nats_problems;
mod nats_tls;
mod notices;
mod options;
pub mod queue;
pub mod relay;
pub mod stream;

use std::sync::Arc;

use crate::domain::time::Timestamp;

pub use calls::{CallError, CallSlot, Calls, Handler, IncomingCall, Peer};
pub use feed::Feed;
pub use nats_problems::NatsProblems;
pub use notices::{Notice, Notices, SignedNotice};
pub use options::{Options, masked};
pub use relay::{EventSource, Relay};

/// Returns the time by the store's clock.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A node's id as one token of a NATS subject: special characters are written as `=XX`.
#[must_use]
pub fn token(node: &str) -> String {
    use std::fmt::Write as _;
    let mut token = String::with_capacity(node.len());
    for byte in node.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(char::from(byte));
        } else {
            let _ = write!(token, "={byte:02X}");
        }
    }
    if token.is_empty() { "=".to_owned() } else { token }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_id_becomes_one_unique_subject_token() {
        assert_eq!(token("node-1_a"), "node-1_a");
        assert_eq!(token("a.b"), "a=2Eb");
        assert_eq!(token("*"), "=2A");
        assert_ne!(token("a=2Eb"), token("a.b"));
        assert_eq!(token(""), "=");
    }
}
