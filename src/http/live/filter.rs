//! Parses the request of a subscription: topic, filter, limit, and the token to resume from. The
//! topic of each list parses its own filters.

use serde_json::{Map, Value};

use super::message::{Subscribe, Topic};
use super::refusal::Wrong;
use super::token::LiveToken;
use super::topic::{TopicQuery, Topics};
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::principal::Scope;
use crate::http::edge::problem::Code;

/// The rule for `from`.
const FROM: &str = "must be the last token of this feed or of GET /v1/admin/changes, or a time such \
    as 2026-01-31T12:00:00Z";
/// The default of the maximum number of rows of a snapshot.
const LIMIT: u32 = 50;

/// A parsed subscription. Equal subscriptions get the same frames.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::http) struct Spec {
    /// The id of the subscription, chosen by the client.
    pub(in crate::http) id: String,
    /// The topic.
    pub(in crate::http) subject: Subject,
    /// The maximum number of rows of a snapshot.
    pub(in crate::http) limit: u32,
}

/// The topic of a subscription.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::http) enum Subject {
    /// A list.
    List(TopicQuery),
    /// The cluster.
    Cluster,
    /// Statistics.
    Stats,
}

/// A parsed subscription request.
pub(in crate::http) struct Asked {
    pub(in crate::http) spec: Spec,
    /// The scope that the subscription requires.
    pub(in crate::http) scope: Scope,
    /// The token that the subscription resumes from.
    pub(in crate::http) from: Option<LiveToken>,
}

/// Parses a subscription, whose fields have these faults.
///
/// # Errors
/// [`Wrong`] with all that is wrong with its topic, id, filter, limit and token.
pub(in crate::http) fn read(
    topics: &Topics,
    asked: Subscribe,
    mut faults: RequestFaults,
) -> Result<Asked, Wrong> {
    let Subscribe { id, topic, filter, limit, from } = asked;
    let from = from.map(|text| LiveToken::parse(&text));
    if matches!(from, Some(None)) {
        faults.add(Code::InvalidCursor, "from", FROM);
    }
    let subject =
        if faults.has("topic") { None } else { subject(topics, &topic, filter, &mut faults)? };
    faults.check()?;
    let (subject, scope) = subject.ok_or_else(|| no_topic(topics))?;
    let limit = limit.map_or(LIMIT, |limit| u32::try_from(limit.get()).unwrap_or(LIMIT));
    Ok(Asked { spec: Spec { id: id.into(), subject, limit }, scope, from: from.flatten() })
}

/// The topic with its filter; `None`, with a fault, if it is invalid.
fn subject(
    topics: &Topics,
    topic: &str,
    filter: Value,
    faults: &mut RequestFaults,
) -> Result<Option<(Subject, Scope)>, Wrong> {
    let scope = match (topics.find(topic), topic.parse()) {
        (Some(topic), _) => {
            return match topic.ask(filter) {
                Ok(query) => Ok(Some((Subject::List(query), topic.scope()))),
                Err(wrong) if wrong.fields.is_empty() => Err(wrong),
                Err(wrong) => {
                    for fault in wrong.fields {
                        faults.add(wrong.code, fault.field, fault.message);
                    }
                    Ok(None)
                }
            };
        }
        (None, Ok(Topic::Cluster)) => (Subject::Cluster, Scope::Ops),
        (None, Ok(Topic::Stats)) => (Subject::Stats, Scope::OrdersRead),
        (None, _) => {
            for fault in no_topic(topics).fields {
                faults.invalid(fault.field, fault.message);
            }
            return Ok(None);
        }
    };
    if filter != Value::Object(Map::new()) {
        let wrong = Wrong::unknown_filter();
        for fault in wrong.fields {
            faults.add(wrong.code, fault.field, fault.message);
        }
    }
    Ok(Some(scope))
}

fn no_topic(topics: &Topics) -> Wrong {
    let names: Vec<&str> = topics.names().chain(["cluster", "stats"]).collect();
    Error::field("topic", format!("must be one of {}", names.join(", "))).into()
}
