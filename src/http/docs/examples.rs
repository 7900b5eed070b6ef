//! Examples of requests and answers: the story of a shop, which begins with an empty one.
//!
//! `examples/*.json` has the requests, in the order in which they are sent, with `{{names}}` for what
//! earlier answers contained. `examples/answers/*.json` has the answers, which `tests/it/examples.rs`
//! records and checks by playing the story on a server. Here they are put into the OpenAPI document;
//! `postman` makes a collection of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

macro_rules! chapter {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("examples/", $name, ".json")),
            include_str!(concat!("examples/answers/", $name, ".json")),
        )
    };
}
/// The chapters: the name of each, its requests, and their answers.
const CHAPTERS: [(&str, &str, &str); 8] = [
    chapter!("1-shop"),
    chapter!("2-buy"),
    chapter!("3-declined"),
    chapter!("4-orders"),
    chapter!("5-changes"),
    chapter!("6-operation"),
    chapter!("7-errors"),
    chapter!("8-rare"),
];

/// Values by the name that the story has for them.
pub type ExampleValues = BTreeMap<String, Value>;

/// A part of the story.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleChapter {
    /// The name of its files.
    #[serde(skip)]
    pub file: &'static str,
    /// Its title.
    pub title: String,
    /// What it shows.
    pub about: String,
    /// Its requests, in their order.
    pub steps: Vec<ExampleStep>,
    /// Their recorded answers, by the name of the step.
    #[serde(skip)]
    pub answers: BTreeMap<String, ExampleAnswer>,
}

/// A request of the story.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleStep {
    /// The name of the example, which no other one has.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// The id of the operation.
    pub operation: String,
    /// The name of the value that is sent as bearer token.
    pub key: Option<String>,
    /// The parameters in the path.
    #[serde(default)]
    pub path: Map<String, Value>,
    /// The parameters in the query.
    #[serde(default)]
    pub query: Map<String, Value>,
    /// The headers.
    #[serde(default)]
    pub headers: Map<String, Value>,
    /// The body.
    pub body: Option<Value>,
    /// The body, if it is not JSON.
    pub raw: Option<String>,
    /// What later steps need of the answer, by the name that they have for it: a JSON pointer into
    /// the body, or a header.
    #[serde(default)]
    pub keep: BTreeMap<String, String>,
    /// What the answer must contain, by JSON pointer: the request is repeated until it does.
    #[serde(default)]
    pub until: BTreeMap<String, Value>,
    /// The state that the step needs and that requests do not make: `tests/it/examples.rs` makes it.
    pub needs: Option<String>,
    /// Whether the step only leads to the next ones, and is no example itself.
    #[serde(default)]
    pub aside: bool,
    /// Whether the answer differs each time: then only its fields are compared.
    #[serde(default)]
    pub varies: bool,
}

/// The recorded answer of a step.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ExampleAnswer {
    /// Values that exist before the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: ExampleValues,
    /// The status.
    pub status: u16,
    /// What is kept of the answer ([`ExampleStep::keep`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: ExampleValues,
    /// The body, if it is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// The whole story.
///
/// # Errors
/// A file is not as it should be.
pub fn chapters() -> Result<Vec<ExampleChapter>, serde_json::Error> {
    let read = |&(file, steps, answers): &(&'static str, &str, &str)| {
        let chapter: ExampleChapter = serde_json::from_str(steps)?;
        let answers = serde_json::from_str(answers)?;
        Ok(ExampleChapter { file, answers, ..chapter })
    };
    CHAPTERS.iter().map(read).collect()
}

/// The values that are there before the first step, as examples show them.
#[must_use]
pub fn values_of_examples() -> ExampleValues {
    let known = [
        ("baseUrl", "http://127.0.0.1:8080"),
        ("adminKey", "sk_5f0c8a91d3b24e67_9d3c1f0b7a5e48268c04d6b2e1f39a75"),
        ("run", "1"),
        ("guid", "0b7e6c3e-5d1f-4c1c-9a53-2f6d1b1a7c10"),
        ("yesterday", "2026-01-14T00:00:00Z"),
        ("tomorrow", "2026-01-16T00:00:00Z"),
    ];
    known.map(|(name, value)| (name.to_owned(), value.into())).into()
}

/// A value of the story with each `{{name}}` replaced. A text that is nothing but a name becomes the
/// value with this name, which need not be a text.
#[must_use]
pub fn fill(value: &Value, values: &ExampleValues) -> Value {
    match value {
        Value::String(text) => fill_text(text, values),
        Value::Array(items) => items.iter().map(|item| fill(item, values)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| (name.clone(), fill(field, values))).collect()
        }
        other => other.clone(),
    }
}

fn fill_text(text: &str, values: &ExampleValues) -> Value {
    let whole = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    if let Some(value) = whole.and_then(|name| values.get(name)) {
        return value.clone();
    }
    let mut filled = text.to_owned();
    for (name, value) in values {
        filled = filled.replace(&format!("{{{{{name}}}}}"), &plain_text(value));
    }
    filled.into()
}

/// A value as it is written in a path, a query or a header: a list has commas.
#[must_use]
pub fn plain_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Puts the examples into an OpenAPI document.
///
/// # Errors
/// A file of the story is not as it should be.
pub fn add(document: &mut Value) -> Result<(), serde_json::Error> {
    let mut values = values_of_examples();
    for chapter in chapters()? {
        for step in chapter.steps {
            let Some(answer) = chapter.answers.get(&step.name) else { continue };
            values.extend(answer.given.clone());
            if let Some(operation) = operation(document, &step.operation)
                && !step.aside
            {
                show_request(operation, &step, answer.status, &values);
                show_answer(operation, &step, answer);
            }
            values.extend(answer.kept.clone());
        }
    }
    Ok(())
}

fn operation<'a>(document: &'a mut Value, id: &str) -> Option<&'a mut Value> {
    let paths = document["paths"].as_object_mut()?;
    let mut all = paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    all.find(|operation| operation["operationId"] == id)
}

/// Adds the examples of a request: all good bodies, and for each parameter the first good value. What
/// is in a path is good even if the answer is an error.
fn show_request(operation: &mut Value, step: &ExampleStep, status: u16, values: &ExampleValues) {
    let good = status < 400;
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let given = match parameter["in"].as_str() {
            Some("path") => &step.path,
            _ if !good => continue,
            Some("query") => &step.query,
            _ => &step.headers,
        };
        let given = parameter["name"].as_str().and_then(|name| given.get(name));
        if let Some(given) = given.filter(|given| *given != "")
            && parameter.get("example").is_none()
        {
            parameter["example"] = fill(given, values);
        }
    }
    let raw = step.raw.as_ref().map(|raw| Value::from(raw.as_str()));
    let body = step.body.as_ref().or(raw.as_ref());
    if let (Some(body), Some(content)) = (body, json_of(operation.get_mut("requestBody")))
        && (good || content.get("examples").is_none())
    {
        add_example(content, step, fill(body, values));
    }
}

fn show_answer(operation: &mut Value, step: &ExampleStep, answer: &ExampleAnswer) {
    let described = operation["responses"].get_mut(answer.status.to_string());
    if let (Some(content), Some(body)) = (json_of(described), &answer.body) {
        add_example(content, step, body.clone());
    }
}

/// The JSON content of a request's body or of an answer.
fn json_of(described: Option<&mut Value>) -> Option<&mut Value> {
    let content = described?.get_mut("content")?.as_object_mut()?;
    content.iter_mut().find(|(kind, _)| kind.ends_with("json")).map(|(_, content)| content)
}

fn add_example(content: &mut Value, step: &ExampleStep, value: Value) {
    content["examples"][&step.name] = json!({"summary": step.about, "value": value});
}
