//! Signed heads are compared with the chain that is computed again: one that was computed anew, or cut
//! off at its end, has another digest than a head that was signed before.

use std::collections::BTreeMap;

use super::report::{CheckedCounts, Invariant, KeptHeads, Violations, count, shard_name};
use crate::seeded_fault::{self, SeededFault};
use crate::store::history::HistoryId;
use crate::store::journal::Head;
use crate::store::signed_head::{PublicKey, SignedHead, Untrusted};

/// The heads to compare with, and the public keys that are trusted.
#[derive(Clone, Debug, Default)]
pub struct SignedHeads {
    /// HeadsToCompare that were kept outside of the store; `None` if none were asked for.
    pub kept: Option<Vec<SignedHead>>,
    /// What could not be read as a head, in words.
    pub damaged: Vec<String>,
    /// Public keys that were kept outside of the store, besides those of its master keys.
    pub keys: Vec<PublicKey>,
    /// The ids of histories that the owner has ended, by a restore: heads of later events are lost.
    pub ended: Vec<String>,
}

/// The heads that are not compared yet.
#[derive(Debug, Default)]
pub(super) struct HeadsToCompare {
    /// Those of each shard, and whether they were kept outside of the store.
    left: BTreeMap<u16, Vec<(SignedHead, bool)>>,
    pub(super) keys: Vec<PublicKey>,
    pub(super) ended: Vec<String>,
    /// The store's history: it has not ended.
    pub(super) current: Option<HistoryId>,
}

/// A head that is trusted.
#[derive(Debug)]
pub(super) struct TrustedHead {
    head: Head,
    signed: SignedHead,
    /// Whether it was kept outside of the store.
    elsewhere: bool,
    /// Whether it is of a history that the owner has ended: other events may have its position now.
    ended: bool,
    /// Whether it is of the store's history.
    current: bool,
}

impl HeadsToCompare {
    /// Those that were given, and their counts.
    pub(super) fn given(given: SignedHeads) -> (Self, Option<KeptHeads>) {
        let SignedHeads { kept, damaged, keys, ended } = given;
        let counts = kept.as_ref().map(|kept| KeptHeads {
            given: count(kept.len()),
            damaged,
            ..KeptHeads::default()
        });
        let mut heads = Self { keys, ended, ..Self::default() };
        heads.add(kept.unwrap_or_default(), true);
        (heads, counts)
    }

    /// Adds heads to compare with.
    pub(super) fn add(&mut self, more: Vec<SignedHead>, elsewhere: bool) {
        for head in more {
            self.left.entry(head.shard).or_default().push((head, elsewhere));
        }
    }

    /// The heads of one shard that are trusted, in order of their positions; removes its heads.
    pub(super) fn of_shard(
        &mut self,
        shard: u16,
        checked: &mut CheckedCounts,
        findings: &mut Violations,
    ) -> Vec<TrustedHead> {
        let current = self.current.map(|id| id.to_string());
        let own = self.left.remove(&shard).unwrap_or_default();
        let mut trusted = Vec::with_capacity(own.len());
        for (signed, elsewhere) in own {
            match signed.verify(&self.keys) {
                Ok(head) => {
                    let ended = self.ended.contains(&signed.history);
                    let current = current.as_ref() == Some(&signed.history);
                    trusted.push(TrustedHead { head, signed, elsewhere, ended, current });
                }
                Err(Untrusted::UnknownKey) => {
                    checked.signed_heads_not_compared += 1;
                    if let Some(kept) = checked.kept_heads.as_mut().filter(|_| elsewhere) {
                        kept.unknown_key += 1;
                    }
                }
                Err(Untrusted::Forged) => {
                    let why = format!("its signed head of {} has a wrong signature", signed.at);
                    findings.add(Invariant::I8, shard_name(shard), &[signed.pos], why);
                }
            }
        }
        trusted.sort_by_key(|one| one.head.pos);
        trusted
    }

    /// Names the shards of heads that are left: they have no row any more.
    pub(super) fn finish(&mut self, checked: &mut CheckedCounts, findings: &mut Violations) {
        while let Some(shard) = self.left.keys().next().copied() {
            let lost = self.of_shard(shard, checked, findings);
            beyond(lost, 0, checked, findings);
        }
    }
}

/// Compares with the end of a chain heads that were signed of later events: these are gone. One
/// violation names all that are of one history.
pub(super) fn beyond(
    heads: Vec<TrustedHead>,
    end: i64,
    checked: &mut CheckedCounts,
    findings: &mut Violations,
) {
    let mut lost: BTreeMap<String, (u64, TrustedHead)> = BTreeMap::new();
    for head in heads {
        if head.ended {
            head.not_compared(checked);
            continue;
        }
        head.was_compared(checked);
        let heads = lost.get(&head.signed.history).map_or(0, |(heads, _)| *heads);
        lost.insert(head.signed.history.clone(), (heads + 1, head));
    }
    if seeded_fault::active(SeededFault::ChainUnchecked) {
        return;
    }
    for (heads, last) in lost.into_values() {
        let (from, to, at) = (end + 1, last.head.pos, last.signed.at);
        let signed = match heads {
            1 => format!("a head was signed after them at {at}"),
            many => format!("{many} heads were signed after them, the last at {at}"),
        };
        let why = format!("the events at positions {from} to {to} were removed: {signed}");
        last.differs(end, why, findings);
    }
}

impl TrustedHead {
    /// Compares the head with the chain at its position.
    pub(super) fn compare(self, end: Head, checked: &mut CheckedCounts, findings: &mut Violations) {
        if self.head == end {
            self.was_compared(checked);
            checked.signed_heads += 1;
        } else if self.ended {
            self.not_compared(checked);
        } else {
            self.was_compared(checked);
            if seeded_fault::active(SeededFault::ChainUnchecked) {
                return;
            }
            let (pos, at) = (self.head.pos, self.signed.at);
            let why = format!(
                "the history up to position {pos} is not the one whose head was signed at {at}: \
                 events were changed, and all digests computed anew"
            );
            self.differs(pos, why, findings);
        }
    }

    /// Adds a violation. Of the store's own history no owner can say that they have ended it.
    fn differs(&self, pos: i64, why: String, findings: &mut Violations) {
        let history = &self.signed.history;
        let unless = match self.current {
            true => String::new(),
            false => format!("; if you have put the store back since: --ended-history {history}"),
        };
        findings.add(Invariant::I8, shard_name(self.signed.shard), &[pos], why + &unless);
    }

    fn was_compared(&self, checked: &mut CheckedCounts) {
        if let Some(kept) = checked.kept_heads.as_mut().filter(|_| self.elsewhere) {
            kept.compared += 1;
        }
    }

    /// Counts a head that is not compared: its history has ended, or its chain is broken before it.
    pub(super) fn not_compared(&self, checked: &mut CheckedCounts) {
        checked.signed_heads_not_compared += 1;
        if let Some(kept) = checked.kept_heads.as_mut().filter(|_| self.elsewhere && self.ended) {
            kept.ended_history += 1;
        }
    }

    /// The position of the head.
    pub(super) const fn pos(&self) -> i64 {
        self.head.pos
    }
}
