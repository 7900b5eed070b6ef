//! What commands print to standard error: progress, warnings and errors.
//!
//! Nothing ends because nobody reads it: a terminal that was closed, or a pipe whose reader has gone,
//! changes no outcome.

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
