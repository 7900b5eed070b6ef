//! Signed heads are compared with the chain that is computed again: one that was computed anew, or cut
//! off at its end, has another digest than a head that was signed before.

use super::report::{CheckedCounts, Invariant, Violations, shard_name};
use crate::seeded_fault::{self, SeededFault};
use crate::store::journal::Head;
use crate::store::signed_head::{PublicKey, SignedHead, Untrusted};

/// The heads to compare with, and the public keys that are trusted.
#[derive(Clone, Debug, Default)]
pub struct SignedHeads {
    /// Heads that were kept outside of the store.
    pub kept: Vec<SignedHead>,
    /// Public keys that were kept outside of the store, besides those of its master keys.
    pub keys: Vec<PublicKey>,
    /// The ids of histories that the owner has ended, by a restore: heads of later events are lost.
    pub ended: Vec<String>,
}

/// A head that is trusted.
#[derive(Debug)]
pub(super) struct TrustedHead {
    head: Head,
    signed: SignedHead,
    /// Whether it is of a history that the owner has ended: other events may have its position now.
    ended: bool,
}

impl SignedHeads {
    /// The heads of one shard that are trusted, in order of their positions; removes its heads.
    pub(super) fn of_shard(
        &mut self,
        shard: u16,
        checked: &mut CheckedCounts,
        findings: &mut Violations,
    ) -> Vec<TrustedHead> {
        let (own, others) =
            std::mem::take(&mut self.kept).into_iter().partition(|head| head.shard == shard);
        self.kept = others;
        let own: Vec<SignedHead> = own;
        let mut trusted = Vec::with_capacity(own.len());
        for signed in own {
            match signed.verify(&self.keys) {
                Ok(head) => {
                    let ended = self.ended.contains(&signed.history);
                    trusted.push(TrustedHead { head, signed, ended });
                }
                Err(Untrusted::UnknownKey) => checked.signed_heads_not_compared += 1,
                Err(Untrusted::Forged) => {
                    let why = format!("its signed head of {} has a wrong signature", signed.at);
                    findings.add(Invariant::I8, shard_name(shard), &[signed.pos], why);
                }
            }
        }
        trusted.sort_by_key(|one| one.head.pos);
        trusted
    }
}

impl SignedHeads {
    /// Names the shards of heads that are left: they have no row any more.
    pub(super) fn finish(&mut self, checked: &mut CheckedCounts, findings: &mut Violations) {
        while let Some(shard) = self.kept.first().map(|head| head.shard) {
            for one in self.of_shard(shard, checked, findings) {
                one.compare(Head::FIRST, checked, findings);
            }
        }
    }
}

impl TrustedHead {
    /// Compares the head with the end of the chain at its position, or with the end of the whole chain,
    /// if that is before it.
    pub(super) fn compare(self, end: Head, checked: &mut CheckedCounts, findings: &mut Violations) {
        if self.head == end {
            checked.signed_heads += 1;
        } else if self.ended {
            checked.signed_heads_not_compared += 1;
        } else if !seeded_fault::active(SeededFault::ChainUnchecked) {
            let SignedHead { at, history, .. } = &self.signed;
            let pos = self.head.pos;
            let why = if end.pos < pos {
                format!(
                    "the events at positions {} to {pos} were removed: a head was signed after them at {at}",
                    end.pos + 1
                )
            } else {
                format!(
                    "the history up to position {pos} is not the one whose head was signed at {at}: \
                     events were changed, and all digests computed anew"
                )
            };
            let unless =
                format!("; if you have put the store back since: --ended-history {history}");
            let (name, at) = (shard_name(self.signed.shard), [end.pos.min(pos)]);
            findings.add(Invariant::I8, name, &at, why + &unless);
        }
    }

    /// The position of the head.
    pub(super) const fn pos(&self) -> i64 {
        self.head.pos
    }
}
