//! Which orders or stock a subscription is about: read from a message, asked of a row, and asked
//! of the store.

use std::str::FromStr;

use super::message::{FilterInput, Subscribe, Topic};
use super::token::Token;
use crate::actors::engine::changes::Change;
use crate::actors::order_rows::{Facets, OrderRows};
use crate::domain::id::{OrderId, Sku};
use crate::domain::order::{FulfillmentStatus, PaymentStatus, Status};
use crate::http::edge::principal::Scope;
use crate::http::edge::query::LIMIT_MAX;
use crate::store::{order, stock};

/// Rows of a snapshot, unless the client asks for another number.
const LIMIT: u32 = 50;
const ID_MAX: usize = 64;

/// A subscription as it is asked for. Two that are equal are shown the same frames.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The client's own word for it.
    pub id: String,
    /// What it is about.
    pub topic: Topic,
    /// Which of them.
    pub filter: FilterInput,
    /// Rows of a snapshot.
    pub limit: u32,
}

/// What a snapshot is taken of: two that are equal are one query.
pub type Asked = (Topic, FilterInput, u32);

/// Why a subscription is not taken.
pub struct Wrong {
    /// A problem's code.
    pub code: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

impl Wrong {
    /// A message that cannot be carried out.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Reads a subscription and where it goes on.
///
/// # Errors
/// [`Wrong`] for an id, filter, limit or token that is not right.
pub fn read(from: Subscribe) -> Result<(Spec, Option<Token>), Wrong> {
    let Subscribe { id, topic, filter, limit, from } = from;
    if id.is_empty() || id.chars().count() > ID_MAX || id.contains(char::is_control) {
        return Err(Wrong::new("invalid_request", "id must have 1 to 64 characters"));
    }
    check(topic, &filter)?;
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Wrong::new("invalid_request", "limit must be a number from 1 to 200"));
    }
    let token = match from.map(|text| Token::parse(&text)) {
        Some(None) => return Err(Wrong::new("invalid_cursor", "from is no token of ours")),
        Some(token) => token,
        None => None,
    };
    Ok((Spec { id, topic, filter, limit }, token))
}

fn check(topic: Topic, filter: &FilterInput) -> Result<(), Wrong> {
    let FilterInput { status, payment_status, fulfillment_status, order, email, stuck, sku } =
        filter;
    let of_orders = !status.is_empty()
        || payment_status.is_some()
        || fulfillment_status.is_some()
        || order.is_some()
        || email.is_some();
    let fits = match topic {
        Topic::Orders | Topic::Sagas => sku.is_none(),
        Topic::Stock => !of_orders && !stuck,
        Topic::Cluster | Topic::Stats => !of_orders && !stuck && sku.is_none(),
    };
    let wrong = |text: &str| Err(Wrong::new("invalid_request", text));
    if !fits {
        return Err(Wrong::new("unknown_filter", "the topic has no such filter"));
    }
    if status.len() > order::STATUSES_MAX || status.iter().any(|one| Status::from_str(one).is_err())
    {
        return wrong("filter.status must be at most 16 statuses of orders");
    }
    if payment_status.as_ref().is_some_and(|one| PaymentStatus::from_str(one).is_err()) {
        return wrong("filter.payment_status must be one");
    }
    if fulfillment_status.as_ref().is_some_and(|one| FulfillmentStatus::from_str(one).is_err()) {
        return wrong("filter.fulfillment_status must be one");
    }
    if order.as_ref().is_some_and(|one| one.parse::<OrderId>().is_err()) {
        return wrong("filter.order must be the id of an order");
    }
    if email.as_ref().is_some_and(|one| one.is_empty() || one.chars().count() > 254) {
        return wrong("filter.email must have 1 to 254 characters");
    }
    if sku.as_ref().is_some_and(|one| one.parse::<Sku>().is_err()) {
        return wrong("filter.sku must be a SKU");
    }
    Ok(())
}

impl Topic {
    /// What it takes to subscribe to it.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::Orders | Self::Stats => Scope::OrdersRead,
            Self::Stock => Scope::StockRead,
            Self::Sagas | Self::Cluster => Scope::Ops,
        }
    }
}

/// What a filter looks at and can change.
struct Seen<'a> {
    status: &'a str,
    payment_status: &'a str,
    fulfillment_status: &'a str,
    stuck: bool,
    unfinished: bool,
}

impl Spec {
    /// What its snapshot is taken of.
    #[must_use]
    pub fn asked(&self) -> Asked {
        (self.topic, self.filter.clone(), self.limit)
    }

    /// Whether it is about this order as it now stands.
    #[must_use]
    pub fn takes(&self, row: &order::Row) -> bool {
        let unfinished = row.saga_step.is_some();
        let seen = Seen {
            status: &row.status,
            payment_status: &row.payment_status,
            fulfillment_status: &row.fulfillment_status,
            stuck: unfinished && row.stuck_reason.is_some(),
            unfinished,
        };
        self.is_about(row) && self.sees(&seen)
    }

    /// Whether it was about this order as it stood before.
    #[must_use]
    pub fn took(&self, change: &Change<OrderRows>) -> bool {
        change.before.as_ref().is_some_and(|before| {
            let Facets { status, payment_status, fulfillment_status, stuck, unfinished } = *before;
            let seen = Seen { status, payment_status, fulfillment_status, stuck, unfinished };
            self.is_about(&change.shown) && self.sees(&seen)
        })
    }

    /// What never changes of an order.
    fn is_about(&self, row: &order::Row) -> bool {
        let FilterInput { order, email, .. } = &self.filter;
        order.as_ref().is_none_or(|order| *order == row.id)
            && email.as_ref().is_none_or(|email| *email == row.email)
    }

    fn sees(&self, seen: &Seen<'_>) -> bool {
        let filter = &self.filter;
        (filter.status.is_empty() || filter.status.iter().any(|one| one == seen.status))
            && filter.payment_status.as_ref().is_none_or(|one| one == seen.payment_status)
            && filter.fulfillment_status.as_ref().is_none_or(|one| one == seen.fulfillment_status)
            && (!filter.stuck || seen.stuck)
            && (self.topic != Topic::Sagas || seen.unfinished)
    }

    /// Whether it is about the stock of this SKU.
    #[must_use]
    pub fn takes_sku(&self, sku: &Sku) -> bool {
        self.filter.sku.as_ref().is_none_or(|one| one == sku.as_str())
    }
}

/// The query of a snapshot of orders, one row too many.
#[must_use]
pub fn orders((topic, filter, limit): &Asked) -> order::Filter {
    order::Filter {
        id: filter.order.clone(),
        status: filter.status.clone(),
        payment_status: filter.payment_status.clone(),
        fulfillment_status: filter.fulfillment_status.clone(),
        email: filter.email.clone(),
        stuck: filter.stuck,
        unfinished: *topic == Topic::Sagas,
        limit: limit + 1,
        ..order::Filter::default()
    }
}

/// The query of a snapshot of stock, one row too many.
#[must_use]
pub fn stock((_, filter, limit): &Asked) -> stock::Filter {
    let sku = filter.sku.as_ref().and_then(|sku| sku.parse().ok());
    stock::Filter { sku, limit: limit + 1, ..stock::Filter::default() }
}
