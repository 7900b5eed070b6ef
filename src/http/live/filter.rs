//! Parses the request of a subscription: topic, filter, limit, and the token to resume from. The
//! topic of each list parses its own filters.

use serde_json::Value;

use super::message::{FilterInput, Subscribe, Topic};
use super::refusal::{Wrong, read_filter};
use super::token::LiveToken;
use super::topic::{TopicQuery, Topics};
use crate::http::edge::principal::Scope;
use crate::http::edge::query::LIMIT_MAX;

/// The default of the maximum number of rows of a snapshot.
const LIMIT: u32 = 50;
const ID_MAX: usize = 64;

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

/// Parses a subscription.
///
/// # Errors
/// [`Wrong`] for an invalid topic, id, filter, limit or token.
pub(in crate::http) fn read(topics: &Topics, asked: Subscribe) -> Result<Asked, Wrong> {
    let Subscribe { id, topic, filter, limit, from } = asked;
    if id.is_empty() || id.chars().count() > ID_MAX || id.contains(char::is_control) {
        return Err(Wrong::new("invalid_request", "id must have 1 to 64 characters"));
    }
    let (subject, scope) = subject(topics, &topic, filter)?;
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Wrong::new("invalid_request", "limit must be a number from 1 to 200"));
    }
    let from = match from.map(|text| LiveToken::parse(&text)) {
        Some(None) => return Err(Wrong::new("invalid_cursor", "from is not a token of this feed")),
        Some(token) => token,
        None => None,
    };
    Ok(Asked { spec: Spec { id, subject, limit }, scope, from })
}

fn subject(topics: &Topics, topic: &str, filter: Value) -> Result<(Subject, Scope), Wrong> {
    if let Some(topic) = topics.find(topic) {
        return Ok((Subject::List(topic.ask(filter)?), topic.scope()));
    }
    let (subject, scope) = match topic.parse() {
        Ok(Topic::Cluster) => (Subject::Cluster, Scope::Ops),
        Ok(Topic::Stats) => (Subject::Stats, Scope::OrdersRead),
        _ => {
            let names: Vec<&str> = topics.names().chain(["cluster", "stats"]).collect();
            let all = names.join(", ");
            return Err(Wrong::malformed(format!("there is no such topic: topics are {all}")));
        }
    };
    if read_filter(filter)? == FilterInput::default() {
        Ok((subject, scope))
    } else {
        Err(Wrong::unknown_filter())
    }
}
