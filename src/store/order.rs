//! Rows of orders: a projection for lists, searches and counts. An order's events are
//! authoritative.

use std::collections::{BTreeMap, BTreeSet};

use strum::{EnumString, IntoStaticStr, VariantArray};

use super::both::{Builder, Dialect, Readers, fetch_all};
use super::found::FoundRow;
use super::row::{self, TableRow as _, Value};
use super::{Error, LIST_MAX, Store, order_search, projection};
use crate::domain::time::Timestamp;
use crate::store::personal::CodedSearch;

/// The name of the projection that writes these rows.
pub const PROJECTION: &str = "orders";

/// The number of orders, in the order of the list, that a search reads without an index: what is
/// found often is found among them, and the rest is rare enough to be sorted.
const FIRST: u32 = LIST_MAX;

crate::table_row! {
    /// The row of an order.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Row in "order_row", key(id), lasting(email_hash, reference_hash, placed_at) {
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
        /// The buyer's email address, sealed.
        pub email: String,
        /// The keyed hash of the email address; empty once it is erased.
        pub email_hash: String,
        /// The name in the billing address, else in the shipping address, sealed.
        pub buyer_name: String,
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
        /// The buyer's own reference, sealed.
        pub reference: Option<String>,
        /// The keyed hash of the reference; `None` once it is erased.
        pub reference_hash: Option<String>,
        /// The number of the attempt that paid it, or else of the last one that was voided.
        pub paid_attempt: Option<i64>,
        /// The provider's account of that attempt.
        pub paid_with: Option<String>,
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

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum Sort {
    /// The newest placed first.
    #[default]
    #[strum(serialize = "-placed_at")]
    NewestPlaced,
    /// The oldest placed first.
    #[strum(serialize = "placed_at")]
    OldestPlaced,
    /// The last changed first.
    #[strum(serialize = "-updated_at")]
    LastUpdated,
    /// The one that has not changed for the longest time first.
    #[strum(serialize = "updated_at")]
    FirstUpdated,
}

impl Sort {
    const fn by_update(self) -> bool {
        matches!(self, Self::LastUpdated | Self::FirstUpdated)
    }

    const fn descending(self) -> bool {
        matches!(self, Self::NewestPlaced | Self::LastUpdated)
    }

    /// The time of an order by which it is sorted.
    #[must_use]
    pub const fn at(self, row: &Row) -> Timestamp {
        if self.by_update() { row.updated_at } else { row.placed_at }
    }
}

/// The filter of a list of orders. A filter with several values matches orders that have one of
/// them; an empty one matches all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only the orders with these ids.
    pub id: Vec<String>,
    /// Only orders with these statuses.
    pub status: Vec<String>,
    /// Only orders with these payment statuses.
    pub payment_status: Vec<String>,
    /// Only orders with these fulfillment statuses.
    pub fulfillment_status: Vec<String>,
    /// Only orders with email addresses of these keyed hashes.
    pub email_hash: Vec<String>,
    /// Only the orders with these order numbers.
    pub number: Vec<i64>,
    /// Only orders with references of these keyed hashes.
    pub reference_hash: Vec<String>,
    /// Only orders whose texts have all words of this search.
    pub search: Option<CodedSearch>,
    /// Only orders placed at this time or later.
    pub placed_from: Option<Timestamp>,
    /// Only orders placed before this time.
    pub placed_to: Option<Timestamp>,
    /// Only orders that last changed at this time or later.
    pub updated_from: Option<Timestamp>,
    /// Only orders that last changed before this time.
    pub updated_to: Option<Timestamp>,
    /// Only orders whose saga has unfinished or stuck steps.
    pub unfinished: bool,
    /// The order of the list.
    pub sort: Sort,
    /// Only orders after this one in the list: the time by which it is sorted and the id of the
    /// last order of the previous page.
    pub after: Option<(Timestamp, String)>,
    /// At most this many orders, up to [`LIST_MAX`].
    pub limit: u32,
}

/// How a list gets its order: from an index that has this order, or by sorting the rows that
/// another index finds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Index,
    Sort,
}

/// What finds the rows of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finder {
    /// The index of this column.
    Column(&'static str),
    /// The index of the times of the last change.
    Updates,
    /// The index of the times of placement, or that of the unfinished orders.
    Placements,
}

/// How a list is read.
#[derive(Clone, Copy)]
struct Way {
    finder: Finder,
    by: By,
}

/// A `+` before a column keeps SQLite from using an index of that column. PostgreSQL chooses its
/// index by statistics and gets no hint.
const NO_INDEX: &str = "+";

const fn unless(finds: bool) -> &'static str {
    if finds { "" } else { NO_INDEX }
}

impl Way {
    /// A way that sorts the rows of a column's index, unless they are in the order of placement,
    /// as the rows of an index with one value are.
    const fn column(column: &'static str, sort: Sort) -> Self {
        let by = if sort.by_update() { By::Sort } else { By::Index };
        Self { finder: Finder::Column(column), by }
    }

    /// The way of a filter, and the values for each of which a list is read, to be merged.
    fn of(filter: &Filter) -> (Self, BTreeSet<String>) {
        let sort = filter.sort;
        let few = [
            ("id", &filter.id),
            ("email_hash", &filter.email_hash),
            ("reference_hash", &filter.reference_hash),
        ];
        if !filter.number.is_empty() && filter.id.is_empty() {
            return (Self { finder: Finder::Column("number"), by: By::Sort }, BTreeSet::new());
        }
        if let Some((column, values)) = few.into_iter().find(|(_, values)| !values.is_empty()) {
            return (Self::column(column, sort), values.iter().cloned().collect());
        }
        if sort.by_update() || filter.updated_from.is_some() {
            let sorted = sort.by_update() && !filter.unfinished;
            let by = if sorted { By::Index } else { By::Sort };
            return (Self { finder: Finder::Updates, by }, BTreeSet::new());
        }
        if filter.status.is_empty() {
            return (Self { finder: Finder::Placements, by: By::Index }, BTreeSet::new());
        }
        (Self::column("status", sort), filter.status.iter().cloned().collect())
    }

    /// The columns by which a list is sorted, with hints.
    fn sorted(self, sort: Sort, dialect: Dialect) -> [String; 2] {
        let column = if sort.by_update() { "updated_at" } else { "placed_at" };
        let hint = if dialect == Dialect::Sqlite { unless(self.by == By::Index) } else { "" };
        [format!("{hint}{column}"), format!("{hint}id")]
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

    /// Orders in the order of `filter.sort`; those of the same time in the order of their ids.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn orders(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
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
    let found = match &filter.search {
        Some(search) => Box::pin(find(from, filter, search)).await?,
        None => select(filter, from.dialect()).fetch_all(from).await?,
    };
    found.iter().map(Row::decode).collect()
}

/// The orders of a list that have all words of a search. Reads the first orders of the list; if
/// these do not fill the page, the index finds all, to be sorted.
async fn find(
    from: Readers<'_>,
    filter: &Filter,
    search: &CodedSearch,
) -> Result<Vec<FoundRow>, sqlx::Error> {
    let found = among_first(filter, search, from.dialect()).fetch_all(from).await?;
    if found.len() >= filter.limit.min(LIST_MAX) as usize {
        return Ok(found);
    }
    by_index(filter, search, from.dialect()).fetch_all(from).await
}

/// The statement of a search among the first orders of a list.
fn among_first(filter: &Filter, search: &CodedSearch, dialect: Dialect) -> Builder {
    let mut query = select(&Filter { limit: FIRST, ..filter.clone() }, dialect);
    let exists = ") AS first WHERE EXISTS (SELECT 1 FROM order_search AS s WHERE s.id = first.id";
    query.enclose("SELECT * FROM (", exists);
    order_search::push_has(&mut query, search);
    query.push(")");
    push_order(&mut query, By::Index, filter);
    query
}

/// The statement of a search by the index.
fn by_index(filter: &Filter, search: &CodedSearch, dialect: Dialect) -> Builder {
    let mut query = Builder::new(dialect, &Row::table().select());
    query.push(" WHERE id IN (");
    order_search::push_ids(&mut query, search);
    query.push(")");
    let way = Way { finder: Finder::Column("id"), by: By::Sort };
    push_conditions(&mut query, filter, way, None);
    push_order(&mut query, way.by, filter);
    query
}

/// The statement of a filter without a search. For several statuses, one list per status is read
/// and the lists are merged, and so for emails, references and ids: otherwise SQLite would sort all
/// orders of these statuses for one page.
fn select(filter: &Filter, dialect: Dialect) -> Builder {
    let (way, values) = Way::of(filter);
    let mut query = Builder::new(dialect, "");
    match values.len() {
        0 => push_list(&mut query, filter, way, None),
        1 => push_list(&mut query, filter, way, values.first()),
        _ => {
            for (at, value) in values.iter().enumerate() {
                query.push(if at == 0 { "SELECT * FROM (" } else { " UNION ALL SELECT * FROM (" });
                push_list(&mut query, filter, way, Some(value));
                query.push(") AS found");
            }
            push_order(&mut query, By::Index, filter);
        }
    }
    query
}

/// One list of [`select`]. It has only the conditions that the filter sets, so that SQLite chooses
/// the right index.
fn push_list(query: &mut Builder, filter: &Filter, way: Way, value: Option<&String>) {
    query.push(Row::table().select()).push(" WHERE TRUE");
    push_conditions(query, filter, way, value);
    push_order(query, way.by, filter);
}

/// Adds `ORDER BY` and `LIMIT` of a list.
fn push_order(query: &mut Builder, by: By, filter: &Filter) {
    let way = Way { finder: Finder::Placements, by };
    let [at, id] = way.sorted(filter.sort, query.dialect());
    let direction = if filter.sort.descending() { " DESC" } else { "" };
    query.push(format_args!(" ORDER BY {at}{direction}, {id}{direction} LIMIT +"));
    query.push_bind(i64::from(filter.limit.min(LIST_MAX)));
}

/// Adds the conditions of a filter, except its search. The column that finds the rows gets `value`,
/// or all values of the filter.
fn push_conditions(query: &mut Builder, filter: &Filter, way: Way, value: Option<&String>) {
    let texts = [
        ("id", &filter.id),
        ("status", &filter.status),
        ("payment_status", &filter.payment_status),
        ("fulfillment_status", &filter.fulfillment_status),
        ("email_hash", &filter.email_hash),
        ("reference_hash", &filter.reference_hash),
    ];
    for (column, values) in texts {
        let finds = way.finder == Finder::Column(column);
        let values = value.filter(|_| finds).map_or(values.as_slice(), std::slice::from_ref);
        query.push_in(unless(finds), column, values);
    }
    let finds = way.finder == Finder::Column("number");
    query.push_in(unless(finds), "number", &filter.number);
    push_times(query, filter, way);
    if filter.unfinished {
        query.push(" AND saga_step IS NOT NULL");
    }
}

/// Adds the conditions on the times of placement and of the last change, and on the beginning of
/// the page. The page begins behind the last order of the previous page, or at the bound of the
/// filter if that is further in the list: both are combined into one condition, so that SQLite
/// enters the index there and does not read the rows of previous pages.
fn push_times(query: &mut Builder, filter: &Filter, way: Way) {
    let (sort, descending) = (filter.sort, filter.sort.descending());
    let placed = unless(!sort.by_update() && way.by == By::Index);
    let updated = unless(way.finder == Finder::Updates);
    let bounds = [
        (placed, false, ("placed_at", ">="), filter.placed_from),
        (placed, false, ("placed_at", "<"), filter.placed_to),
        (updated, true, ("updated_at", ">="), filter.updated_from),
        (updated, true, ("updated_at", "<"), filter.updated_to),
    ];
    let mut begin = filter.after.clone();
    for (hint, by_update, (column, than), bound) in bounds {
        let Some(bound) = bound else { continue };
        if by_update == sort.by_update() && (than == "<") == descending {
            let bound = (bound, String::new());
            let further = begin.as_ref().is_none_or(|at| (bound < *at) == descending);
            begin = if further { Some(bound) } else { begin };
        } else {
            query.push(" AND ").hint(hint).push(format_args!("{column} {than} "));
            query.push_bind(bound.millis());
        }
    }
    if let Some((at, last)) = begin {
        let [column, id] = way.sorted(sort, query.dialect());
        let than = if descending { "<" } else { ">" };
        query.push(format_args!(" AND ({column}, {id}) {than} (")).push_bind(at.millis());
        query.push(", ").push_bind(last).push(")");
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row as _};

    use super::*;
    use crate::domain::search_text::Search;
    use crate::store::Options;
    use crate::store::personal::LookupKeys;

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
        let text = |text: &str| vec![text.to_owned()];
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
                (Filter { email_hash: text("e"), ..all.clone() }, "order_by_email"),
                (
                    Filter { email_hash: text("e"), status: two.clone(), ..all.clone() },
                    "order_by_email",
                ),
                (Filter { reference_hash: text("r"), ..all.clone() }, "order_by_reference"),
                (
                    Filter { reference_hash: text("r"), status: status.clone(), ..all.clone() },
                    "order_by_reference",
                ),
                (Filter { unfinished: true, ..all.clone() }, "order_unfinished"),
                (Filter { id: text("i"), ..all.clone() }, "sqlite_autoindex_order_row_1"),
                (Filter { id: two.clone(), ..all.clone() }, "sqlite_autoindex_order_row_1"),
                (Filter { email_hash: two.clone(), ..all.clone() }, "order_by_email"),
                (Filter { reference_hash: two.clone(), ..all.clone() }, "order_by_reference"),
                (Filter { sort: Sort::OldestPlaced, ..all.clone() }, "order_by_time"),
                (
                    Filter { sort: Sort::OldestPlaced, status: two.clone(), ..all.clone() },
                    "order_by_status",
                ),
                (Filter { sort: Sort::LastUpdated, ..all.clone() }, "order_by_update"),
                (
                    Filter { sort: Sort::FirstUpdated, updated_from: moment, ..all.clone() },
                    "order_by_update",
                ),
                (
                    Filter { sort: Sort::FirstUpdated, status: two.clone(), ..all.clone() },
                    "order_by_update",
                ),
            ] {
                let steps = plan(&store, select(&filter, Dialect::Sqlite)).await;
                let reads: Vec<_> =
                    steps.iter().filter(|step| step.contains(" order_row")).collect();
                let (_, values) = Way::of(&filter);
                assert_eq!(reads.len(), values.len().max(1), "{filter:?}: {steps:?}");
                let right = |step: &&String| step.contains(&format!("INDEX {index}"));
                assert!(reads.iter().all(right), "{filter:?}: {steps:?}");
                let sorts = |step: &String| step.contains("TEMP B-TREE");
                assert!(!steps.iter().any(sorts) || values.len() > 1, "{steps:?}");
            }
            for (filter, index) in [
                (Filter { number: vec![1, 2], ..all.clone() }, "order_by_number"),
                (Filter { updated_from: moment, ..all.clone() }, "order_by_update"),
                (
                    Filter { updated_from: moment, status: two.clone(), ..all.clone() },
                    "order_by_update",
                ),
                (
                    Filter { sort: Sort::LastUpdated, email_hash: text("e"), ..all.clone() },
                    "order_by_email",
                ),
            ] {
                let steps = plan(&store, select(&filter, Dialect::Sqlite)).await;
                assert!(steps[0].contains(&format!("INDEX {index}")), "{filter:?}: {steps:?}");
            }
            let search = LookupKeys::new([1; 32]).search(&Search::of("ada 7").unwrap());
            let filter = Filter { placed_from: moment, status: two.clone(), ..all.clone() };
            for filter in [all.clone(), filter] {
                let steps = plan(&store, by_index(&filter, &search, Dialect::Sqlite));
                let steps = steps.await;
                for read in [
                    "INDEX sqlite_autoindex_order_row_1",
                    "order_search_index VIRTUAL TABLE INDEX 0:M",
                    "SEARCH s USING INTEGER PRIMARY KEY",
                    "SCAN t",
                ] {
                    assert!(steps.iter().any(|step| step.contains(read)), "{read}: {steps:?}");
                }
            }
        }
    }
}
