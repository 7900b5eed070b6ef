//! A fuzz target: the guarantees of the parsers of requests. It is called by kontor's
//! `src/fuzz.rs`.

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use actix_web::web;
use serde::de::DeserializeOwned;

use super::api::{Cancel, PaymentListQuery, account};
use super::book::AccountBook;
use super::fact::{BookedKind, Endpoint, Fact};
use super::faults::{Faults, TokenOutcome, happens};
use super::service::{AMOUNT_MAX, AuthorizeBody, Operate, check_reference};

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// Parses bytes as every part of a request, and as lines of a ledger.
pub fn requests(bytes: &[u8]) {
    if let Some(asked) = read::<AuthorizeBody>(bytes)
        && let Ok(token) = asked.check()
        && let Ok(made) = asked.decide(token, &Faults::default())
    {
        assert!((0..=AMOUNT_MAX).contains(&made.amount), "{made:?}");
    }
    if let Some(asked) = read::<Operate>(bytes) {
        for kind in [BookedKind::Capture, BookedKind::Void, BookedKind::Refund] {
            let _checked = asked.check(kind);
        }
    }
    if let Some(cancel) = read::<Cancel>(bytes) {
        let _checked = check_reference(&cancel.reference);
    }
    if let Some(faults) = read::<Faults>(bytes)
        && faults.check().is_ok()
    {
        // Drawing with a valid rate must not panic.
        for rate in [faults.decline, faults.timeout, faults.error_500, faults.webhook_drop] {
            let _ = happens(rate);
        }
    }
    let _: Option<Endpoint> = read(bytes);
    let text = &*String::from_utf8_lossy(bytes);
    if let Ok(list) = web::Query::<PaymentListQuery>::from_query(text)
        && let Some(reference) = &list.reference
    {
        let _checked = check_reference(reference);
    }
    if let Ok(token) = TokenOutcome::read(text) {
        assert!(text.starts_with("tok_"), "{token:?}");
    }
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value);
        if let Ok(account) = account(&headers) {
            assert_eq!(format!("Bearer {account}"), text);
        }
    }
    let mut book = AccountBook::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(fact) = read::<Fact>(line) {
            let _applied = book.apply(&fact);
        }
    }
}
