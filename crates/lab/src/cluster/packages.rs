//! Installs the programs that a cluster needs, after announcing it.

use std::process::Command;

use super::servers;
use crate::Error;
use crate::stderr;

/// Installs missing programs with apt-get, after announcing it.
///
/// # Errors
/// [`Error::Failed`] if there is no apt-get, or it fails.
pub fn install() -> Result<(), Error> {
    let missing = servers::missing();
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    let by_hand = |why: String| Error::Failed(format!("{why}; install {wanted} and try again"));
    stderr::line(format_args!(
        "a cluster needs {wanted}: installing with apt-get (Ctrl-C stops it)"
    ));
    stderr::line("Debian may also start them as services; these are not used here");
    let root = rustix::process::geteuid().is_root();
    let apt = |args: &[&str]| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.arg("apt-get");
        }
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        // Standard output is for the result of kontor's command.
        command.stdout(std::io::stderr());
        command.status().map_err(|error| by_hand(format!("cannot run apt-get: {error}")))
    };
    // An outdated package list is better than none.
    apt(&["update", "-qq"])?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    let status = apt(&[&install, missing.as_slice()].concat())?;
    let left = servers::missing();
    if status.success() && left.is_empty() {
        return Ok(());
    }
    Err(by_hand(format!("apt-get ended ({status}) without installing {}", left.join(" "))))
}
