//! The rate limit algorithm: one number per caller, the time at which its allowance is full again
//! (the generic cell rate algorithm). There are no windows, so there are no bursts at their edges.
//!
//! The script `COUNT` in `redis` computes the same by the clock of Redis.

use std::time::Duration;

/// A rate limit: a burst of `count` calls, whose allowance is refilled evenly over `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The number of calls in a burst; at least 1.
    pub count: u32,
    /// The time in which an empty allowance is refilled.
    pub per: Duration,
}

impl Limit {
    /// The refill time of one call, in microseconds.
    pub(super) fn apart_micros(self) -> i64 {
        (self.per_micros() / i64::from(self.count.max(1))).max(1)
    }

    /// The period, in microseconds.
    pub(super) fn per_micros(self) -> i64 {
        i64::try_from(self.per.as_micros()).unwrap_or(i64::MAX / 4).clamp(1, i64::MAX / 4)
    }
}

/// The outcome of counting a call against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateDecision {
    /// Whether the call is allowed.
    pub allowed: bool,
    /// Calls that are left.
    pub left: u32,
    /// The time until the allowance is full.
    pub full_in: Duration,
    /// The time until a retry is allowed; zero if this call is allowed.
    pub retry_in: Duration,
}

impl RateDecision {
    /// The stricter one of two decisions that allow a call.
    pub(super) fn stricter(self, other: Self) -> Self {
        Self {
            allowed: self.allowed && other.allowed,
            left: self.left.min(other.left),
            full_in: self.full_in.max(other.full_in),
            retry_in: self.retry_in.max(other.retry_in),
        }
    }
}

/// Counts `cost` calls (negative to take calls back). `full_at` is the time at which the allowance
/// is full again; times are in microseconds. Returns the new `full_at` and the outcome.
pub(super) fn count(full_at: i64, now: i64, limit: Limit, cost: i64) -> (i64, RateDecision) {
    let (apart, per) = (limit.apart_micros(), limit.per_micros());
    let from = full_at.max(now);
    let next = (from + cost * apart).max(now);
    let allowed = cost <= 0 || next - now <= per;
    let full_at = if allowed { next } else { from };
    (full_at, decision(allowed, full_at - now, limit))
}

/// The time until `cost` calls are allowed at once; `None` if they are allowed now. Calls that are more
/// than a burst are never allowed: their time is that until the allowance is full.
pub(super) fn wait(full_at: i64, now: i64, limit: Limit, cost: i64) -> Option<Duration> {
    let (apart, per) = (limit.apart_micros(), limit.per_micros());
    let debt = (full_at - now).clamp(0, per);
    let over = (debt + cost.saturating_mul(apart) - per).min(debt.max(1));
    (over > 0).then(|| Duration::from_micros(u64::try_from(over).unwrap_or(0)))
}

/// Counts a call that is not refused, and returns the new `full_at` and whether more calls than the
/// limit allows came in its period. After such a flood it stays so until fewer have come for as long.
pub(super) fn flood(full_at: i64, now: i64, limit: Limit) -> (i64, bool) {
    let (apart, per) = (limit.apart_micros(), limit.per_micros());
    let next = (full_at.max(now) + apart).min(now + 2 * per);
    (next, next - now > per)
}

/// The outcome if the allowance is full again in `debt` microseconds.
pub(super) fn decision(allowed: bool, debt: i64, limit: Limit) -> RateDecision {
    let (apart, per) = (limit.apart_micros(), limit.per_micros());
    let micros = |span: i64| Duration::from_micros(u64::try_from(span).unwrap_or(0));
    RateDecision {
        allowed,
        left: u32::try_from((per - debt).max(0) / apart).unwrap_or(u32::MAX).min(limit.count),
        full_in: micros(debt),
        retry_in: if allowed { Duration::ZERO } else { micros(debt + apart - per) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_flood_is_seen_until_it_has_been_calm_for_the_period() {
        let limit = Limit { count: 60, per: Duration::from_secs(60) };
        let (mut full_at, mut flooded) = (0, false);
        for _ in 0..60 {
            (full_at, flooded) = flood(full_at, 0, limit);
        }
        assert!(!flooded, "as many as the limit allows");
        for call in 0..1_000 {
            (full_at, flooded) = flood(full_at, call * SECOND / 10, limit);
            assert!(flooded, "{call}");
        }
        let last = 100 * SECOND;
        assert!(flood(full_at, last + 58 * SECOND, limit).1);
        assert!(!flood(full_at, last + 62 * SECOND, limit).1);
    }

    #[test]
    fn several_calls_wait_until_all_of_them_are_allowed() {
        let limit = Limit { count: 10, per: Duration::from_secs(10) };
        assert_eq!(wait(0, 0, limit, 10), None);
        assert_eq!(wait(4 * SECOND, 0, limit, 6), None);
        assert_eq!(wait(4 * SECOND, 0, limit, 8), Some(Duration::from_secs(2)));
        assert_eq!(wait(4 * SECOND, 0, limit, 99), Some(Duration::from_secs(4)));
        assert!(wait(0, 0, limit, 11).is_some());
        assert_eq!(wait(i64::MAX / 8, 0, limit, 1), Some(Duration::from_secs(1)));
    }

    #[test]
    fn rate_limit_allows_a_burst_and_refills_evenly() {
        let limit = Limit { count: 3, per: Duration::from_secs(3) };
        let mut full_at = 0;
        let mut take = |now: i64, cost: i64| {
            let (next, decision) = count(full_at, now, limit, cost);
            full_at = next;
            decision
        };
        for left in [2, 1, 0] {
            let decision = take(1_000_000, 1);
            assert_eq!((decision.allowed, decision.left), (true, left));
        }
        let refused = take(1_000_000, 1);
        assert_eq!((refused.allowed, refused.left), (false, 0));
        assert_eq!(refused.retry_in, Duration::from_secs(1));
        assert_eq!(refused.full_in, Duration::from_secs(3));
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
