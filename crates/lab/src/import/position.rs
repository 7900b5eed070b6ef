//! How far an import has come, kept beside the file so that a second run goes on from there.
//!
//! What deliberately is not here: the import itself (`mod.rs`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The most refused rows that are kept one by one; the rest are counted.
pub const ERRORS_MAX: usize = 1_000;

/// A row that was refused, by this side or by the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// Its line in the file.
    pub line: u64,
    /// The faulty field.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// What has come of the rows so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportTally {
    /// Rows that are done with, refused ones included.
    pub rows: u64,
    /// New products.
    pub created: u64,
    /// Changed products.
    pub updated: u64,
    /// Products that were so already.
    pub unchanged: u64,
    /// Stock levels that were set.
    pub stock_set: u64,
    /// Rows that were refused.
    pub refused: u64,
    /// The first faults, at most [`ERRORS_MAX`].
    pub errors: Vec<RefusedRow>,
    /// How many more there were.
    pub errors_left_out: u64,
}

impl ImportTally {
    /// Notes a fault.
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

/// Where the position of one import is kept: beside its file, or in the temporary folder if that
/// cannot be written.
#[derive(Debug)]
pub struct PositionFile {
    import: String,
    run: String,
    places: [PathBuf; 2],
}

impl PositionFile {
    /// For the import that `digest` names.
    #[must_use]
    pub fn new(file: &Path, digest: &str) -> Self {
        let mut beside = file.as_os_str().to_owned();
        beside.push(".kontor-import.json");
        let short = digest.get(..16).unwrap_or(digest);
        let elsewhere = std::env::temp_dir().join(format!("kontor-import-{short}.json"));
        let run = uuid::Uuid::new_v4().to_string();
        Self { import: digest.to_owned(), run, places: [beside.into(), elsewhere] }
    }

    /// What names this run, and the earlier one that it goes on with: a part of the idempotency
    /// keys, so that a batch that was sent before it broke off is not carried out again.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// What an earlier run has done, if it was broken off; this one goes on with it.
    pub fn load(&mut self) -> Option<ImportTally> {
        let kept = self.places.iter().find_map(|place| {
            let bytes = std::fs::read(place).ok()?;
            let kept: KeptPosition = serde_json::from_slice(&bytes).ok()?;
            (kept.import == self.import).then_some(kept)
        })?;
        self.run = kept.run;
        Some(kept.tally)
    }

    /// Keeps it, in the first place that can be written.
    ///
    /// # Errors
    /// The last one, when none can be.
    pub fn save(&self, tally: &ImportTally) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(&Keeping { import: &self.import, run: &self.run, tally })?;
        let [beside, elsewhere] = &self.places;
        replace(beside, &bytes).or_else(|_| replace(elsewhere, &bytes))
    }

    /// Forgets it.
    pub fn clear(&self) {
        for place in &self.places {
            // Not being there is as good.
            let _ = std::fs::remove_file(place);
        }
    }
}

/// Writes a file so that it is there whole or not at all.
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
