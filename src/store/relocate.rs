//! Moves a store from a data folder to PostgreSQL. All data is copied except the projections, which
//! are rebuilt from the journal. The copy is one transaction, so an interrupted move leaves an
//! empty store and can be started again.
//!
//! An event keeps its entity and seq, and gets a new position in the entity's shard in PostgreSQL, in the
//! order of the old positions; so the history of the folder ends, and its signed heads are not copied.
//! `kontor verify` can then check the new store.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Postgres, Row as _, SqlitePool};

use super::history;
use super::journal::snapshot_seal::SnapshotSeals;
use super::journal::{self, Head, Record};
use super::postgres::pool::{BEGIN, Transaction};
use super::row::ColumnKind::{self, Bytes, Flag, Number, Text};
use super::row::Table;
use super::{Backend, Error, Store};
use crate::domain::entity::EntityId;

/// The number of rows that one statement writes.
const PAGE: u32 = 1_000;

/// Tables that are not copied, in addition to the projected lists and to indexes that SQLite stores
/// as tables: they belong to the projections, which are rebuilt, or describe nodes and shards, of which
/// the target has its own rows, or the ends of chains, which are others there.
const NOT_COPIED: [&str; 7] = [
    "projection",
    "dead_letter",
    "order_search",
    "order_search_todo",
    "node",
    "shard",
    "signed_head",
];
/// Tables that are copied by a function of their own.
const APART: [&str; 4] = ["event", "timer", "snapshot", "personal_key"];

/// A table that is copied row by row: its name, and its columns in PostgreSQL.
struct Copied {
    name: String,
    columns: Vec<(String, ColumnKind)>,
}

/// All tables that are copied row by row: those of the folder, without the tables above and the
/// projected lists in `rebuilt_lists`. The names of columns come from the folder, their types from
/// the target.
async fn copied(
    from: &SqlitePool,
    to: &mut Transaction,
    rebuilt_lists: &[&'static Table],
) -> Result<Vec<Copied>, Error> {
    let kinds = "SELECT table_name::TEXT, column_name::TEXT, data_type::TEXT \
                 FROM information_schema.columns WHERE table_schema = current_schema()";
    let mut there: BTreeMap<(String, String), ColumnKind> = BTreeMap::new();
    for row in to.fetch_all(sqlx::query(kinds)).await? {
        let text = |nth| row.try_get::<&str>(nth).map(str::to_owned);
        let kind = match text(2)?.as_str() {
            "text" => Text,
            "bigint" | "integer" | "smallint" => Number,
            "boolean" => Flag,
            "bytea" => Bytes,
            _ => continue,
        };
        there.insert((text(0)?, text(1)?), kind);
    }
    let columns = "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c \
                   WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' \
                   AND t.name NOT IN (SELECT name FROM pragma_table_list WHERE type <> 'table') \
                   AND t.name <> '_sqlx_migrations' ORDER BY t.name, c.cid";
    let columns: Vec<(String, String)> = sqlx::query_as(columns).fetch_all(from).await?;
    let mut all: Vec<Copied> = Vec::new();
    for (name, column) in columns {
        let apart = NOT_COPIED.contains(&name.as_str()) || APART.contains(&name.as_str());
        if apart || rebuilt_lists.iter().any(|table| table.name() == name) {
            continue;
        }
        let Some(kind) = there.get(&(name.clone(), column.clone())).copied() else {
            let why = format!("{name}.{column} has no place in the target");
            return Err(Error::Refused(why));
        };
        match all.last_mut() {
            Some(last) if last.name == name => last.columns.push((column, kind)),
            _ => all.push(Copied { name, columns: vec![(column, kind)] }),
        }
    }
    Ok(all)
}

/// The progress of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveProgress<'a> {
    /// The table that is being written.
    pub table: &'a str,
    /// The number of rows written so far.
    pub done: u64,
    /// The number of rows to write; 0 if that is unknown.
    pub total: u64,
}

impl Store {
    /// Moves everything in this data folder to an empty store in PostgreSQL; returns the number of
    /// events. The projected lists in `rebuilt_lists` are left out: the first node of the target
    /// rebuilds them.
    ///
    /// # Errors
    /// [`Error::Refused`] if the target is not empty or not in PostgreSQL, this store is not in a
    /// data folder, or an event's checksum is wrong; the target is then unchanged.
    pub async fn move_to(
        &self,
        target: &Self,
        rebuilt_lists: &[&'static Table],
        mut progress: impl FnMut(MoveProgress<'_>),
    ) -> Result<u64, Error> {
        let from = self.folder()?;
        let Backend::Postgres(database) = &target.backend else {
            return Err(Error::Refused("the target is not in PostgreSQL".to_owned()));
        };
        let mut to = database.writers().begin(BEGIN).await?;
        let tables = copied(from.readers(), &mut to, rebuilt_lists).await?;
        refuse_full(&mut to, &tables, rebuilt_lists).await?;
        let events = events(self, database.shards(), &mut to, &mut progress).await?;
        timers(from.readers(), database.shards(), &mut to, &mut progress).await?;
        snapshots(self, &mut to, &mut progress).await?;
        keys(self, target, &mut to, &mut progress).await?;
        for table in &tables {
            copy(from.readers(), table, &mut to, &mut progress).await?;
        }
        let ids = "SELECT setval(pg_get_serial_sequence('parked_webhook', 'id'), \
                   (SELECT coalesce(max(id), 0) + 1 FROM parked_webhook), FALSE)";
        to.fetch_all(sqlx::query(ids)).await?;
        // Events have other positions there: what was signed of the folder does not hold of them.
        to.execute(sqlx::query(history::END)).await?;
        to.commit().await?;
        Ok(events)
    }
}

/// Refuses a target that is not empty. Deletes the settings of the target, which the copied
/// settings replace.
async fn refuse_full(
    to: &mut Transaction,
    tables: &[Copied],
    rebuilt_lists: &[&'static Table],
) -> Result<(), Error> {
    // With this lock, no node can claim a shard or append until the move is committed.
    to.execute(sqlx::query("LOCK TABLE shard, event IN EXCLUSIVE MODE")).await?;
    let tables = tables.iter().map(|table| table.name.as_str()).filter(|name| *name != "setting");
    let rebuilt_lists = rebuilt_lists.iter().map(|table| table.name());
    for table in tables.chain(APART).chain(rebuilt_lists) {
        // The target has made a master key of its own when it was opened.
        let but = if table == "secret" { " WHERE name <> 'master key'" } else { "" };
        let text =
            AssertSqlSafe(format!("SELECT count(*) FROM (SELECT FROM {table}{but} LIMIT 1) AS t"));
        let found = to.fetch_optional(sqlx::query(text)).await?;
        let there: i64 = found.map_or(Ok(0), |found| found.try_get(0))?;
        if there > 0 {
            return Err(Error::Refused(format!(
                "the target is not empty: there are rows in {table}; name an empty database, made \
                 with CREATE DATABASE"
            )));
        }
    }
    to.execute(sqlx::query("DELETE FROM setting")).await?;
    Ok(())
}

/// Copies the journal, and sets the last position of each shard.
async fn events(
    from: &Store,
    shards: u16,
    to: &mut Transaction,
    progress: &mut impl FnMut(MoveProgress<'_>),
) -> Result<u64, Error> {
    let journal = from.journal();
    let unreadable = |error: journal::ReadError| Error::Refused(error.to_string());
    let total = journal.last_pos(0).await.map_err(unreadable)?;
    let total = u64::try_from(total).unwrap_or(0);
    let mut ends: BTreeMap<u16, Head> = (0..shards).map(|shard| (shard, Head::FIRST)).collect();
    let (mut after, mut done) = (0, 0);
    loop {
        let mut page = journal.read_shard(0, after, PAGE).await.map_err(unreadable)?;
        let Some(last) = page.last() else { break };
        after = last.pos;
        if let Some(damaged) = page.iter().find(|record| !record.intact) {
            return Err(Error::Refused(format!(
                "event {} of {} is damaged on the disk; restore a backup, and move that",
                damaged.seq, damaged.entity
            )));
        }
        let mut digests = Vec::with_capacity(page.len());
        for record in &mut page {
            record.shard = record.entity.shard(shards);
            let end = ends.entry(record.shard).or_insert(Head::FIRST);
            record.pos = end.pos + 1;
            digests.push(end.add(record).0.to_vec());
        }
        to.execute(insert_events(&page, digests)).await?;
        done += u64::try_from(page.len()).unwrap_or(0);
        progress(MoveProgress { table: "event", done, total });
    }
    // The epochs continue from those of the folder, so that no old fence becomes valid again.
    let epoch: i64 = sqlx::query_scalar("SELECT max(epoch) FROM shard")
        .fetch_one(from.folder()?.readers())
        .await?;
    let text = "UPDATE shard SET last_pos = f.pos, head = f.head, epoch = greatest(shard.epoch, $4) \
                FROM unnest($1::BIGINT[], $2::BIGINT[], $3::BYTEA[]) AS f (id, pos, head) \
                WHERE shard.id = f.id";
    let ids: Vec<i64> = ends.keys().map(|shard| i64::from(*shard)).collect();
    let (ends, heads): (Vec<i64>, Vec<Vec<u8>>) =
        ends.values().map(|end| (end.pos, end.digest.0.to_vec())).unzip();
    let query = sqlx::query(text).bind(ids).bind(ends).bind(heads).bind(epoch.max(1));
    to.execute(query).await?;
    Ok(done)
}

fn insert_events(page: &[Record], digests: Vec<Vec<u8>>) -> Query<'static, Postgres, PgArguments> {
    macro_rules! column {
        ($record:ident => $value:expr) => {
            page.iter().map(|$record| $value).collect::<Vec<_>>()
        };
    }
    sqlx::query(
        "INSERT INTO event (shard, pos, entity, seq, kind, version, at, cause, data, sum, digest) \
         SELECT * FROM unnest($1::INTEGER[], $2::BIGINT[], $3::TEXT[], $4::BIGINT[], $5::TEXT[], \
         $6::INTEGER[], $7::BIGINT[], $8::TEXT[], $9::TEXT[], $10::BIGINT[], \
         $11::BYTEA[])",
    )
    .bind(column!(record => i32::from(record.shard)))
    .bind(column!(record => record.pos))
    .bind(column!(record => record.entity.as_str()))
    .bind(column!(record => record.seq))
    .bind(column!(record => &*record.kind))
    .bind(column!(record => i32::from(record.version)))
    .bind(column!(record => record.at.millis()))
    .bind(column!(record => &*record.cause))
    .bind(column!(record => &*record.data))
    .bind(column!(record => journal::checksum::of(record)))
    .bind(digests)
}

/// Copies timers, to the shards of their entities.
async fn timers(
    from: &SqlitePool,
    shards: u16,
    to: &mut Transaction,
    progress: &mut impl FnMut(MoveProgress<'_>),
) -> Result<(), Error> {
    let mut done = 0;
    let mut rows = sqlx::query_as("SELECT entity, due_at FROM timer").fetch(from).try_chunks(1_000);
    while let Some(page) = rows.try_next().await.map_err(|error| error.1)? {
        let page: Vec<(String, i64)> = page;
        done += u64::try_from(page.len()).unwrap_or(0);
        let shard = |(entity, _): &(String, i64)| i32::from(EntityId::new(entity).shard(shards));
        let places: Vec<i32> = page.iter().map(shard).collect();
        let (entities, due): (Vec<String>, Vec<i64>) = page.into_iter().unzip();
        let text = "INSERT INTO timer (entity, shard, due_at) \
                    SELECT * FROM unnest($1::TEXT[], $2::INTEGER[], $3::BIGINT[])";
        to.execute(sqlx::query(text).bind(entities).bind(places).bind(due)).await?;
        progress(MoveProgress { table: "timer", done, total: 0 });
    }
    Ok(())
}

/// Copies the snapshots whose seals are right. The entities of the others are replayed, and
/// write new ones.
async fn snapshots(
    from: &Store,
    to: &mut Transaction,
    progress: &mut impl FnMut(MoveProgress<'_>),
) -> Result<(), Error> {
    let (journal, seals) = (from.journal(), SnapshotSeals::of(from.clone()));
    let mut done = 0;
    let mut names =
        sqlx::query_scalar("SELECT entity FROM snapshot").fetch(from.folder()?.readers());
    while let Some(name) = names.try_next().await? {
        let name: String = name;
        let found = journal.snapshot(&EntityId::new(&name)).await;
        let Ok(Some(snapshot)) = found else { continue };
        // The target gets the key of the seals, too.
        let seal = seals.seal(&snapshot).await?;
        to.execute(journal::postgres::insert_snapshot(&snapshot, seal)).await?;
        done += 1;
        progress(MoveProgress { table: "snapshot", done, total: 0 });
    }
    Ok(())
}

/// Copies the keys of personal values, sealed with the master key of the target.
async fn keys(
    store: &Store,
    target: &Store,
    to: &mut Transaction,
    progress: &mut impl FnMut(MoveProgress<'_>),
) -> Result<(), Error> {
    let (mut after, mut done) = (None::<String>, 0);
    loop {
        let page = store.keys_behind(after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id.clone());
        for key in &page {
            let wrapped = target.people().master()?.wrap(&store.people().unwrap(key)?);
            let text = "INSERT INTO personal_key (id, entity, subject, wrapped) \
                        VALUES ($1, $2, $3, $4)";
            let query = sqlx::query(text).bind(key.id.clone()).bind(key.entity.clone());
            to.execute(query.bind(key.subject.clone()).bind(wrapped)).await?;
        }
        done += u64::try_from(page.len()).unwrap_or(0);
        progress(MoveProgress { table: "personal_key", done, total: 0 });
    }
}

/// Copies a table row by row.
async fn copy(
    from: &SqlitePool,
    Copied { name, columns }: &Copied,
    to: &mut Transaction,
    progress: &mut impl FnMut(MoveProgress<'_>),
) -> Result<(), Error> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(", ");
    let arrays =
        columns.iter().zip(1..).map(|((_, kind), nth)| format!("${nth}::{}[]", kind.postgres()));
    let arrays = arrays.collect::<Vec<_>>().join(", ");
    let insert = format!("INSERT INTO {name} ({names}) SELECT * FROM unnest({arrays})");
    let select = format!("SELECT {names} FROM {name}");
    let mut done = 0;
    let mut rows = sqlx::query(AssertSqlSafe(select)).fetch(from).try_chunks(1_000);
    while let Some(page) = rows.try_next().await.map_err(|error| error.1)? {
        let mut query = sqlx::query(AssertSqlSafe(insert.clone()));
        for (nth, (_, kind)) in columns.iter().enumerate() {
            query = match kind {
                Text => query.bind(column::<Option<String>>(&page, nth)?),
                Number => query.bind(column::<Option<i64>>(&page, nth)?),
                Flag => query.bind(column::<Option<bool>>(&page, nth)?),
                Bytes => query.bind(column::<Option<Vec<u8>>>(&page, nth)?),
            };
        }
        to.execute(query).await?;
        done += u64::try_from(page.len()).unwrap_or(0);
        progress(MoveProgress { table: name, done, total: 0 });
    }
    Ok(())
}

fn column<'r, T>(page: &'r [SqliteRow], nth: usize) -> Result<Vec<T>, sqlx::Error>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    page.iter().map(|row| row.try_get(nth)).collect()
}
