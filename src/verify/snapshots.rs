//! Snapshots are compared with the folds of the events that they stand for.

use super::report::{CheckedCounts, Invariant, Violations};
use crate::actors::engine::stored::{SnapshotCheck, StoredShapes};
use crate::actors::nouns;
use crate::store::journal::{Journal, ReadError};

/// The number of snapshots that are read at once.
const PAGE: u32 = 100;

/// Compares all snapshots. One is written after hundreds of events, so few entities have one.
pub(super) async fn check(
    journal: &dyn Journal,
    checked: &mut CheckedCounts,
    findings: &mut Violations,
) -> Result<(), ReadError> {
    let nouns: Vec<StoredShapes> = nouns::all().shapes().copied().collect();
    let mut after = None;
    loop {
        let page = journal.snapshots(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.entity.clone());
        for snapshot in &page {
            let prefix = snapshot.entity.prefix();
            let Some(noun) = nouns.iter().find(|noun| noun.prefix == prefix) else { continue };
            match (noun.check_snapshot)(journal, snapshot).await? {
                SnapshotCheck::Agrees => checked.snapshots += 1,
                SnapshotCheck::NotCompared => {}
                SnapshotCheck::Differs => {
                    let why = format!(
                        "its snapshot at event {} is not the fold of its events: it was changed, \
                         or damaged; delete its row of snapshot",
                        snapshot.seq
                    );
                    findings.add(Invariant::I6, &snapshot.entity, &[], why);
                }
            }
        }
    }
}
