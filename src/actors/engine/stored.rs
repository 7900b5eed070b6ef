//! The stored form of any noun's events and states, for those who check them without running entities:
//! tests and fuzz targets, which decode and encode them again, and `verify`.

use futures_util::future::BoxFuture;
use serde_json::{Error, Value};
use strum::VariantNames;

use super::fold::{self, Upto};
use super::host::{decode, kept};
use crate::domain::entity::{Event, Noun, Record};
use crate::store::journal::{Journal, ReadError, StateSnapshot};

/// The stored forms of a noun.
#[derive(Clone, Copy, Debug)]
pub struct StoredShapes {
    /// The prefix of its ids.
    pub prefix: &'static str,
    /// All kinds of its events.
    pub kinds: &'static [&'static str],
    /// The newest version of a kind.
    pub newest: fn(kind: &str) -> u16,
    /// Upcasts the data of an older version of a kind to the next one.
    pub upcast: fn(kind: &str, version: u16, data: Value) -> Value,
    /// Decodes an event, encodes it again, and decodes the result.
    pub round_trip_event: fn(&Record) -> Result<RoundTrip, Error>,
    /// Compares a snapshot with the fold of its entity's events.
    pub check_snapshot: for<'a> fn(&'a dyn Journal, &'a StateSnapshot) -> Checking<'a>,
    /// Decodes a state, encodes it again, and decodes the result.
    pub round_trip_state: fn(text: &str) -> Result<RoundTrip, Error>,
}

/// A decoded event or state in its current encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// The kind of the event; empty for a state.
    pub kind: &'static str,
    /// The version of the event's kind; 0 for a state.
    pub version: u16,
    /// Its encoding.
    pub written: String,
    /// Whether decoding `written` gives the same value again.
    pub same: bool,
}

/// What a snapshot is, compared with the events that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotCheck {
    /// The fold of the events.
    Agrees,
    /// Another state than the fold of the events, or no state.
    Differs,
    /// A state of another version, which nobody uses, or one of events that cannot be read.
    NotCompared,
}

/// A comparison that is being made.
pub type Checking<'a> = BoxFuture<'a, Result<SnapshotCheck, ReadError>>;

impl StoredShapes {
    /// The stored forms of a noun.
    #[must_use]
    pub const fn of<N: Noun>() -> Self {
        Self {
            prefix: N::PREFIX,
            kinds: <N::Event as VariantNames>::VARIANTS,
            newest: N::Event::newest,
            upcast: N::Event::upcast,
            check_snapshot: |journal, snapshot| Box::pin(check_snapshot::<N>(journal, snapshot)),
            round_trip_event: round_trip_event::<N>,
            round_trip_state: round_trip_state::<N>,
        }
    }
}

async fn check_snapshot<N: Noun>(
    journal: &dyn Journal,
    snapshot: &StateSnapshot,
) -> Result<SnapshotCheck, ReadError> {
    if snapshot.state_version != N::STATE_VERSION {
        return Ok(SnapshotCheck::NotCompared);
    }
    let upto = Upto::Seq(snapshot.seq);
    let Ok(folded) = fold::replay::<N>(journal, &snapshot.entity, upto).await? else {
        return Ok(SnapshotCheck::NotCompared);
    };
    let agrees = folded.seq == snapshot.seq && kept(snapshot).as_ref() == Some(&folded.state);
    Ok(if agrees { SnapshotCheck::Agrees } else { SnapshotCheck::Differs })
}

fn round_trip_event<N: Noun>(record: &Record) -> Result<RoundTrip, Error> {
    let event = decode::<N::Event>(record)?;
    let written = serde_json::to_string(&event)?;
    let (kind, version) = (event.kind(), event.version());
    let again = Record { version, data: written.as_str().into(), ..record.clone() };
    let same = decode::<N::Event>(&again).is_ok_and(|again| again == event);
    Ok(RoundTrip { kind, version, written, same })
}

fn round_trip_state<N: Noun>(text: &str) -> Result<RoundTrip, Error> {
    let state: N = serde_json::from_str(text)?;
    let written = serde_json::to_string(&state)?;
    let same = serde_json::from_str::<N>(&written).is_ok_and(|again| again == state);
    Ok(RoundTrip { kind: "", version: 0, written, same })
}
