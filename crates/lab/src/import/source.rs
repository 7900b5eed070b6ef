//! Opens a file to import: plain or gzip, with or without a byte order mark, and computes its
//! digest.
//!
//! Deliberately not here: the meaning of rows (`rows`, `online_retail`).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::csv_text::InvalidQuotes;

/// The most bytes of a file once it is decompressed: a small gzip file may have any number of them.
pub const TEXT_MAX_BYTES: u64 = 2 << 30;

/// Why a file is too large to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// All of it.
    #[error("the file has more than {0} bytes once it is decompressed: import it in parts")]
    Text(u64),
    /// One row of CSV.
    #[error("line {line}: the row that begins here has more than {max} bytes")]
    Row {
        /// The line, from 1.
        line: u64,
        /// The limit.
        max: u64,
    },
    /// The number of its rows.
    #[error("the file has more than {0} rows")]
    Rows(usize),
    /// Texts that are kept in memory.
    #[error("the file has more than {0} bytes of different texts")]
    Texts(usize),
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {reason}", path = .path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The cause.
        reason: std::io::Error,
    },
    /// Reading stopped midway.
    #[error("cannot continue reading: {0}")]
    Io(#[from] std::io::Error),
    /// The columns are wrong.
    #[error("{0}")]
    Header(String),
    /// An invalid field makes the whole file unusable.
    #[error("line {line}, {column}: {message}")]
    Field {
        /// The line, from 1; the header is line 1.
        line: u64,
        /// The column's name.
        column: String,
        /// What is wrong with it.
        message: String,
    },
    /// The file is not CSV.
    #[error("{0}")]
    Csv(String),
    /// CSV with unmatched quotes.
    #[error(transparent)]
    Quotes(#[from] InvalidQuotes),
    /// More of it than is read.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl Error {
    /// The error of a CSV reader.
    #[must_use]
    pub fn csv(error: csv::Error) -> Self {
        let text = error.to_string();
        match error.into_kind() {
            csv::ErrorKind::Io(error) => Self::read(error),
            _ => Self::Csv(text),
        }
    }

    /// The error of a reader of text, which checks its size and, of CSV, the quotes.
    #[must_use]
    pub fn read(error: std::io::Error) -> Self {
        match error.downcast::<InvalidQuotes>().map_err(std::io::Error::downcast::<TooLarge>) {
            Ok(quotes) => Self::Quotes(quotes),
            Err(Ok(large)) => Self::TooLarge(large),
            Err(Err(error)) => Self::Io(error),
        }
    }
}

/// The message for a field that is not UTF-8.
#[must_use]
pub fn not_utf8(error: std::str::Utf8Error) -> String {
    format!("is not UTF-8 at byte {}", error.valid_up_to() + 1)
}

/// Reads a file to its end before any row is used, so that a truncated file is refused as a whole.
///
/// # Errors
/// [`Error::Io`] and [`Error::TooLarge`].
pub fn check(input: impl Read) -> Result<(), Error> {
    let copied = std::io::copy(&mut plain(input)?, &mut std::io::sink());
    copied.map(drop).map_err(Error::read)
}

/// Opens a file.
///
/// # Errors
/// [`Error::File`].
pub fn open(path: &Path) -> Result<File, Error> {
    let file = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
        true => Err(std::io::Error::from(std::io::ErrorKind::IsADirectory)),
        false => Ok(file),
    });
    file.map_err(|reason| Error::File { path: path.to_owned(), reason })
}

/// The decoded bytes: decompressed if they begin with gzip's magic bytes, without a byte order
/// mark. Reading more than [`TEXT_MAX_BYTES`] of them fails with [`TooLarge`].
///
/// # Errors
/// [`Error::Io`].
pub fn plain<'a>(input: impl Read + 'a) -> Result<Box<dyn BufRead + 'a>, Error> {
    plain_up_to(TEXT_MAX_BYTES, input)
}

fn plain_up_to<'a>(max: u64, input: impl Read + 'a) -> Result<Box<dyn BufRead + 'a>, Error> {
    let mut raw = BufReader::with_capacity(1 << 16, input);
    let gzip = raw.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let mut plain: Box<dyn BufRead + 'a> = if gzip {
        Box::new(BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(raw)))
    } else {
        Box::new(raw)
    };
    if plain.fill_buf()?.starts_with(&[0xef, 0xbb, 0xbf]) {
        plain.consume(3);
    }
    Ok(Box::new(Bounded { input: plain, left: max, max }))
}

/// Passes text on, and fails when there is more than a limit.
struct Bounded<R> {
    input: R,
    left: u64,
    max: u64,
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        let some = self.input.fill_buf()?;
        if self.left == 0 && !some.is_empty() {
            return Err(std::io::Error::other(TooLarge::Text(self.max)));
        }
        let count = usize::try_from(self.left).map_or(some.len(), |left| left.min(some.len()));
        Ok(&some[..count])
    }

    fn consume(&mut self, count: usize) {
        self.left = self.left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        self.input.consume(count);
    }
}

/// The SHA-256 of a file and of other values that identify this import, in hexadecimal.
///
/// # Errors
/// [`Error::File`].
pub fn digest(path: &Path, also: &[&str]) -> Result<String, Error> {
    let mut file = open(path)?;
    let mut hasher = Sha256::new();
    for part in also {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        let read = file
            .read(&mut buffer)
            .map_err(|reason| Error::File { path: path.to_owned(), reason })?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn gzip_and_byte_order_marks_are_decoded() {
        let text = b"\xef\xbb\xbfsku,name\n";
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text).unwrap();
        for bytes in [text.to_vec(), packed.finish().unwrap(), b"sku,name\n".to_vec()] {
            let mut read = String::new();
            plain(bytes.as_slice()).unwrap().read_to_string(&mut read).unwrap();
            assert_eq!(read, "sku,name\n");
        }
    }

    #[test]
    fn truncated_gzip_is_refused() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"{\"sku\": \"A\"}\n").unwrap();
        let packed = packed.finish().unwrap();
        assert!(check(packed.as_slice()).is_ok());
        assert!(matches!(check(&packed[..packed.len() - 1]), Err(Error::Io(_))));
    }

    #[test]
    fn more_text_than_the_limit_is_refused_also_if_the_file_is_small() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&[b'a'; 1_000_000]).unwrap();
        let packed = packed.finish().unwrap();
        assert!(packed.len() < 5_000);
        for (max, fits) in [(999_999, false), (1_000_000, true), (1_000_001, true)] {
            let read =
                std::io::copy(&mut plain_up_to(max, &*packed).unwrap(), &mut std::io::sink());
            match read.map_err(Error::read) {
                Ok(read) => assert!(fits && read == 1_000_000),
                Err(Error::TooLarge(large)) => assert!(!fits && large == TooLarge::Text(max)),
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = digest(Path::new("/nowhere/at-all.csv"), &[]).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at-all.csv"), "{error}");
    }
}
