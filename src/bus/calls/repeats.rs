//! Finds calls that were received before: an overheard call that is sent again is refused.
//!
//! The id of a call is the number of its caller's process, which is random, and the number of the
//! call. For each process, the numbers of the latest calls are remembered; older ones are refused.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::time::Timestamp;
use crate::seeded_fault::{self, SeededFault};

/// The largest allowed difference between the time of sending and the callee's clock. An
/// overheard call is too old to be sent again after this time; until then its id is known.
pub const SKEW: Duration = Duration::from_secs(60);

/// The number of the latest calls of a process that are remembered. Calls of one process arrive
/// out of order, but never by so many.
const WINDOW: u64 = 1 << 16;
const WORDS: usize = (WINDOW / 64) as usize;

/// The calls of one process that were received.
struct Received {
    highest: u64,
    /// A bit for each of the latest numbers.
    bits: Box<[u64; WORDS]>,
    last_at: Timestamp,
}

/// The calls of all processes that were received.
#[derive(Default)]
pub(super) struct Repeats(Mutex<HashMap<u64, Received>>);

impl Repeats {
    /// Notes that a call was received; `false` if it was received before, or may have been.
    pub(super) fn is_first(&self, id: CallId, now: Timestamp) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(&id.process) {
            // A process that has been silent for so long: its calls are too old to be accepted.
            let silent = 2 * i64::try_from(SKEW.as_millis()).unwrap_or(i64::MAX);
            all.retain(|_, one| now.millis() - one.last_at.millis() <= silent);
        }
        let received = all.entry(id.process).or_insert_with(|| Received {
            highest: id.number,
            bits: Box::new([0; WORDS]),
            last_at: now,
        });
        received.last_at = received.last_at.max(now);
        received.is_first(id.number) || seeded_fault::active(SeededFault::ReplayAccepted)
    }
}

impl Received {
    fn is_first(&mut self, number: u64) -> bool {
        if number > self.highest {
            let cleared = (number - self.highest).min(WINDOW);
            for at in 0..cleared {
                self.clear(number - at);
            }
            self.highest = number;
        } else if self.highest - number >= WINDOW {
            return false;
        }
        let (word, bit) = place(number);
        let is_first = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        is_first
    }

    fn clear(&mut self, number: u64) {
        let (word, bit) = place(number);
        self.bits[word] &= !bit;
    }
}

fn place(number: u64) -> (usize, u64) {
    let at = number % WINDOW;
    (usize::try_from(at / 64).unwrap_or_default(), 1 << (at % 64))
}

/// The id of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallId {
    /// The random number of the caller's process.
    pub process: u64,
    /// The number of the call.
    pub number: u64,
}

impl CallId {
    /// Parses an id.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (process, number) = text.split_at_checked(16).filter(|_| text.len() == 32)?;
        let parse = |text| u64::from_str_radix(text, 16).ok();
        Some(Self { process: parse(process)?, number: parse(number)? })
    }
}

impl std::fmt::Display for CallId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}{:016x}", self.process, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_accepted_once_in_any_order() {
        let repeats = Repeats::default();
        let at = Timestamp::from_millis(1_000_000);
        let is_first = |process: u64, number: u64| repeats.is_first(CallId { process, number }, at);
        for number in [5, 3, 4, 1, 700, 699, WINDOW + 600, 650] {
            assert!(is_first(1, number), "{number}");
            assert!(!is_first(1, number), "{number}");
        }
        assert!(!is_first(1, 600), "too old to be known");
        assert!(is_first(1, 601));
        assert!(is_first(2, 5), "another process");
        assert!(is_first(1, u64::MAX));
        assert!(!is_first(1, WINDOW + 600));
    }

    #[test]
    fn silent_processes_are_forgotten_when_their_calls_are_too_old() {
        let repeats = Repeats::default();
        let is_first = |process: u64, millis: i64| {
            repeats.is_first(CallId { process, number: 1 }, Timestamp::from_millis(millis))
        };
        assert!(is_first(1, 0));
        assert!(is_first(2, 120_000));
        assert!(!is_first(1, 120_000), "its call is only now too old");
        assert!(is_first(3, 240_001));
        assert_eq!(repeats.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn ids_of_calls_round_trip() {
        let id = CallId { process: u64::MAX, number: 7 };
        assert_eq!(CallId::parse(&id.to_string()), Some(id));
        for bad in ["", "1", &"f".repeat(31), &"g".repeat(32), &"é".repeat(16)] {
            assert_eq!(CallId::parse(bad), None, "{bad}");
        }
    }
}
