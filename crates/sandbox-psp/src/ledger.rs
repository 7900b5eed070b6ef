//! The ledger's file: facts are queued, appended in batches, and read at the start.
//!
//! A fact is in the book as soon as it is decided, and in the file a little later; an answer that
//! depends on the book waits for [`SandboxLedger::durable`]. What the facts mean is
//! defined in `fact` and `book`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use actix_web::http::StatusCode;
use tokio::sync::watch;

use super::Error;
use super::book::AccountBook;
use super::fact::Fact;
use super::problem::Problem;

/// The size of the queue, in bytes, above which requests are refused.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// The longest line, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The number of facts that were recorded since the start: identifies the last of them.
pub type LedgerPosition = u64;

/// The sandbox's book and its file.
#[derive(Debug)]
pub struct SandboxLedger {
    book: Mutex<AccountBook>,
    queue: Arc<Queue>,
    durable: watch::Receiver<Durable>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    position: LedgerPosition,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Durable {
    position: LedgerPosition,
    failed: bool,
}

/// The locked book, for reading it and recording facts.
#[derive(Debug)]
pub struct LedgerGuard<'a> {
    /// The fold of all facts.
    pub book: &'a mut AccountBook,
    lines: Vec<u8>,
    count: u64,
}

impl LedgerGuard<'_> {
    /// Adds a fact to the book; [`SandboxLedger::enter`] then queues it for the file.
    pub fn record(&mut self, fact: &Fact) -> Result<(), Problem> {
        let line = serde_json::to_vec(fact).map_err(|e| Problem::internal(e.to_string()))?;
        self.book.apply(fact).map_err(|e| Problem::internal(e.to_string()))?;
        self.lines.extend_from_slice(&line);
        self.lines.push(b'\n');
        self.count += 1;
        Ok(())
    }
}

impl SandboxLedger {
    /// Opens or creates `dir/ledger.jsonl`, for this process alone, and reads it.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("ledger.jsonl");
        let io = |source| Error::Io { path: path.clone(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let file = lock(open_private(&path).map_err(io)?, &path)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        let book = load(&file.0, &path)?;
        let queue = Arc::new(Queue::default());
        let (progress, durable) = watch::channel(Durable::default());
        let writer = std::thread::Builder::new()
            .name("sandbox-psp-ledger".into())
            .spawn({
                let queue = Arc::clone(&queue);
                move || write(file, &queue, &progress)
            })
            .map_err(io)?;
        let writer = Mutex::new(Some(writer));
        Ok(Self { book: Mutex::new(book), queue, durable, writer })
    }

    /// Locks the book, and lets `decide` read it and record facts. The caller must wait until the
    /// returned position is durable before it answers; also before a refusal, because that depends
    /// on facts, too.
    pub fn enter<T>(
        &self,
        decide: impl FnOnce(&mut LedgerGuard<'_>) -> Result<T, Problem>,
    ) -> (Result<T, Problem>, LedgerPosition) {
        let mut book = locked(&self.book);
        if let Err(problem) = self.admit() {
            return (Err(problem), 0);
        }
        let mut entry = LedgerGuard { book: &mut book, lines: Vec::new(), count: 0 };
        let result = decide(&mut entry);
        let mut waiting = locked(&self.queue.waiting);
        waiting.lines.append(&mut entry.lines);
        waiting.position += entry.count;
        if entry.count > 0 {
            self.queue.changed.notify_one();
        }
        (result, waiting.position)
    }

    fn admit(&self) -> Result<(), Problem> {
        let waiting = locked(&self.queue.waiting);
        if self.durable.borrow().failed || waiting.closed {
            return Err(ledger_failed());
        }
        if waiting.lines.len() > WAITING_BYTES_MAX {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Problem::new(status, "overloaded", "the ledger's disk is too slow"));
        }
        Ok(())
    }

    /// Waits until all facts up to a position are written to the file.
    pub async fn durable(&self, position: LedgerPosition) -> Result<(), Problem> {
        let mut durable = self.durable.clone();
        let reached = durable.wait_for(|now| now.failed || now.position >= position).await;
        match reached {
            Ok(now) if !now.failed => Ok(()),
            _ => Err(ledger_failed()),
        }
    }

    /// Writes the queued facts, and closes the file. Later calls of `enter` are refused.
    pub fn close(&self) {
        locked(&self.queue.waiting).closed = true;
        self.queue.changed.notify_one();
        let writer = locked(&self.writer).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the ledger's writer panicked");
        }
    }
}

impl Drop for SandboxLedger {
    fn drop(&mut self) {
        self.close();
    }
}

fn ledger_failed() -> Problem {
    Problem::internal("the ledger cannot be written")
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A file that is locked for this process. Dropping it unlocks it, even if a child process that is
/// being started at this moment has inherited it.
struct LockedFile(File);

impl Drop for LockedFile {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "cannot unlock the ledger; closing the file releases it");
        }
    }
}

fn lock(file: File, path: &Path) -> Result<LockedFile, Error> {
    match file.try_lock() {
        Ok(()) => Ok(LockedFile(file)),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

/// Reads all facts from the file, and cuts off an incomplete last line.
fn load(file: &File, path: &Path) -> Result<AccountBook, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut book = AccountBook::default();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    let mut good_bytes: u64 = 0;
    for number in 1_u64.. {
        line.clear();
        let mut limited = reader.by_ref().take(LINE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut line).map_err(io)?;
        if read == 0 {
            return Ok(book);
        }
        let corrupt = |reason| Error::Corrupt { path: path.to_owned(), line: number, reason };
        if limited.limit() == 0 {
            return Err(corrupt("it is too long".into()));
        }
        if line.last() != Some(&b'\n') {
            tracing::warn!(
                line = number,
                bytes = read,
                "removed an incomplete line from the end of the ledger"
            );
            file.set_len(good_bytes).map_err(io)?;
            file.sync_all().map_err(io)?;
            return Ok(book);
        }
        let fact: Fact =
            serde_json::from_slice(&line).map_err(|error| corrupt(error.to_string()))?;
        book.apply(&fact).map_err(|error| corrupt(error.to_string()))?;
        good_bytes += u64::try_from(read).unwrap_or(u64::MAX);
    }
    Ok(book)
}

/// Writes the queued facts in batches, and reports the position of each batch, until the ledger is
/// closed. The file is not synced, so that measurements of the shop's journal on the same disk are
/// not disturbed: facts survive a crash of this process, but not a power cut.
fn write(mut file: LockedFile, queue: &Queue, progress: &watch::Sender<Durable>) {
    let mut lines = Vec::new();
    loop {
        lines.clear();
        let mut waiting = locked(&queue.waiting);
        while waiting.lines.is_empty() && !waiting.closed {
            waiting = queue.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.lines.is_empty() {
            return;
        }
        std::mem::swap(&mut lines, &mut waiting.lines);
        let position = waiting.position;
        drop(waiting);
        if let Err(error) = file.0.write_all(&lines) {
            tracing::error!(%error, "the ledger cannot be written");
            progress.send_replace(Durable { position: 0, failed: true });
            return;
        }
        progress.send_replace(Durable { position, failed: false });
    }
}
