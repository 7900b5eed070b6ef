//! Rows of orders: a projection for lists, searches and counts. An order's events are
//! authoritative.

use std::collections::{BTreeMap, BTreeSet};

use super::both::{Builder, Dialect, Readers, fetch_all, fetch_optional};
use super::found::FoundRow;
use super::row::{self, TableRow as _, Value};
use super::{Error, LIST_MAX, Store, projection};
use crate::domain::case_folding::fold_case;
use crate::domain::time::Timestamp;

/// The most statuses in one filter.
pub const STATUSES_MAX: usize = 16;
/// A search by email prefix sorts its matches if there are fewer than this. From this number on, it
/// reads all orders, newest first, until the page is full, which is then cheaper.
const NARROW_MAX: i64 = 2_000;

crate::table_row! {
    /// The row of an order.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Row in "order_row", key(id) {
        /// Its id: `ord_`, and the cart's id without its prefix.
        pub id: String,
        /// The order number, once the order is confirmed.
        pub number: Option<i64>,
        /// The order's status.
        pub status: String,
        /// The payment status.
        pub payment_status: String,
        /// The fulfillment status.
        pub fulfillment_status: String,
        /// The buyer's email address.
        pub email: String,
        /// The case-folded email address, for searches.
        pub email_folded: String,
        /// The country of delivery, ISO 3166-1 alpha-2.
        pub country: Option<String>,
        /// The currency of its amounts, as an ISO 4217 code.
        pub currency: String,
        /// The total, in minor units.
        pub total: i64,
        /// The captured amount, in minor units.
        pub captured: i64,
        /// The refunded amount, in minor units.
        pub refunded: i64,
        /// The number of lines.
        pub line_count: i64,
        /// The number of units.
        pub item_count: i64,
        /// The buyer's own reference.
        pub reference: Option<String>,
        /// The current step of its saga, while the saga is unfinished.
        pub saga_step: Option<String>,
        /// Why its saga is stuck.
        pub stuck_reason: Option<String>,
        /// Its alert, for an operator.
        pub alert: Option<String>,
        /// When the order was placed.
        pub placed_at: Timestamp,
        /// When the order last changed.
        pub updated_at: Timestamp,
        /// The seq of its last event.
        pub version: i64,
    }
}

/// The filter of a list of orders, newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only orders with one of these statuses, at most [`STATUSES_MAX`]; empty for any status.
    pub status: Vec<String>,
    /// Only orders with this payment status.
    pub payment_status: Option<String>,
    /// Only orders with this fulfillment status.
    pub fulfillment_status: Option<String>,
    /// Only orders with this email address, in upper or lower case.
    pub email: Option<String>,
    /// Only the order with this order number.
    pub number: Option<i64>,
    /// Only orders with this reference of the buyer.
    pub reference: Option<String>,
    /// Only orders that match this search text: it is their id, number or reference, or a prefix of
    /// their email address in upper or lower case.
    pub search: Option<String>,
    /// Only orders placed at this time or later.
    pub placed_from: Option<Timestamp>,
    /// Only orders placed before this time.
    pub placed_to: Option<Timestamp>,
    /// Only orders whose saga is stuck.
    pub stuck: bool,
    /// Only orders whose saga is unfinished.
    pub unfinished: bool,
    /// Only the order with this id.
    pub id: Option<String>,
    /// Only orders after this one in the list: the time and id of the last order of the previous
    /// page.
    pub after: Option<(Timestamp, String)>,
    /// At most this many orders, up to [`LIST_MAX`].
    pub limit: u32,
}

/// How a list gets its order, newest first: from an index that has this order, or by sorting the
/// rows that another index finds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Index,
    Sort,
}

/// A `+` before a column keeps SQLite from using an index of that column. PostgreSQL chooses its
/// index by statistics and gets no hint.
const NO_INDEX: &str = "+";

impl By {
    const fn columns(self, dialect: Dialect) -> [&'static str; 2] {
        match (self, dialect) {
            (Self::Sort, Dialect::Sqlite) => ["+placed_at", "+id"],
            _ => ["placed_at", "id"],
        }
    }
}

impl Store {
    /// The order with this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn order(&self, id: &str) -> Result<Option<Row>, Error> {
        let found = row::find(self.readers(), Row::table(), &[Value::text(id)]).await?;
        found.as_ref().map(Row::decode).transpose()
    }

    /// Orders, newest first; at the same time, highest id first.
    ///
    /// # Errors
    /// [`Error::Refused`] for more than [`STATUSES_MAX`] statuses, or the store's errors.
    pub async fn orders(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        if filter.status.len() > STATUSES_MAX {
            return Err(Error::Refused(format!("at most {STATUSES_MAX} statuses can be listed")));
        }
        list(self.lists(), filter).await
    }

    /// Orders as [`Store::orders`] lists them, with the cursors of their projection in each shard,
    /// both from one snapshot.
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
        Ok((found.iter().map(Row::decode).collect::<Result<_, _>>()?, cursors))
    }

    /// The number of orders in each status.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn count_orders(&self) -> Result<BTreeMap<String, i64>, Error> {
        let text = "SELECT status, count(*) FROM order_row GROUP BY status";
        let found = fetch_all!(self.lists(), sqlx::query(text))?;
        let count = |found: &FoundRow| Ok((found.try_get(0)?, found.try_get(1)?));
        Ok(found.iter().map(count).collect::<Result<_, sqlx::Error>>()?)
    }
}

/// Lists orders through the given connections.
pub(in crate::store) async fn list(from: Readers<'_>, filter: &Filter) -> Result<Vec<Row>, Error> {
    let query = match &filter.search {
        Some(words) => select_found(filter, &finds(from, words).await?, from.dialect()),
        None => select(filter, from.dialect()),
    };
    let found = query.fetch_all(from).await?;
    found.iter().map(Row::decode).collect()
}

/// All ways to interpret a search text.
async fn finds(from: Readers<'_>, words: &str) -> Result<Vec<Find>, Error> {
    let words = words.trim();
    let mut finds = vec![Find::Is("id", words.to_owned()), Find::Is("reference", words.to_owned())];
    if let Ok(number) = words.trim_start_matches('#').parse() {
        finds.push(Find::Number(number));
    }
    let beginning = fold_case(words);
    // This text sorts after every text with the prefix.
    let to = format!("{beginning}\u{10ffff}");
    let text = "SELECT count(*) FROM (SELECT 1 FROM order_row WHERE email_folded >= $1 AND \
                email_folded < $2 LIMIT +$3) AS found";
    let there = fetch_optional!(
        from,
        sqlx::query(text).bind(beginning.as_str()).bind(to.as_str()).bind(NARROW_MAX)
    )?;
    let there: i64 = there.map_or(Ok(0), |there| there.try_get(0))?;
    if there > 0 {
        finds.push(Find::Email { from: beginning, to, narrow: there < NARROW_MAX });
    }
    Ok(finds)
}

/// The statement of a filter without a search. For several statuses, one list per status is read
/// and the lists are merged: otherwise SQLite would sort all orders of these statuses for one page.
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

/// One way to interpret a search text.
enum Find {
    /// A column equals this.
    Is(&'static str, String),
    /// The number equals this.
    Number(i64),
    /// The case-folded email address is from `from` to before `to`; `narrow` if fewer than
    /// [`NARROW_MAX`] orders match.
    Email { from: String, to: String, narrow: bool },
}

/// The statement of a search: a list for each interpretation, merged, without duplicates.
fn select_found(filter: &Filter, finds: &[Find], dialect: Dialect) -> Builder {
    let mut query = Builder::new(dialect, "");
    for (at, find) in finds.iter().enumerate() {
        query.push(if at == 0 { "SELECT * FROM (" } else { " UNION SELECT * FROM (" });
        query.push(Row::table().select()).push(" WHERE ");
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
                query.hint(hint).push("email_folded >= ").push_bind(from.clone()).push(" AND ");
                query.hint(hint).push("email_folded < ").push_bind(to.clone());
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

/// One list of [`select`]. It has only the conditions that the filter sets, so that SQLite chooses
/// the right index.
fn push_list(query: &mut Builder, filter: &Filter, status: Option<&str>) {
    query.push(Row::table().select()).push(" WHERE TRUE");
    if let Some(status) = status {
        // The index of emails or references finds few orders, so it is better than the index of the
        // status.
        let few = filter.email.is_some() || filter.reference.is_some();
        query.push(" AND ").hint(if few { NO_INDEX } else { "" }).push("status = ");
        query.push_bind(status.to_owned());
    }
    let by = if filter.number.is_some() { By::Sort } else { By::Index };
    push_conditions(query, filter, by);
    push_order(query, by, filter);
}

/// Adds `ORDER BY` and `LIMIT` of a list.
fn push_order(query: &mut Builder, by: By, filter: &Filter) {
    let [placed_at, id] = by.columns(query.dialect());
    query.push(format_args!(" ORDER BY {placed_at} DESC, {id} DESC LIMIT +"));
    query.push_bind(i64::from(filter.limit.min(LIST_MAX)));
}

/// The time and id at which a page begins; only older orders are on the page. It is the last order
/// of the previous page, or `placed_to` if that is older. Both are combined into one condition, so
/// that SQLite enters the index there and does not read the rows of previous pages.
fn behind(filter: &Filter) -> Option<(Timestamp, String)> {
    let to = filter.placed_to.map(|to| (to, String::new()));
    filter.after.clone().into_iter().chain(to).min()
}

/// Adds the conditions of a filter, except status and search.
fn push_conditions(query: &mut Builder, filter: &Filter, by: By) {
    let [placed_at, id] = by.columns(query.dialect());
    let email = filter.email.as_deref().map(fold_case);
    let texts = [
        (" AND id = ", &filter.id),
        (" AND payment_status = ", &filter.payment_status),
        (" AND fulfillment_status = ", &filter.fulfillment_status),
        (" AND email_folded = ", &email),
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

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row as _};

    use super::*;
    use crate::store::Options;

    /// SQLite's query plan: a line for each index or table that is read, and for each sort.
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
