//! The security events of commands, on standard error as a server's are: what a user of this machine has
//! done to keys, sessions and whole stores.

use kontor::telemetry::security::{SecurityEvent, TARGET};
use kontor::telemetry::{self, Options};

/// Logs what the user of this process has done; `about` has no secret.
pub fn log(event: SecurityEvent, about: &str) {
    let only = Options { filter: format!("{TARGET}=info"), ..Options::default() };
    // A server has started its log already, with the filter of its settings.
    let _started = telemetry::start(&only);
    let who = format!("user:{}", rustix::process::getuid().as_raw());
    event.log(&who, "this machine", about);
}
