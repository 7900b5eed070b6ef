//! A pool of connections to PostgreSQL in which every operation has a time limit: connecting,
//! waiting for a connection, and every statement. sqlx's own pool tests a connection each time that
//! the connection is returned, which costs a round trip per statement, and it has no timeout for a
//! server that disappeared silently.
//!
//! A connection is discarded if its last statement did not end, or failed in another way than by a
//! refusal of the server ([`refused`]). The server cancels a statement before the client times out
//! (`statement_timeout`), so a statement that timed out in the client seldom still runs on the
//! server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnectOptions, PgDatabaseError, PgRow, PgSeverity};
use sqlx::query::Query;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Postgres, Row as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::store::found::FoundRow;

/// The server's time limit of a statement, in milliseconds.
pub(super) const STATEMENT_TIMEOUT_MS: u64 = 8_000;
/// The server's time limit of waiting for a lock, in milliseconds.
pub(super) const LOCK_TIMEOUT_MS: u64 = 4_000;
/// The client's timeout of a statement.
const PATIENCE: Duration = Duration::from_secs(10);
/// Timeout of waiting for a free connection, and of opening a new one.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is tested before use. After a connection broke, every
/// other idle connection is tested, too.
const IDLE: Duration = Duration::from_millis(100);
/// Timeout of the test of an idle connection.
const PING: Duration = Duration::from_secs(2);

pub(in crate::store) const BEGIN: &str = "BEGIN";
/// Begins a read-only transaction, all statements of which see the same snapshot of the database.
pub(in crate::store) const BEGIN_READING: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Begins a transaction whose commit does not wait for the disk: for rows that can be rebuilt from
/// the journal.
pub(in crate::store) const BEGIN_RELAXED: &str = "BEGIN; SET LOCAL synchronous_commit = off";

/// A pool of connections with the same options. Clones share the connections.
#[derive(Clone)]
pub(in crate::store) struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    options: PgConnectOptions,
    room: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// The number of connections that broke or could not be opened so far.
    broken: Arc<AtomicU64>,
    /// Whether the server must be writable.
    primary: bool,
}

/// An idle connection.
struct Idle {
    connection: PgConnection,
    since: Instant,
    /// The number of broken connections when its last statement began.
    broken: u64,
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    fn broke(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        if self.primary {
            let found = connection.fetch_one("SELECT pg_is_in_recovery()").await?;
            if found.try_get(0)? {
                return Err(sqlx::Error::Io(std::io::Error::other(
                    "the PostgreSQL server is a read-only replica",
                )));
            }
        }
        Ok(connection)
    }

    /// Whether an idle connection may be used without a test.
    fn trusts(&self, idle: &Idle) -> bool {
        idle.since.elapsed() < IDLE && idle.broken == self.broken()
    }
}

impl Pool {
    /// A pool for a writable server. A read-only one is refused: after a failover, the address may
    /// lead to a replica for a while.
    pub(in crate::store) fn primary(size: u32, options: PgConnectOptions) -> Self {
        Self::over(size, options, Arc::default(), true)
    }

    /// A pool for a server that is only read.
    pub(in crate::store) fn replica(size: u32, options: PgConnectOptions) -> Self {
        Self::over(size, options, Arc::default(), false)
    }

    /// A second pool for the same server. When a connection of either pool breaks, the idle
    /// connections of both are tested.
    pub(in crate::store) fn beside(&self, size: u32, options: PgConnectOptions) -> Self {
        Self::over(size, options, Arc::clone(&self.inner.broken), self.inner.primary)
    }

    fn over(size: u32, options: PgConnectOptions, broken: Arc<AtomicU64>, primary: bool) -> Self {
        let room = Arc::new(Semaphore::new(usize::try_from(size.clamp(1, 64)).unwrap_or(1)));
        let options = options.disable_statement_logging();
        Self { inner: Arc::new(Inner { options, room, idle: Mutex::default(), broken, primary }) }
    }

    /// Returns a connection, which goes back to the pool when it is dropped.
    pub(in crate::store) async fn acquire(&self) -> Result<HeldConnection, sqlx::Error> {
        let turn = timeout(CONNECT, Arc::clone(&self.inner.room).acquire_owned()).await;
        let permit = match turn {
            Ok(Ok(permit)) => permit,
            Ok(Err(_closed)) => return Err(sqlx::Error::PoolClosed),
            Err(_elapsed) => return Err(sqlx::Error::PoolTimedOut),
        };
        let broken = self.inner.broken();
        let hold = |connection| HeldConnection {
            connection: Some(connection),
            sound: true,
            broken,
            pool: Arc::clone(&self.inner),
            _permit: permit,
        };
        loop {
            let Some(mut idle) = self.inner.idle().pop() else { break };
            if self.inner.trusts(&idle) {
                return Ok(hold(idle.connection));
            }
            let pong = timeout(PING, idle.connection.ping()).await;
            if matches!(pong, Ok(Ok(()))) {
                return Ok(hold(idle.connection));
            }
            self.inner.broke();
            if pong.is_err() {
                // The server did not answer. The other idle connections would not answer either,
                // each only after a timeout, so they are dropped.
                drop(std::mem::take(&mut *self.inner.idle()));
            }
        }
        let made = match timeout(CONNECT, self.inner.connect()).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(silent("cannot open a connection")),
        };
        if made.is_err() {
            self.inner.broke();
        }
        made.map(hold)
    }

    /// All rows of a query.
    pub(in crate::store) async fn fetch_all(
        &self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<FoundRow>, sqlx::Error> {
        let rows = self.acquire().await?.fetch_all(query).await;
        none_has_it(rows)
    }

    /// The first row of a query, if there is one.
    pub(in crate::store) async fn fetch_optional(
        &self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Option<FoundRow>, sqlx::Error> {
        let row = self.acquire().await?.fetch_optional(query).await;
        none_has_it(row)
    }

    /// Runs a statement in a transaction of its own; returns the number of changed rows.
    pub(in crate::store) async fn execute(
        &self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64, sqlx::Error> {
        self.acquire().await?.execute(query).await
    }

    /// Begins a transaction with one of the `BEGIN` statements above.
    pub(in crate::store) async fn begin(
        &self,
        text: &'static str,
    ) -> Result<Transaction, sqlx::Error> {
        let mut held = self.acquire().await?;
        held.run(text).await?;
        // From here on, only the end of the transaction makes the connection reusable.
        held.sound = false;
        Ok(Transaction { held })
    }

    /// Closes all connections: the idle ones now, those in use when they are returned.
    pub(in crate::store) async fn close(&self) {
        self.inner.room.close();
        let idle = std::mem::take(&mut *self.inner.idle());
        for Idle { connection, .. } in idle {
            if timeout(PING, connection.close()).await.is_err() {
                tracing::debug!("a connection did not close in time");
            }
        }
    }
}

/// A connection in use.
pub(in crate::store) struct HeldConnection {
    connection: Option<PgConnection>,
    /// The connection may be reused: no statement runs on it, and it is not in a transaction.
    sound: bool,
    /// The number of broken connections when its last statement began.
    broken: u64,
    pool: Arc<Inner>,
    _permit: OwnedSemaphorePermit,
}

/// Awaits an operation of a connection, with a timeout. Unless it ends well or is refused, the
/// connection will not be reused.
macro_rules! in_time {
    ($held:expr, $connection:ident => $work:expr) => {{
        let sound = std::mem::replace(&mut $held.sound, false);
        $held.broken = $held.pool.broken();
        let $connection = $held.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        let outcome = match timeout(PATIENCE, $work).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(silent("a statement got no answer")),
        };
        let well = outcome.as_ref().err().is_none_or(refused);
        if !well {
            $held.pool.broke();
        }
        $held.sound = sound && well;
        outcome
    }};
}

impl HeldConnection {
    /// All rows of a query, after the server has confirmed the end of the statement, and so its
    /// commit.
    pub(in crate::store) async fn fetch_all(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<FoundRow>, sqlx::Error> {
        let rows: Vec<PgRow> = in_time!(self, connection => query.fetch_all(connection))?;
        Ok(rows.into_iter().map(FoundRow::Postgres).collect())
    }

    /// The first row of a query, if there is one, after the server has confirmed the end of the
    /// statement, and so its commit.
    pub(in crate::store) async fn fetch_optional(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Option<FoundRow>, sqlx::Error> {
        let row = in_time!(self, connection => query.fetch_optional(connection))?;
        Ok(row.map(FoundRow::Postgres))
    }

    async fn execute(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64, sqlx::Error> {
        let done = in_time!(self, connection => query.execute(connection))?;
        Ok(done.rows_affected())
    }

    /// Runs one or more statements without arguments.
    async fn run(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        in_time!(self, connection => connection.execute(text)).map(drop)
    }
}

impl Drop for HeldConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.sound
            && !self.pool.room.is_closed()
        {
            let (since, broken) = (Instant::now(), self.broken);
            self.pool.idle().push(Idle { connection, since, broken });
        }
    }
}

/// A transaction. If it is dropped before its end, its connection is closed, so the server rolls it
/// back.
pub(in crate::store) struct Transaction {
    held: HeldConnection,
}

impl Transaction {
    pub(in crate::store) async fn execute(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64, sqlx::Error> {
        self.held.execute(query).await
    }

    pub(in crate::store) async fn fetch_optional(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Option<FoundRow>, sqlx::Error> {
        self.held.fetch_optional(query).await
    }

    pub(in crate::store) async fn fetch_all(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<FoundRow>, sqlx::Error> {
        self.held.fetch_all(query).await
    }

    pub(in crate::store) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.held.run("COMMIT").await?;
        self.held.sound = true;
        Ok(())
    }

    /// Ends a transaction that has only read rows.
    pub(in crate::store) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.held.run("ROLLBACK").await?;
        self.held.sound = true;
        Ok(())
    }
}

fn silent(what: &str) -> sqlx::Error {
    let why = format!("{what}: PostgreSQL timed out");
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
}

/// The error code with which a read-only server refuses a write.
const READ_ONLY: &str = "25006";

/// Whether the server only refused a statement, so that the connection is still usable. A
/// connection to a server that has become a replica is not usable.
pub(in crate::store) fn refused(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| {
                error.severity() == PgSeverity::Error && error.code() != READ_ONLY
            })
        }
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
        _ => false,
    }
}

/// PostgreSQL reports a query for a text with a NUL character as an error. No stored text contains
/// a NUL, so the answer is that no row matches.
fn none_has_it<T: Default>(outcome: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
    match outcome {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("22021") => {
            Ok(T::default())
        }
        other => other,
    }
}
