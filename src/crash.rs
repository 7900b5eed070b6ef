//! Crash points: places at which a test can kill this process as `kill -9` does, without unwinding,
//! flushing or closing anything. They are before and after the journal's transactions and the calls
//! to a provider, because only there does a crash leave a different state in the store or at the
//! provider.
//!
//! The environment variable `KONTOR_CRASH` selects a point: `before:ord.placed` is just before the
//! transaction that contains an event of this kind, `after:sku.reserved` just after such a
//! transaction, `before:psp.capture` just before a call to the provider is sent, and
//! `after:psp.capture` when the call was answered but nothing of the answer is recorded. A number
//! at the end selects a later occurrence: `after:sku.reserved:2` is the second.
//!
//! Only builds with debug assertions contain this module and its callers; a release build ignores
//! the variable. `tests/it/crashes.rs` checks the state after a crash.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The environment variable that selects the point.
pub const VARIABLE: &str = "KONTOR_CRASH";

static POINT: LazyLock<Option<Point>> =
    LazyLock::new(|| std::env::var(VARIABLE).ok().as_deref().and_then(Point::parse));

/// Whether a point is before or after an operation (a transaction, or a call to a provider).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The operation has not begun.
    Before,
    /// The operation is done, but its result is not recorded or reported yet.
    After,
}

/// A crash point, as selected by [`VARIABLE`].
struct Point {
    side: Side,
    noun: String,
    kind: String,
    /// The number of occurrences until the crash, including the last one.
    left: AtomicU32,
}

impl Point {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let side = match parts.next()? {
            "before" => Side::Before,
            "after" => Side::After,
            _ => return None,
        };
        let (noun, kind) = parts.next()?.split_once('.')?;
        let left = parts.next().map_or(Some(1), |number| number.parse().ok())?;
        Some(Self { side, noun: noun.into(), kind: kind.into(), left: AtomicU32::new(left) })
    }

    fn is(&self, side: Side, noun: &str, kind: &str) -> bool {
        self.side == side && self.noun == noun && self.kind == kind
    }
}

/// Kills the process if this is the selected point and occurrence.
pub fn reached(side: Side, noun: &str, kind: &str) {
    let Some(point) = POINT.as_ref().filter(|point| point.is(side, noun, kind)) else {
        return;
    };
    if point.left.fetch_sub(1, Ordering::SeqCst) == 1 {
        die();
    }
}

fn die() -> ! {
    #[cfg(unix)]
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_point_is_parsed_and_hit() {
        let point = Point::parse("after:sku.reserved:2").unwrap();
        assert!(point.is(Side::After, "sku", "reserved"));
        assert!(!point.is(Side::Before, "sku", "reserved"));
        assert!(!point.is(Side::After, "ord", "reserved"));
        assert_eq!(point.left.into_inner(), 2);
        assert_eq!(Point::parse("before:psp.capture").unwrap().left.into_inner(), 1);
        assert!(Point::parse("beside:psp.capture").is_none());
    }
}
