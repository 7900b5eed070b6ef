//! Checks that a data folder contains an intact store. Their cost does not depend on the size of
//! the store: the files belong together, the write-ahead log is not damaged in its middle, and the
//! journal's last events exist and are in their index.
//!
//! The rest of the file is not read at the start. SQLite reports an invalid page when it reads it,
//! a damaged event is detected by its checksum when it is read (`journal::sqlite`), and `kontor
//! doctor` and `kontor verify` read everything.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use sqlx::SqliteConnection;

use super::open_error::{DATABASE, OpenError};

/// "kont", the application id that the first migration sets.
pub(super) const APPLICATION: i64 = 0x6b6f_6e74;
/// The number of events at the end of the journal that are checked.
const LAST: i64 = 1_000;
/// The prefix of the file name of a copy of a damaged write-ahead log. The log's salt follows, a
/// random number in its header that changes whenever SQLite begins the log again.
pub const DAMAGED_LOG: &str = "kontor.db-wal.damaged-";
const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The error for a damaged file of the store.
pub(super) fn damaged(file: &Path, why: impl std::fmt::Display) -> OpenError {
    OpenError::Corrupt(format!("{}: {why}", file.display()))
}

/// Checks the files before SQLite does: it treats an empty file as a new database, and deletes a
/// write-ahead log whose database file is missing.
pub(super) fn files(dir: &Path) -> Result<(), OpenError> {
    let file = dir.join(DATABASE);
    let bytes = fs::metadata(&file).ok().map(|file| file.len());
    let log = dir.join(format!("{DATABASE}-wal"));
    let log_bytes = fs::metadata(&log).map_or(0, |log| log.len());
    match bytes {
        Some(0) => Err(damaged(&file, "the file is empty")),
        None if log_bytes > 0 => Err(damaged(
            &file,
            format!(
                "the file is missing, but its log {} \
                                        exists",
                log.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// Copies a write-ahead log that is damaged in its middle, because SQLite recovers only the part
/// before the damage, and later overwrites the rest, which contains commits.
pub(super) fn log(dir: &Path) -> Result<(), OpenError> {
    let log = dir.join(format!("{DATABASE}-wal"));
    let io = |source| OpenError::Io { path: log.clone(), source };
    let damage = match File::open(&log) {
        Ok(file) => scan(BufReader::with_capacity(1 << 20, file)).map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io(error)),
    };
    let Some(Damage { frame, lost, salt }) = damage else { return Ok(()) };
    let copy = dir.join(format!("{DAMAGED_LOG}{salt:08x}"));
    if copy.exists() {
        // The log was copied at an earlier start. That copy is more complete than the log is now.
        return Ok(());
    }
    fs::copy(&log, &copy).map_err(io)?;
    tracing::error!(
        "{} is damaged at page {frame}: {lost} pages after it, and the commits in them, cannot be \
         read. After a power cut, these commits may never have been acknowledged. A copy is kept as \
         {}: compare with the payment provider (kontor verify --sandbox-psp), settle what is \
         missing, then remove the copy",
        log.display(),
        copy.display()
    );
    Ok(())
}

/// Damage of a write-ahead log before its end.
#[derive(Debug, PartialEq, Eq)]
struct Damage {
    /// The number of the first damaged frame of the log, from 1.
    frame: u64,
    /// The number of pages in the log from the damaged frame on.
    lost: u64,
    salt: u32,
}

/// Scans a write-ahead log for damage. A power cut can leave only the last transaction incomplete,
/// whose commit was not synced and not acknowledged. So damage counts only if a commit and further
/// pages follow it.
fn scan(mut log: impl Read) -> io::Result<Option<Damage>> {
    let mut header = [0; LOG_HEADER_BYTES];
    if !fill(&mut log, &mut header)? {
        return Ok(None);
    }
    let big_endian = word(&header, 0) & 1 == 1;
    let page = word(&header, 8);
    if !(512..=65_536).contains(&page) || !page.is_power_of_two() {
        return Ok(None);
    }
    let mut sum = add((0, 0), &header[..24], big_endian);
    let mut good = sum == (word(&header, 24), word(&header, 28));
    let salts = header[16..24].to_vec();
    let mut frame = vec![0; FRAME_HEADER_BYTES + page as usize];
    let (mut at, mut first_bad, mut lost, mut committed, mut more) = (0, 1, 0, false, false);
    while fill(&mut log, &mut frame)? {
        at += 1;
        let (head, data) = frame.split_at(FRAME_HEADER_BYTES);
        let ours = head[8..16] == salts[..];
        if good {
            sum = add(add(sum, &head[..8], big_endian), data, big_endian);
            good = ours && sum == (word(head, 16), word(head, 20));
            first_bad = at;
        }
        if !good && ours {
            lost += 1;
            more |= committed;
            committed |= word(head, 4) != 0;
        }
    }
    let damage = Damage { frame: first_bad, lost, salt: word(&salts, 0) };
    Ok(more.then_some(damage))
}

/// Reads until the buffer is full; `false` at the end of the input.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Continues SQLite's checksum of a write-ahead log over more bytes.
fn add((mut first, mut second): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let read = if big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
    for pair in bytes.as_chunks::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *pair;
        first = first.wrapping_add(read([a, b, c, d])).wrapping_add(second);
        second = second.wrapping_add(read([e, f, g, h])).wrapping_add(first);
    }
    (first, second)
}

/// Checks that the file is a store, by its application id.
pub(super) async fn kind(connection: &mut SqliteConnection, file: &Path) -> Result<(), OpenError> {
    let application: i64 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(connection)
        .await
        .map_err(|error| damaged(file, error))?;
    if application == APPLICATION {
        return Ok(());
    }
    Err(damaged(file, "it is not a kontor store"))
}

/// Checks the end of the journal: the last events end at the position that the shard's row records,
/// without a gap, and each is in the index. A truncated file lacks these events first.
pub(super) async fn end(connection: &mut SqliteConnection, file: &Path) -> Result<(), OpenError> {
    let (last_pos, last, first, count, indexed): (i64, i64, i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT last_pos FROM shard WHERE id = 0), ifnull(max(last.pos), 0), \
         ifnull(min(last.pos), 1), count(*), ifnull(sum(EXISTS (SELECT 1 FROM event \
         WHERE event.entity = last.entity AND event.seq = last.seq)), 0) \
         FROM (SELECT pos, entity, seq FROM event ORDER BY pos DESC LIMIT +$1) AS last",
    )
    .bind(LAST)
    .fetch_one(connection)
    .await
    .map_err(|error| damaged(file, error))?;
    if last_pos != last || last - first + 1 != count {
        let why = format!(
            "its journal should end at event {last_pos}, but of its last events, {first} to \
             {last}, {count} are there"
        );
        return Err(damaged(file, why));
    }
    if indexed != count {
        let why = format!("the index of its journal lacks {} events", count - indexed);
        return Err(damaged(file, why));
    }
    Ok(())
}
