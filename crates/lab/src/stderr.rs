//! What commands print to standard error: progress, warnings and errors.
//!
//! If this output cannot be written, because the terminal or the pipe was closed, the command
//! continues and its result is the same.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Prints a text and a line break, if it can be written.
pub fn line(text: impl Display) {
    write(&format!("{text}\n"));
}

/// Prints a text, if it can be written.
pub fn write(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
