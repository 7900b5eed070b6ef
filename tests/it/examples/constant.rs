//! What differs from run to run, replaced by what does not: ids, tokens, times and positions. The
//! same id is replaced by the same value everywhere.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kontor::actors::engine::clock::Clock;
use kontor::domain::time::Timestamp;
use regex::{Captures, Regex};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// When the story begins: 2026-01-15T09:00:00Z. Each chapter takes an hour, and each step a minute.
const BEGIN_MILLIS: i64 = 1_768_467_600_000;
const CHAPTER_MILLIS: i64 = 3_600_000;
const STEP_MILLIS: i64 = 60_000;
/// How far in the future a time is, is rounded to this.
const ROUNDED_MILLIS: i64 = 30_000;
/// The beginning of each key of a cart or an order.
const KEY: &str = "01kb7w5c2m8e4f6g9h1jkm";

type Replace = fn(&mut Known, &str) -> String;

pub struct Constant {
    patterns: [(Regex, Replace); 5],
    known: Known,
}

struct Known {
    clock: Clock,
    /// When each step really began, and when it begins in the story, in milliseconds.
    steps: Vec<(Timestamp, i64)>,
    /// What each text is replaced by.
    texts: BTreeMap<String, String>,
}

impl Constant {
    pub fn new() -> Self {
        let pattern = |text: &str| Regex::new(text).unwrap();
        let patterns: [(Regex, Replace); 5] = [
            (pattern("(?:cart|ord|pay|op)_[0-7][0-9a-hjkmnp-tv-z]{25}"), Known::id),
            (pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), Known::time),
            (pattern("[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{20}|[0-9a-f]{16}"), Known::digits),
            (pattern("^(?:[co]t_[A-Za-z0-9_-]{46}|[A-Za-z0-9_-]{43})$"), Known::token),
            (pattern("^\"[A-Za-z0-9_-]{22}\"$"), Known::tag),
        ];
        let known = Known { clock: Clock::system(), steps: Vec::new(), texts: BTreeMap::new() };
        Self { patterns, known }
    }

    /// Begins a step, in another millisecond than all that was before. One that waits for what the
    /// step before it has begun happens at the same time as that one.
    pub fn next_step(&mut self, (chapter, step): (i64, i64), waits: bool) {
        let before = self.known.clock.now();
        while self.known.clock.now() == before {
            std::hint::spin_loop();
        }
        let began = self.known.steps.last().filter(|_| waits).map(|(began, _)| *began);
        let shown = BEGIN_MILLIS + chapter * CHAPTER_MILLIS + step * STEP_MILLIS;
        self.known.steps.push((began.unwrap_or_else(|| self.known.clock.now()), shown));
    }

    /// A value with all that differs replaced; `name` is that of the field which has it.
    pub fn value(&mut self, name: &str, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let replaced = |(name, field): (&String, &Value)| {
                    let field = match (name.as_str(), fields.get("seq")) {
                        ("pos", Some(seq)) => (100 + seq.as_i64().unwrap()).into(),
                        ("pos", None) => 141.into(),
                        _ => self.value(name, field),
                    };
                    (name.clone(), field)
                };
                fields.iter().map(replaced).collect()
            }
            Value::Array(items) => items.iter().map(|item| self.value(name, item)).collect(),
            Value::String(text) => self.named_text(name, text).into(),
            other => other.clone(),
        }
    }

    fn named_text(&mut self, name: &str, text: &str) -> String {
        match name {
            "position" => return "MTo0Mg".to_owned(),
            "next_at" => return "2026-01-16T03:00:00.000Z".to_owned(),
            "signature" => return format!("t=1768467600,v1={}", hex::encode(Sha256::digest(name))),
            _ => {}
        }
        let inner = URL_SAFE_NO_PAD.decode(text).ok();
        let inner = inner.and_then(|inner| String::from_utf8(inner).ok());
        match inner.filter(|_| name.to_ascii_lowercase().ends_with("cursor")) {
            Some(inner) => URL_SAFE_NO_PAD.encode(self.text(&with_times(&inner))),
            None => self.text(text),
        }
    }

    fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (pattern, replace) in &self.patterns {
            let known = &mut self.known;
            let one = |found: &Captures<'_>| replace(known, &found[0]);
            text = pattern.replace_all(&text, one).into_owned();
        }
        text
    }
}

/// The times in a cursor, which are milliseconds, as they are in answers.
fn with_times(cursor: &str) -> String {
    let millis = Regex::new(r"\b\d{13}\b").unwrap();
    let one = |found: &Captures<'_>| Timestamp::from_millis(found[0].parse().unwrap()).to_string();
    millis.replace_all(cursor, one).into_owned()
}

impl Known {
    /// What a text is replaced by: what `make` makes of the number of other texts of this kind.
    fn once(&mut self, kind: &str, text: &str, make: impl FnOnce(usize) -> String) -> String {
        let key = format!("{kind} {text}");
        if let Some(known) = self.texts.get(&key) {
            return known.clone();
        }
        let others = self.texts.keys().filter(|key| key.starts_with(&format!("{kind} ")));
        let made = make(others.count());
        self.texts.insert(key, made.clone());
        made
    }

    /// A cart and its order have the same key.
    fn id(&mut self, text: &str) -> String {
        let (kind, key) = text.split_once('_').unwrap();
        let key = self.once("key", key, |count| format!("{KEY}{count:04}"));
        format!("{kind}_{key}")
    }

    /// A time that has passed is that of its step; one to come is as far from the step in which it
    /// is first seen as it really is.
    fn time(&mut self, text: &str) -> String {
        let (time, now) = (Timestamp::parse(text).unwrap(), self.clock.now());
        let before = self.steps.partition_point(|(began, _)| *began <= time);
        let shown = self.steps.get(before.saturating_sub(1)).map_or(BEGIN_MILLIS, |(_, at)| *at);
        if time <= now {
            return Timestamp::from_millis(shown).to_string();
        }
        let ahead = time.millis() - now.millis() + ROUNDED_MILLIS / 2;
        let at = shown + ahead / ROUNDED_MILLIS * ROUNDED_MILLIS;
        self.once("time", text, |_| Timestamp::from_millis(at).to_string())
    }

    fn digits(&mut self, text: &str) -> String {
        self.once("digits", text, |count| {
            hex::encode(Sha256::digest(count.to_string()))[..text.len()].to_owned()
        })
    }

    fn token(&mut self, text: &str) -> String {
        let make = |count: usize| match text.get(..3) {
            Some(prefix @ ("ct_" | "ot_")) => {
                let digest = Sha256::digest(count.to_string());
                format!("{prefix}{}", URL_SAFE_NO_PAD.encode([&[80, 160], &*digest].concat()))
            }
            _ => URL_SAFE_NO_PAD.encode(Sha256::digest(count.to_string())),
        };
        self.once("token", text, make)
    }

    fn tag(&mut self, text: &str) -> String {
        let make = |count: usize| {
            let digest = Sha256::digest(count.to_string());
            format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest[..16]))
        };
        self.once("tag", text, make)
    }
}
