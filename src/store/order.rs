//! Rows of orders: a read model for lists and counts. An order's truth is its events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::many::Texts;
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

/// Which orders to list, the newest first.
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
    /// Only those behind the order of this id, the last of the page before.
    pub after: Option<String>,
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

const SELECT: &str = concat!("SELECT ", columns!(), " FROM order_row WHERE ");

/// Not `INSERT OR REPLACE`: that writes every index anew, this one those whose columns changed.
static PUT: LazyLock<Texts> = LazyLock::new(|| {
    Texts::new(
        concat!("INSERT INTO order_row (", columns!(), ") VALUES "),
        "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        " ON CONFLICT (id) DO UPDATE SET \
         number = excluded.number, status = excluded.status, payment_status = \
         excluded.payment_status, fulfillment_status = excluded.fulfillment_status, email \
         = excluded.email, country = excluded.country, currency = excluded.currency, \
         total = excluded.total, captured = excluded.captured, refunded = \
         excluded.refunded, line_count = excluded.line_count, item_count = \
         excluded.item_count, reference = excluded.reference, saga_step = \
         excluded.saga_step, stuck_reason = excluded.stuck_reason, alert = \
         excluded.alert, placed_at = excluded.placed_at, updated_at = \
         excluded.updated_at, version = excluded.version",
    )
});

impl Store {
    /// The order of this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn order(&self, id: &str) -> Result<Option<Row>, Error> {
        let found = sqlx::query(concat!("SELECT ", columns!(), " FROM order_row WHERE id = $1"))
            .bind(id)
            .fetch_optional(self.readers())
            .await?;
        Ok(found.as_ref().map(row).transpose()?)
    }

    /// Orders, the newest first.
    ///
    /// # Errors
    /// [`Error::Refused`] for more than [`STATUSES_MAX`] statuses, or the store's errors.
    pub async fn orders(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        if filter.status.len() > STATUSES_MAX {
            return Err(Error::Refused(format!("at most {STATUSES_MAX} statuses can be listed")));
        }
        let mut query = match &filter.search {
            Some(words) => select_found(filter, &self.finds(words).await?),
            None => select(filter),
        };
        let found = query.build().fetch_all(self.readers()).await?;
        Ok(found.iter().map(row).collect::<Result<_, _>>()?)
    }

    /// Orders as [`Store::orders`] lists them, and how far a projection of theirs has come, both
    /// at one moment.
    ///
    /// # Errors
    /// As [`Store::orders`].
    pub async fn orders_at(
        &self,
        filter: &Filter,
        (projection, shard): (&str, u16),
    ) -> Result<(Vec<Row>, i64), Error> {
        let mut read = self.readers().begin().await?;
        let pos = projection::cursor(&mut read, projection, shard).await?;
        let found = select(filter).build().fetch_all(&mut *read).await?;
        read.rollback().await?;
        Ok((found.iter().map(row).collect::<Result<_, _>>()?, pos))
    }

    /// All that words may mean.
    async fn finds(&self, words: &str) -> Result<Vec<Find>, Error> {
        let words = words.trim();
        let mut finds =
            vec![Find::Is("id", words.to_owned()), Find::Is("reference", words.to_owned())];
        if let Ok(number) = words.trim_start_matches('#').parse() {
            finds.push(Find::Number(number));
        }
        let lower = words.to_lowercase();
        for from in BTreeSet::from([words.to_owned(), lower]) {
            // Behind every text that begins like this.
            let to = format!("{from}\u{10ffff}");
            let there: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM (SELECT 1 FROM order_row WHERE email >= $1 AND email < $2 \
                 LIMIT +$3)",
            )
            .bind(&from)
            .bind(&to)
            .bind(NARROW_MAX)
            .fetch_one(self.readers())
            .await?;
            if there > 0 {
                finds.push(Find::Email { from, to, narrow: there < NARROW_MAX });
            }
        }
        Ok(finds)
    }

    /// How many orders there are in each status.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn count_orders(&self) -> Result<BTreeMap<String, i64>, Error> {
        let found: Vec<(String, i64)> =
            sqlx::query_as("SELECT status, count(*) FROM order_row GROUP BY status")
                .fetch_all(self.readers())
                .await?;
        Ok(found.into_iter().collect())
    }
}

/// The statement of a filter. Several statuses are as many lists that are merged: SQLite would
/// otherwise sort all orders of these statuses for one page of them.
fn select(filter: &Filter) -> QueryBuilder<Sqlite> {
    let statuses: BTreeSet<&str> = filter.status.iter().map(String::as_str).collect();
    let mut query = QueryBuilder::new("");
    match statuses.len() {
        0 => push_list(&mut query, filter, None),
        1 => push_list(&mut query, filter, statuses.first().copied()),
        _ => {
            for (at, status) in statuses.into_iter().enumerate() {
                query.push(if at == 0 { "SELECT * FROM (" } else { " UNION ALL SELECT * FROM (" });
                push_list(&mut query, filter, Some(status));
                query.push(")");
            }
            query.push(" ORDER BY id DESC LIMIT ").push_bind(filter.limit.min(LIST_MAX));
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

/// The statement of a search: a list for each meaning, merged, each order once. A `+` keeps SQLite
/// from an index that would be the wrong one.
fn select_found(filter: &Filter, finds: &[Find]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("");
    for (at, find) in finds.iter().enumerate() {
        query.push(if at == 0 { "SELECT * FROM (" } else { " UNION SELECT * FROM (" });
        query.push(SELECT);
        let sorts = match find {
            Find::Is(column, text) => {
                query.push(column).push(" = ").push_bind(text.clone());
                false
            }
            Find::Number(number) => {
                query.push("number = ").push_bind(*number);
                true
            }
            Find::Email { from, to, narrow } => {
                let column = if *narrow { "email" } else { "+email" };
                query.push(column).push(" >= ").push_bind(from.clone());
                query.push(" AND ").push(column).push(" < ").push_bind(to.clone());
                *narrow
            }
        };
        let by = if sorts { "+id" } else { "id" };
        query.push(" AND ").push(by).push(" < ").push_bind(after(filter));
        for (at, status) in filter.status.iter().enumerate() {
            query.push(if at == 0 { " AND +status IN (" } else { ", " }).push_bind(status.clone());
        }
        query.push(if filter.status.is_empty() { "" } else { ")" });
        push_conditions(&mut query, filter);
        query.push(" ORDER BY ").push(by).push(" DESC LIMIT +");
        query.push_bind(filter.limit.min(LIST_MAX)).push(")");
    }
    query.push(" ORDER BY id DESC LIMIT +").push_bind(filter.limit.min(LIST_MAX));
    query
}

/// Every id is below what this answers for the first page.
fn after(filter: &Filter) -> String {
    filter.after.clone().unwrap_or_else(|| "p".to_owned())
}

/// One list: only the conditions that the filter has, so that SQLite picks their index.
fn push_list(query: &mut QueryBuilder<Sqlite>, filter: &Filter, status: Option<&str>) {
    query.push(SELECT).push("id < ").push_bind(after(filter));
    if let Some(status) = status {
        query.push(" AND status = ").push_bind(status.to_owned());
    }
    push_conditions(query, filter);
    query.push(" ORDER BY id DESC LIMIT ").push_bind(filter.limit.min(LIST_MAX));
}

/// The conditions of a filter, but for statuses, search and page.
fn push_conditions(query: &mut QueryBuilder<Sqlite>, filter: &Filter) {
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
    let numbers = [
        (" AND number = ", filter.number),
        (" AND placed_at >= ", filter.placed_from.map(Timestamp::millis)),
        (" AND placed_at < ", filter.placed_to.map(Timestamp::millis)),
    ];
    for (condition, value) in numbers {
        if let Some(value) = value {
            query.push(condition).push_bind(value);
        }
    }
    if filter.stuck {
        query.push(" AND saga_step IS NOT NULL AND stuck_reason IS NOT NULL");
    } else if filter.unfinished {
        query.push(" AND saga_step IS NOT NULL");
    }
}

/// Writes rows over what they were, inside of a projection's transaction.
pub(in crate::store) async fn put(
    connection: &mut SqliteConnection,
    rows: &[Row],
) -> Result<(), sqlx::Error> {
    PUT.run(connection, rows, |query, row: &Row| {
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
    })
    .await
}

fn row(found: &SqliteRow) -> Result<Row, sqlx::Error> {
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
