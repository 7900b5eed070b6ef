//! Rules that hold for the whole OpenAPI document, applied to its JSON: what utoipa cannot express,
//! or would need an attribute at every field for.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

/// Where schemas are, as references name it.
const SCHEMAS: &str = "#/components/schemas/";
/// The largest integer that a JavaScript number represents exactly. No integer of the API is larger.
const INTEGER_MAX: i64 = 9_007_199_254_740_991;

/// How the name of the schema of a page begins; the name of its rows follows.
const PAGE: &str = "Page_";

/// Completes a document:
/// - a schema inside another one, of the rows of a page or of a value, is a reference if it has a
///   name;
/// - a query parameter may be empty, which counts as absent;
/// - a body whose fields are all optional is optional;
/// - an integer has a maximum that every client can represent;
/// - a nullable field of an answer is always there (a field that may be absent is not nullable);
/// - a schema that nothing refers to is left out.
pub fn finish(document: &mut Value) {
    for operation in operations(document) {
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            if parameter["in"] == "query" {
                parameter["allowEmptyValue"] = true.into();
            }
        }
    }
    let optional = optional_bodies(document);
    for body in operations(document).filter_map(|operation| operation.get_mut("requestBody")) {
        if body_schema(body).is_some_and(|name| optional.contains(name)) {
            body["required"] = false.into();
        }
    }
    refer_to_named(document);
    limit_integers(document);
    let sent = reachable(document, |operation| {
        let parts = ["parameters", "requestBody"].map(|part| operation.get(part).cloned());
        parts.into_iter().flatten().collect()
    });
    let all = reachable(document, |operation| operation.clone());
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    let Some(schemas) = schemas else { return };
    schemas.retain(|name, _| all.contains(name));
    for (_, schema) in schemas.iter_mut().filter(|(name, _)| !sent.contains(*name)) {
        require_nullable(schema);
    }
}

/// The name of the schema of a JSON body.
fn body_schema(body: &Value) -> Option<&str> {
    let reference = body.pointer("/content/application~1json/schema/$ref")?;
    reference.as_str()?.rsplit('/').next()
}

/// The schemas of objects that need no field.
fn optional_bodies(document: &Value) -> BTreeSet<String> {
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let optional =
        |schema: &Value| schema.get("properties").is_some() && schema.get("required").is_none();
    let all = schemas.into_iter().flatten().filter(|(_, schema)| optional(schema));
    all.map(|(name, _)| name.clone()).collect()
}

/// Replaces copies of schemas that have a name by references: utoipa copies what stands for a
/// generic parameter.
fn refer_to_named(document: &mut Value) {
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    let Some(schemas) = schemas else { return };
    let rows = schemas.iter().filter_map(|(name, page)| {
        let rows = page.pointer("/properties/data/items")?;
        Some((name.strip_prefix(PAGE)?.to_owned(), rows.clone()))
    });
    let rows: Vec<(String, Value)> = rows.filter(|(_, rows)| rows.get("$ref").is_none()).collect();
    for (name, rows) in rows {
        schemas.entry(name).or_insert(rows);
    }
    let mut named = HashMap::new();
    for (name, schema) in schemas.iter().rev() {
        named.insert(schema.clone(), format!("{SCHEMAS}{name}"));
    }
    for schema in schemas.values_mut() {
        parts(schema).for_each(|part| refer_to(part, &named));
    }
}

/// The values that a value consists of.
fn parts(value: &mut Value) -> Box<dyn Iterator<Item = &mut Value> + '_> {
    match value {
        Value::Object(fields) => Box::new(fields.values_mut()),
        Value::Array(items) => Box::new(items.iter_mut()),
        _ => Box::new(std::iter::empty()),
    }
}

fn refer_to(schema: &mut Value, named: &HashMap<Value, String>) {
    match named.get(schema) {
        Some(name) => *schema = serde_json::json!({ "$ref": name }),
        None => parts(schema).for_each(|part| refer_to(part, named)),
    }
}

/// All operations of a document.
fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut)
}

/// The schemas that the chosen part of any operation refers to, directly or through other schemas.
fn reachable(document: &mut Value, part: impl Fn(&Value) -> Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = Vec::new();
    for operation in operations(document) {
        refers_to(&part(operation), &mut open);
    }
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            refers_to(&document["components"]["schemas"][name], &mut open);
        }
    }
    found
}

/// Adds the names of the schemas that a value refers to.
fn refers_to(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            names.extend(name.and_then(|name| name.strip_prefix(SCHEMAS)).map(str::to_owned));
            fields.values().for_each(|field| refers_to(field, names));
        }
        Value::Array(items) => items.iter().for_each(|item| refers_to(item, names)),
        _ => {}
    }
}

/// Whether a schema is of this type, or of several types with this one among them.
fn is_of(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        one => one == kind,
    }
}

fn limit_integers(value: &mut Value) {
    if is_of(value, "integer") && value.get("maximum").is_none() && value.get("enum").is_none() {
        value["maximum"] = INTEGER_MAX.into();
    }
    parts(value).for_each(limit_integers);
}

/// Requires the nullable fields of an object.
fn require_nullable(schema: &mut Value) {
    let parts = ["allOf", "oneOf", "anyOf"].map(|of| schema.get(of).is_some().then_some(of));
    for of in parts.into_iter().flatten() {
        schema[of].as_array_mut().into_iter().flatten().for_each(require_nullable);
    }
    let Some(fields) = schema["properties"].as_object() else { return };
    let nullable = |field: &Value| {
        let of = field["oneOf"].as_array();
        is_of(field, "null") || of.is_some_and(|of| of.iter().any(|one| is_of(one, "null")))
    };
    let names = fields.iter().filter(|(_, field)| nullable(field)).map(|(name, _)| name.clone());
    let mut required: BTreeSet<String> = names.collect();
    let already = schema["required"].as_array().into_iter().flatten();
    required.extend(already.filter_map(Value::as_str).map(str::to_owned));
    if !required.is_empty() {
        schema["required"] = required.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nullable_fields_of_answers_are_required_and_unused_schemas_left_out() {
        let refer = |name: &str| json!({"schema": {"$ref": format!("{SCHEMAS}{name}")}});
        let note = json!({"type": ["string", "null"]});
        let fields = json!({"properties": {"note": note, "size": {"type": "integer"}}});
        let sent = json!({"description": "A request", "properties": fields["properties"]});
        let mut document = json!({
            "paths": {"/a": {"post": {
                "parameters": [{"in": "query", "name": "q"}],
                "requestBody": {"content": {"application/json": refer("Sent")}},
                "responses": {"200": {"content": {"application/json": refer("Answer")}}},
            }}},
            "components": {"schemas": {
                "Sent": sent, "Answer": {"allOf": [fields]}, "Unused": {"type": "string"},
            }},
        });
        finish(&mut document);
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Sent"].get("required"), None);
        assert_eq!(schemas["Answer"]["allOf"][0]["required"], json!(["note"]));
        assert_eq!(schemas["Sent"]["properties"]["size"]["maximum"], json!(INTEGER_MAX));
        assert_eq!(schemas.get("Unused"), None);
        assert_eq!(document["paths"]["/a"]["post"]["parameters"][0]["allowEmptyValue"], true);
    }
}
