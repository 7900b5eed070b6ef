//! Progress lines, on standard error.

use crate::stderr;
/// The output of progress lines; quiet for tests and scripts.
#[derive(Clone, Copy, Debug)]
pub struct ProgressOutput {
    /// Whether nothing is printed.
    pub quiet: bool,
}

impl ProgressOutput {
    /// Prints a line.
    pub fn say(self, line: &str) {
        if !self.quiet {
            stderr::line(line);
        }
    }
}
