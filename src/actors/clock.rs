//! The store's one clock, and the ids that are drawn from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use uuid::Uuid;

use crate::domain::id::Key;
use crate::domain::time::{Span, Timestamp};

/// Tells the time of the store. Tests turn a clock of their own by hand.
#[derive(Clone, Debug)]
pub struct Clock {
    by_hand: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self { by_hand: None }
    }

    /// A clock that stands until it is turned.
    #[must_use]
    pub fn by_hand(start: Timestamp) -> Self {
        Self { by_hand: Some(Arc::new(AtomicI64::new(start.millis()))) }
    }

    /// Turns a clock that was made by hand; the machine's clock cannot be turned.
    pub fn turn(&self, span: Span) {
        if let Some(millis) = &self.by_hand {
            millis.fetch_add(span.millis(), Ordering::SeqCst);
        }
    }

    /// The present.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn now(&self) -> Timestamp {
        if let Some(millis) = &self.by_hand {
            return Timestamp::from_millis(millis.load(Ordering::SeqCst));
        }
        let since =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// A new key for a cart and its order: grows with time, and cannot be guessed.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that draws ids")]
    pub fn new_key(&self) -> Key {
        Key::new(Uuid::now_v7())
    }
}
