//! Opens a store in PostgreSQL: checks that the database is empty or a store, runs migrations,
//! creates the shards, and sets every connection setting, with its reason.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use super::pool::{LOCK_TIMEOUT_MS, Pool, STATEMENT_TIMEOUT_MS};
use super::replica::{Lag, Replica};
use super::{Database, Heads, Inner};
use crate::store::open::CHAINED_SINCE;
use crate::store::personal::own_master::OWN_MASTER_KEY;
use crate::store::personal::{MasterKeyText, MasterKeys, PersonalKeys};
use crate::store::{DatabaseUrl, OpenError, Options, Store, migrations};

/// The comment that the first migration sets on the table `shard`. It identifies a database as a
/// store.
const MARK: &str = "kontor 1802464884";
/// Timeout of the first connection when a store is opened.
const CONNECT: Duration = Duration::from_secs(10);
/// Time limit of migrations, including the time spent waiting for another node that runs them.
const MIGRATE: Duration = Duration::from_secs(15 * 60);
/// The oldest supported PostgreSQL, 13, as `server_version_num`.
const SERVER_MIN: i64 = 130_000;
/// The most shards of a store.
const SHARDS_MAX: u16 = 1_024;

impl Store {
    /// Opens a database for serving, possibly together with other nodes. Creates a store in an
    /// empty database, and migrates the tables of an older store.
    ///
    /// # Errors
    /// [`OpenError`], each with its remedy.
    pub async fn connect(url: &DatabaseUrl, options: &Options) -> Result<Self, OpenError> {
        let mut connection = first(url).await?;
        migrate(url, &mut connection, options.shards).await?;
        refuse_cut_off(url, &mut connection).await?;
        if options.master_key.is_empty() {
            make_own_master_key(&mut connection).await.map_err(|error| unreachable(url, &error))?;
        }
        open(url, connection, options).await
    }

    /// Opens a store for a command line, while servers may run on the store, without migrating its
    /// tables.
    ///
    /// # Errors
    /// [`OpenError::Empty`] where there is no store; [`OpenError::Older`] where its tables are not
    /// up to date; otherwise as [`Store::connect`].
    pub async fn connect_beside(url: &DatabaseUrl) -> Result<Self, OpenError> {
        Self::connect_beside_with(url, MasterKeyText::default()).await
    }

    /// As [`Store::connect_beside`], with the master key of the settings.
    ///
    /// # Errors
    /// As [`Store::connect_beside`].
    pub async fn connect_beside_with(
        url: &DatabaseUrl,
        master_key: MasterKeyText,
    ) -> Result<Self, OpenError> {
        let mut connection = first(url).await?;
        match look(url, &mut connection).await? {
            None => return Err(OpenError::Empty(url.clone())),
            Some(found) if found < known() => {
                return Err(OpenError::Older { found, known: known() });
            }
            Some(_) => {}
        }
        let options =
            Options { read_connections: 2, write_connections: 2, master_key, ..Options::default() };
        open(url, connection, &options).await
    }

    /// The lag of the replica; `None` if there is no replica.
    #[must_use]
    pub fn replica_lag(&self) -> Option<Lag> {
        match &self.backend {
            super::super::Backend::Sqlite(_) => None,
            super::super::Backend::Postgres(database) => database.replica().map(Replica::lag),
        }
    }
}

/// The connection that inspects and migrates the database. It has no time limit for statements: a
/// migration of a large table takes long.
async fn first(url: &DatabaseUrl) -> Result<PgConnection, OpenError> {
    let options = parse(url)?.options([("lock_timeout", "60s")]);
    match tokio::time::timeout(CONNECT, options.connect()).await {
        Ok(connected) => connected.map_err(|error| unreachable(url, &error)),
        Err(_elapsed) => {
            let why = format!("no answer in {} s", CONNECT.as_secs());
            Err(OpenError::Unreachable { address: url.clone(), why })
        }
    }
}

fn parse(url: &DatabaseUrl) -> Result<PgConnectOptions, OpenError> {
    let wrong = |why: String| OpenError::Address { address: url.clone(), why };
    if !url.is_postgres() {
        return Err(wrong("it does not begin with postgres://".to_owned()));
    }
    let options = PgConnectOptions::from_str(url.reveal()).map_err(|error| {
        // Only the cause of the error is shown: it does not quote the URL, which may contain a
        // password.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        wrong(cause.unwrap_or_else(|| "it cannot be read".to_owned()))
    })?;
    Ok(options.application_name("kontor").disable_statement_logging())
}

fn unreachable(url: &DatabaseUrl, error: &sqlx::Error) -> OpenError {
    let why = match std::error::Error::source(error) {
        Some(cause) if !matches!(error, sqlx::Error::Database(_)) => format!("{error}: {cause}"),
        _ => error.to_string(),
    };
    OpenError::Unreachable { address: url.clone(), why }
}

/// Returns the version of the newest migration in the database, `None` if the database is empty;
/// refuses a database that cannot be a store.
async fn look(url: &DatabaseUrl, connection: &mut PgConnection) -> Result<Option<i64>, OpenError> {
    let failed = |error: sqlx::Error| unreachable(url, &error);
    let (server, encoding, replica, fsync): (i64, String, bool, String) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::BIGINT, current_setting('server_encoding'), \
         pg_is_in_recovery(), current_setting('fsync')",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let unfit = |why: String| Err(OpenError::Unfit { address: url.clone(), why });
    if server < SERVER_MIN {
        return unfit(format!("PostgreSQL 13 or newer is needed, and this is {}", server / 10_000));
    }
    if encoding != "UTF8" {
        return unfit(format!("its encoding is {encoding}; make one WITH ENCODING 'UTF8'"));
    }
    if replica {
        return unfit(
            "it is a replica; name the primary, and this one as store.replica_url".into(),
        );
    }
    if fsync == "off" {
        tracing::warn!(address = %url, "fsync is off: a power cut loses acknowledged data");
    }
    let (tables, mark, migrated): (i64, Option<String>, bool) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace \
         AND relkind IN ('r', 'p', 'v', 'f') AND relname <> '_sqlx_migrations'), \
         obj_description(to_regclass('shard')::OID, 'pg_class'), \
         to_regclass('_sqlx_migrations') IS NOT NULL",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    if mark.as_deref() != Some(MARK) || !migrated {
        let foreign = tables > 0 || mark.is_some();
        return if foreign { Err(OpenError::Foreign(url.clone())) } else { Ok(None) };
    }
    let found: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    if found > known() {
        return Err(OpenError::Newer { found, known: known() });
    }
    Ok(Some(found))
}

/// Migrates the tables. Nodes that start together wait for each other.
async fn migrate(
    url: &DatabaseUrl,
    connection: &mut PgConnection,
    shards: u16,
) -> Result<(), OpenError> {
    let found = look(url, connection).await?;
    if found.is_some_and(|found| found < CHAINED_SINCE) {
        let has_events = sqlx::query_scalar("SELECT EXISTS (SELECT FROM event)");
        let has_events = has_events.fetch_one(&mut *connection).await;
        if has_events.map_err(|error| unreachable(url, &error))? {
            return Err(OpenError::Clear);
        }
    }
    if found.is_none_or(|found| found < known()) {
        let outcome = match tokio::time::timeout(
            MIGRATE,
            migrations::POSTGRES.run_direct(None, connection, false),
        )
        .await
        {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                let why = "its tables were not brought up to date in 15 minutes".to_owned();
                return Err(OpenError::Unreachable { address: url.clone(), why });
            }
        };
        outcome.map_err(|error| match error {
            MigrateError::VersionMissing(found) => OpenError::Newer { found, known: known() },
            other => OpenError::Unfit {
                address: url.clone(),
                why: format!("its tables cannot be brought up to date: {other}"),
            },
        })?;
    }
    make_shards(connection, shards).await.map_err(|error| unreachable(url, &error))
}

/// Creates the shards of a store that has none. Their number never changes: it determines the shard
/// of every entity.
async fn make_shards(connection: &mut PgConnection, shards: u16) -> Result<(), sqlx::Error> {
    let there: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM shard)").fetch_one(&mut *connection).await?;
    if there {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    transaction.execute("LOCK TABLE shard IN EXCLUSIVE MODE").await?;
    sqlx::query(
        "INSERT INTO shard (id, owner, epoch, lease_until, last_pos) \
         SELECT id, '', 0, 0, 0 FROM generate_series(0, $1 - 1) AS id \
         WHERE NOT EXISTS (SELECT FROM shard)",
    )
    .bind(i64::from(shards.clamp(1, SHARDS_MAX)))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// Refuses a store with a shard that does not end where its row says.
async fn refuse_cut_off(url: &DatabaseUrl, connection: &mut PgConnection) -> Result<(), OpenError> {
    let text = "SELECT id, last_pos, there FROM (SELECT id, last_pos, coalesce((SELECT max(pos) \
                FROM event WHERE event.shard = shard.id), 0) AS there FROM shard) AS ends \
                WHERE last_pos <> there ORDER BY id";
    let cut: Vec<(i64, i64, i64)> = sqlx::query_as(text)
        .fetch_all(connection)
        .await
        .map_err(|error| unreachable(url, &error))?;
    let Some((shard, last_pos, there)) = cut.first() else { return Ok(()) };
    let more = match cut.len() {
        1 => String::new(),
        shards => format!(" ({shards} shards do not end where their rows say)"),
    };
    let why = format!(
        "shard {shard} should end at event {last_pos}, and ends at {there}{more}: kontor verify \
         names what is missing; restore a backup"
    );
    Err(OpenError::Unfit { address: url.clone(), why })
}

async fn open(
    url: &DatabaseUrl,
    mut connection: PgConnection,
    options: &Options,
) -> Result<Store, OpenError> {
    let failed = |error: sqlx::Error| unreachable(url, &error);
    let shards: i64 = sqlx::query_scalar("SELECT count(*) FROM shard")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    let master = master_keys(url, &mut connection, options).await?;
    connection.close().await.map_err(failed)?;
    let connect = settings(parse(url)?);
    let readers = Pool::primary(options.read_connections, connect.clone());
    let writers = readers.beside(options.write_connections, writing(connect));
    let replica = if options.replica_url.is_empty() {
        None
    } else {
        let connect = settings(parse(&options.replica_url)?);
        let lag_max = Duration::from_millis(options.replica_lag_max_ms);
        let (size, primary) = (options.read_connections, readers.clone());
        Some(Replica::watch(&options.replica_url, connect, size, primary, lag_max))
    };
    let shards = u16::try_from(shards).unwrap_or(u16::MAX);
    let heads = Heads::default();
    let inner = Inner { address: url.clone(), shards, readers, writers, replica, heads };
    Ok(Store::postgres(Database { inner: Arc::new(inner) }, PersonalKeys::new(master, None)))
}

/// The master key of the settings; and the one in the database, if there is one, so that what it has
/// sealed can be opened. Without a setting, a server gives the database one: whoever reads the database
/// can then read everything, so the profile `production` refuses that.
async fn master_keys(
    url: &DatabaseUrl,
    connection: &mut PgConnection,
    options: &Options,
) -> Result<Option<MasterKeys>, OpenError> {
    let failed = |error: sqlx::Error| unreachable(url, &error);
    let setting = (!options.master_key.is_empty()).then(|| options.master_key.read()).transpose();
    let setting = setting.map_err(OpenError::MasterKeySetting)?;
    let own: Option<Vec<u8>> = sqlx::query_scalar("SELECT value FROM secret WHERE name = $1")
        .bind(OWN_MASTER_KEY)
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    let own = own.and_then(|bytes| bytes.try_into().ok()).map(MasterKeys::one);
    match (setting, own) {
        // Whoever writes to the database can change its own key.
        (Some(setting), Some(own)) => Ok(Some(setting.and_open_with(&own))),
        (one, other) => Ok(one.or(other)),
    }
}

/// Makes a master key in the database, unless there is one, or there are keys that another has sealed.
async fn make_own_master_key(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let drawn: [u8; 32] = rand::random();
    let text = "INSERT INTO secret (name, value) SELECT $1, $2 \
                WHERE NOT EXISTS (SELECT FROM personal_key) ON CONFLICT (name) DO NOTHING";
    let query = sqlx::query(text).bind(OWN_MASTER_KEY).bind(drawn.to_vec());
    query.execute(connection).await.map(drop)
}

/// The version of the newest migration that this program has.
fn known() -> i64 {
    migrations::newest(&migrations::POSTGRES)
}

/// The settings of all connections.
fn settings(options: PgConnectOptions) -> PgConnectOptions {
    let (statement, lock) = (STATEMENT_TIMEOUT_MS.to_string(), LOCK_TIMEOUT_MS.to_string());
    options
        .options([
            // The server cancels a statement before the client times out; see `pool`.
            ("statement_timeout", statement.as_str()),
            ("lock_timeout", lock.as_str()),
            // A transaction whose client has disconnected must not keep its locks.
            ("idle_in_transaction_session_timeout", statement.as_str()),
            // Nor may a client whose machine disappeared silently keep its connection slot.
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
            // Acknowledged writes survive a power cut, whatever the server's default is.
            ("synchronous_commit", "on"),
            // A statement that has waited for a lock must see what the holder of the lock
            // committed.
            ("default_transaction_isolation", "read committed"),
            // No statement of kontor runs long enough for just-in-time compilation to pay off.
            ("jit", "off"),
            ("client_min_messages", "warning"),
        ])
        .statement_cache_capacity(256)
}

/// The settings of connections that write. A statement finds the rows that it changes by their
/// index, even if the statistics of the server still say that the table is nearly empty; and it is
/// planned once per connection.
fn writing(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("plan_cache_mode", "force_generic_plan"),
    ])
}
