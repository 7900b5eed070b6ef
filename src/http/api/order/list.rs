//! The lists of orders, for an operator: their filters, their order, and the parts of each order that
//! a caller asks for. `read` has the handlers that read one order.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use actix_web::{HttpRequest, HttpResponse};
use strum::VariantArray;

use crate::actors::buyer_data::{BuyerData, key_ids};
use crate::actors::engine::fold::Folded;
use crate::actors::order_rows::OpenedOrderRow;
use crate::actors::order_search;
use crate::domain::entity::EntityId;
use crate::domain::id::OrderId;
use crate::domain::order::{FulfillmentStatus, Order, OrderStatus, PaymentStatus};
use crate::domain::search_text::Search;
use crate::domain::time::Timestamp;
use crate::http::api::order::allocations::allocations_of;
use crate::http::api::order::part::OrderPart;
use crate::http::api::order::schema;
use crate::http::api::order::shape::OrderListItem;
use crate::http::api::shape::Page;
use crate::http::docs::schemas;
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;
use crate::http::edge::problem::Code;
use crate::http::edge::query::{Query, cursor, cut, sorted_list};
use crate::http::edge::read_your_writes;
use crate::store::order::{Filter, Row, Sort};
use crate::store::personal::LookupKeys;

/// The most events of all orders of a page whose parts are shown: a page ends before it has more.
const EVENTS_MAX: i64 = 20_000;
/// The most lines of all orders of such a page.
const PAGE_LINES_MAX: i64 = 10_000;

/// Lists orders, by default the newest first.
#[utoipa::path(get, path = "/v1/admin/orders", tag = "orders",
    params(("id" = inline(Option<Vec<schemas::OrderId>>), Query, explode = false, max_items = 100),
        ("status" = inline(Option<Vec<schema::Status>>), Query, explode = false, max_items = 100),
        ("payment_status" = inline(Option<Vec<schema::PaymentStatus>>), Query, explode = false, max_items = 100),
        ("fulfillment_status" = inline(Option<Vec<schema::FulfillmentStatus>>), Query, explode = false, max_items = 100),
        ("email" = Option<Vec<String>>, Query, explode = false, max_items = 100),
        ("number" = Option<Vec<i64>>, Query, explode = false, max_items = 100),
        ("q" = Option<String>, Query, max_length = 254, description = "Words, all of which must be in the order: any part of its number, id, reference, names, companies, streets, cities, postal codes, email address, telephone numbers, tracking numbers, payment ids, SKUs or product names"),
        ("reference" = Option<Vec<String>>, Query, explode = false, max_items = 100),
        ("placed_from" = inline(Option<schemas::Moment>), Query),
        ("placed_to" = inline(Option<schemas::Moment>), Query),
        ("updated_from" = inline(Option<schemas::Moment>), Query, description = "Only orders that last changed at this time or later"),
        ("updated_to" = inline(Option<schemas::Moment>), Query, description = "Only orders that last changed before this time"),
        ("sort" = inline(Option<schema::OrderSort>), Query),
        ("expand" = inline(Option<Vec<schema::OrderParts>>), Query, explode = false, description = "Parts of the orders to show: a page has no more than 10,000 lines then"),
        ("Kontor-After" = Option<String>, Header, description = "`Kontor-Position` values of writes that the list must include"),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of orders", body = Page<OrderListItem>)))]
pub async fn list_orders(call: RequestParts, request: HttpRequest) -> Result<HttpResponse, Error> {
    let known = [FILTERS, ["limit", "after"].as_slice()].concat();
    let many = [FILTERS_OF_MANY, ["expand"].as_slice()].concat();
    let mut query = Query::of_list(&request, &known, &many)?;
    let asked = asked(&mut query);
    page(&call, &request, query, &asked).await
}

/// The filters of orders that have one value, and the order of the list.
pub const FILTERS: &[&str] =
    &["q", "placed_from", "placed_to", "updated_from", "updated_to", "sort"];
/// The filters of orders that may have several values.
pub const FILTERS_OF_MANY: &[&str] =
    &["id", "status", "payment_status", "fulfillment_status", "email", "number", "reference"];

/// The rule for the ids in a filter.
pub const ID_RULE: &str = "must be the id of an order";
/// The rule for the email addresses in a filter.
pub const EMAIL_RULE: &str = "must be an email address";
/// The rule for the numbers in a filter.
pub const NUMBER_RULE: &str = "must be an order number";
/// The rule for the references in a filter.
pub const REFERENCE_RULE: &str = "must be a reference";

/// The orders that a query asks for, in clear.
#[derive(Debug, Default)]
pub struct AskedOrders {
    /// What is not personal.
    filter: Filter,
    emails: Vec<String>,
    references: Vec<String>,
    search: Option<Search>,
}

impl AskedOrders {
    /// The orders whose saga has unfinished or stuck steps.
    #[must_use]
    pub fn unfinished() -> Self {
        let filter = Filter { unfinished: true, ..Filter::default() };
        Self { filter, ..Self::default() }
    }

    /// The filter of rows, which have keyed hashes of what is personal.
    #[must_use]
    pub fn filter(&self, lookups: &LookupKeys) -> Filter {
        Filter {
            email_hash: self.emails.iter().map(|email| lookups.email(email)).collect(),
            reference_hash: self.references.iter().map(|one| lookups.reference(one)).collect(),
            search: self.search.as_ref().map(|search| lookups.search(search)),
            ..self.filter.clone()
        }
    }
}

/// The filter of orders in a query, with the order of the list; its faults stay with the query.
pub fn asked(query: &mut Query) -> AskedOrders {
    let ids: Vec<OrderId> = query.values("id", ID_RULE);
    let filter = Filter {
        id: ids.iter().map(ToString::to_string).collect(),
        status: statuses::<OrderStatus>(query, "status"),
        payment_status: statuses::<PaymentStatus>(query, "payment_status"),
        fulfillment_status: statuses::<FulfillmentStatus>(query, "fulfillment_status"),
        number: query.values("number", NUMBER_RULE),
        placed_from: query.moment("placed_from"),
        placed_to: query.moment("placed_to"),
        updated_from: query.moment("updated_from"),
        updated_to: query.moment("updated_to"),
        sort: query.sort(),
        ..Filter::default()
    };
    AskedOrders {
        filter,
        emails: query.values("email", EMAIL_RULE),
        references: query.values("reference", REFERENCE_RULE),
        search: Search::of(query.search()),
    }
}

fn statuses<S>(query: &mut Query, name: &str) -> Vec<String>
where
    S: VariantArray + FromStr + Into<&'static str> + Copy,
{
    query.choices::<S>(name).into_iter().map(|one| one.into().to_owned()).collect()
}

/// The position of the page cursor `after` in a list of orders: the time by which the list is
/// sorted of the order before the page, and its id.
pub fn after(query: &mut Query, sort: Sort) -> Option<(Timestamp, String)> {
    let list = sorted_list("orders", sort);
    query.after(&list).map(|ListPosition(at, id)| (at, id))
}

/// The position of an order in lists: the time by which they are sorted, and its id.
#[derive(Debug, PartialEq, Eq)]
struct ListPosition(Timestamp, String);

impl fmt::Display for ListPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.millis(), self.1)
    }
}

impl FromStr for ListPosition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('/').ok_or(())?;
        let at = Timestamp::from_millis(at.parse().map_err(|_| ())?);
        let id: OrderId = id.parse().map_err(|_| ())?;
        Ok(Self(at, id.to_string()))
    }
}

/// Answers a page of orders, sorted, with its limit and the parts of the orders as the query says.
///
/// # Errors
/// 400 or 422 for what is wrong with the query; the errors of the store.
pub async fn page(
    call: &RequestParts,
    request: &HttpRequest,
    mut query: Query,
    asked: &AskedOrders,
) -> Result<HttpResponse, Error> {
    let (limit, sort) = (query.limit(), query.sort::<Sort>());
    let filter = asked.filter(&*call.store().lookups().await?);
    let parts: BTreeSet<OrderPart> = query.choices("expand").into_iter().collect();
    let filter = Filter { sort, after: after(&mut query, sort), limit: limit + 1, ..filter };
    let writes = query.faults.note(read_your_writes::named(request));
    query.check()?;
    let seen = read_your_writes::wait(call, writes).await?;
    let mut rows = call.store().orders(&filter).await?;
    let mut more = cut(&mut rows, limit);
    let mut orders = HashMap::new();
    if !parts.is_empty() || filter.search.is_some() {
        more |= shorten(&mut rows);
        if !parts.is_empty() && rows.iter().any(|row| row.version > EVENTS_MAX) {
            return Err(Error::new(Code::BadRequest, "an order has too many events for `expand`"));
        }
        orders = read_orders(call, &rows).await?;
    }
    let mut allocations = HashMap::new();
    if parts.contains(&OrderPart::Allocations) {
        let known = orders.iter().filter_map(|(id, order)| Some((id.parse().ok()?, order)));
        allocations = allocations_of(call, known).await?;
    }
    let last = rows.last().map(|row| ListPosition(sort.at(row), row.id.clone()));
    let last = last.map(|place| cursor(&sorted_list("orders", sort), &place.to_string()));
    let mut ids = OpenedOrderRow::key_ids(&rows);
    orders.values().for_each(|order| key_ids(order, &mut ids));
    let keys = call.store().personal_keys(&ids).await?;
    let shape = |row: Row| {
        let order = orders.remove(&row.id);
        let found = asked.search.as_ref().map(|search| {
            let id = EntityId::new(&row.id);
            let matches = |order| order_search::matches(search, &id, order, Some(&keys));
            order.as_ref().map(matches).unwrap_or_default()
        });
        let allocations = row.id.parse().ok().and_then(|id: OrderId| allocations.remove(&id));
        let order = order.as_ref().map(|order| {
            let buyer = order.placed().map(|placed| BuyerData::open(placed, &keys));
            (order, buyer.unwrap_or_default())
        });
        let listed = OpenedOrderRow::open(row, Some(&keys));
        OrderListItem::new(listed, order, &parts, (found, allocations))
    };
    let data = rows.into_iter().map(shape).collect::<Result<_, _>>()?;
    let page = Page::<OrderListItem> { data, next_cursor: last.filter(|_| more) };
    Ok(seen.mark(HttpResponse::Ok().json(page)))
}

/// Removes the rows after which the orders of a page would have too many events or lines; returns
/// whether there were any.
fn shorten(rows: &mut Vec<Row>) -> bool {
    let (mut events, mut lines, count) = (0, 0, rows.len());
    let fits = |row: &Row| {
        events += row.version;
        lines += row.line_count;
        events <= EVENTS_MAX && lines <= PAGE_LINES_MAX
    };
    let shown = rows.iter().map(fits).take_while(|fits| *fits).count().max(1);
    rows.truncate(shown);
    rows.len() < count
}

/// The orders of a page, at the versions of their rows: all read with one statement. An order with
/// more than [`EVENTS_MAX`] events is left out.
async fn read_orders(call: &RequestParts, rows: &[Row]) -> Result<HashMap<String, Order>, Error> {
    let rows = rows.iter().filter(|row| row.version <= EVENTS_MAX);
    let upto: Vec<_> = rows.map(|row| (EntityId::new(&row.id), row.version)).collect();
    let records = call.store().journal().read_entities(&upto).await.map_err(Error::internal)?;
    let mut orders: HashMap<String, Folded<Order>> = HashMap::new();
    for record in &records {
        let order = orders.entry(record.entity.to_string()).or_default();
        let event = order
            .read(record)
            .map_err(|why| Error::internal(broken(record.entity.as_str(), &why)))?;
        order.fold(record, &event);
    }
    Ok(orders.into_iter().map(|(id, folded)| (id, folded.state)).collect())
}

fn broken(entity: &str, why: &str) -> std::io::Error {
    std::io::Error::other(format!("{entity}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_list_is_a_time_and_an_id() {
        let id = "ord_01k8x4m5n6p7q8r9s0t1v2w3x4";
        for at in [0, -5, 1_700_000_000_123] {
            let place = ListPosition(Timestamp::from_millis(at), id.to_owned());
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for bad in [id, "", "/", &format!("/{id}"), &format!("x/{id}"), "1/", "1/ord_1"] {
            assert_eq!(bad.parse::<ListPosition>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn a_page_of_whole_orders_is_bounded() {
        let row = |version, line_count| Row { version, line_count, ..Row::default() };
        for (rows, left, cut) in [
            (vec![], 0, false),
            (vec![row(10, 5), row(10, 5)], 2, false),
            (vec![row(10, 9_999), row(10, 1), row(10, 1)], 2, true),
            (vec![row(19_999, 1), row(2, 1)], 1, true),
            (vec![row(30_000, 1), row(2, 1)], 1, true),
        ] {
            let mut rows = rows;
            assert_eq!((shorten(&mut rows), rows.len()), (cut, left));
        }
    }
}
