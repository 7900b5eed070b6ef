//! The headers of a call on any transport: caller, callee, time, timeout, the digest of the body, and
//! a signature of all these that proves that a node of this cluster sent it. So a call of a stranger
//! is refused before its body is read.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::CallRefusal;
use super::repeats::{CallId, SKEW};
use crate::domain::cluster_key::{ClusterKey, MessageKind};
use crate::domain::time::Timestamp;
use crate::seeded_fault::{self, SeededFault};

/// The calling node.
pub const FROM: &str = "Kontor-Call-From";
/// The call's id, new for each attempt: a node serves it once.
pub const ID: &str = "Kontor-Call-Id";
/// The time of sending, in milliseconds since 1970 by the caller's clock.
pub const SENT: &str = "Kontor-Call-Sent";
/// The caller's timeout, counted from the time of sending, in milliseconds.
pub const LEFT: &str = "Kontor-Call-Left";
/// The digest (SHA-256) of a call's body, in hexadecimal.
pub const DIGEST: &str = "Kontor-Call-Digest";
/// The signature: that of a call covers the headers above and the callee, that of an answer the id of
/// its call, the node that answers and the body, that of a refusal these and the outcome.
pub const MAC: &str = "Kontor-Call-Mac";
/// The reason why there is no answer.
pub const OUTCOME: &str = "Kontor-Call-Outcome";
/// The trace context (W3C).
pub const TRACE: &str = "traceparent";

/// The headers of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The calling node.
    pub from: String,
    /// The call's id.
    pub id: CallId,
    /// The time of sending.
    pub sent: Timestamp,
    /// The caller's timeout.
    pub left: Duration,
    /// The digest of the body.
    pub digest: String,
    /// The trace context.
    pub trace: String,
}

/// The digest of a body.
#[must_use]
pub fn digest(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

impl Seal {
    /// The headers of a call to a node.
    #[must_use]
    pub fn headers(&self, key: &ClusterKey, to: &str) -> [(&'static str, String); 7] {
        let (sent, left) = (self.sent.millis().to_string(), self.left.as_millis().to_string());
        let id = self.id.to_string();
        let signed = [&self.from, to, &id, &sent, &left, &self.digest];
        let mac = key.sign(MessageKind::Call, &signed, b"");
        [
            (FROM, self.from.clone()),
            (ID, id),
            (SENT, sent),
            (LEFT, left),
            (DIGEST, self.digest.clone()),
            (MAC, mac),
            (TRACE, self.trace.clone()),
        ]
    }

    /// Verifies and parses the headers of a call to this node. The headers are valid only if a node
    /// of the cluster signed them, for this node, and recently, and not before `since`: what was
    /// sent to an earlier process of this node may have been received there. The body is verified by
    /// [`Self::covers`].
    ///
    /// # Errors
    /// [`CallRefusal::Unsigned`] or [`CallRefusal::Late`].
    pub fn read<'a>(
        key: &ClusterKey,
        me: &str,
        header: impl Fn(&str) -> Option<&'a str>,
        (since, now): (Timestamp, Timestamp),
    ) -> Result<Self, CallRefusal> {
        let text = |name| header(name).ok_or(CallRefusal::Unsigned);
        let (from, id, sent, left) = (text(FROM)?, text(ID)?, text(SENT)?, text(LEFT)?);
        let digest = text(DIGEST)?;
        let signed = [from, me, id, sent, left, digest];
        if !key.is_signed(text(MAC)?, MessageKind::Call, &signed, b"") {
            return Err(CallRefusal::Unsigned);
        }
        let id = CallId::parse(id).ok_or(CallRefusal::Unsigned)?;
        let sent: i64 = sent.parse().map_err(|_| CallRefusal::Unsigned)?;
        let left: u64 = left.parse().map_err(|_| CallRefusal::Unsigned)?;
        let age = now.millis().saturating_sub(sent);
        let skew = i64::try_from(SKEW.as_millis()).unwrap_or(i64::MAX);
        if age > skew || age < -skew || sent < since.millis() {
            return Err(CallRefusal::Late);
        }
        Ok(Self {
            from: from.to_owned(),
            id,
            sent: Timestamp::from_millis(sent),
            left: Duration::from_millis(left),
            digest: digest.to_owned(),
            trace: header(TRACE).unwrap_or_default().to_owned(),
        })
    }

    /// Whether this is the body of the call.
    #[must_use]
    pub fn covers(&self, body: &[u8]) -> bool {
        digest(body) == self.digest
    }
}

/// The signature of an answer to a call.
#[must_use]
pub fn sign_answer(key: &ClusterKey, call: &str, me: &str, body: &[u8]) -> String {
    key.sign(MessageKind::Answer, &[call, me], body)
}

/// Whether an answer was signed by the node that was called.
#[must_use]
pub fn is_answer(key: &ClusterKey, signature: &str, call: CallId, to: &str, body: &[u8]) -> bool {
    key.is_signed(signature, MessageKind::Answer, &[&call.to_string(), to], body)
        || seeded_fault::active(SeededFault::UnauthenticatedAnswerObeyed)
}

/// The signature of the refusal of a call: with it, the caller may believe that nothing was done.
#[must_use]
pub fn sign_refusal(key: &ClusterKey, call: &str, me: &str, outcome: &str) -> String {
    key.sign(MessageKind::Refusal, &[call, me, outcome], b"")
}

/// Whether a refusal was signed by the node that was called.
#[must_use]
pub fn is_refusal(
    key: &ClusterKey,
    signature: &str,
    (call, to): (CallId, &str),
    outcome: &str,
) -> bool {
    key.is_signed(signature, MessageKind::Refusal, &[&call.to_string(), to, outcome], b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ClusterKey {
        ClusterKey::new([7; 32])
    }
    const ID: CallId = CallId { process: 9, number: 1 };

    fn seal() -> Seal {
        Seal {
            from: "a".into(),
            id: ID,
            sent: Timestamp::from_millis(1_000_000),
            left: Duration::from_millis(500),
            digest: digest(b"body"),
            trace: "00-1-2-01".into(),
        }
    }

    fn read(headers: &[(&'static str, String)], me: &str, at: i64) -> Result<Seal, CallRefusal> {
        let find = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        let since = Timestamp::from_millis(990_000);
        Seal::read(&key(), me, find, (since, Timestamp::from_millis(at)))
    }

    #[test]
    fn call_signature_covers_callee_body_and_time() {
        let headers = seal().headers(&key(), "b");
        assert_eq!(read(&headers, "b", 1_000_100), Ok(seal()));
        assert_eq!(read(&headers, "c", 1_000_100), Err(CallRefusal::Unsigned));
        assert!(seal().covers(b"body") && !seal().covers(b"bod"));
        assert_eq!(read(&headers, "b", 1_060_001), Err(CallRefusal::Late));
        assert_eq!(read(&headers, "b", 939_999), Err(CallRefusal::Late));
        let restarted = Timestamp::from_millis(1_000_001);
        let find = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        assert_eq!(Seal::read(&key(), "b", find, (restarted, restarted)), Err(CallRefusal::Late));
        for at in 0..6 {
            let mut changed = headers.clone();
            changed[at].1.push('0');
            assert_eq!(read(&changed, "b", 1_000_100), Err(CallRefusal::Unsigned), "{at}");
            let mut missing = headers.to_vec();
            missing.remove(at);
            assert_eq!(read(&missing, "b", 1_000_100), Err(CallRefusal::Unsigned), "{at}");
        }
        let answer = sign_answer(&key(), &ID.to_string(), "b", b"answer");
        assert!(is_answer(&key(), &answer, ID, "b", b"answer"));
        assert!(!is_answer(&key(), &answer, ID, "c", b"answer"));
        assert!(!is_answer(&key(), &answer, CallId { number: 2, ..ID }, "b", b"answer"));
        assert!(!is_answer(&key(), &answer, ID, "b", b"another"));
        let refusal = sign_refusal(&key(), &ID.to_string(), "b", "busy");
        assert!(is_refusal(&key(), &refusal, (ID, "b"), "busy"));
        assert!(!is_refusal(&key(), &refusal, (ID, "b"), "closed"));
        assert!(!is_refusal(&key(), &refusal, (ID, "c"), "busy"));
        assert!(!is_refusal(&key(), &refusal, (CallId { number: 2, ..ID }, "b"), "busy"));
        let foreign = seal().headers(&ClusterKey::new([8; 32]), "b");
        assert_eq!(read(&foreign, "b", 1_000_100), Err(CallRefusal::Unsigned));
    }
}
