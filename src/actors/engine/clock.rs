//! A node's only source of time and of randomness, which is used for new ids and the jitter of
//! retry delays.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use uuid::Uuid;

use crate::domain::id::Key;
use crate::domain::time::{Span, Timestamp};

/// A source of time and randomness other than the machine's.
pub trait TimeSource: Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// An unpredictable number, or the next one of a seeded series.
    fn draw(&self) -> u64 {
        rand::random()
    }

    /// Moves the time by a span; most sources cannot, and ignore it.
    fn turn(&self, _span: Span) {}
}

/// The clock of a node. A test can use a clock that it sets by hand; the simulator's time and
/// randomness follow from a seed.
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

    /// A clock with another source than the machine.
    #[must_use]
    pub fn of(source: Arc<dyn TimeSource>) -> Self {
        Self { source: Some(source) }
    }

    /// A clock that stands still until [`Clock::turn`].
    #[must_use]
    pub fn by_hand(start: Timestamp) -> Self {
        Self::of(Arc::new(ByHand(AtomicI64::new(start.millis()))))
    }

    /// Moves a clock made by [`Clock::by_hand`], backwards if the span is negative. The machine's
    /// clock ignores this call.
    pub fn turn(&self, span: Span) {
        if let Some(source) = &self.source {
            source.turn(span);
        }
    }

    /// The current time.
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

    /// A new key, which is the common part of the ids of a cart and its order. Keys grow with time
    /// and cannot be guessed.
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

    /// The time, 32 random bytes and 64 random bits, for a new key that seals.
    #[must_use]
    pub fn for_key(&self) -> (Timestamp, ([u8; 32], u64)) {
        let Some(source) = &self.source else {
            return (self.now(), (rand::random(), rand::random()));
        };
        let mut bytes = [0; 32];
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&source.draw().to_be_bytes());
        }
        (self.now(), (bytes, source.draw()))
    }

    /// A seed for the jitter of a series of delays.
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
