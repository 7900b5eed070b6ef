//! The wait of commands in mailboxes since the last measurement.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Fewer commands than this are too few for a measurement.
const COMMANDS_MIN: u64 = 16;

/// The waits since the last measurement.
#[derive(Debug, Default)]
pub(super) struct Waits {
    micros: AtomicU64,
    commands: AtomicU64,
}

impl Waits {
    /// Records the wait of a command that is taken from its mailbox.
    pub(super) fn note(&self, wait: Duration) {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.commands.fetch_add(1, Ordering::Relaxed);
    }

    /// The mean wait since the last call; zero if there were fewer than `COMMANDS_MIN`.
    pub(super) fn take_mean(&self) -> Duration {
        let commands = self.commands.swap(0, Ordering::Relaxed);
        let micros = self.micros.swap(0, Ordering::Relaxed);
        if commands < COMMANDS_MIN {
            return Duration::ZERO;
        }
        Duration::from_micros(micros / commands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_wait_is_reported_once_for_enough_commands() {
        let waits = Waits::default();
        waits.note(Duration::from_secs(1));
        assert_eq!(waits.take_mean(), Duration::ZERO, "one is no queue");
        for millis in 0..=20 {
            waits.note(Duration::from_millis(millis));
        }
        assert_eq!(waits.take_mean(), Duration::from_millis(10));
        assert_eq!(waits.take_mean(), Duration::ZERO);
    }
}
