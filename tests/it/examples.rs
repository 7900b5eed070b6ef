//! The examples of the API's documents, played as a story on a real server: each request is sent, and
//! each answer is compared with the recorded one. `INSTA_UPDATE=always cargo test --test it examples`
//! records them anew, as it does with snapshots.

mod constant;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kontor::domain::time::Span;
use kontor::http::Routes;
use kontor::http::docs::examples::{
    ExampleAnswer, ExampleStep, ExampleValues, chapters, fill, plain_text, values_of_examples,
};
use kontor::http::docs::openapi::{Document, plain};
use kontor::http::docs::postman;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use self::constant::Constant;
use crate::documents::check_answer;
use crate::site::Site;

/// The calls to a failing provider after which a step is stuck.
const STUCK_AFTER: u32 = 2;

struct Player {
    site: Site,
    values: ExampleValues,
    constant: Constant,
    made: BTreeSet<String>,
}

impl Player {
    async fn open() -> Self {
        let site = Site::with(|config| config.payments.stuck_after = STUCK_AFTER).await;
        let mut values = values_of_examples();
        values.insert("adminKey".into(), site.key.as_str().into());
        let day = |days: i64| {
            let now = site.app.as_ref().unwrap().node.clock.now();
            (now + Span::from_secs(days * 86_400)).to_string()
        };
        values.insert("yesterday".into(), day(-1).into());
        values.insert("tomorrow".into(), day(1).into());
        Self { site, values, constant: Constant::new(), made: BTreeSet::new() }
    }

    /// Sends the request of a step until its answer is as it should be; the answer, with all that
    /// differs from run to run replaced.
    async fn play(&mut self, at: (i64, i64), step: &ExampleStep) -> ExampleAnswer {
        self.constant.next_step(at, !step.until.is_empty());
        let mut given = ExampleValues::new();
        if let Some(needs) = &step.needs
            && self.made.insert(needs.clone())
        {
            for (name, value) in states::make(&mut self.site, needs, &self.values).await {
                given.insert(name.clone(), self.constant.value(&name, &value));
                self.values.insert(name, value);
            }
        }
        self.values.insert("baseUrl".into(), self.site.url().into());
        let (status, headers, body) = self.site.until_some(async || self.ask(step).await).await;
        let mut kept = ExampleValues::new();
        for (name, place) in &step.keep {
            let value = match place.strip_prefix('/') {
                Some(_) => body.pointer(place).cloned().unwrap_or_default(),
                None => {
                    let text = headers[place].to_str().unwrap();
                    text.split(';').next().unwrap_or_default().into()
                }
            };
            assert!(!value.is_null(), "{}: there is no {place} in {body:#}", step.name);
            kept.insert(name.clone(), self.constant.value(name, &value));
            self.values.insert(name.clone(), value);
        }
        let body = (!body.is_null()).then(|| self.constant.value("", &body));
        ExampleAnswer { given, status, kept, body }
    }

    /// The answer to a step, unless it is to be asked for again.
    async fn ask(&self, step: &ExampleStep) -> Option<(u16, reqwest::header::HeaderMap, Value)> {
        let request = self.request(step).build().unwrap();
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let response = self.site.web.execute(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let media = headers.get("content-type").map_or("", |media| media.to_str().unwrap());
        if media.ends_with("json") {
            check_answer((&method, &path), (status, media), &body);
        }
        let ready = |(place, wanted): (&String, &Value)| {
            body.pointer(place) == Some(&fill(wanted, &self.values))
        };
        let whole = !headers.contains_key("Kontor-Stale");
        (whole && step.until.iter().all(ready)).then_some((status, headers, body))
    }

    fn request(&self, step: &ExampleStep) -> RequestBuilder {
        let routes = Routes::standard();
        let route = routes.all().find(|route| route.operation == step.operation);
        let route = route.unwrap_or_else(|| panic!("no operation {}", step.operation));
        let text = |value: &Value| match value.as_str() {
            Some("{{guid}}") => format!("{:032x}", rand::random::<u128>()),
            _ => plain_text(&fill(value, &self.values)),
        };
        let mut path = plain(route.path);
        for (name, value) in &step.path {
            path = path.replace(&format!("{{{name}}}"), &text(value));
        }
        let query: Vec<(&String, String)> =
            step.query.iter().map(|(name, value)| (name, text(value))).collect();
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.site.url())).unwrap();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let method = Method::from_bytes(route.method.as_str().as_bytes()).unwrap();
        let mut request = self.site.web.request(method, url);
        for (name, value) in &step.headers {
            request = request.header(name, text(value));
        }
        if let Some(key) = &step.key {
            request = request.bearer_auth(plain_text(&self.values[key]));
        }
        match (&step.body, &step.raw) {
            (Some(body), _) => request.json(&fill(body, &self.values)),
            (None, Some(raw)) => {
                request.header("Content-Type", "application/json").body(text(&json!(raw)))
            }
            (None, None) => request,
        }
    }
}

/// The paths of all fields of a value; all items of a list have one path.
fn fields(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields_of) => {
            for (name, field) in fields_of {
                let path = format!("{path}.{name}");
                fields(field, &path, all);
                all.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, path, all)),
        _ => {}
    }
}

/// Whether a recorded answer stands for another one, of which only the fields are the same.
fn alike(recorded: &ExampleAnswer, other: &ExampleAnswer) -> bool {
    let fields = |answer: &ExampleAnswer| {
        let mut all = BTreeSet::new();
        fields(answer.body.as_ref().unwrap_or(&Value::Null), "", &mut all);
        all
    };
    recorded.status == other.status && fields(recorded) == fields(other)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_the_examples_is_answered_as_it_is_recorded() {
    let record = std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always");
    let mut player = Player::open().await;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/http/docs/examples/answers");
    for (hour, chapter) in (0..).zip(chapters().unwrap()) {
        let mut answers = BTreeMap::new();
        for (minute, step) in (0..).zip(&chapter.steps) {
            let answer = player.play((hour, minute), step).await;
            let recorded = chapter.answers.get(&step.name);
            let same = match recorded {
                Some(recorded) if step.varies => alike(recorded, &answer),
                _ => recorded == Some(&answer),
            };
            let show =
                |answer: Option<&ExampleAnswer>| serde_json::to_string_pretty(&answer).unwrap();
            assert!(
                same || record,
                "{}, {}: the answer is not the recorded one.\nrecorded: {}\nanswered: {}",
                chapter.file,
                step.name,
                show(recorded),
                show(Some(&answer))
            );
            let keep = recorded.filter(|_| same).cloned();
            assert!(answers.insert(step.name.clone(), keep.unwrap_or(answer)).is_none());
        }
        if record && answers != chapter.answers {
            let text = serde_json::to_string_pretty(&answers).unwrap();
            let file = folder.join(format!("{}.json", chapter.file));
            std::fs::write(file, format!("{text}\n")).unwrap();
        }
    }
}

/// A JSON content with a schema, of a request or an answer.
fn content(described: &Value) -> Option<&Value> {
    let mut all = described["content"].as_object()?.iter();
    let (_, content) = all.find(|(kind, _)| kind.ends_with("json"))?;
    content.get("schema").map(|_| content)
}

#[test]
fn every_body_and_every_good_answer_of_the_document_has_an_example() {
    let document = Document::new(Routes::standard());
    let document: Value = serde_json::from_str(document.text().unwrap()).unwrap();
    let mut missing = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let mut check = |what: &str, content: Option<&Value>| {
                if content.is_some_and(|content| content.get("examples").is_none()) {
                    missing.push(format!("{method} {path}: {what}"));
                }
            };
            check("body", content(&operation["requestBody"]));
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let good = status.starts_with('2');
                check(status, content(answer).filter(|_| good));
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if parameter["in"] == "path" && parameter.get("example").is_none() {
                    missing.push(format!("{method} {path}: {}", parameter["name"]));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new(), "a step in src/http/docs/examples is missing");
}

#[test]
fn every_recorded_answer_is_one_that_the_document_describes() {
    let document = Document::new(Routes::standard());
    let document: Value = serde_json::from_str(document.text().unwrap()).unwrap();
    let operations = document["paths"].as_object().unwrap().values();
    let operations: Vec<&Value> =
        operations.flat_map(|item| item.as_object().unwrap().values()).collect();
    let mut names = BTreeSet::new();
    for chapter in chapters().unwrap() {
        for step in &chapter.steps {
            assert!(names.insert(step.name.clone()), "two steps are named {}", step.name);
            let status = chapter.answers[&step.name].status.to_string();
            let described =
                operations.iter().find(|operation| operation["operationId"] == step.operation);
            let answer = &described.unwrap()["responses"][&status];
            assert!(answer.is_object(), "{}: {status} is not in the document", step.name);
        }
        assert_eq!(chapter.answers.len(), chapter.steps.len(), "{}", chapter.file);
    }
}

#[test]
fn the_postman_collection_has_every_step_that_needs_no_more_than_requests() {
    let text = postman::text(&Routes::standard()).unwrap();
    let collection: Value = serde_json::from_str(text).unwrap();
    let folders = collection["item"].as_array().unwrap().iter();
    let items = folders.flat_map(|folder| folder["item"].as_array().unwrap());
    let names: Vec<&str> = items.map(|item| item["name"].as_str().unwrap()).collect();
    let chapters = chapters().unwrap();
    let steps = chapters.iter().flat_map(|chapter| &chapter.steps);
    let steps: Vec<&str> =
        steps.filter(|step| step.needs.is_none()).map(|step| step.about.as_str()).collect();
    assert_eq!(names, steps);
    // Each variable is declared: Postman sends the name of one that is not.
    let declared = collection["variable"].as_array().unwrap().iter();
    let mut declared: BTreeSet<&str> = declared.map(|one| one["key"].as_str().unwrap()).collect();
    declared.insert("$guid");
    for used in text.split("{{").skip(1) {
        let name = used.split("}}").next().unwrap();
        assert!(declared.contains(name), "{name} is not declared");
    }
}
