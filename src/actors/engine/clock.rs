//! The store's one clock, and what is drawn by chance: ids, and the jitter of pauses.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use uuid::Uuid;

use crate::domain::id::Key;
use crate::domain::time::{Span, Timestamp};

/// A source of time and chance other than the machine.
pub trait TimeSource: Send + Sync {
    /// The present.
    fn now(&self) -> Timestamp;

    /// A number that nobody can foresee, or the next one that a seed has.
    fn draw(&self) -> u64 {
        rand::random()
    }

    /// Moves the present; most have none to move.
    fn turn(&self, _span: Span) {}
}

/// Tells the time of the store. Tests turn a clock of their own by hand, the simulator has one
/// whose time and chance follow from a seed.
#[derive(Clone)]
pub struct Clock {
    source: Option<Arc<dyn TimeSource>>,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self { source: None }
    }

    /// A clock that is not the machine's.
    #[must_use]
    pub fn of(source: Arc<dyn TimeSource>) -> Self {
        Self { source: Some(source) }
    }

    /// A clock that stands until it is turned.
    #[must_use]
    pub fn by_hand(start: Timestamp) -> Self {
        Self::of(Arc::new(ByHand(AtomicI64::new(start.millis()))))
    }

    /// Turns a clock that was made by hand, back if the span is negative; the machine's clock
    /// cannot be turned.
    pub fn turn(&self, span: Span) {
        if let Some(source) = &self.source {
            source.turn(span);
        }
    }

    /// The present.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn now(&self) -> Timestamp {
        if let Some(source) = &self.source {
            return source.now();
        }
        let since =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// A new key for a cart and its order: grows with time, and cannot be guessed.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that draws ids")]
    pub fn new_key(&self) -> Key {
        let Some(source) = &self.source else {
            return Key::new(Uuid::now_v7());
        };
        let millis = u64::try_from(source.now().millis()).unwrap_or(0);
        let mut chance = [0; 10];
        chance[..8].copy_from_slice(&source.draw().to_be_bytes());
        chance[8..].copy_from_slice(&source.draw().to_be_bytes()[..2]);
        Key::new(uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid())
    }

    /// What the jitter of a row of pauses begins with.
    pub(in crate::actors) fn jitter(&self) -> u64 {
        self.source.as_ref().map_or_else(rand::random, |source| source.draw())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.source.is_some() { "Clock(of its own)" } else { "Clock(system)" })
    }
}

struct ByHand(AtomicI64);

impl TimeSource for ByHand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn turn(&self, span: Span) {
        self.0.fetch_add(span.millis(), Ordering::SeqCst);
    }
}
