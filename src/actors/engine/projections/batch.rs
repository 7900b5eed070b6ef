//! One batch: all projections fold its records; their rows, dead letters and cursors are written in
//! one transaction; then the changes are published.

use std::collections::BTreeMap;

use super::runner::EventOutcome;
use super::track::Track;
use super::{Error, Projector};
use crate::actors::engine::changes::Changed;
use crate::domain::entity::Record;
use crate::store::projection::Cursor;

impl Projector {
    /// Processes a batch of records; `false` if another writer has moved a cursor, or if this node
    /// no longer owns one of the shards. In the latter case nothing was written.
    pub(super) async fn process_batch(&mut self, records: &[Record]) -> Result<bool, Error> {
        let told = self.told(records);
        let listened = self.changes.listened();
        // A rebuild publishes nothing.
        let is_news = |record: &Record| {
            listened && told.get(&record.shard).is_some_and(|told| record.pos > *told)
        };
        let services = (self.store.as_ref(), self.journal.as_ref(), &self.clock);
        for track in &mut self.tracks {
            track.fold(services, records, is_news).await?;
        }
        let owned = self.owned.all();
        let mut shards = self.tracks.iter().flat_map(|track| track.cursors.keys());
        if !shards.all(|shard| owned.contains(shard)) {
            return Ok(false);
        }
        let written = self.write(records).await;
        if listened {
            self.fold_rows(records, &told).await?;
        }
        // Some projections may have been written even if others were not.
        for (shard, told) in told {
            self.publish(shard, told, listened);
        }
        self.row_lists.iter_mut().for_each(|list| list.undo());
        let written = written?;
        if !written {
            self.check().await?;
        }
        Ok(written)
    }

    /// Folds the events of plain rows that are about to be published. No event of a row depends on an
    /// earlier one, so nothing is kept between batches.
    async fn fold_rows(
        &mut self,
        records: &[Record],
        told: &BTreeMap<u16, i64>,
    ) -> Result<(), Error> {
        for record in records {
            let told = told.get(&record.shard).is_some_and(|told| record.pos <= *told);
            if told || self.live_pos(record.shard).is_none_or(|pos| record.pos > pos) {
                continue;
            }
            for list in self.row_lists.iter_mut().filter(|list| list.listens_to(&record.entity)) {
                let mut left = i64::MAX;
                let outcome = list.fold(self.journal.as_ref(), record, true, &mut left).await?;
                if let EventOutcome::Unreadable(reason) = outcome {
                    let entity = record.entity.as_str();
                    tracing::error!(entity, reason, "the change of a row cannot be published");
                }
            }
        }
        Ok(())
    }

    /// Writes the batch of all projections in one transaction; `false` if another writer has moved
    /// a cursor.
    async fn write(&mut self, records: &[Record]) -> Result<bool, Error> {
        let moved = self.tracks.iter().filter(|track| !track.cursors.is_empty());
        let moved: Vec<(_, Vec<Cursor>)> =
            moved.map(|track| (track, track.cursors.values().copied().collect())).collect();
        if moved.is_empty() {
            return Ok(true);
        }
        let batches: Vec<_> =
            moved.iter().map(|(track, cursors)| track.projection_batch(cursors)).collect();
        let written = self.store.commit_projections(&batches).await;
        match written {
            Ok(true) => {
                let moved = self.tracks.iter_mut().filter(|track| !track.cursors.is_empty());
                moved.for_each(Track::advance);
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(error) if error.refuses_a_row() || error.refuses_a_table() => {
                self.write_each(records).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes each projection's part of the batch in its own transaction, so that a projection
    /// whose rows are refused does not stop the others. A projection whose table cannot be written
    /// is suspended; if the whole store fails, none is.
    async fn write_each(&mut self, records: &[Record]) -> Result<bool, Error> {
        let services = (self.store.as_ref(), self.journal.as_ref(), &self.clock);
        let mut unmoved = true;
        for track in self.tracks.iter_mut().filter(|track| !track.cursors.is_empty()) {
            match track.commit(self.store.as_ref()).await {
                Ok(true) => track.advance(),
                Ok(false) => unmoved = false,
                Err(error) if error.refuses_a_row() => {
                    unmoved &= track.write_halved(services, records).await?;
                }
                Err(error) if error.refuses_a_table() => {
                    track.suspend();
                    let projection = track.name;
                    tracing::error!(projection, %error, "the rows of a projection are refused");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(unmoved)
    }

    /// For each shard of these records, the position up to which its changes were published, or are
    /// contained in the rows of a list.
    fn told(&self, records: &[Record]) -> BTreeMap<u16, i64> {
        let mut told = BTreeMap::new();
        for record in records {
            told.entry(record.shard).or_insert_with(|| {
                let shown = self.live_pos(record.shard).unwrap_or(0);
                self.changes.head(record.shard).max(shown)
            });
        }
        told
    }

    /// The highest position in a shard that any list with a live feed has reached. A projection
    /// that is behind the others, because it is being rebuilt or cannot be written, delays only its
    /// own live snapshots.
    pub(super) fn live_pos(&self, shard: u16) -> Option<i64> {
        let live = self.tracks.iter().filter(|track| track.is_live);
        live.filter_map(|track| track.parts.get(&shard)).map(|part| part.pos).max()
    }

    /// Publishes a shard's changes of a written batch. `noted` says whether changes were collected.
    /// If they were not, or if one list is ahead of another, a gap is published.
    fn publish(&mut self, shard: u16, told: i64, noted: bool) {
        let Some(pos) = self.live_pos(shard) else { return };
        self.changes.wrote(shard, pos);
        if pos <= told {
            return;
        }
        self.changes.reached(shard, pos);
        if !self.changes.listened() {
            return;
        }
        let mut live = self.tracks.iter().filter(|track| track.is_live);
        let changed = if noted && live.all(|track| track.has_all(shard, told, pos)) {
            let tracks = self.tracks.iter_mut().map(|track| &mut track.run);
            let lists = tracks.chain(&mut self.row_lists).filter_map(|list| list.news(shard));
            Changed::new((shard, told, pos), lists.collect())
        } else {
            Changed::unknown(shard, pos)
        };
        self.changes.publish(changed);
    }
}
