//! Checks of the data folder: that it exists, is writable and private, and has free space, and
//! which process is serving it.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::Finding;
use crate::store::startup_checks::DAMAGED_LOG;

/// Less free space, in bytes, is an error: writes will soon fail.
const FREE_BAD_BYTES: u64 = 256 << 20;
/// Less free space, in bytes, is a warning.
const FREE_WARN_BYTES: u64 = 2 << 30;
/// A lower limit on open files is a warning: a busy server needs one for each connection.
const FILES_MIN: u64 = 4_096;

pub(super) fn examine(dir: &Path) -> Vec<Finding> {
    let shown = dir.display();
    if !dir.is_dir() {
        let message = format!("there is no data folder {shown}");
        return vec![Finding::bad(
            "folder",
            message,
            "start a server, which creates it, or correct --data",
        )];
    }
    let mut findings = vec![writable(dir)];
    findings.extend(private(dir));
    findings.extend(damaged_logs(dir));
    findings.extend(free(dir));
    findings.push(server(dir));
    findings.extend(open_files());
    findings
}

fn writable(dir: &Path) -> Finding {
    let probe = dir.join(format!(".doctor-{}", std::process::id()));
    let written = fs::write(&probe, b"x").and_then(|()| fs::remove_file(&probe));
    match written {
        Ok(()) => Finding::ok("folder", format!("{} exists and is writable", dir.display())),
        Err(error) => Finding::bad(
            "folder",
            format!("{} is not writable: {error}", dir.display()),
            "run as the user who owns the folder, or change its owner (chown -R)",
        ),
    }
}

/// Reports copies of damaged write-ahead logs, which an earlier start has kept, until an operator
/// removes them.
fn damaged_logs(dir: &Path) -> Option<Finding> {
    let names =
        fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut copies: Vec<String> = names.filter(|name| name.starts_with(DAMAGED_LOG)).collect();
    copies.sort();
    (!copies.is_empty()).then(|| {
        Finding::bad(
            "log",
            format!(
                "the write-ahead log was damaged before its end at an earlier start: what was \
                 committed after the damage is not in the store, only in {}",
                copies.join(", ")
            ),
            "find what is missing with kontor verify --sandbox-psp and the provider's list; settle \
             it, then remove the copy",
        )
    })
}

#[cfg(unix)]
fn private(dir: &Path) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(dir).ok()?.permissions().mode() & 0o777;
    Some(if mode & 0o077 == 0 {
        Finding::ok("privacy", "only the folder's owner can read it")
    } else {
        Finding::warn(
            "privacy",
            format!("other users of this machine can read the folder (mode {mode:03o})"),
            format!("chmod 700 {}", dir.display()),
        )
    })
}

#[cfg(not(unix))]
const fn private(_dir: &Path) -> Option<Finding> {
    None
}

#[cfg(unix)]
fn free(dir: &Path) -> Option<Finding> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let message = format!("{} MiB are free on the folder's disk", free >> 20);
    let advice = "free some space, or move the folder: with a full disk, orders are refused (none \
                  is lost)";
    Some(match free {
        0..FREE_BAD_BYTES => Finding::bad("disk", message, advice),
        FREE_BAD_BYTES..FREE_WARN_BYTES => Finding::warn("disk", message, advice),
        _ => Finding::ok("disk", message),
    })
}

#[cfg(not(unix))]
const fn free(_dir: &Path) -> Option<Finding> {
    None
}

/// Reports whether a server has locked the folder.
fn server(dir: &Path) -> Finding {
    let path = dir.join("kontor.lock");
    let Ok(file) = File::open(&path) else {
        return Finding::ok("server", "no server has ever run on this folder");
    };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            Finding::ok("server", format!("process {} is serving this folder", pid.trim()))
        }
        Ok(()) => Finding::ok("server", "no server runs on this folder"),
        Err(TryLockError::Error(error)) => Finding::warn(
            "server",
            format!("cannot read the lock: {error}"),
            "check that the disk supports file locks; network disks often do not",
        ),
    }
}

#[cfg(unix)]
fn open_files() -> Option<Finding> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Some(match limit {
        Some(limit) if limit < FILES_MIN => Finding::warn(
            "files",
            format!("this shell allows only {limit} open files; each connection needs one"),
            "raise the limit for the server: ulimit -n 65536, or LimitNOFILE= in its systemd unit",
        ),
        Some(limit) => Finding::ok("files", format!("{limit} open files are allowed")),
        None => Finding::ok("files", "the number of open files is not limited"),
    })
}

#[cfg(not(unix))]
const fn open_files() -> Option<Finding> {
    None
}
