//! The chain of a shard's events is computed again and compared with the stored digests.

use super::heads::{TrustedHead, beyond};
use super::report::{CheckedCounts, Invariant, Violations, shard_name};
use crate::seeded_fault::{self, SeededFault};
use crate::store::journal::{Chained, Head};
use crate::store::shard;

/// Follows the chain of a shard up to its first event that is not the one that was appended there.
#[derive(Debug)]
pub struct ChainCheck {
    shard: u16,
    head: Head,
    broken: bool,
    /// Signed heads to compare with, from the last to the first.
    signed: Vec<TrustedHead>,
}

impl ChainCheck {
    /// Begins at the first event of a shard.
    #[must_use]
    pub const fn new(shard: u16) -> Self {
        Self { shard, head: Head::FIRST, broken: false, signed: Vec::new() }
    }

    /// Compares the chain with these heads, which are in order of their positions.
    #[must_use]
    pub(super) fn comparing(mut self, mut signed: Vec<TrustedHead>) -> Self {
        signed.reverse();
        self.signed = signed;
        self
    }

    /// The end of the chain so far, as it was computed; `None` if the chain is broken.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        (!self.broken).then_some(self.head)
    }

    /// Checks the next event.
    pub fn follow(&mut self, Chained { record, digest }: &Chained, findings: &mut Violations) {
        if self.broken {
            return;
        }
        let next = self.head.pos + 1;
        if record.pos != next {
            let gone = format!("the events at positions {next} to {} are missing", record.pos - 1);
            return self.breaks(record.pos, gone, findings);
        }
        let computed = self.head.add(record);
        if *digest == Some(computed) || seeded_fault::active(SeededFault::ChainUnchecked) {
            return;
        }
        let event = format!(
            "the event at position {next} ({} with seq {} of {})",
            record.kind, record.seq, record.entity
        );
        let why = match digest {
            None => format!("{event} has no digest"),
            Some(_) => format!(
                "{event} does not match its digest: it was altered, inserted or swapped, or one \
                 before it was removed"
            ),
        };
        self.breaks(next, why, findings);
    }

    /// Compares the signed heads at the position of the event that was checked last.
    pub(super) fn compare(&mut self, checked: &mut CheckedCounts, findings: &mut Violations) {
        while !self.broken {
            let Some(signed) = self.signed.pop_if(|next| next.pos() <= self.head.pos) else {
                return;
            };
            signed.compare(self.head, checked, findings);
        }
    }

    /// Checks that the chain ends as the row of its shard says, and not before a signed head.
    pub fn finish(
        &mut self,
        row: &shard::Row,
        checked: &mut CheckedCounts,
        findings: &mut Violations,
    ) {
        let mut left = std::mem::take(&mut self.signed);
        if self.broken {
            left.iter().for_each(|head| head.not_compared(checked));
        } else {
            left.reverse();
            beyond(left, self.head.pos, checked, findings);
        }
        if self.broken || seeded_fault::active(SeededFault::ChainUnchecked) {
            return;
        }
        let Head { pos, digest } = self.head;
        if (row.last_pos, row.head) != (pos, Some(digest)) {
            let why = format!(
                "its chain ends at position {pos}, and not as its row says, at {}: events were \
                 removed or added at its end",
                row.last_pos
            );
            self.breaks(pos, why, findings);
        }
    }

    fn breaks(&mut self, pos: i64, why: String, findings: &mut Violations) {
        self.broken = true;
        findings.add(Invariant::I8, shard_name(self.shard), &[pos], why);
    }
}
