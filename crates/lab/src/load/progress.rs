//! Progress lines, on standard error.

use crate::stderr;
/// Where progress goes; quiet for tests and scripts that want none.
#[derive(Clone, Copy, Debug)]
pub struct ProgressOutput {
    /// Whether nothing is said.
    pub quiet: bool,
}

impl ProgressOutput {
    /// Says a line.
    pub fn say(self, line: &str) {
        if !self.quiet {
            stderr::line(line);
        }
    }
}
