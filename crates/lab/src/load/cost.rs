//! The generator's own cost: the CPU time of this process, as the kernel counts it.

use serde::Serialize;

/// CPU seconds of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// In user mode.
    pub user: f64,
    /// In kernel mode.
    pub system: f64,
}

impl Cost {
    /// The cost up to now; zeros if the kernel does not report it (`/proc` is Linux's).
    #[must_use]
    pub fn now() -> Self {
        std::fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|text| Self::read(&text, ticks()))
            .unwrap_or_default()
    }

    /// Parses the 14th and 15th field of `/proc/self/stat`. The second field, the program's name,
    /// is in parentheses and may contain blanks.
    fn read(text: &str, ticks: f64) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut seconds = || fields.next()?.parse::<f64>().ok().map(|count| count / ticks);
        Some(Self { user: seconds()?, system: seconds()? })
    }

    /// The cost since then.
    #[must_use]
    pub fn since(self, then: Self) -> Self {
        Self { user: self.user - then.user, system: self.system - then.system }
    }

    /// The sum of both.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.user + self.system
    }
}

#[cfg(unix)]
#[expect(clippy::cast_precision_loss, reason = "it is 100")]
fn ticks() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

#[cfg(not(unix))]
fn ticks() -> f64 {
    100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_stat_line_is_parsed() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 1 1 1";
        assert_eq!(Cost::read(line, 100.0), Some(Cost { user: 2.5, system: 0.5 }));
        assert_eq!(Cost::read("", 100.0), None);
        let (first, second) = (Cost { user: 1.0, system: 2.0 }, Cost { user: 2.0, system: 4.0 });
        assert!((second.since(first).seconds() - 3.0).abs() < 1e-9);
    }
}
