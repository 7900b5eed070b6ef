//! The history of an entity: read from the journal, upcast, folded, and stored as a snapshot from
//! time to time. `entity` makes decisions on the resulting state.

use std::collections::HashMap;

use ractor::ActorProcessingErr;

use super::{LoadedEntity, UNKNOWN};
use crate::domain::entity::{Event, Noun};
use crate::domain::time::Timestamp;
use crate::seeded_fault::{self, SeededFault};
use crate::store::journal::{Record, StateSnapshot};

/// The number of events in the first read, which is the whole history of most carts and orders. An
/// entity with more events may have a snapshot; then the first read was in vain.
const FIRST: u32 = 50;
/// The number of events in each later read.
const PAGE: u32 = 500;

impl<N: Noun> LoadedEntity<N> {
    pub(super) fn keep_snapshot(&mut self) {
        let weight = i64::try_from(self.state.weight()).unwrap_or(i64::MAX);
        let every = self.host.shared.options.snapshot_every.max(weight);
        if self.seq - self.snapshot_seq < every {
            return;
        }
        self.snapshot_seq = self.seq;
        let kept = Kept { state: &self.state, keys: &self.keys };
        let Ok(data) = serde_json::to_string(&kept) else {
            return;
        };
        let (entity, seq) = (self.id.clone(), self.seq);
        let snapshot = StateSnapshot { entity, seq, state_version: N::STATE_VERSION, data };
        let journal = self.host.shared.journal.clone();
        tokio::spawn(async move {
            if let Err(error) = journal.put_snapshot(snapshot).await {
                tracing::warn!(%error, "cannot store a snapshot");
            }
        });
    }

    /// Replays the history, from its snapshot if the history is long and there is one.
    pub(super) async fn replay(&mut self) -> Result<(), ActorProcessingErr> {
        self.state = N::default();
        (self.seq, self.durable, self.snapshot_seq, self.armed) = (0, 0, 0, None);
        self.keys.clear();
        let journal = self.host.shared.journal.clone();
        loop {
            let limit = if self.seq == 0 { FIRST } else { PAGE };
            let page = journal.read_entity(&self.id, self.seq, limit).await?;
            let full = page.len() == usize::try_from(limit).unwrap_or(usize::MAX);
            if full && self.seq == 0 && self.believe_snapshot().await? {
                continue;
            }
            for record in &page {
                if let Err(why) = self.fold(record) {
                    tracing::error!(
                        entity = self.id.as_str(),
                        why,
                        "entity in quarantine: its history cannot be read"
                    );
                    let shared = &self.host.shared;
                    shared.quarantine.note(&self.id, &why, shared.clock.now());
                    (self.broken, self.durable) = (Some(why), self.seq);
                    return Ok(());
                }
            }
            if !full {
                break;
            }
        }
        self.durable = self.seq;
        self.host.shared.quarantine.well(&self.id);
        let now = self.host.shared.clock.now();
        // A timer that is due may have fired already, which moved its row to a later time.
        self.armed = self.state.timer().map(|at| if at <= now { UNKNOWN } else { at });
        Ok(())
    }

    async fn believe_snapshot(&mut self) -> Result<bool, ActorProcessingErr> {
        let Some(snapshot) = self.host.shared.journal.snapshot(&self.id).await? else {
            return Ok(false);
        };
        let foreign = snapshot.state_version != N::STATE_VERSION;
        if foreign && !seeded_fault::active(SeededFault::ForeignSnapshotBelieved) {
            return Ok(false);
        }
        let Ok(kept) = serde_json::from_str::<KeptOwned<N>>(&snapshot.data) else {
            return Ok(false);
        };
        self.state = kept.state;
        self.keys = kept.keys;
        (self.seq, self.snapshot_seq) = (snapshot.seq, snapshot.seq);
        Ok(true)
    }

    fn fold(&mut self, record: &Record) -> Result<(), String> {
        if record.seq != self.seq + 1 {
            return Err(format!("event {} follows event {}", record.seq, self.seq));
        }
        let event = decode::<N::Event>(record)
            .map_err(|error| format!("event {} ({}): {error}", record.seq, record.kind))?;
        self.state.evolve(&event, record.at);
        self.seq = record.seq;
        self.remember(&record.cause(), record.at);
        Ok(())
    }
}

/// Decodes an event, after upcasting it to the newest version of its kind.
///
/// # Errors
/// When the record was altered, or its data does not match its kind and version.
pub fn decode<E: Event>(record: &Record) -> Result<E, serde_json::Error> {
    if !record.intact {
        let why = "it is damaged on disk: its checksum does not match";
        return Err(serde::de::Error::custom(why));
    }
    let newest = E::newest(&record.kind);
    let event: E = if record.version >= newest {
        serde_json::from_str(&record.data)?
    } else {
        let mut data: serde_json::Value = serde_json::from_str(&record.data)?;
        for version in record.version..newest {
            data = E::upcast(&record.kind, version, data);
        }
        serde_json::from_value(data)?
    };
    if event.kind() == &*record.kind {
        Ok(event)
    } else {
        Err(serde::de::Error::custom(format!("the data is that of {}", event.kind())))
    }
}

/// The state that a snapshot contains; `None` if it belongs to another state version.
pub fn kept<N: Noun>(snapshot: &StateSnapshot) -> Option<N> {
    let known = snapshot.state_version == N::STATE_VERSION;
    let kept = known.then(|| serde_json::from_str::<KeptOwned<N>>(&snapshot.data));
    kept?.ok().map(|kept| kept.state)
}

/// The contents of a snapshot.
#[derive(serde::Serialize)]
struct Kept<'a, N> {
    state: &'a N,
    keys: &'a HashMap<String, (u64, Timestamp)>,
}

#[derive(serde::Deserialize)]
struct KeptOwned<N> {
    state: N,
    keys: HashMap<String, (u64, Timestamp)>,
}
