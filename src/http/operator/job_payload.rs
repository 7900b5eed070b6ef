//! What the payload of a job must be, by its kind: checked when a job or a schedule is created.

use serde_json::{Map, Value};

use crate::domain::background_job::JobKind;
use crate::http::api::order::list::{self, FILTERS, FILTERS_OF_MANY};
use crate::http::docs::schemas::names;
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::query::Query;

/// Adds the faults of the kind and the payload of a job.
pub(super) fn check_work(kind: &str, payload: &Map<String, Value>, faults: &mut RequestFaults) {
    let Ok(kind) = kind.parse::<JobKind>() else { return faults.invalid("kind", no_kind()) };
    let (known, rule): (&[&str], &str) = match kind {
        JobKind::ExportOrders => {
            (&["filter"], "is not a parameter of this kind: the parameters are filter")
        }
        JobKind::ReplayRows | JobKind::RetryWebhooks | JobKind::SweepPayments | JobKind::Verify => {
            (&[], "is not a parameter of this kind: there are none")
        }
    };
    for name in payload.keys().filter(|name| !known.contains(&name.as_str())) {
        faults.invalid(format!("payload.{name}"), rule);
    }
    if kind == JobKind::ExportOrders
        && let Some(Err(rule)) = payload.get("filter").map(check_filter)
    {
        faults.invalid("payload.filter", rule);
    }
}

/// The rule for the kind of a job.
pub(super) fn no_kind() -> String {
    format!("must be one of {}", names::<JobKind>().join(", "))
}

/// The query of an export, which is one of the list of orders.
///
/// # Errors
/// 400 for a text that is no query.
pub(super) fn filter_of_orders(text: &str) -> Result<Query, Error> {
    Query::parse(text, (FILTERS, FILTERS_OF_MANY))
}

fn check_filter(filter: &Value) -> Result<(), String> {
    let text = filter.as_str().ok_or("must be a string")?;
    let checked = filter_of_orders(text).and_then(|mut query| {
        list::asked(&mut query);
        query.check()
    });
    checked.map_err(|error| format!("must be a query of the list of orders: {}", error.detail()))
}
