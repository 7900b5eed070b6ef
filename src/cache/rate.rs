//! How a limit counts: one number per caller, the moment at which its share is whole again (the
//! generic cell rate algorithm). No window that begins anew, so no burst at its edge.
//!
//! The script in `redis` does the same by the server's clock.

use std::time::Duration;

/// How much is allowed: so many at once, and as many again in each period, evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many; at least one.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

impl Limit {
    /// How far apart even calls are, in microseconds.
    pub(super) fn apart_micros(self) -> i64 {
        (self.per_micros() / i64::from(self.count.max(1))).max(1)
    }

    /// The period, in microseconds.
    pub(super) fn per_micros(self) -> i64 {
        i64::try_from(self.per.as_micros()).unwrap_or(i64::MAX / 4).clamp(1, i64::MAX / 4)
    }
}

/// The decision of a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateDecision {
    /// Whether there was something to take.
    pub allowed: bool,
    /// How many are left.
    pub left: u32,
    /// In how long the share is whole again.
    pub whole_in: Duration,
    /// In how long there is something to take again; nothing if there is.
    pub retry_in: Duration,
}

/// Counts: `whole_at` is when the share would be whole again, all in microseconds. Answers the
/// next `whole_at`, and what came of it.
pub(super) fn count(whole_at: i64, now: i64, limit: Limit, cost: i64) -> (i64, RateDecision) {
    let (apart, per) = (limit.apart_micros(), limit.per_micros());
    let from = whole_at.max(now);
    let next = (from + cost * apart).max(now);
    let allowed = cost <= 0 || next - now <= per;
    let whole_at = if allowed { next } else { from };
    (whole_at, taken(allowed, whole_at - now, limit))
}

/// What it means that a share is whole again in `debt` microseconds.
pub(super) fn taken(allowed: bool, debt: i64, limit: Limit) -> RateDecision {
    let (apart, per) = (limit.apart_micros(), limit.per_micros());
    let micros = |span: i64| Duration::from_micros(u64::try_from(span).unwrap_or(0));
    RateDecision {
        allowed,
        left: u32::try_from((per - debt).max(0) / apart).unwrap_or(u32::MAX).min(limit.count),
        whole_in: micros(debt),
        retry_in: if allowed { Duration::ZERO } else { micros(debt + apart - per) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_spent_at_once_and_comes_back_evenly() {
        let limit = Limit { count: 3, per: Duration::from_secs(3) };
        let mut whole_at = 0;
        let mut take = |now: i64, cost: i64| {
            let (next, taken) = count(whole_at, now, limit, cost);
            whole_at = next;
            taken
        };
        for left in [2, 1, 0] {
            let taken = take(1_000_000, 1);
            assert_eq!((taken.allowed, taken.left), (true, left));
        }
        let refused = take(1_000_000, 1);
        assert_eq!((refused.allowed, refused.left), (false, 0));
        assert_eq!(refused.retry_in, Duration::from_secs(1));
        assert_eq!(refused.whole_in, Duration::from_secs(3));
        assert!(!take(1_999_999, 1).allowed);
        assert!(take(2_000_000, 1).allowed, "one has come back");
        assert!(!take(2_000_000, 1).allowed);
        assert_eq!(take(2_000_000, -1).left, 1);
        assert!(take(2_000_000, 1).allowed);
        for _ in 0..5 {
            take(2_000_000, -1);
        }
        assert_eq!(take(2_000_000, 1).left, 2, "never more than there is");
    }
}
