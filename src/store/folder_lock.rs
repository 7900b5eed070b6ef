//! The lock of a data folder: one process at a time serves it, or migrates its tables.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::open_error::OpenError;

/// The file in the folder that is locked.
pub(super) const LOCK: &str = "kontor.lock";

/// The lock of a folder, held for this process. It ends when it is dropped, also on the way of an
/// error, even if a child process that is being started at this moment has inherited the file.
pub(super) struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "cannot unlock the folder; closing the file releases it");
        }
    }
}

/// Locks the folder for this process.
pub(super) fn lock(dir: &Path) -> Result<FolderLock, OpenError> {
    let path = dir.join(LOCK);
    let io = |source| OpenError::Io { path: path.clone(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = file.take(20).read_to_string(&mut text);
            let pid = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::InUse { dir: dir.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    let mut lock = FolderLock(file);
    lock.0.set_len(0).map_err(io)?;
    writeln!(lock.0, "{}", std::process::id()).map_err(io)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_at_once_while_child_processes_are_started() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            // Each child has the open files of this process until it runs its own program.
            let children = scope.spawn(|| {
                for _ in 0..200 {
                    std::process::Command::new("true").status().unwrap();
                }
            });
            while !children.is_finished() {
                drop(lock(dir.path()).unwrap());
            }
        });
    }
}
