//! Rows of orders: a read model for lists and counts. An order's truth is its events.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use super::both::{Builder, Dialect, Found, Readers, Writing, fetch_all, fetch_optional};
use super::many::{Binding, Texts, last_of_each};
use super::{Error, LIST_MAX, Store, projection};
use crate::domain::time::Timestamp;

/// The most statuses that one list may ask for.
pub const STATUSES_MAX: usize = 16;
/// How many orders the beginning of an email address may lead to before it is cheaper to walk
/// through all orders, the newest first, until a page is full.
const NARROW_MAX: i64 = 2_000;

/// An order as its projection last saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `ord_` and its key.
    pub id: String,
    /// The human number, once it is confirmed.
    pub number: Option<i64>,
    /// Where it stands.
    pub status: String,
    /// Where its money stands.
    pub payment_status: String,
    /// Where its goods stand.
    pub fulfillment_status: String,
    /// The buyer's address.
    pub email: String,
    /// Where it goes, ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// The ISO 4217 code of its amounts.
    pub currency: String,
    /// What it costs, in minor units.
    pub total: i64,
    /// What was captured, in minor units.
    pub captured: i64,
    /// What was refunded, in minor units.
    pub refunded: i64,
    /// How many lines it has.
    pub line_count: i64,
    /// How many units all lines have together.
    pub item_count: i64,
    /// The buyer's own reference.
    pub reference: Option<String>,
    /// What its saga is at, while it is under way.
    pub saga_step: Option<String>,
    /// Why its saga cannot go on by itself.
    pub stuck_reason: Option<String>,
    /// What an operator should look at.
    pub alert: Option<String>,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The seq of its last event.
    pub version: i64,
}

/// Which orders to list, the newest placed first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In one of these statuses, at most [`STATUSES_MAX`]; empty for any.
    pub status: Vec<String>,
    /// With this payment status.
    pub payment_status: Option<String>,
    /// With this fulfillment status.
    pub fulfillment_status: Option<String>,
    /// Of this buyer.
    pub email: Option<String>,
    /// With this number.
    pub number: Option<i64>,
    /// With this reference.
    pub reference: Option<String>,
    /// Only those that these words of a person lead to: an id, a number, a reference, or an email
    /// address or its beginning.
    pub search: Option<String>,
    /// Placed then or later.
    pub placed_from: Option<Timestamp>,
    /// Placed before then.
    pub placed_to: Option<Timestamp>,
    /// Only those whose saga is stuck.
    pub stuck: bool,
    /// Only those whose saga is under way.
    pub unfinished: bool,
    /// Only the one of this id.
    pub id: Option<String>,
    /// Only those behind the order that was placed then and has this id, the last of the page
    /// before.
    pub after: Option<(Timestamp, String)>,
    /// At most so many, up to [`LIST_MAX`].
    pub limit: u32,
}

macro_rules! columns {
    () => {
        "id, number, status, payment_status, fulfillment_status, email, country, currency, total, \
         captured, refunded, line_count, item_count, reference, saga_step, stuck_reason, alert, \
         placed_at, updated_at, version"
    };
}

/// Whether a list is sorted by the index of its order, or what another index found is sorted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Index,
    Sort,
}

/// A `+` keeps SQLite from an index that would be the wrong one. PostgreSQL counts what is there.
const NO_INDEX: &str = "+";

impl By {
    const fn columns(self, dialect: Dialect) -> [&'static str; 2] {
        match (self, dialect) {
            (Self::Sort, Dialect::Sqlite) => ["+placed_at", "+id"],
            _ => ["placed_at", "id"],
        }
    }
}

const SELECT: &str = concat!("SELECT ", columns!(), " FROM order_row WHERE ");

/// What is written over a row that is there. Not `INSERT OR REPLACE`: that writes every index anew,
/// this one those whose columns changed.
macro_rules! over {
    () => {
        " ON CONFLICT (id) DO UPDATE SET number = excluded.number, status = excluded.status, \
         payment_status = excluded.payment_status, \
         fulfillment_status = excluded.fulfillment_status, email = excluded.email, \
         country = excluded.country, currency = excluded.currency, total = excluded.total, \
         captured = excluded.captured, refunded = excluded.refunded, \
         line_count = excluded.line_count, item_count = excluded.item_count, \
         reference = excluded.reference, saga_step = excluded.saga_step, \
         stuck_reason = excluded.stuck_reason, alert = excluded.alert, \
         placed_at = excluded.placed_at, updated_at = excluded.updated_at, \
         version = excluded.version"
    };
}

static PUT: LazyLock<Texts> = LazyLock::new(|| {
    Texts::new(
        concat!("INSERT INTO order_row (", columns!(), ") VALUES "),
        "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        over!(),
    )
});

const PUT_ARRAYS: &str = concat!(
    "INSERT INTO order_row (",
    columns!(),
    ") SELECT * FROM unnest($1::TEXT[], $2::BIGINT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], \
     $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::BIGINT[], $10::BIGINT[], $11::BIGINT[], \
     $12::BIGINT[], $13::BIGINT[], $14::TEXT[], $15::TEXT[], $16::TEXT[], $17::TEXT[], \
     $18::BIGINT[], $19::BIGINT[], $20::BIGINT[])",
    over!()
);

impl Store {
    /// The order of this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn order(&self, id: &str) -> Result<Option<Row>, Error> {
        let text = concat!("SELECT ", columns!(), " FROM order_row WHERE id = $1");
        let found = fetch_optional!(self.readers(), sqlx::query(text).bind(id))?;
        Ok(found.as_ref().map(row).transpose()?)
    }

    /// Orders, the newest placed first; of those of one moment, the highest id first.
    ///
    /// # Errors
    /// [`Error::Refused`] for more than [`STATUSES_MAX`] statuses, or the store's errors.
    pub async fn orders(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        if filter.status.len() > STATUSES_MAX {
            return Err(Error::Refused(format!("at most {STATUSES_MAX} statuses can be listed")));
        }
        list(self.lists(), filter).await
    }

    /// Orders as [`Store::orders`] lists them, and how far a projection of theirs has come in each
    /// shard, both at one moment.
    ///
    /// # Errors
    /// As [`Store::orders`].
    pub async fn orders_at(
        &self,
        filter: &Filter,
        projection: &str,
    ) -> Result<(Vec<Row>, Vec<(u16, i64)>), Error> {
        let from = self.readers();
        let list = select(filter, from.dialect());
        let (found, cursors) = projection::list_at(from, list, projection).await?;
        Ok((found.iter().map(row).collect::<Result<_, _>>()?, cursors))
    }

    /// How many orders there are in each status.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn count_orders(&self) -> Result<BTreeMap<String, i64>, Error> {
        let text = "SELECT status, count(*) FROM order_row GROUP BY status";
        let found = fetch_all!(self.lists(), sqlx::query(text))?;
        let count = |found: &Found| Ok((found.try_get(0)?, found.try_get(1)?));
        Ok(found.iter().map(count).collect::<Result<_, sqlx::Error>>()?)
    }
}

/// Orders as they stand in one of the databases.
pub(in crate::store) async fn list(from: Readers<'_>, filter: &Filter) -> Result<Vec<Row>, Error> {
    let query = match &filter.search {
        Some(words) => select_found(filter, &finds(from, words).await?, from.dialect()),
        None => select(filter, from.dialect()),
    };
    let found = query.fetch_all(from).await?;
    Ok(found.iter().map(row).collect::<Result<_, _>>()?)
}

/// All that words may mean.
async fn finds(from: Readers<'_>, words: &str) -> Result<Vec<Find>, Error> {
    let words = words.trim();
    let mut finds = vec![Find::Is("id", words.to_owned()), Find::Is("reference", words.to_owned())];
    if let Ok(number) = words.trim_start_matches('#').parse() {
        finds.push(Find::Number(number));
    }
    let lower = words.to_lowercase();
    for beginning in BTreeSet::from([words.to_owned(), lower]) {
        // Behind every text that begins like this.
        let to = format!("{beginning}\u{10ffff}");
        let text = "SELECT count(*) FROM (SELECT 1 FROM order_row WHERE email >= $1 AND \
                    email < $2 LIMIT +$3) AS found";
        let there = fetch_optional!(
            from,
            sqlx::query(text).bind(beginning.as_str()).bind(to.as_str()).bind(NARROW_MAX)
        )?;
        let there: i64 = there.map_or(Ok(0), |there| there.try_get(0))?;
        if there > 0 {
            finds.push(Find::Email { from: beginning, to, narrow: there < NARROW_MAX });
        }
    }
    Ok(finds)
}

/// The statement of a filter. Several statuses are as many lists that are merged: SQLite would
/// otherwise sort all orders of these statuses for one page of them.
fn select(filter: &Filter, dialect: Dialect) -> Builder {
    let statuses: BTreeSet<&str> = filter.status.iter().map(String::as_str).collect();
    let mut query = Builder::new(dialect, "");
    match statuses.len() {
        0 => push_list(&mut query, filter, None),
        1 => push_list(&mut query, filter, statuses.first().copied()),
        _ => {
            for (at, status) in statuses.into_iter().enumerate() {
                query.push(if at == 0 { "SELECT * FROM (" } else { " UNION ALL SELECT * FROM (" });
                push_list(&mut query, filter, Some(status));
                query.push(") AS found");
            }
            push_order(&mut query, By::Index, filter);
        }
    }
    query
}

/// One meaning of what a person typed.
enum Find {
    /// A column is this.
    Is(&'static str, String),
    /// The number is this.
    Number(i64),
    /// The email address is between two texts; `narrow` where few are.
    Email { from: String, to: String, narrow: bool },
}

/// The statement of a search: a list for each meaning, merged, each order once.
fn select_found(filter: &Filter, finds: &[Find], dialect: Dialect) -> Builder {
    let mut query = Builder::new(dialect, "");
    for (at, find) in finds.iter().enumerate() {
        query.push(if at == 0 { "SELECT * FROM (" } else { " UNION SELECT * FROM (" });
        query.push(SELECT);
        let by = match find {
            Find::Is(column, text) => {
                query.push(column).push(" = ").push_bind(text.clone());
                By::Index
            }
            Find::Number(number) => {
                query.push("number = ").push_bind(*number);
                By::Sort
            }
            Find::Email { from, to, narrow } => {
                let hint = if *narrow { "" } else { NO_INDEX };
                query.hint(hint).push("email >= ").push_bind(from.clone()).push(" AND ");
                query.hint(hint).push("email < ").push_bind(to.clone());
                if *narrow { By::Sort } else { By::Index }
            }
        };
        for (at, status) in filter.status.iter().enumerate() {
            match at {
                0 => query.push(" AND ").hint(NO_INDEX).push("status IN ("),
                _ => query.push(", "),
            };
            query.push_bind(status.clone());
        }
        query.push(if filter.status.is_empty() { "" } else { ")" });
        push_conditions(&mut query, filter, by);
        push_order(&mut query, by, filter);
        query.push(") AS found");
    }
    push_order(&mut query, By::Index, filter);
    query
}

/// One list: only the conditions that the filter has, so that SQLite picks their index.
fn push_list(query: &mut Builder, filter: &Filter, status: Option<&str>) {
    query.push(SELECT).push("TRUE");
    if let Some(status) = status {
        // An index of few orders is better than that of their status.
        let few = filter.email.is_some() || filter.reference.is_some();
        query.push(" AND ").hint(if few { NO_INDEX } else { "" }).push("status = ");
        query.push_bind(status.to_owned());
    }
    let by = if filter.number.is_some() { By::Sort } else { By::Index };
    push_conditions(query, filter, by);
    push_order(query, by, filter);
}

/// The end of a list.
fn push_order(query: &mut Builder, by: By, filter: &Filter) {
    let [placed_at, id] = by.columns(query.dialect());
    query.push(format_args!(" ORDER BY {placed_at} DESC, {id} DESC LIMIT +"));
    query.push_bind(i64::from(filter.limit.min(LIST_MAX)));
}

/// Where a page begins: behind the one before and behind `placed_to`, whichever is older. It is one
/// condition, so that no page reads what the pages before it had.
fn behind(filter: &Filter) -> Option<(Timestamp, String)> {
    let to = filter.placed_to.map(|to| (to, String::new()));
    filter.after.clone().into_iter().chain(to).min()
}

/// The conditions of a filter, but for statuses and search.
fn push_conditions(query: &mut Builder, filter: &Filter, by: By) {
    let [placed_at, id] = by.columns(query.dialect());
    let texts = [
        (" AND id = ", &filter.id),
        (" AND payment_status = ", &filter.payment_status),
        (" AND fulfillment_status = ", &filter.fulfillment_status),
        (" AND email = ", &filter.email),
        (" AND reference = ", &filter.reference),
    ];
    for (condition, value) in texts {
        if let Some(value) = value {
            query.push(condition).push_bind(value.clone());
        }
    }
    if let Some(number) = filter.number {
        query.push(" AND number = ").push_bind(number);
    }
    if let Some(from) = filter.placed_from {
        query.push(format_args!(" AND {placed_at} >= ")).push_bind(from.millis());
    }
    if let Some((at, last)) = behind(filter) {
        query.push(format_args!(" AND ({placed_at}, {id}) < (")).push_bind(at.millis());
        query.push(", ").push_bind(last).push(")");
    }
    if filter.stuck {
        query.push(" AND saga_step IS NOT NULL AND stuck_reason IS NOT NULL");
    } else if filter.unfinished {
        query.push(" AND saga_step IS NOT NULL");
    }
}

/// Writes rows over what they were, inside of a projection's transaction.
pub(in crate::store) async fn put(writing: &mut Writing, rows: &[Row]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    match writing {
        Writing::Sqlite(writing) => PUT.run(writing.connection()?, rows, bind).await,
        Writing::Postgres(transaction) => {
            let rows = last_of_each(rows, |row| row.id.as_str());
            transaction.execute(put_arrays(&rows)).await.map(drop)
        }
    }
}

fn bind(query: Binding, row: &Row) -> Binding {
    query
        .bind(row.id.as_str())
        .bind(row.number)
        .bind(row.status.as_str())
        .bind(row.payment_status.as_str())
        .bind(row.fulfillment_status.as_str())
        .bind(row.email.as_str())
        .bind(row.country.as_deref())
        .bind(row.currency.as_str())
        .bind(row.total)
        .bind(row.captured)
        .bind(row.refunded)
        .bind(row.line_count)
        .bind(row.item_count)
        .bind(row.reference.as_deref())
        .bind(row.saga_step.as_deref())
        .bind(row.stuck_reason.as_deref())
        .bind(row.alert.as_deref())
        .bind(row.placed_at.millis())
        .bind(row.updated_at.millis())
        .bind(row.version)
}

/// A statement of PostgreSQL that writes any number of rows: each column is an array.
fn put_arrays(rows: &[&Row]) -> Query<'static, Postgres, PgArguments> {
    macro_rules! column {
        ($row:ident => $value:expr) => {
            rows.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    sqlx::query(PUT_ARRAYS)
        .bind(column!(row => row.id.as_str()))
        .bind(column!(row => row.number))
        .bind(column!(row => row.status.as_str()))
        .bind(column!(row => row.payment_status.as_str()))
        .bind(column!(row => row.fulfillment_status.as_str()))
        .bind(column!(row => row.email.as_str()))
        .bind(column!(row => row.country.as_deref()))
        .bind(column!(row => row.currency.as_str()))
        .bind(column!(row => row.total))
        .bind(column!(row => row.captured))
        .bind(column!(row => row.refunded))
        .bind(column!(row => row.line_count))
        .bind(column!(row => row.item_count))
        .bind(column!(row => row.reference.as_deref().map(storable)))
        .bind(column!(row => row.saga_step.as_deref()))
        .bind(column!(row => row.stuck_reason.as_deref().map(storable)))
        .bind(column!(row => row.alert.as_deref().map(storable)))
        .bind(column!(row => row.placed_at.millis()))
        .bind(column!(row => row.updated_at.millis()))
        .bind(column!(row => row.version))
}

/// What others wrote, without what no text in PostgreSQL can have.
fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

fn row(found: &Found) -> Result<Row, sqlx::Error> {
    Ok(Row {
        id: found.try_get(0)?,
        number: found.try_get(1)?,
        status: found.try_get(2)?,
        payment_status: found.try_get(3)?,
        fulfillment_status: found.try_get(4)?,
        email: found.try_get(5)?,
        country: found.try_get(6)?,
        currency: found.try_get(7)?,
        total: found.try_get(8)?,
        captured: found.try_get(9)?,
        refunded: found.try_get(10)?,
        line_count: found.try_get(11)?,
        item_count: found.try_get(12)?,
        reference: found.try_get(13)?,
        saga_step: found.try_get(14)?,
        stuck_reason: found.try_get(15)?,
        alert: found.try_get(16)?,
        placed_at: Timestamp::from_millis(found.try_get(17)?),
        updated_at: Timestamp::from_millis(found.try_get(18)?),
        version: found.try_get(19)?,
    })
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row as _};

    use super::*;
    use crate::store::Options;

    /// How SQLite carries out a query: its steps that read rows, and whether it sorts in the end.
    async fn plan(store: &Store, query: Builder) -> Vec<String> {
        let text = format!("EXPLAIN QUERY PLAN {}", query.text());
        let readers = store.folder().unwrap().readers();
        let steps = sqlx::query(AssertSqlSafe(text)).fetch_all(readers).await.unwrap();
        steps.iter().map(|step| step.get::<String, _>(3)).collect()
    }

    #[tokio::test]
    async fn every_list_reads_an_index_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &Options::default()).await.unwrap();
        let text = |text: &str| Some(text.to_owned());
        let (status, two) = (vec!["pending".to_owned()], ["a", "b"].map(str::to_owned).to_vec());
        let after = Some((Timestamp::from_millis(1), "ord_1".to_owned()));
        let moment = Some(Timestamp::from_millis(0));
        let first = Filter { limit: 2, ..Filter::default() };
        for all in [first.clone(), Filter { after, ..first }] {
            for (filter, index) in [
                (all.clone(), "order_by_time"),
                (Filter { payment_status: text("p"), ..all.clone() }, "order_by_time"),
                (Filter { fulfillment_status: text("f"), ..all.clone() }, "order_by_time"),
                (Filter { placed_from: moment, ..all.clone() }, "order_by_time"),
                (Filter { placed_to: moment, ..all.clone() }, "order_by_time"),
                (Filter { status: status.clone(), ..all.clone() }, "order_by_status"),
                (Filter { status: two.clone(), ..all.clone() }, "order_by_status"),
                (
                    Filter { status: two.clone(), placed_from: moment, ..all.clone() },
                    "order_by_status",
                ),
                (Filter { email: text("e"), ..all.clone() }, "order_by_email"),
                (Filter { email: text("e"), status: two.clone(), ..all.clone() }, "order_by_email"),
                (Filter { reference: text("r"), ..all.clone() }, "order_by_reference"),
                (
                    Filter { reference: text("r"), status: status.clone(), ..all.clone() },
                    "order_by_reference",
                ),
                (Filter { stuck: true, ..all.clone() }, "order_unfinished"),
                (Filter { unfinished: true, ..all.clone() }, "order_unfinished"),
                (Filter { id: text("i"), ..all.clone() }, "sqlite_autoindex_order_row_1"),
            ] {
                let steps = plan(&store, select(&filter, Dialect::Sqlite)).await;
                let reads: Vec<_> =
                    steps.iter().filter(|step| step.contains(" order_row")).collect();
                assert_eq!(reads.len(), filter.status.len().max(1), "{filter:?}: {steps:?}");
                let right = |step: &&String| step.contains(&format!("INDEX {index}"));
                assert!(reads.iter().all(right), "{filter:?}: {steps:?}");
                let sorts = |step: &String| step.contains("TEMP B-TREE");
                assert!(!steps.iter().any(sorts) || filter.status.len() > 1, "{steps:?}");
            }
            let number =
                plan(&store, select(&Filter { number: Some(1), ..all.clone() }, Dialect::Sqlite))
                    .await;
            assert!(number[0].contains("INDEX order_by_number"), "{number:?}");
            let found = |narrow| Find::Email { from: "a".into(), to: "b".into(), narrow };
            for (find, index) in [
                (Find::Is("id", "i".into()), "sqlite_autoindex_order_row_1"),
                (Find::Is("reference", "r".into()), "order_by_reference"),
                (Find::Number(1), "order_by_number"),
                (found(true), "order_by_email"),
                (found(false), "order_by_time"),
            ] {
                let filter = Filter { placed_from: moment, ..all.clone() };
                for filter in [all.clone(), filter] {
                    let steps = plan(
                        &store,
                        select_found(&filter, std::slice::from_ref(&find), Dialect::Sqlite),
                    );
                    let steps = steps.await;
                    let right = |step: &String| step.contains(&format!("INDEX {index}"));
                    assert!(steps.iter().any(right), "{steps:?}");
                }
            }
        }
    }
}
