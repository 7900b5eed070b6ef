//! A tolerant CSV reader: it treats LF, CRLF and CR as line breaks, counts lines as an editor does,
//! and refuses unmatched quotes.
//!
//! Deliberately not here: the meaning of columns (`rows`, `online_retail`).

use std::io::Read;

use super::source::{self, TooLarge};

/// Why a file's quotes are invalid. If the reader continued, it would treat rows as a part of a
/// field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuotes {
    /// The file ends inside quotes.
    #[error("line {0}: the quote that opens here is never closed")]
    Unclosed(u64),
    /// Something other than a comma or the end of the line follows a closing quote.
    #[error(
        "line {opened}: the quote that opens here is closed in line {closed}, with more text after \
         it; inside quotes, write a quote twice"
    )]
    TextAfter {
        /// The line of the opening quote, from 1.
        opened: u64,
        /// The line of the closing quote, from 1.
        closed: u64,
    },
}

/// The most bytes of one row, with its quotes. A longer row would not fit into memory.
const ROW_MAX_BYTES: u64 = 1 << 20;

/// A reader of CSV.
pub type Reader<'a> = csv::Reader<Box<dyn Read + 'a>>;

/// Reads CSV, plain or gzip. Rows may have too few or too many fields.
///
/// # Errors
/// [`source::Error::Io`].
pub fn reader<'a>(input: impl Read + 'a) -> Result<Reader<'a>, source::Error> {
    Ok(csv::ReaderBuilder::new().flexible(true).from_reader(text(input)?))
}

/// Reads the whole file, to find unmatched quotes before any row is used.
///
/// # Errors
/// [`source::Error::Quotes`], [`source::Error::TooLarge`] and [`source::Error::Io`].
pub fn check<'a>(input: impl Read + 'a) -> Result<(), source::Error> {
    let copied = std::io::copy(&mut text(input)?, &mut std::io::sink());
    copied.map(|_| ()).map_err(source::Error::read)
}

/// The line in the file, from 1, where the record begins that was just read.
#[must_use]
pub fn line(reader: &Reader<'_>, record: &csv::ByteRecord) -> u64 {
    // The reader's position is after the line feed that ends the record. (The record's own position
    // cannot be used: it is before any blank lines above the record.)
    let breaks = record.as_slice().iter().filter(|byte| **byte == b'\n').count();
    reader.position().line().saturating_sub(1 + u64::try_from(breaks).unwrap_or(u64::MAX))
}

fn text<'a>(input: impl Read + 'a) -> Result<Box<dyn Read + 'a>, source::Error> {
    // A line feed at the end, so that the last line ends like any other.
    let input = LineFeeds { input: source::plain(input)?.chain(&b"\n"[..]), after_return: false };
    Ok(Box::new(Rows { input, at: QuoteState::FieldStart, line: 1, begins: 1, bytes: 0 }))
}

/// Passes text on, with a line feed for each CRLF and each carriage return.
struct LineFeeds<R> {
    input: R,
    after_return: bool,
}

impl<R: Read> Read for LineFeeds<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let count = self.input.read(buffer)?;
            let mut kept = 0;
            for place in 0..count {
                let byte = buffer[place];
                if !(byte == b'\n' && self.after_return) {
                    buffer[kept] = if byte == b'\r' { b'\n' } else { byte };
                    kept += 1;
                }
                self.after_return = byte == b'\r';
            }
            // A result of 0 would mean the end of the input, so if nothing was kept, read on.
            if kept > 0 || count == 0 {
                return Ok(kept);
            }
        }
    }
}

/// Whether a byte is within quotes. The numbers are lines of opening quotes.
#[derive(Clone, Copy)]
enum QuoteState {
    FieldStart,
    Unquoted,
    Quoted(u64),
    /// After a quote in a quoted field: it closes the field, or is the first of two.
    Quote(u64),
    /// Between the closing quote and the comma.
    Closed(u64),
}

/// Passes CSV on, and fails at unmatched quotes and at rows that are too long.
struct Rows<R> {
    input: R,
    at: QuoteState,
    line: u64,
    /// The line where the row begins, and its bytes so far.
    begins: u64,
    bytes: u64,
}

impl<R: Read> Read for Rows<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        match self.at {
            QuoteState::Quoted(opened) if count == 0 && !buffer.is_empty() => {
                Err(std::io::Error::other(InvalidQuotes::Unclosed(opened)))
            }
            _ => {
                for byte in &buffer[..count] {
                    self.step(*byte).map_err(std::io::Error::other)?;
                    self.measure(*byte).map_err(std::io::Error::other)?;
                }
                Ok(count)
            }
        }
    }
}

impl<R> Rows<R> {
    fn measure(&mut self, byte: u8) -> Result<(), TooLarge> {
        self.bytes += 1;
        if byte == b'\n' && matches!(self.at, QuoteState::FieldStart) {
            (self.begins, self.bytes) = (self.line, 0);
        }
        if self.bytes > ROW_MAX_BYTES {
            return Err(TooLarge::Row { line: self.begins, max: ROW_MAX_BYTES });
        }
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<(), InvalidQuotes> {
        self.at = match (self.at, byte) {
            (QuoteState::FieldStart, b'"') => QuoteState::Quoted(self.line),
            (QuoteState::Quoted(opened), b'"') => QuoteState::Quote(opened),
            (QuoteState::Quote(opened), b'"') | (QuoteState::Quoted(opened), _) => {
                QuoteState::Quoted(opened)
            }
            (_, b',' | b'\n') => QuoteState::FieldStart,
            (QuoteState::FieldStart | QuoteState::Unquoted, _) => QuoteState::Unquoted,
            (QuoteState::Quote(opened) | QuoteState::Closed(opened), b' ' | b'\t') => {
                QuoteState::Closed(opened)
            }
            (QuoteState::Quote(opened) | QuoteState::Closed(opened), _) => {
                return Err(InvalidQuotes::TextAfter { opened, closed: self.line });
            }
        };
        self.line += u64::from(byte == b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_that_do_not_match_are_refused_where_they_open() {
        for (text, want) in [
            ("a,b\n1,\"19 inch\n2,x\n3,y\n", InvalidQuotes::Unclosed(2)),
            ("a,b\n1,\"19 inch", InvalidQuotes::Unclosed(2)),
            ("a,b\n1,\"", InvalidQuotes::Unclosed(2)),
            ("a,\"b\n1,2\n", InvalidQuotes::Unclosed(1)),
            ("a,b\n1,\"x\ny\"\n2,\"19\"\" inch\n", InvalidQuotes::Unclosed(4)),
            ("a\n\"19\" inch\"\n", InvalidQuotes::TextAfter { opened: 2, closed: 2 }),
            ("a,b\n\"19 inch\n\"x\",2\n", InvalidQuotes::TextAfter { opened: 2, closed: 3 }),
        ] {
            let error = check(text.as_bytes()).unwrap_err();
            assert!(matches!(error, source::Error::Quotes(found) if found == want), "{error}");
            let mut reader = reader(text.as_bytes()).unwrap();
            let error = reader.byte_records().find_map(Result::err);
            let error = error.map_or_else(|| panic!("{text:?} is read"), source::Error::csv);
            assert_eq!(error.to_string(), want.to_string());
        }
    }

    /// Also if it is quoted, and of many lines: no memory is needed for it.
    #[test]
    fn a_row_without_an_end_is_refused_where_it_begins() {
        let row = |bytes: usize| [b"a,b\n1,2\n" as &[u8], &vec![b'x'; bytes]].concat();
        let max = usize::try_from(ROW_MAX_BYTES).unwrap();
        check(&*row(max)).unwrap();
        let quoted =
            b"a,b\n\"1\",2\n3,\"".iter().copied().map(Ok).chain(std::iter::repeat(Ok(b'\n')));
        struct Bytes<I>(I);
        impl<I: Iterator<Item = Result<u8, ()>>> Read for Bytes<I> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let mut count = 0;
                for (place, byte) in buffer.iter_mut().zip(&mut self.0) {
                    *place = byte.unwrap();
                    count += 1;
                }
                Ok(count)
            }
        }
        for error in [check(&*row(max + 1)).unwrap_err(), check(Bytes(quoted)).unwrap_err()] {
            let wanted = TooLarge::Row { line: 3, max: ROW_MAX_BYTES };
            assert!(matches!(error, source::Error::TooLarge(found) if found == wanted), "{error}");
        }
    }

    #[test]
    fn matched_quotes_are_accepted() {
        let text = "a,b\n\"x, \"\"y\"\"\nz\",\"\"\n19\" rack,\"1\" \n\"\"\"\",\"\"";
        check(text.as_bytes()).unwrap();
        let rows: Vec<_> = reader(text.as_bytes()).unwrap().records().map(Result::unwrap).collect();
        let fields: Vec<Vec<&str>> = rows.iter().map(|row| row.iter().collect()).collect();
        assert_eq!(fields, [["x, \"y\"\nz", ""], ["19\" rack", "1 "], ["\"", ""]]);
    }

    #[test]
    fn lines_are_counted_as_an_editor_does() {
        let text = "a,b\n\n\n1,\"x\ny\"\n2,z\n\n3,\"\n\n\"\n4,w";
        let want = [(1, "b"), (4, "x\ny"), (6, "z"), (8, "\n\n"), (11, "w")];
        for ending in ["\n", "\r\n", "\r"] {
            for last in ["", ending] {
                let text = text.replace('\n', ending) + last;
                // With a buffer of one byte, every CRLF is divided between two reads.
                for capacity in [1, 8_192] {
                    let input = std::io::BufReader::with_capacity(capacity, text.as_bytes());
                    let mut reader = csv::ReaderBuilder::new()
                        .flexible(true)
                        .has_headers(false)
                        .buffer_capacity(capacity)
                        .from_reader(super::text(input).unwrap());
                    let (mut record, mut found) = (csv::ByteRecord::new(), Vec::new());
                    while reader.read_byte_record(&mut record).unwrap() {
                        let text = String::from_utf8(record[1].to_vec()).unwrap();
                        found.push((line(&reader, &record), text));
                    }
                    let found: Vec<_> =
                        found.iter().map(|(line, text)| (*line, text.as_str())).collect();
                    assert_eq!(found, want, "{ending:?} {last:?} {capacity}");
                }
            }
        }
        let open = check("a\r\n\r\n\"b\r\n".as_bytes()).unwrap_err();
        assert_eq!(open.to_string(), InvalidQuotes::Unclosed(3).to_string());
    }
}
