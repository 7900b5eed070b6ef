//! The API's documents, OpenAPI and AsyncAPI, as a client generator reads them: values of closed
//! sets are enums.

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
    ("DeadEvent.kind", "the event may be damaged"),
    ("Order.decline_code", "each payment provider has its own codes"),
];

fn openapi() -> Value {
    let document = Document::new(Routes::standard());
    serde_json::from_str(document.text().unwrap()).unwrap()
}

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
    let (openapi, mut found) = (openapi(), Vec::new());
    of_schemas(&openapi, &mut found);
    for operation in operations(&openapi) {
        let name = operation["operationId"].as_str().unwrap();
        for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten()
        {
            let (field, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
            if WORDS.contains(&field.rsplit('_').next().unwrap()) && is_open(&openapi, schema) {
                found.push(format!("{name}.{field}"));
            }
        }
        for part in ["requestBody", "responses"] {
            open_fields(&openapi, name, operation.get(part).unwrap_or(&Value::Null), &mut found);
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
