//! The guarantees of the decoders of requests, as fuzz targets; see `crate::fuzz`.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use garde::Validate;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::domain::id::{CartId, Key, OrderId};
use crate::domain::order::{FulfillmentStatus, OrderStatus, PaymentStatus};
use crate::domain::time::{Span, Timestamp};
use crate::http::api::cart::checkout;
use crate::http::api::cart::shape;
use crate::http::api::order::change;
use crate::http::api::order::list;
use crate::http::api::product::import;
use crate::http::api::product::shape as product;
use crate::http::api::stock::levels;
use crate::http::api::token;
use crate::http::edge::authentication::bearer;
use crate::http::edge::error::Error;
use crate::http::edge::idempotency;
use crate::http::edge::if_match::IfMatch;
use crate::http::edge::json_body::{check, parse};
use crate::http::edge::prefer;
use crate::http::edge::problem::{Code, FieldError};
use crate::http::edge::query::{LIMIT_MAX, Query, cursor};
use crate::http::edge::secret::ServerSecret;
use crate::http::edge::session as cookies;
use crate::http::live::client_message;
use crate::http::live::message::ClientMessage;
use crate::http::live::token::LiveToken;
use crate::http::live::{Topics, filter};
use crate::http::operator::session;
use crate::store::order::Sort;

/// The name of a field that no request shape has.
const STRANGER: &str = "no_such_field";

/// The decoders of bodies, one per request shape.
const SHAPES: &[fn(&[u8])] = &[
    shape::<shape::NewCart>,
    shape::<shape::CartPatch>,
    shape::<shape::NewLines>,
    shape::<shape::LinePatch>,
    shape::<checkout::CheckoutInput>,
    shape::<import::ImportInput>,
    shape::<change::ReasonInput>,
    shape::<change::RefundInput>,
    shape::<change::CaptureInput>,
    shape::<change::FulfillmentInput>,
    shape::<change::FulfillmentPatch>,
    shape::<change::SkipInput>,
    shape::<product::ProductInput>,
    shape::<product::ProductPatch>,
    shape::<session::SignIn>,
    shape::<levels::StockInput>,
    shape::<levels::ReceiptInput>,
    shape::<levels::AdjustmentInput>,
    shape::<levels::IncomingInput>,
    shape::<levels::TransferInput>,
];

/// Decodes a body as the shape that the first byte selects.
pub fn body(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    if let Some(read) = SHAPES.get(usize::from(*first) % SHAPES.len()) {
        read(rest);
    }
}

fn shape<T: DeserializeOwned + Validate<Context = ()>>(bytes: &[u8]) {
    let value = serde_json::from_slice::<Value>(bytes);
    if let Err(error) = parse::<T>(bytes) {
        refusal(&error);
        let malformed = error.code() == Code::MalformedJson;
        assert!(malformed || value.is_ok(), "what is no JSON is malformed: {error:?}");
        return;
    }
    let mut value = value.expect("what was taken is JSON");
    let written = value.to_string();
    if let Err(error) = parse::<T>(written.as_bytes()) {
        panic!("{written} is refused, written another way it is not: {error:?}");
    }
    let fields = value.as_object_mut().expect("what was taken is an object");
    fields.insert(STRANGER.to_owned(), Value::Null);
    let refused = parse::<T>(value.to_string().as_bytes()).err();
    let told = refused.iter().flat_map(Error::fields).any(|fault| fault.field == STRANGER);
    assert!(told, "a field that is not known is let pass: {value}");
}

/// Asserts what holds for every refusal of a body: a known code, with a detail or with the invalid
/// fields.
fn refusal(error: &Error) {
    match error.code() {
        Code::MalformedJson => assert!(!error.detail().is_empty()),
        Code::InvalidRequest => faults(error.fields()),
        other => panic!("a body is refused as {other:?}"),
    }
}

fn faults(all: &[FieldError]) {
    assert!(!all.is_empty(), "a body is refused without naming a field");
    assert!(all.len() <= 100, "{} faults are told at once", all.len());
    for FieldError { field, message } in all {
        assert!(!message.is_empty(), "{field:?} is refused without a reason");
    }
}

/// Decodes rows to import, one JSON value per line of text.
pub fn import(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        let Ok(value) = serde_json::from_slice::<Value>(line) else { continue };
        let (read, told) = check::<import::ImportRow>(&value);
        if read.is_none() || !told.is_empty() {
            faults(&told);
        }
    }
}

/// Decodes lines of text as the headers of one request, with the decoder of each header. What was
/// decoded and is written again must decode to the same value.
pub fn headers(bytes: &[u8]) {
    let headers = header_map(bytes);
    if let Ok(Some(key)) = idempotency::key_of(&headers) {
        assert!((1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()));
        let again = idempotency::key_of(&one("idempotency-key", &key));
        assert_eq!(again.ok().flatten(), Some(key));
    }
    if let Ok(Some(wait)) = prefer::wait(&headers) {
        assert!(wait.as_secs() <= 30, "{wait:?}");
        let again = prefer::wait(&one("prefer", &format!("wait={}", wait.as_secs())));
        assert_eq!(again.ok().flatten(), Some(wait));
    }
    if let Ok(IfMatch::OneOf(versions)) = IfMatch::of(&headers) {
        let tags: Vec<_> = versions.iter().map(|version| format!("\"{version}\"")).collect();
        let again = IfMatch::of(&one("if-match", &tags.join(", ")));
        assert_eq!(again.ok(), Some(IfMatch::OneOf(versions)));
    }
    if let Ok(Some(token)) = bearer(&headers) {
        let again = one("authorization", &format!("Bearer {token}"));
        assert_eq!(bearer(&again).ok().flatten(), Some(token));
    }
    if let Some(secret) = cookies::cookie(&headers) {
        assert!(!secret.is_empty() && !secret.contains(';'));
        let again = one("cookie", &format!("a=b; {}={secret}", cookies::COOKIE));
        assert_eq!(cookies::cookie(&again), Some(secret));
    }
    let changes = cookies::must_be_same_origin(&headers).is_ok();
    let named = headers.contains_key("sec-fetch-site") || headers.contains_key("origin");
    assert!(named || !changes, "a request that names no origin changes something");
}

fn header_map(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value.strip_prefix(b":").unwrap_or(value));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn one(name: &str, value: &str) -> HeaderMap {
    header_map(format!("{name}:{value}").as_bytes())
}

/// Decodes a query string with all decoders of list parameters. A page cursor that was decoded and
/// is written again must decode to the same position.
pub fn query(bytes: &[u8]) {
    let known = ["q", "number", "held", "at", "limit", "after"];
    let text = &*String::from_utf8_lossy(bytes);
    let Ok(mut query) = Query::parse(text, (&known, &["status"])) else { return };
    assert!((1..=LIMIT_MAX).contains(&query.limit()));
    let (_, _) = (query.boolean("held"), query.read::<i64>("number", "a number"));
    let (_, _) = (query.moment("at"), query.choices::<OrderStatus>("status"));
    let _ = query.choices::<PaymentStatus>("status");
    let _ = query.choices::<FulfillmentStatus>("status");
    if let Some((at, id)) = list::after(&mut query, Sort::default()) {
        let mut again = after(&cursor("orders", &format!("{}/{id}", at.millis())));
        assert_eq!(list::after(&mut again, Sort::default()), Some((at, id)));
    }
    for list in ["dead-letters", "webhooks", "events"] {
        if let Some(place) = query.after::<i64>(list) {
            let mut again = after(&cursor(list, &place.to_string()));
            assert_eq!(again.after::<i64>(list), Some(place));
        }
    }
    for list in ["products", "stock"] {
        if let Some(place) = query.after::<String>(list) {
            let mut again = after(&cursor(list, &place));
            assert_eq!(again.after::<String>(list), Some(place));
            let other = if list == "stock" { "products" } else { "stock" };
            assert_eq!(query.after::<String>(other), None, "a cursor of another list is taken");
        }
    }
}

fn after(cursor: &str) -> Query {
    Query::parse(&format!("after={cursor}"), (&["after"], &[]))
        .expect("a cursor of ours is a query")
}

/// Decodes a text as a token of the live feed, and compares it with the token of an order.
pub fn tokens(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    if let Some(token) = LiveToken::parse(text) {
        assert!(token.seen.iter().all(|pos| *pos >= 0));
        assert_eq!(LiveToken::parse(&token.text()), Some(token));
    }
    let order = |n| OrderId(Key::new(uuid::Uuid::from_u128(n)));
    let (ours, secret) = (order(1), ServerSecret::new([7; 32]));
    let (now, lifetime) = (Timestamp::from_millis(1_800_000_000_000), Span::from_secs(60));
    let opens = |secret: &ServerSecret, order: OrderId, text: &str| {
        token::opens_order_until(secret, order, text, lifetime).is_some()
            || token::opens_cart(secret, CartId(order.0), text)
    };
    for token in
        [token::order_token(&secret, ours, now), token::cart_token(&secret, CartId(ours.0), now)]
    {
        assert!(!opens(&secret, ours, text) || *text == *token, "{text:?} opens an order");
        // A valid token that was cut, lengthened or changed in one place is refused.
        let at = bytes.first().map_or(0, |byte| usize::from(*byte) % token.len());
        let (before, rest) = token.split_at(at);
        let changed = if rest.starts_with('A') { "B" } else { "A" };
        let forged = [
            before.to_owned(),
            format!("{token}{}", text.get(..1).unwrap_or("=")),
            format!("{before}{changed}{}", rest.get(1..).unwrap_or("")),
        ];
        for forged in forged {
            assert!(!opens(&secret, ours, &forged), "{forged:?} opens an order");
        }
        let other = ServerSecret::new([8; 32]);
        assert!(!opens(&secret, order(2), &token) && !opens(&other, ours, &token));
    }
}

/// Decodes a message of a client of the live feed.
pub fn live(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (asked, known) = match client_message::read(text) {
        Ok(ClientMessage::Subscribe(asked, known)) => (asked, known),
        Ok(ClientMessage::Unsubscribe(_)) => return,
        Err(refused) => return assert!(!refused.wrong.detail.is_empty()),
    };
    match filter::read(&Topics::standard(), asked, known) {
        Err(wrong) => assert!(!wrong.detail.is_empty()),
        Ok(filter::Asked { spec, from, .. }) => {
            assert!((1..=64).contains(&spec.id.chars().count()));
            assert!((1..=LIMIT_MAX).contains(&spec.limit));
            if let Some(token) = from {
                assert_eq!(LiveToken::parse(&token.text()), Some(token));
            }
        }
    }
}
