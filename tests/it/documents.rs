//! The API's documents, OpenAPI and AsyncAPI, as a client generator reads them: values of closed
//! sets are enums, and answers are as the document says. `Site::send` checks every answer.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use kontor::http::Routes;
use kontor::http::docs::openapi::Document;
use kontor::http::live::asyncapi;
use serde_json::{Map, Value};

/// The last words of names of fields whose values are a closed set, or have a format.
const WORDS: &[&str] = &[
    "by", "code", "country", "currency", "expand", "kind", "noun", "phase", "scopes", "sort",
    "state", "status", "step", "topic", "type",
];

/// Fields with such a name that have any text.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("AttemptShape.decline_code", "each payment provider has its own codes"),
    ("ChallengeShape.type", "each challenge hook has its own types"),
    ("DeadEvent.kind", "the event may be damaged"),
    ("Order.decline_code", "each payment provider has its own codes"),
    ("OrderPaymentDeclinedEvent.decline_code", "each payment provider has its own codes"),
    ("OrderUnreadableEvent.stored_kind", "another version of the program may have stored it"),
    ("PaymentDeclinedProblem.decline_code", "each payment provider has its own codes"),
];

static OPENAPI: LazyLock<Value> = LazyLock::new(|| {
    let document = Document::new(Routes::standard());
    serde_json::from_str(document.text().unwrap()).unwrap()
});

/// Whether a schema allows any text.
fn is_open(document: &Value, schema: &Value) -> bool {
    if let Some(to) = schema["$ref"].as_str() {
        let to = document.pointer(to.trim_start_matches('#'));
        return is_open(document, to.unwrap_or_else(|| panic!("no {schema}")));
    }
    let text = match &schema["type"] {
        Value::Array(types) => types.iter().any(|one| one == "string"),
        one => one == "string",
    };
    let closed =
        ["enum", "const", "pattern", "format"].iter().any(|rule| schema.get(rule).is_some());
    let any = |of: &str| {
        schema[of].as_array().is_some_and(|of| of.iter().any(|one| is_open(document, one)))
    };
    text && !closed
        || any("oneOf")
        || any("anyOf")
        || schema.get("items").is_some_and(|items| is_open(document, items))
}

/// Collects the fields of a schema, and of those inside of it, that should not allow any text.
fn open_fields(document: &Value, place: &str, schema: &Value, found: &mut Vec<String>) {
    let Value::Object(fields) = schema else {
        for item in schema.as_array().into_iter().flatten() {
            open_fields(document, place, item, found);
        }
        return;
    };
    for (name, field) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let last = name.rsplit('_').next().unwrap_or(name);
        if WORDS.contains(&last) && is_open(document, field) {
            found.push(format!("{place}.{name}"));
        }
    }
    let shown = |name: &str| name != "example" && name != "examples";
    for (_, part) in fields.iter().filter(|(name, _)| shown(name)) {
        open_fields(document, place, part, found);
    }
}

fn of_schemas(document: &Value, found: &mut Vec<String>) {
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        open_fields(document, name, schema, found);
    }
}

fn operations(document: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    let paths = document["paths"].as_object().unwrap().values();
    paths.filter_map(Value::as_object).flat_map(Map::values).filter_map(Value::as_object)
}

#[test]
fn a_field_of_a_closed_set_is_an_enum() {
    let (openapi, mut found) = (&*OPENAPI, Vec::new());
    of_schemas(openapi, &mut found);
    for operation in operations(openapi) {
        let name = operation["operationId"].as_str().unwrap();
        for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten()
        {
            let (field, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
            if WORDS.contains(&field.rsplit('_').next().unwrap()) && is_open(openapi, schema) {
                found.push(format!("{name}.{field}"));
            }
        }
        for part in ["requestBody", "responses"] {
            open_fields(openapi, name, operation.get(part).unwrap_or(&Value::Null), &mut found);
        }
    }
    let asyncapi: Value = serde_json::from_str(asyncapi::text().unwrap()).unwrap();
    of_schemas(&asyncapi, &mut found);
    for (name, message) in asyncapi["components"]["messages"].as_object().unwrap() {
        open_fields(&asyncapi, name, &message["payload"], &mut found);
    }
    found.sort();
    found.dedup();
    let excepted: Vec<&str> = EXCEPTIONS.iter().map(|(field, _)| *field).collect();
    assert_eq!(found, excepted, "declare an enum or a pattern; or except it, with a reason");
}

/// What a value has against a schema, each with its place: also members that the schema lacks.
fn faults(schema: &Value, value: &Value, place: &str) -> Vec<String> {
    if let Some(to) = schema["$ref"].as_str() {
        return faults(OPENAPI.pointer(to.trim_start_matches('#')).unwrap(), value, place);
    }
    if let Some(of) = ["oneOf", "anyOf"].iter().find_map(|of| schema[of].as_array()) {
        let all: Vec<Vec<String>> = of.iter().map(|one| faults(one, value, place)).collect();
        let best = all.into_iter().min_by_key(Vec::len);
        return best.unwrap_or_default();
    }
    let mut found = own_faults(schema, value, place);
    let mut known = Vec::new();
    members(schema, &mut known);
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            let place = format!("{place}.{name}");
            match known.iter().find(|(known, _)| *known == name) {
                Some((_, schema)) => found.extend(faults(schema, value, &place)),
                None if known.is_empty() => {}
                None => found.push(format!("{place} is not in the document")),
            }
        }
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(faults(&schema["items"], item, &format!("{place}[{n}]")));
    }
    found
}

/// The faults of a value itself, without its members.
fn own_faults(schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let part = part["$ref"]
            .as_str()
            .map_or(part, |to| OPENAPI.pointer(to.trim_start_matches('#')).unwrap());
        found.extend(own_faults(part, value, place));
    }
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    let good = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
        Value::String(kind) => is(kind),
        _ => true,
    };
    if !good {
        found.push(format!("{place} is {value}, not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|known| !value.is_null() && !known.contains(value)) {
        found.push(format!("{place} is {value}, which is none of {}", schema["enum"]));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !regex::Regex::new(pattern).unwrap().is_match(text)
    {
        found.push(format!("{place} is {text:?}, not {pattern}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
            found.push(format!("{place} lacks {name}"));
        }
    }
    found
}

/// The members of a schema, with those of all its parts.
fn members<'a>(schema: &'a Value, found: &mut Vec<(&'a String, &'a Value)>) {
    if let Some(to) = schema["$ref"].as_str() {
        return members(OPENAPI.pointer(to.trim_start_matches('#')).unwrap(), found);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        members(part, found);
    }
    found.extend(schema["properties"].as_object().into_iter().flatten());
}

/// The operation that answers a request; `None` if it is not in the document.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let asked: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        parts.len() == asked.len()
            && parts.iter().zip(&asked).all(|(part, asked)| part.starts_with('{') || part == asked)
    };
    let paths = OPENAPI["paths"].as_object().unwrap().iter();
    let found = paths.filter(|(template, _)| fits(template));
    let item = found.min_by_key(|(template, _)| template.matches('{').count())?.1;
    item.get(method.to_lowercase())
}

/// Checks that an answer is as the document says.
pub fn check_answer((method, path): (&str, &str), (status, media): (u16, &str), body: &Value) {
    let Some(operation) = operation(method, path) else { return };
    let class = format!("{}XX", status / 100);
    let answers = &operation["responses"];
    let answer = answers.get(status.to_string()).or_else(|| answers.get(class));
    let answer = answer.unwrap_or_else(|| panic!("{method} {path}: {status} is not documented"));
    let media = media.split(';').next().unwrap_or(media);
    let content = answer["content"].get(media);
    let known = media.is_empty() || content.is_some();
    assert!(known, "{method} {path} {status}: {media} is not documented");
    // Another description, such as the document itself, has no schema.
    let Some(schema) = content.and_then(|content| content.get("schema")) else { return };
    let found = faults(schema, body, "body");
    assert!(found.is_empty(), "{method} {path} {status}: {found:#?}\n{body:#}");
}

/// The codes whose problems have schemas of their own.
pub fn codes_with_members() -> BTreeSet<String> {
    let schemas = OPENAPI["components"]["schemas"].as_object().unwrap().values();
    let codes = schemas.filter_map(|schema| {
        let own = schema["properties"]["code"]["enum"].as_array();
        own.filter(|codes| codes.len() == 1 && schema["properties"].get("request_id").is_some())
    });
    codes.map(|codes| codes[0].as_str().unwrap().to_owned()).collect()
}
