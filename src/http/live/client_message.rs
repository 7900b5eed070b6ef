//! Parses what clients send: a message that is not JSON, or not what it should be, is refused with
//! all that is wrong with it.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::message::{ClientMessage, Subscribe, Unsubscribe};
use super::refusal::Wrong;
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::json_body::check;
use crate::http::edge::problem::Code;

/// A refused message, and the subscription that it names.
pub struct RefusedMessage {
    /// The id of the subscription, if the message has one.
    pub id: Option<String>,
    /// The refusal.
    pub wrong: Wrong,
}

/// Parses a message. A subscription may have faults: those of its topic and filter are added.
///
/// # Errors
/// [`RefusedMessage`] for what is not a message.
pub(in crate::http) fn read(text: &str) -> Result<ClientMessage, RefusedMessage> {
    let value: Value = serde_json::from_str(text).map_err(|error| RefusedMessage {
        id: None,
        wrong: Wrong::new(Code::MalformedJson, error.to_string()),
    })?;
    let Value::Object(mut message) = value else {
        let wrong = Error::field("message", "must be an object").into();
        return Err(RefusedMessage { id: None, wrong });
    };
    let id = message.get("id").and_then(Value::as_str).map(str::to_owned);
    let kind = message.remove("type");
    match kind.as_ref().and_then(Value::as_str) {
        Some("subscribe") => {
            let (message, faults) = parts::<Subscribe>(message, id)?;
            Ok(ClientMessage::Subscribe(message, faults))
        }
        Some("unsubscribe") => {
            let (message, faults) = parts::<Unsubscribe>(message, id.clone())?;
            let checked = faults.check().map(|()| ClientMessage::Unsubscribe(message));
            checked.map_err(|error| RefusedMessage { id, wrong: error.into() })
        }
        _ => {
            let wrong = Error::field("type", "must be subscribe or unsubscribe").into();
            Err(RefusedMessage { id, wrong })
        }
    }
}

fn parts<T: DeserializeOwned + garde::Validate<Context = ()>>(
    message: serde_json::Map<String, Value>,
    id: Option<String>,
) -> Result<(T, RequestFaults), RefusedMessage> {
    let (message, faults) = check::<T>(&Value::Object(message));
    let wrong = || RefusedMessage { id, wrong: Error::invalid(faults.clone()).into() };
    let message = message.ok_or_else(wrong)?;
    Ok((message, faults.into()))
}
