//! Reads a JSON body, and checks its size, its time, its nesting, its syntax, its fields and their
//! values.
//!
//! All faults are reported at once. serde stops at the first fault; so an invalid body is
//! deserialized again for each fault, with the faulty values replaced by valid ones. A valid body
//! is deserialized once.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::web::{self, BytesMut};
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt as _;
use garde::Validate;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::http::edge::data::data;
use crate::http::edge::error::Error;
use crate::http::edge::faults::{RequestFaults, contains};
use crate::http::edge::object_only::Objects;
use crate::http::edge::problem::{Code, FAULTS_MAX, FieldError};
use crate::http::edge::rule::rule;
use crate::http::edge::secret::ServerSecret;

/// The field of a fault of the whole body.
const WHOLE: &str = "body";
/// The rule of the whole body.
const NO_OBJECT: &str = "must be an object";
/// The maximum nesting of a body, in levels.
const DEPTH_MAX: u32 = 32;
/// The maximum number of chunks of an unread body that are read and dropped.
const SKIP_CHUNKS: usize = 16;
/// The maximum number of bytes that are deserialized again, in all repetitions, to find faults.
const FAULT_WORK_MAX: usize = 4 << 20;

/// The limits of a body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// The maximum size of a body, in bytes.
    pub bytes_max: usize,
    /// How long the body may take to arrive.
    pub timeout: Duration,
}

/// A valid JSON body, with a digest of the request.
#[derive(Debug)]
pub struct Json<T> {
    /// The deserialized body.
    pub value: T,
    /// A digest of method, path and body.
    pub digest: u64,
}

impl<T: DeserializeOwned + Validate<Context = ()> + 'static> FromRequest for Json<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let draft = Draft::from_request(request, payload);
        Box::pin(async move {
            let Draft { value, faults, digest } = draft.await?;
            faults.check().map(|()| Self { value, digest })
        })
    }
}

/// A JSON body with all faults of the request, for a handler that looks up what it names: faults of
/// the look-up are reported together with those of the body, the headers and the query.
#[derive(Debug)]
pub struct Draft<T> {
    /// The deserialized body. Where it has faults it is not what was sent.
    pub value: T,
    /// What is wrong with it, with the headers and with the query.
    pub faults: RequestFaults,
    /// A digest of method, path and body.
    pub digest: u64,
}

impl<T: DeserializeOwned + Validate<Context = ()> + 'static> FromRequest for Draft<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        let mut faults = RequestFaults::left(&request);
        Box::pin(async move {
            let bytes = json(&request, payload).await?;
            let digest = digest(&request, &bytes)?;
            let (value, of_body) = draft(&bytes)?;
            faults.extend(of_body);
            match value {
                Some(value) => Ok(Self { value, faults, digest }),
                None => Err(faults.refusal()),
            }
        })
    }
}

/// The body of a request that has none: nothing, or `{}`.
#[derive(Debug)]
pub struct NoBody {
    /// A digest of method and path.
    pub digest: u64,
}

impl FromRequest for NoBody {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        let mut faults = RequestFaults::left(&request);
        Box::pin(async move {
            let bytes = read(&request, payload).await?;
            if !matches!(bytes.trim_ascii(), b"" | b"{}") {
                faults.invalid(WHOLE, "must be empty: nothing is to be said here");
            }
            faults.check()?;
            Ok(Self { digest: digest(&request, b"")? })
        })
    }
}

/// The raw bytes of a body.
#[derive(Debug)]
pub struct Raw(pub web::Bytes);

impl FromRequest for Raw {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { read(&request, payload).await.map(Self) })
    }
}

/// The bytes of a JSON body. A request without a body and without its type has an empty object.
async fn json(request: &HttpRequest, payload: Payload) -> Result<web::Bytes, Error> {
    let declared = check_type(request);
    if declared.is_err() && !request.headers().contains_key(header::CONTENT_TYPE) {
        let bytes = read(request, payload).await?;
        return if bytes.is_empty() {
            Ok(web::Bytes::from_static(b"{}"))
        } else {
            declared.map(|()| bytes)
        };
    }
    declared?;
    read(request, payload).await
}

fn check_type(request: &HttpRequest) -> Result<(), Error> {
    let wrong = |detail| Error::new(Code::UnsupportedMediaType, detail);
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let kind = text(header::CONTENT_TYPE).unwrap_or("");
    let (essence, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    if !essence.trim().eq_ignore_ascii_case("application/json") {
        return Err(wrong("the body must be declared as application/json"));
    }
    let charset = parameters.trim().to_ascii_lowercase().replace('"', "");
    if charset.starts_with("charset=") && charset != "charset=utf-8" {
        return Err(wrong("the body must be in UTF-8"));
    }
    match text(header::CONTENT_ENCODING) {
        None | Some("identity") => Ok(()),
        Some(_) => Err(wrong("the body must not be compressed")),
    }
}

async fn read(request: &HttpRequest, payload: Payload) -> Result<web::Bytes, Error> {
    let limits = data::<BodyLimits>(request)?;
    read_up_to(request, payload, limits.bytes_max, limits.timeout).await
}

/// Reads a body of at most `max` bytes, instead of the general limit.
///
/// # Errors
/// 413 if the body is larger, 408 if it is too slow, 400 if it is incomplete.
pub async fn read_at_most(
    request: &HttpRequest,
    payload: web::Payload,
    max: usize,
) -> Result<web::Bytes, Error> {
    let timeout = data::<BodyLimits>(request)?.timeout;
    read_up_to(request, payload.into_inner(), max, timeout).await
}

async fn read_up_to(
    request: &HttpRequest,
    mut payload: Payload,
    max: usize,
    patience: Duration,
) -> Result<web::Bytes, Error> {
    let too_large =
        || Error::new(Code::PayloadTooLarge, format!("the body may have at most {max} bytes"));
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let collect = async {
        let mut bytes = BytesMut::with_capacity(length.unwrap_or(0).min(max));
        while let Some(chunk) = payload.next().await {
            let chunk =
                chunk.map_err(|_| Error::new(Code::BadRequest, "the body ended too early"))?;
            if bytes.len() + chunk.len() > max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    actix_web::rt::time::timeout(patience, collect).await.unwrap_or_else(|_| {
        Err(Error::new(Code::RequestTimeout, "the body did not arrive in time"))
    })
}

/// Reads and drops the part of an unread body that has already arrived, without waiting for more.
/// If this is the whole body, the connection can be used for the next request.
pub async fn skip(payload: &mut Payload) {
    let mut waited = false;
    std::future::poll_fn(|context| {
        for _ in 0..SKIP_CHUNKS {
            match payload.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if waited => return Poll::Ready(()),
                Poll::Pending => {
                    // Lets actix read the connection's buffer once more.
                    waited = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    })
    .await;
}

/// It is keyed: an event has it, and whoever reads events must not find a body by guessing.
fn digest(request: &HttpRequest, body: &[u8]) -> Result<u64, Error> {
    let secret = data::<ServerSecret>(request)?;
    let (method, path) = (request.method().as_str().as_bytes(), request.path().as_bytes());
    let all = secret.mac(&[b"request", method, path, body]);
    Ok(u64::from_be_bytes(all.first_chunk().copied().unwrap_or_default()))
}

/// Parses and validates a value.
///
/// # Errors
/// 400 for invalid JSON or too deep nesting, 422 with the invalid fields.
pub fn parse<T: DeserializeOwned + Validate<Context = ()>>(bytes: &[u8]) -> Result<T, Error> {
    let (value, faults) = draft(bytes)?;
    faults.check()?;
    value.ok_or_else(|| Error::field(WHOLE, NO_OBJECT))
}

/// Parses a value, and finds all of its faults; `None` only for a value with faults.
fn draft<T: DeserializeOwned + Validate<Context = ()>>(
    bytes: &[u8],
) -> Result<(Option<T>, RequestFaults), Error> {
    if deeper_than(bytes, DEPTH_MAX) {
        let detail = format!("the body is nested more than {DEPTH_MAX} levels deep");
        return Err(Error::new(Code::MalformedJson, detail));
    }
    let object = bytes.trim_ascii_start().first() == Some(&b'{');
    let no_object = || {
        let fault = FieldError { field: WHOLE.to_owned(), message: NO_OBJECT.to_owned() };
        (None, vec![fault].into())
    };
    match strictly::<T>(bytes) {
        Ok(value) if object => {
            let faults = match value.validate() {
                Ok(()) => RequestFaults::default(),
                Err(report) => field_errors(&report, &[]).into(),
            };
            Ok((Some(value), faults))
        }
        Ok(_) => Ok(no_object()),
        Err(error) if error.is_data() => match serde_json::from_slice::<Value>(bytes) {
            Ok(value) if object => {
                let tries = (FAULT_WORK_MAX / bytes.len().max(1)).clamp(1, 200);
                let (value, mut faults) = search::<T>(value, tries);
                let message = error.to_string();
                if let Some(name) = quoted(&message, "duplicate field `") {
                    // A tree of values cannot show it.
                    faults.push(FieldError {
                        field: duplicate::<T>(bytes, name),
                        message: rule(&message),
                    });
                }
                let faults = RequestFaults::from(faults);
                let all = value.is_some();
                Ok((value, if all { faults } else { faults.and_maybe_more() }))
            }
            Ok(_) => Ok(no_object()),
            Err(error) => Err(Error::new(Code::MalformedJson, error.to_string())),
        },
        Err(_) if bytes.is_empty() => Err(Error::new(
            Code::MalformedJson,
            "the body is empty; an object without fields is {}",
        )),
        Err(error) => Err(Error::new(Code::MalformedJson, error.to_string())),
    }
}

/// The path of a field that occurs twice.
fn duplicate<T: DeserializeOwned>(bytes: &[u8], name: String) -> String {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize::<_, T>(Objects(&mut reader));
    let field = read.err().map(|error| place(error.path()).1).unwrap_or_default();
    match field.rsplit('.').next() {
        Some("") | None => name,
        Some(last) if last == name => field,
        Some(_) => format!("{field}.{name}"),
    }
}

fn strictly<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = T::deserialize(Objects(&mut reader))?;
    reader.end().map(|()| value)
}

/// Deserializes a JSON value, and finds all of its faults; `None` only for a value with faults.
pub fn check<T: DeserializeOwned + Validate<Context = ()>>(
    value: &Value,
) -> (Option<T>, Vec<FieldError>) {
    match serde_path_to_error::deserialize::<_, T>(Objects(value)) {
        Ok(read) => {
            let faults = read.validate().err().map(|report| field_errors(&report, &[]));
            (Some(read), faults.unwrap_or_default())
        }
        Err(_) => search::<T>(value.clone(), 100),
    }
}

/// Whether brackets outside of strings nest more than `max` levels deep.
fn deeper_than(bytes: &[u8], max: u32) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_u32, false, false);
    for byte in bytes {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// A faulty value that was replaced by a valid one.
struct Patch {
    pointer: String,
    field: String,
    filler: usize,
}

/// Finds all fields that cannot be deserialized, and then all values that break a rule. `tries` is
/// the maximum number of deserializations. The value has valid values instead of the faulty ones.
fn search<T: DeserializeOwned + Validate<Context = ()>>(
    mut value: Value,
    tries: usize,
) -> (Option<T>, Vec<FieldError>) {
    let fillers = [Value::Null, json!(""), json!(1), json!({}), json!([]), json!(false)];
    let mut faults: Vec<FieldError> = Vec::new();
    let mut patches: Vec<Patch> = Vec::new();
    for _ in 0..tries {
        let error = match serde_path_to_error::deserialize::<_, T>(Objects(&value)) {
            Ok(read) => {
                if let Err(report) = read.validate() {
                    faults.extend(field_errors(&report, &patches));
                }
                return (Some(read), faults);
            }
            Err(error) => error,
        };
        let (mut pointer, mut field) = place(error.path());
        let message = error.inner().to_string();
        if let Some(name) = quoted(&message, "missing field `") {
            pointer = format!("{pointer}/{}", escape(&name));
            field = if field.is_empty() { name } else { format!("{field}.{name}") };
        }
        let unknown = message.starts_with("unknown field");
        let known = patches.iter_mut().find(|patch| patch.pointer == pointer);
        let filler = known.map_or(0, |patch| {
            patch.filler += 1;
            patch.filler
        });
        if filler == 0 {
            if !inside(&field, &patches) && faults.len() <= FAULTS_MAX {
                faults.push(FieldError { field: field.clone(), message: rule(&message) });
            }
            patches.push(Patch { pointer: pointer.clone(), field, filler });
        }
        let filler = if unknown { None } else { fillers.get(filler).cloned() };
        if !replace(&mut value, &pointer, filler) {
            break;
        }
    }
    (None, faults)
}

/// Whether a field, or a value that contains it, was replaced.
fn inside(field: &str, patches: &[Patch]) -> bool {
    patches.iter().any(|patch| contains(&patch.field, field))
}

/// Replaces a faulty value by `filler`, or removes it if there is none; `false` if this is not
/// possible.
fn replace(value: &mut Value, pointer: &str, filler: Option<Value>) -> bool {
    let Some((parent, name)) = pointer.rsplit_once('/') else {
        return match filler {
            Some(filler) => {
                *value = filler;
                true
            }
            None => false,
        };
    };
    let name = name.replace("~1", "/").replace("~0", "~");
    match (value.pointer_mut(parent), filler) {
        (Some(Value::Object(fields)), Some(filler)) => {
            fields.insert(name, filler);
            true
        }
        (Some(Value::Object(fields)), None) => fields.remove(&name).is_some(),
        (Some(Value::Array(items)), Some(filler)) => {
            match name.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                Some(item) => {
                    *item = filler;
                    true
                }
                None => false,
            }
        }
        _ => false,
    }
}

/// The location of an error, as a JSON pointer and as a field's name.
fn place(path: &serde_path_to_error::Path) -> (String, String) {
    use serde_path_to_error::Segment;
    let (mut pointer, mut field) = (String::new(), String::new());
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                pointer = format!("{pointer}/{index}");
                field = format!("{field}[{index}]");
            }
            Segment::Map { key } => {
                pointer = format!("{pointer}/{}", escape(key));
                field = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    (pointer, field)
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn quoted(message: &str, before: &str) -> Option<String> {
    Some(message.strip_prefix(before)?.split('`').next()?.to_owned())
}

/// The faults in a report, except those of values that were replaced.
fn field_errors(report: &garde::Report, patches: &[Patch]) -> Vec<FieldError> {
    report
        .iter()
        .map(|(path, error)| FieldError {
            field: path.to_string(),
            message: error.message().to_owned(),
        })
        .filter(|fault| !inside(&fault.field, patches))
        // A fault of the whole body (without a field) may come from a replaced value.
        .filter(|fault| patches.is_empty() || !fault.field.is_empty())
        .take(FAULTS_MAX + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::cart::shape::NewCart;

    fn fields(body: &str) -> Vec<String> {
        let error = parse::<NewCart>(body.as_bytes()).expect_err(body);
        assert_eq!(error.code(), Code::InvalidRequest, "{body}: {error:?}");
        error.fields().iter().map(|fault| fault.field.clone()).collect()
    }

    #[test]
    fn all_faults_are_reported_at_once_with_their_fields() {
        let body = r#"{"email": 5, "currency": "gbp", "colour": 1, "lines": [
            {"sku": "a", "quantity": 1}, {"quantity": 0}, {"sku": "", "quantity": 1.5}, 7]}"#;
        let mut found = fields(body);
        found.sort();
        let expected = [
            "colour",
            "currency",
            "email",
            "lines[1].quantity",
            "lines[1].sku",
            "lines[2].quantity",
            "lines[2].sku",
            "lines[3]",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn invalid_quantities_are_refused() {
        for number in
            ["0", "-1", "-0", "1.0", "1e2", "9223372036854775808", "1000001", "\"1\"", "null"]
        {
            let body = format!(r#"{{"lines": [{{"sku": "a", "quantity": {number}}}]}}"#);
            assert_eq!(fields(&body), ["lines[0].quantity"], "{number}");
        }
        let error = parse::<NewCart>(br#"{"lines": [{"sku": "a", "quantity": 2.0}]}"#);
        let rule = "must be a whole number, without a decimal point, not 2.0";
        assert_eq!(error.expect_err("no quantity").fields()[0].message, rule);
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
        let bad =
            ["", "{", "nul", "{\"lines\": NaN}", "{\"x\": 1e400}", "{} {}", "\u{feff}{}", &deep];
        for body in bad {
            let error = parse::<NewCart>(body.as_bytes()).expect_err(body);
            assert_eq!(error.code(), Code::MalformedJson, "{body}");
        }
        assert!(parse::<NewCart>(b"{\"email\": \"\xff@x\"}").is_err());
        assert!(!deeper_than(br#"{"a": "[[[[\"[[[["}"#, 1));
    }

    #[test]
    fn arrays_are_not_accepted_as_objects() {
        let address = r#"["Ada", null, "1 High St", null, "York", null, "N1", "GB", null]"#;
        let body = format!(r#"{{"shipping_address": {address}, "lines": [["a", 1, null]]}}"#);
        let mut found = fields(&body);
        found.sort();
        assert_eq!(found, ["lines[0]", "shipping_address"]);
        let row = json!({"lines": [["a", 1, null]]});
        let (_, faults) = check::<NewCart>(&row);
        assert_eq!(faults[0].field, "lines[0]");
    }

    #[test]
    fn all_faults_of_shape_name_their_field() {
        assert_eq!(fields("[]"), ["body"]);
        let line = br#"{"sku": "LAMP", "quantity": 1.5}"#;
        let error =
            parse::<crate::http::api::cart::shape::NewLines>(line).expect_err("no quantity");
        let told: Vec<_> = error.fields().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(told, ["quantity"]);
        let twice = r#"{"email": "a@b.example", "email": "c@d.example", "currency": "XXX"}"#;
        assert_eq!(fields(twice), ["currency", "email"]);
        let deep = r#"{"lines": [{"sku": "a", "quantity": 1, "sku": "b"}]}"#;
        assert_eq!(fields(deep), ["lines[0].sku"]);
        assert_eq!(fields(r#"{"shipping_address": {}}"#).len(), 4);
        assert_eq!(fields(r#"{"shipping_address": "here"}"#), ["shipping_address"]);
    }

    #[test]
    fn more_faults_than_are_named_are_told() {
        let told = |line: &str, count: usize| {
            let lines = vec![line; count].join(",");
            let error = parse::<NewCart>(format!(r#"{{"lines": [{lines}]}}"#).as_bytes());
            let error = error.expect_err("faults");
            (error.fields().len(), error.detail().to_owned())
        };
        let many = "more than 50 fields need attention: 50 are named".to_owned();
        let broken = r#"{"sku": "a", "quantity": 0}"#;
        assert_eq!(told(broken, 50), (50, "50 fields need attention".to_owned()));
        assert_eq!(told(broken, 51), (50, many));
        // So many that not all can be looked for.
        let (named, detail) = told(r#"{"quantity": {}, "colour": 1}"#, 90);
        assert!(named <= 50 && !detail.starts_with(&named.to_string()), "{named}: {detail}");
    }
}
