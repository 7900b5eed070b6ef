//! What the system says of this process, and the folder that a measurement works in.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Outcome;

/// The folder of a measurement.
pub enum Place {
    /// Deleted at the end.
    Fleeting(TempDir),
    /// Given by the caller, and left as it is.
    Given(PathBuf),
}

impl Place {
    /// A folder under cargo's own for temporary files, or the given one.
    pub fn new(dir: Option<PathBuf>) -> Outcome<Self> {
        Ok(match dir {
            Some(dir) => {
                fs::create_dir_all(&dir)?;
                Self::Given(dir)
            }
            None => Self::Fleeting(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Fleeting(dir) => dir.path(),
            Self::Given(dir) => dir,
        }
    }
}

/// Processor time that this process has taken, in milliseconds: user and system, all threads.
/// The system counts it in steps of 10.
pub fn cpu_ms() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/self/stat")?;
    // The name of the program may hold spaces; what follows its bracket does not.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |field: usize| -> Outcome<f64> {
        Ok(rest.split_whitespace().nth(field).ok_or("no such field")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) * 10.0)
}

/// Bytes of this process that are in memory.
pub fn resident_bytes() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = text.split_whitespace().nth(1).ok_or("no such field")?.parse()?;
    Ok(pages * 4096.0)
}

/// Bytes that this process has handed to the system for writing.
pub fn written_bytes() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(line.ok_or("no wchar")?.trim().parse()?)
}

/// Numbers that look random and are the same in every run.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
