//! The Postman collection, in its format 2.1: the requests of the examples in their order, with a
//! folder for each chapter. Scripts keep what later requests need of an answer, so that the whole
//! collection can be run as it is imported.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::examples::{
    ExampleAnswer, ExampleStep, ExampleValues, chapters, fill, plain_text, values_of_examples,
};
use super::openapi::{Document, plain};
use crate::http::edge::error::Error;
use crate::http::edge::route::{Route, Routes};
use crate::http::edge::static_text::StaticText;

const SCHEMA: &str = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json";
const ABOUT: &str = "Every request of the examples in the API's documents, with their answers. Set \
                     the variables `baseUrl` and `adminKey` (make one with `kontor key create --scope \
                     admin`), and run the collection from top to bottom: scripts keep the ids and \
                     tokens that later requests need. It makes products, orders and settings: do not \
                     run it on a shop that sells. Payments need the sandbox provider.";
/// Times around now, and what is new at each run; before the first request, or if they are not set.
const BEFORE: &str = r#"const values = pm.collectionVariables;
if (pm.info.requestName === FIRST || !values.get("run")) {
  const day = 24 * 60 * 60 * 1000;
  values.set("run", String(Date.now()));
  values.set("yesterday", new Date(Date.now() - day).toISOString());
  values.set("tomorrow", new Date(Date.now() + day).toISOString());
}"#;
/// Sends the request again until its answer is ready, at most 100 times.
const AGAIN: &str = r#"const tries = Number(pm.collectionVariables.get("tries") || 0);
pm.collectionVariables.set("tries", ready ? 0 : tries + 1);
if (!ready && tries < 100) {
  pm.execution.setNextRequest(pm.info.requestId);
  setTimeout(() => {}, 200);
} else {
  pm.collectionVariables.set("tries", 0);
  pm.test("the answer is there", () => pm.expect(ready).to.be.true);
}"#;

/// The collection for a server with these routes.
///
/// # Errors
/// A file of the examples is not as it should be.
fn collection(routes: &Routes) -> Result<Value, serde_json::Error> {
    let mut values = values_of_examples();
    let mut names: BTreeSet<String> = values.keys().cloned().collect();
    let (mut folders, mut first) = (Vec::new(), None);
    for chapter in chapters()? {
        let mut items = Vec::new();
        for step in &chapter.steps {
            let Some(answer) = chapter.answers.get(&step.name) else { continue };
            values.extend(answer.given.clone());
            let route = routes.all().find(|route| route.operation == step.operation);
            if let Some(route) = route.filter(|_| step.needs.is_none()) {
                items.push(item(step, route, answer, &values));
                names.extend(step.keep.keys().cloned());
                first.get_or_insert_with(|| step.about.clone());
            }
            values.extend(answer.kept.clone());
        }
        if !items.is_empty() {
            let (name, about) = (chapter.title, chapter.about);
            folders.push(json!({"name": name, "description": about, "item": items}));
        }
    }
    let before = BEFORE.replace("FIRST", &json!(first).to_string());
    let variable = |name: &String| {
        let value = if name == "baseUrl" { plain_text(&values[name]) } else { String::new() };
        json!({"key": name, "value": value, "type": "string"})
    };
    Ok(json!({
        "info": {"name": "kontor", "description": ABOUT, "schema": SCHEMA},
        "variable": names.iter().filter(|name| *name != "guid").map(variable).collect::<Vec<_>>(),
        "event": [script("prerequest", &before)],
        "item": folders,
    }))
}

fn script(listen: &str, text: &str) -> Value {
    let lines: Vec<&str> = text.lines().collect();
    json!({"listen": listen, "script": {"type": "text/javascript", "exec": lines}})
}

/// A request with its script and the recorded answer.
fn item(
    step: &ExampleStep,
    route: &Route,
    answer: &ExampleAnswer,
    values: &ExampleValues,
) -> Value {
    let text = answer.body.as_ref().map_or_else(String::new, |body| format!("{body:#}"));
    let kind = if answer.status < 400 { "application/json" } else { "application/problem+json" };
    let saved = json!({
        "name": step.about,
        "originalRequest": request(step, route, &|value| plain_text(&fill(value, values))),
        "status": reason(answer.status),
        "code": answer.status,
        "header": [{"key": "Content-Type", "value": kind}],
        "body": text,
        "_postman_previewlanguage": "json",
    });
    json!({
        "name": step.about,
        "event": [script("test", &after(step, route, answer.status))],
        "request": request(step, route, &plain_text),
        "response": [saved],
    })
}

fn reason(status: u16) -> &'static str {
    let status = actix_web::http::StatusCode::from_u16(status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or_default()
}

/// A request; `text` writes its values, with or without the names in them replaced.
fn request(step: &ExampleStep, route: &Route, text: &dyn Fn(&Value) -> String) -> Value {
    let written = |value: &Value| text(value).replace("{{guid}}", "{{$guid}}");
    let pair = |(key, value): (&String, &Value)| json!({"key": key, "value": written(value)});
    let path = plain(route.path).replace('{', ":").replace('}', "");
    let mut headers: Vec<Value> = step.headers.iter().map(pair).collect();
    let body = match (&step.body, &step.raw) {
        (Some(body), _) => Some(written(&Value::from(format!("{body:#}")))),
        (None, Some(raw)) => Some(written(&Value::from(raw.as_str()))),
        (None, None) => None,
    };
    if body.is_some() {
        headers.push(json!({"key": "Content-Type", "value": "application/json"}));
    }
    let query: Vec<Value> = step.query.iter().map(pair).collect();
    let sent: Vec<String> =
        step.query.iter().map(|(key, value)| format!("{key}={}", written(value))).collect();
    let mark = if sent.is_empty() { "" } else { "?" };
    let auth = match &step.key {
        Some(key) => json!({"type": "bearer", "bearer": [
            {"key": "token", "value": format!("{{{{{key}}}}}"), "type": "string"}]}),
        None => json!({"type": "noauth"}),
    };
    let mut request = json!({
        "method": route.method.as_str(),
        "header": headers,
        "auth": auth,
        "url": {
            "raw": format!("{{{{baseUrl}}}}{path}{mark}{}", sent.join("&")),
            "host": ["{{baseUrl}}"],
            "path": path.split('/').skip(1).collect::<Vec<_>>(),
            "query": query,
            "variable": step.path.iter().map(pair).collect::<Vec<_>>(),
        },
    });
    if let Some(body) = body {
        request["body"] =
            json!({"mode": "raw", "raw": body, "options": {"raw": {"language": "json"}}});
    }
    request
}

/// The script that checks the status of an answer and keeps what later requests need of it.
fn after(step: &ExampleStep, route: &Route, status: u16) -> String {
    // What this collection creates exists already if it is run again.
    let put = route.method == actix_web::http::Method::PUT && status < 300;
    let good = if put { json!([200, 201]) } else { json!([status]) };
    let mut lines = vec![format!(
        "pm.test(\"the status\", () => pm.expect(pm.response.code).to.be.oneOf({good}));"
    )];
    let waits = !step.until.is_empty() || step.headers.contains_key("Kontor-After");
    if waits || step.keep.values().any(|place| place.starts_with('/')) {
        lines.push("const body = pm.response.json();".to_owned());
    }
    for (name, place) in &step.keep {
        let value = match place.strip_prefix('/') {
            Some(_) => in_body(place),
            None => format!("pm.response.headers.get({}).split(\";\")[0]", json!(place)),
        };
        lines.push(format!("pm.collectionVariables.set({}, {value});", json!(name)));
    }
    if waits {
        let mut ready = vec!["!pm.response.headers.has(\"Kontor-Stale\")".to_owned()];
        for (place, wanted) in &step.until {
            let wanted = format!("pm.variables.replaceIn({wanted})");
            ready.push(format!("{} === {wanted}", in_body(place)));
        }
        lines.push(format!("const ready = {};", ready.join(" && ")));
        lines.push(AGAIN.to_owned());
    }
    lines.join("\n")
}

/// A JSON pointer as an expression of JavaScript.
fn in_body(pointer: &str) -> String {
    let part = |part: &str| match part.parse::<usize>() {
        Ok(index) => format!("?.[{index}]"),
        Err(_) => format!("?.[{}]", json!(part)),
    };
    format!("body{}", pointer.split('/').skip(1).map(part).collect::<String>())
}

/// The collection as text, made once. It is the same for all servers, because the routes of the
/// examples are.
///
/// # Errors
/// A file of the examples is not as it should be.
pub fn text(routes: &Routes) -> Result<&'static str, serde_json::Error> {
    static TEXT: OnceLock<String> = OnceLock::new();
    if let Some(text) = TEXT.get() {
        return Ok(text);
    }
    let made = collection(routes)?.to_string();
    Ok(TEXT.get_or_init(|| made))
}

/// Returns a Postman collection of the examples.
#[utoipa::path(get, path = "/postman.json", tag = "docs",
    responses((status = 200, description = "A collection, format 2.1",
        content_type = "application/json")))]
pub async fn show_postman(
    document: web::Data<Document>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    static SERVED: OnceLock<StaticText> = OnceLock::new();
    let text = text(document.routes()).map_err(Error::internal)?;
    Ok(SERVED.get_or_init(|| StaticText::json(text)).respond(&request, |_| {}))
}
