//! The AsyncAPI 3.1 document of the live feed's messages, generated from their Rust types.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::message::{
    Bye, Changes, ClusterNow, Hello, Refused, Resync, Snapshot, Stats, Subscribe, Unsubscribe,
};
use crate::http::edge::error::Error;
use crate::http::edge::input::IN_PLACE;
use crate::http::edge::static_text::StaticText;

/// A message: its `type`, its description, and the schema of its other fields.
struct Described {
    kind: &'static str,
    about: &'static str,
    schema: RefOr<Schema>,
    parts: Vec<(String, RefOr<Schema>)>,
}

fn described<M: PartialSchema + ToSchema>(kind: &'static str, about: &'static str) -> Described {
    let mut parts = Vec::new();
    M::schemas(&mut parts);
    Described { kind, about, schema: M::schema(), parts }
}

fn of_client() -> [Described; 2] {
    [
        described::<Subscribe>(
            "subscribe",
            "Subscribes to a topic: to the changes from now on, or to those since a token",
        ),
        described::<Unsubscribe>("unsubscribe", "Ends a subscription"),
    ]
}

fn of_server() -> [Described; 8] {
    [
        described::<Hello>("hello", "The first message"),
        described::<Snapshot<'static>>("snapshot", "The current rows"),
        described::<Changes<'static>>("changes", "The changes since the previous token"),
        described::<Resync<'static>>("resync", "Changes were left out; a snapshot follows"),
        described::<Stats<'static>>("stats", "Statistics, one sample per second"),
        described::<ClusterNow<'static>>("cluster", "The state of this node, after each change"),
        described::<Refused<'static>>("error", "The refusal of a message"),
        described::<Bye>("bye", "The last message"),
    ]
}

/// The schema of a message, including the field `type`.
fn payload(message: &Described) -> Result<Value, serde_json::Error> {
    let mut schema = serde_json::to_value(&message.schema)?;
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        fields.insert("type".into(), json!({"const": message.kind}));
    }
    if let Some(schema) = schema.as_object_mut() {
        let required = schema.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            required.insert(0, "type".into());
        }
    }
    Ok(schema)
}

/// Replaces references to schemas that are written where they are used.
fn write_in_place(value: &mut Value, in_place: &BTreeMap<String, Value>) {
    let name = value.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    if let Some(Value::Object(schema)) = name.and_then(|name| in_place.get(name))
        && let Some(fields) = value.as_object_mut()
    {
        fields.remove("$ref");
        for (field, content) in schema {
            // What is said about the field has precedence over what is said about its schema.
            fields.entry(field.clone()).or_insert_with(|| content.clone());
        }
    }
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| write_in_place(field, in_place));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| write_in_place(item, in_place)),
        _ => {}
    }
}

/// The AsyncAPI document.
///
/// # Errors
/// A schema cannot be serialized.
pub fn document() -> Result<Value, serde_json::Error> {
    let mut messages = Map::new();
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    let (client, server) = (of_client(), of_server());
    for message in client.iter().chain(&server) {
        let shape = json!({
            "name": message.kind,
            "summary": message.about,
            "contentType": "application/json",
            "payload": payload(message)?,
        });
        messages.insert(message.kind.to_owned(), shape);
        for (name, schema) in &message.parts {
            schemas.insert(name.clone(), serde_json::to_value(schema)?);
        }
    }
    let in_place = schemas.extract_if(.., |name, _| name.starts_with(IN_PLACE)).collect();
    schemas.values_mut().for_each(|schema| write_in_place(schema, &in_place));
    messages.values_mut().for_each(|message| write_in_place(message, &in_place));
    let named = |all: &[Described], to: &str| -> Vec<Value> {
        all.iter().map(|one| json!({"$ref": format!("#/{to}/messages/{}", one.kind)})).collect()
    };
    let all: Map<String, Value> = messages
        .keys()
        .map(|kind| (kind.clone(), json!({"$ref": format!("#/components/messages/{kind}")})))
        .collect();
    let channel = json!({"$ref": "#/channels/live"});
    Ok(json!({
        "asyncapi": "3.1.0",
        "info": {
            "title": "kontor live",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Changes of orders, stock, products and locations, and statistics. \
                            docs/api.md describes the feed in prose.",
            "contact": {"name": "The operator of this server"},
            "license": {"name": env!("CARGO_PKG_LICENSE")},
            "tags": [{"name": "live"}],
        },
        "servers": {"node": {
            "host": "{host}",
            "protocol": "ws",
            "description": "Any node of the cluster; wss:// behind TLS",
            "variables": {"host": {"default": "127.0.0.1:8080"}},
        }},
        "defaultContentType": "application/json",
        "channels": {"live": {
            "address": "/v1/admin/live",
            "description": "A WebSocket, subprotocol kontor.live.v1: each text frame is one \
                            message.",
            "messages": all,
        }},
        "operations": {
            "receive_request": {
                "action": "receive", "channel": channel,
                "description": "What a client sends",
                "messages": named(&client, "channels/live"),
            },
            "send_change": {
                "action": "send", "channel": channel,
                "description": "What the server sends",
                "messages": named(&server, "channels/live"),
            },
        },
        "components": {"messages": messages, "schemas": schemas},
    }))
}

/// The document as text, generated once.
///
/// # Errors
/// A schema cannot be serialized.
pub fn text() -> Result<&'static str, serde_json::Error> {
    static TEXT: OnceLock<String> = OnceLock::new();
    if let Some(text) = TEXT.get() {
        return Ok(text);
    }
    let made = document()?.to_string();
    Ok(TEXT.get_or_init(|| made))
}

/// Returns the AsyncAPI document of the live feed.
#[utoipa::path(get, path = "/asyncapi.json", tag = "docs",
    responses((status = 200, description = "AsyncAPI 3.1", content_type = "application/json")))]
pub async fn show_asyncapi(request: HttpRequest) -> Result<HttpResponse, Error> {
    static SERVED: OnceLock<StaticText> = OnceLock::new();
    let text = text().map_err(Error::internal)?;
    Ok(SERVED.get_or_init(|| StaticText::json(text)).respond(&request, |_| {}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::live::message::ServerMessage;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document().unwrap();
        for part in document.to_string().split("\"$ref\":\"#").skip(1) {
            let path = part.split('"').next().unwrap();
            assert!(document.pointer(path).is_some(), "{path}");
        }
    }

    #[test]
    fn asyncapi_document_is_unchanged() {
        let document = document().unwrap();
        let list = |schema: &Value| {
            let fields = schema["properties"].as_object();
            fields.map_or_else(String::new, |fields| {
                fields.keys().cloned().collect::<Vec<_>>().join(" ")
            })
        };
        let messages = document["components"]["messages"].as_object().unwrap();
        let mut lines: Vec<String> = messages
            .iter()
            .map(|(name, message)| format!("message {name}: {}", list(&message["payload"])))
            .collect();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        lines.extend(schemas.iter().map(|(name, schema)| format!("{name}: {}", list(schema))));
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn messages_match_the_asyncapi_document() {
        let resync = Resync {
            id: "a",
            token: "t".into(),
            reason: super::super::message::Reason::Slow,
            skipped: 3,
        };
        let message: Value = serde_json::from_str(&ServerMessage::Resync(resync).frame()).unwrap();
        let described = &document().unwrap()["components"]["messages"]["resync"]["payload"];
        let fields = described["properties"].as_object().unwrap();
        assert!(message.as_object().unwrap().keys().all(|key| fields.contains_key(key)));
        for required in described["required"].as_array().unwrap() {
            assert!(message.get(required.as_str().unwrap()).is_some(), "{required}");
        }
    }
}
