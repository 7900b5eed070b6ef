//! Points at which a test lets this process die as by `kill -9`: nothing is unwound, flushed or
//! closed. They stand around the journal's transactions and around the calls to a provider, which
//! are all the places where the outside world can tell one moment from the next.
//!
//! `KONTOR_CRASH=before:ord.placed` dies just before the transaction that has such an event,
//! `after:sku.reserved` just after its commit, `before:psp.capture` before a call is sent and
//! `after:psp.capture` once it is answered and nothing of the answer is recorded; a number at the
//! end (`after:sku.reserved:2`) asks for a later occurrence than the first.
//!
//! Only builds with debug assertions have this module and the lines that call it: a release build
//! knows neither the variable nor the points. What must hold afterwards is in
//! `tests/it/crashes.rs`.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The variable of the environment that names the point.
pub const VARIABLE: &str = "KONTOR_CRASH";

static POINT: LazyLock<Option<Point>> =
    LazyLock::new(|| std::env::var(VARIABLE).ok().as_deref().and_then(Point::parse));

/// Which side of a deed is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It has not begun.
    Before,
    /// It is done, and nobody knows yet.
    After,
}

/// Where to die.
struct Point {
    side: Side,
    noun: String,
    kind: String,
    /// Occurrences that are still to come, this one included.
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

/// Dies if this is the point that the environment names.
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
