//! How a noun's events and states are stored, whichever noun it is: for checks of what a store has,
//! or may have. What reads a journal to go on with it is the host's.

use serde_json::{Error, Value};
use strum::VariantNames;

use super::host::decode;
use crate::domain::entity::{Event, Noun, Record};

/// The shapes in which a noun is stored.
#[derive(Clone, Copy, Debug)]
pub struct StoredShapes {
    /// The prefix of its ids.
    pub prefix: &'static str,
    /// All kinds of its events.
    pub kinds: &'static [&'static str],
    /// The newest version of a kind.
    pub newest: fn(kind: &str) -> u16,
    /// Lifts the data of an older version of a kind to the next one.
    pub upcast: fn(kind: &str, version: u16, data: Value) -> Value,
    /// Reads an event, and reads again what is written of it.
    pub reread_event: fn(&Record) -> Result<Reread, Error>,
    /// Reads a state, and reads again what is written of it.
    pub reread_state: fn(text: &str) -> Result<Reread, Error>,
}

/// What was read, as it is written now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reread {
    /// The kind of the event; nothing of a state.
    pub kind: &'static str,
    /// The version of its shape.
    pub version: u16,
    /// As it is written.
    pub written: String,
    /// Whether what is written reads as what was read.
    pub same: bool,
}

impl StoredShapes {
    /// Those of a noun.
    #[must_use]
    pub const fn of<N: Noun>() -> Self {
        Self {
            prefix: N::PREFIX,
            kinds: <N::Event as VariantNames>::VARIANTS,
            newest: N::Event::newest,
            upcast: N::Event::upcast,
            reread_event: reread_event::<N>,
            reread_state: reread_state::<N>,
        }
    }
}

fn reread_event<N: Noun>(record: &Record) -> Result<Reread, Error> {
    let event = decode::<N::Event>(record)?;
    let written = serde_json::to_string(&event)?;
    let (kind, version) = (event.kind(), event.version());
    let again = Record { version, data: written.as_str().into(), ..record.clone() };
    let same = decode::<N::Event>(&again).is_ok_and(|again| again == event);
    Ok(Reread { kind, version, written, same })
}

fn reread_state<N: Noun>(text: &str) -> Result<Reread, Error> {
    let state: N = serde_json::from_str(text)?;
    let written = serde_json::to_string(&state)?;
    let same = serde_json::from_str::<N>(&written).is_ok_and(|again| again == state);
    Ok(Reread { kind: "", version: 0, written, same })
}
