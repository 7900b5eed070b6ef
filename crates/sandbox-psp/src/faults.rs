//! Faults on request: by token for one payment, and by rate for an account.
//!
//! The rates of an account are kept in memory only. `service.rs` and `webhooks.rs` apply the
//! faults.

use std::collections::HashMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::ledger::locked;
use super::problem::Problem;

/// The maximum number of accounts with faults.
const ACCOUNTS_MAX: usize = 10_000;
/// The maximum number of idempotency keys whose calls are counted for `tok_500`.
const FAILING_KEYS_MAX: usize = 100_000;
const SLOW_MS_MAX: u64 = 120_000;
const LATE_MS_MAX: u64 = 600_000;
const TOKEN_BYTES_MAX: usize = 256;

/// The faults of an account; rates are from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The rate of new authorizations that are declined.
    pub decline: f64,
    /// The rate of calls that are executed and not answered.
    pub timeout: f64,
    /// The rate of calls that answer 500 and are not executed.
    pub error_500: f64,
    /// The delay of answers, in milliseconds.
    pub slow_ms: u64,
    /// The rate of webhooks that are sent twice.
    pub webhook_duplicate: f64,
    /// The delay of webhooks, in milliseconds.
    pub webhook_late_ms: u64,
    /// Whether webhooks are sent out of order.
    pub webhook_shuffle: bool,
    /// The rate of webhooks that are not sent.
    pub webhook_drop: f64,
    /// Whether webhooks are sent before the call that causes them is answered.
    pub webhook_early: bool,
}

impl Faults {
    /// Validates rates and delays.
    pub fn check(&self) -> Result<(), Problem> {
        let rates =
            [self.decline, self.timeout, self.error_500, self.webhook_duplicate, self.webhook_drop];
        if !rates.iter().all(|rate| (0.0..=1.0).contains(rate)) {
            return Err(Problem::invalid("invalid_faults", "a rate is from 0 to 1"));
        }
        if self.slow_ms > SLOW_MS_MAX || self.webhook_late_ms > LATE_MS_MAX {
            return Err(Problem::invalid("invalid_faults", "a delay is too long"));
        }
        Ok(())
    }
}

/// Draws at random: true with this probability, 0 to 1.
pub fn happens(rate: f64) -> bool {
    rate > 0.0 && rand::random_bool(rate.min(1.0))
}

/// The faults of each account, and the number of calls with `tok_500` by idempotency key.
#[derive(Debug, Default)]
pub struct Desired {
    faults: Mutex<HashMap<String, Faults>>,
    failures: Mutex<HashMap<(String, String), u32>>,
}

impl Desired {
    pub fn get(&self, account: &str) -> Faults {
        locked(&self.faults).get(account).copied().unwrap_or_default()
    }

    pub fn set(&self, account: &str, faults: Faults) -> Result<(), Problem> {
        faults.check()?;
        let mut all = locked(&self.faults);
        if all.len() >= ACCOUNTS_MAX && !all.contains_key(account) {
            return Err(Problem::conflict("too_many_accounts", "too many accounts have faults"));
        }
        all.insert(account.to_owned(), faults);
        Ok(())
    }

    /// Counts a call, and returns whether it is one of the first two with its idempotency key.
    pub fn fails_at_first(&self, account: &str, key: &str) -> bool {
        let mut failures = locked(&self.failures);
        if failures.len() >= FAILING_KEYS_MAX {
            failures.clear();
        }
        let calls = failures.entry((account.to_owned(), key.to_owned())).or_insert(0);
        *calls = calls.saturating_add(1);
        *calls <= 2
    }
}

/// The effect of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOutcome {
    Ok,
    Declined,
    InsufficientFunds,
    /// The sandbox has no such token: it is declined.
    UnknownToken,
    /// The call is executed and never answered.
    Timeout,
    /// The call is neither executed nor answered.
    TimeoutLost,
    /// The first two calls answer 500 and are not executed.
    Error500,
    /// The answer and the webhook come after 2 seconds.
    Slow,
    /// The payment is pending, then authorized; only a webhook or a lookup reports that.
    WebhookOnly,
    /// The payment is pending until the buyer has visited a page, which is assumed after 200 ms.
    Action,
    /// Authorizes one minor unit less.
    Mismatch,
    /// Authorizes the number of minor units in another currency.
    OtherCurrency,
}

impl TokenOutcome {
    /// Parses a token. A card number is refused, and not stored.
    pub fn read(token: &str) -> Result<Self, Problem> {
        let digits = token.bytes().filter(u8::is_ascii_digit).count();
        let only_number = token.bytes().all(|b| b.is_ascii_digit() || b == b' ' || b == b'-');
        if only_number && digits >= 12 {
            let detail = "send a token: card numbers are not accepted here";
            return Err(Problem::invalid("card_number_refused", detail));
        }
        if !token.starts_with("tok_") || token.len() > TOKEN_BYTES_MAX {
            return Err(Problem::invalid("invalid_token", "a token starts with tok_"));
        }
        Ok(match token {
            "tok_ok" => Self::Ok,
            "tok_declined" => Self::Declined,
            "tok_insufficient_funds" => Self::InsufficientFunds,
            "tok_timeout" => Self::Timeout,
            "tok_timeout_lost" => Self::TimeoutLost,
            "tok_500" => Self::Error500,
            "tok_slow" => Self::Slow,
            "tok_webhook_only" => Self::WebhookOnly,
            "tok_action" => Self::Action,
            "tok_mismatch" => Self::Mismatch,
            "tok_other_currency" => Self::OtherCurrency,
            _ => Self::UnknownToken,
        })
    }
}
