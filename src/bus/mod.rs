//! Floor 1: what crosses nodes: calls from one node to another, notices to all of them, and the
//! stream of what their journals have committed. Each has a twin in process, for several nodes
//! in one process and for the node that is alone.
//!
//! Nothing here is the truth, and all of it may be lost: whoever falls behind reads the journal.

pub mod calls;
mod feed;
mod findings;
pub mod follow;
pub mod local;
pub mod nats;
mod notices;
mod options;
pub mod queue;
pub mod relay;
pub mod stream;

use std::sync::Arc;

use crate::domain::time::Timestamp;

pub use calls::{CallError, CallSlot, Calls, Handler, IncomingCall, Peer};
pub use feed::Feed;
pub use findings::Findings;
pub use notices::{Notice, Notices};
pub use options::{Options, masked};
pub use relay::{EventSource, Relay};

/// Tells the time of the store.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A node's id as one token of a subject: what could mean something there is written as `=XX`.
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
    fn a_token_is_one_and_never_another_nodes() {
        assert_eq!(token("node-1_a"), "node-1_a");
        assert_eq!(token("a.b"), "a=2Eb");
        assert_eq!(token("*"), "=2A");
        assert_ne!(token("a=2Eb"), token("a.b"));
        assert_eq!(token(""), "=");
    }
}
