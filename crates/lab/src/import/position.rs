//! The position of an import, stored next to the file so that a second run resumes from there.
//!
//! Deliberately not here: the import itself (`mod.rs`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The most refused rows that are stored; the rest are counted.
pub const ERRORS_MAX: usize = 1_000;

/// A row that was refused, by this program or by the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// Its line in the file.
    pub line: u64,
    /// The invalid field.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// The results so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportTally {
    /// Processed rows, including refused ones.
    pub rows: u64,
    /// New products.
    pub created: u64,
    /// Changed products.
    pub updated: u64,
    /// Products that already had these values.
    pub unchanged: u64,
    /// Stock levels that were set.
    pub stock_set: u64,
    /// Rows that were refused.
    pub refused: u64,
    /// The first refused rows, at most [`ERRORS_MAX`].
    pub errors: Vec<RefusedRow>,
    /// The number of further refusals.
    pub errors_left_out: u64,
}

impl ImportTally {
    /// Records a refused row.
    pub fn error(&mut self, error: RefusedRow) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        } else {
            self.errors_left_out += 1;
        }
    }
}

#[derive(Deserialize)]
struct KeptPosition {
    import: String,
    run: String,
    tally: ImportTally,
}

#[derive(Serialize)]
struct Keeping<'a> {
    import: &'a str,
    run: &'a str,
    tally: &'a ImportTally,
}

/// The location of an import's position: next to its file, or in the temporary folder if that is
/// not writable.
#[derive(Debug)]
pub struct PositionFile {
    import: String,
    run: String,
    places: [PathBuf; 2],
}

impl PositionFile {
    /// The location for the import with this `digest`.
    #[must_use]
    pub fn new(file: &Path, digest: &str) -> Self {
        let mut beside = file.as_os_str().to_owned();
        beside.push(".kontor-import.json");
        let short = digest.get(..16).unwrap_or(digest);
        let elsewhere = std::env::temp_dir().join(format!("kontor-import-{short}.json"));
        let run = uuid::Uuid::new_v4().to_string();
        Self { import: digest.to_owned(), run, places: [beside.into(), elsewhere] }
    }

    /// The name of this run, and of the earlier one that it resumes: it is part of the idempotency
    /// keys, so that a batch that was sent before an interruption is not applied again.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Loads the results of an earlier, interrupted run of the same import, which this run
    /// continues; `None` if there was none.
    pub fn load(&mut self) -> Option<ImportTally> {
        let kept = self.places.iter().find_map(|place| {
            let bytes = std::fs::read(place).ok()?;
            let kept: KeptPosition = serde_json::from_slice(&bytes).ok()?;
            (kept.import == self.import).then_some(kept)
        })?;
        self.run = kept.run;
        Some(kept.tally)
    }

    /// Stores the results, at the first location that is writable.
    ///
    /// # Errors
    /// The error of the last location, if none is writable.
    pub fn save(&self, tally: &ImportTally) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(&Keeping { import: &self.import, run: &self.run, tally })?;
        let [beside, elsewhere] = &self.places;
        replace(beside, &bytes).or_else(|_| replace(elsewhere, &bytes))
    }

    /// Deletes the stored position.
    pub fn clear(&self) {
        for place in &self.places {
            // It may not exist.
            let _ = std::fs::remove_file(place);
        }
    }
}

/// Writes a file atomically.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_for_one_import_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        let mut position = PositionFile::new(&file, "0123456789abcdef-one");
        assert_eq!(position.load(), None);
        let tally = ImportTally { rows: 500, refused: 1, ..ImportTally::default() };
        position.save(&tally).unwrap();
        let mut later = PositionFile::new(&file, "0123456789abcdef-one");
        assert_ne!(later.run(), position.run());
        assert_eq!(later.load(), Some(tally));
        assert_eq!(later.run(), position.run());
        assert_eq!(PositionFile::new(&file, "0123456789abcdef-two").load(), None);
        position.clear();
        assert_eq!(position.load(), None);
    }

    #[test]
    fn errors_beyond_the_limit_are_counted() {
        let mut tally = ImportTally::default();
        for line in 0..1_003 {
            tally.error(RefusedRow { line, field: String::new(), message: String::new() });
        }
        assert_eq!((tally.errors.len(), tally.errors_left_out), (ERRORS_MAX, 3));
    }
}
