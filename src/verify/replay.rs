//! Decodes an entity's events, each of which must follow the previous one, and folds them from the
//! first one.
//!
//! The books compare the folded states.

use super::report::{Invariant, Violations};
use crate::actors::engine::fold::{self, Folded, Upto};
use crate::actors::engine::host::decode;
use crate::domain::entity::{EntityId, Event, Noun, Record};
use crate::store::journal::{Journal, ReadError};

/// The event of a record, if it follows event `seq` of its entity and can be decoded; otherwise
/// reports a violation.
pub(super) fn next<E: Event>(record: &Record, seq: i64, findings: &mut Violations) -> Option<E> {
    if record.seq != seq + 1 {
        let why = format!("its event {} follows event {seq}", record.seq);
        findings.add(Invariant::I5, &record.entity, &[record.pos], why);
        return None;
    }
    match decode::<E>(record) {
        Ok(event) if event.kind() == &*record.kind => Some(event),
        Ok(event) => {
            let why = format!(
                "its event {} is stored as {} but is {}",
                record.seq,
                record.kind,
                event.kind()
            );
            findings.add(Invariant::I5, &record.entity, &[record.pos], why);
            None
        }
        Err(error) => {
            let why = format!("its event {} ({}) cannot be read: {error}", record.seq, record.kind);
            findings.add(Invariant::I5, &record.entity, &[record.pos], why);
            None
        }
    }
}

/// Folds an entity's events up to `until`, always from the first event, never from a snapshot;
/// `None` if they cannot be decoded.
pub(super) async fn replay<N: Noun>(
    journal: &dyn Journal,
    entity: &EntityId,
    until: i64,
) -> Result<Option<Folded<N>>, ReadError> {
    Ok(fold::replay(journal, entity, Upto::Seq(until)).await?.ok())
}
