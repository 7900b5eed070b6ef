//! Output of commands to standard output.
//!
//! If the reader has closed the pipe (`kontor openapi | head -c 1`), a command ends quietly, with
//! the exit status that a shell shows for a program ended by SIGPIPE. A server continues: its
//! output is written by [`notice`]. Progress and errors go to standard error.

use crate::stderr;
use std::fmt::Display;
use std::io::{self, Write as _};

/// 128 plus the number of SIGPIPE.
const READER_GONE: i32 = 141;

/// Prints a text and a line break. Ends the program if it cannot be written.
pub fn line(text: impl Display) {
    write(&format!("{text}\n"));
}

/// Prints a value as a JSON document. Ends the program if it cannot be written.
///
/// # Errors
/// The value cannot be encoded as JSON.
pub fn json(value: &impl serde::Serialize) -> io::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints a text. Ends the program if it cannot be written.
pub fn write(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            std::process::exit(READER_GONE);
        }
        stderr::line(format_args!("error: cannot write to standard output: {error}"));
        std::process::exit(1);
    }
}

/// Prints a text of a server, which continues if it cannot be written.
pub fn notice(text: impl AsRef<[u8]>) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_ref()).and_then(|()| out.flush());
}
