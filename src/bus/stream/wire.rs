//! A committed event as a message: a CloudEvent in JSON with attributes of ours, under a subject
//! that names its shard. Read back, it is the record that was written, to the byte.
//!
//! All of it is in the body. As headers, the same attributes cost a client of NATS more than all
//! else of a message.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use tokio_util::bytes::Bytes;

use crate::domain::entity::{EntityId, Record};
use crate::domain::time::Timestamp;

/// What every subject of events begins with.
pub const SUBJECTS: &str = "kontor.events.>";

/// The most bytes of a body; a larger event is only announced, and read from the journal.
const BODY_BYTES_MAX: usize = 900 << 10;

/// About what the attributes take, in bytes.
const HEAD_BYTES: usize = 512;

/// The media type of a message.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// What stands between the attributes and the cause; in no attribute, where quotes are escaped.
const OPENING: &str = ",\"data\":{\"cause\":";
const MIDDLE: &str = ",\"data\":";
const END: &str = "}}";

/// The attributes of a message: first those of every CloudEvent, then ours.
#[derive(Serialize, Deserialize)]
struct Attributes<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    r#type: &'a str,
    time: String,
    #[serde(borrow)]
    subject: std::borrow::Cow<'a, str>,
    datacontenttype: &'a str,
    shard: u16,
    position: i64,
    seq: i64,
    version: u16,
    epoch: i64,
    /// Milliseconds since 1970.
    at: i64,
    /// The kind of the event, as the journal has it.
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
    /// How long the cause is, in bytes.
    causebytes: usize,
    sum: &'a str,
    /// How long what was left out is, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    omitted: Option<usize>,
}

/// A message of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamMessage {
    /// The shard of its event.
    pub shard: u16,
    /// The event's place in the shard.
    pub pos: i64,
    /// Where it is published: `kontor.events.<shard>.<noun>.<event>`.
    pub subject: String,
    /// What it is known by: `<shard>-<pos>`.
    pub id: String,
    /// The checksum of its record.
    pub sum: String,
    /// The CloudEvent.
    pub body: Bytes,
}

/// What nouns and rows are called outside, by the prefix of their ids. One that is not among them is
/// called by its prefix.
pub type PublicNames = BTreeMap<&'static str, &'static str>;

/// All that one shard publishes.
#[must_use]
pub fn of_shard(shard: u16) -> String {
    format!("kontor.events.{shard}.>")
}

impl StreamMessage {
    /// The message of a record that the owner of an epoch relays.
    #[must_use]
    pub fn of(record: &Record, epoch: i64, names: &PublicNames) -> Self {
        let (shard, pos, prefix) = (record.shard, record.pos, record.entity.prefix());
        let noun = word(names.get(prefix).copied().unwrap_or(prefix));
        let kind = word(&record.kind);
        let (id, sum) = (format!("{shard}-{pos}"), sum(record));
        let bytes = record.cause.len() + record.data.len();
        let whole = record.intact && bytes <= BODY_BYTES_MAX;
        let mut body = Vec::with_capacity(HEAD_BYTES + if whole { bytes } else { 0 });
        // Writing to memory does not fail, and none of these fields does.
        let _written = serde_json::to_writer(
            &mut body,
            &Attributes {
                specversion: "1.0",
                id: &id,
                source: "/kontor",
                r#type: &format!("kontor.{noun}.{kind}"),
                time: record.at.to_string(),
                subject: record.entity.as_str().into(),
                datacontenttype: "application/json",
                shard,
                position: pos,
                seq: record.seq,
                version: record.version,
                epoch,
                at: record.at.millis(),
                kind: (*record.kind).into(),
                causebytes: record.cause.len(),
                sum: &sum,
                omitted: (!whole).then_some(bytes),
            },
        );
        if whole {
            // The brace that ends the attributes comes at the end.
            body.pop();
            for part in [OPENING, &*record.cause, MIDDLE, &*record.data, END] {
                body.extend_from_slice(part.as_bytes());
            }
        }
        let subject = format!("kontor.events.{shard}.{noun}.{kind}");
        Self { shard, pos, subject, id, sum, body: body.into() }
    }

    /// The same, announced only: whoever wants more reads the journal.
    #[must_use]
    pub fn without_data(mut self) -> Self {
        let omitted = self.body.len();
        if let Some((mut head, Some(_))) = parts(&self.body) {
            head.pop();
            let _ = write!(head, ",\"omitted\":{omitted}}}");
            self.body = head.into();
        }
        self
    }
}

/// What can be told of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// The shard of its event.
    pub shard: u16,
    /// The event's place in the shard.
    pub pos: i64,
    /// The checksum of its record.
    pub sum: String,
    /// The record, if it is there and as it was written.
    pub record: Option<Record>,
}

/// The attributes of a message as JSON of their own, and what follows them of its data.
fn parts(body: &[u8]) -> Option<(String, Option<&str>)> {
    let text = std::str::from_utf8(body).ok()?;
    Some(match text.split_once(OPENING) {
        Some((head, data)) => (format!("{head}}}"), Some(data)),
        None => (text.to_owned(), None),
    })
}

/// Reads a message; nothing, if it is none of ours.
#[must_use]
pub fn read(body: &[u8]) -> Option<Heard> {
    let (head, data) = parts(body)?;
    let head: Attributes<'_> = serde_json::from_str(&head).ok()?;
    let rebuilt = || {
        let (cause, rest) = data?.split_at_checked(head.causebytes)?;
        let data = rest.strip_prefix(MIDDLE)?.strip_suffix(END)?;
        let record = Record {
            shard: head.shard,
            pos: head.position,
            entity: EntityId::new(&head.subject),
            seq: head.seq,
            kind: (*head.kind).into(),
            version: head.version,
            at: Timestamp::from_millis(head.at),
            cause: cause.into(),
            data: data.into(),
            intact: true,
        };
        (sum(&record) == head.sum).then_some(record)
    };
    let record = rebuilt();
    Some(Heard { shard: head.shard, pos: head.position, sum: head.sum.to_owned(), record })
}

/// A checksum of all that a record says.
#[must_use]
pub fn sum(record: &Record) -> String {
    let mut sum = crc32fast::Hasher::new();
    let mut head = String::with_capacity(128);
    let Record { shard, pos, entity, seq, kind, version, at, .. } = record;
    let _ = write!(head, "{shard}\n{pos}\n{entity}\n{seq}\n{kind}\n{version}\n{}\n", at.millis());
    for text in [&*head, &*record.cause, "\n", &*record.data] {
        sum.update(text.as_bytes());
    }
    format!("{:08x}", sum.finalize())
}

/// A text as one token of a subject.
fn word(text: &str) -> String {
    let good = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let word: String = text.chars().map(|c| if good(c) { c } else { '_' }).collect();
    if word.is_empty() { "_".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(record: &Record) -> StreamMessage {
        let names = PublicNames::from([("ord", "order"), ("sku", "stock")]);
        StreamMessage::of(record, 5, &names)
    }

    fn record() -> Record {
        Record {
            shard: 7,
            pos: 42,
            entity: EntityId::new("ord_x"),
            seq: 3,
            kind: "placed".into(),
            version: 2,
            at: Timestamp::from_millis(1_700_000_000_123),
            cause: r#"{"by":"buyer","cmd":"place é"}"#.into(),
            data: r#"{"total": 1, "data":{"cause":"}"}}"#.into(),
            intact: true,
        }
    }

    #[test]
    fn a_record_comes_back_to_the_byte() {
        let message = sent(&record());
        assert_eq!(message.subject, "kontor.events.7.order.placed");
        assert_eq!(message.id, "7-42");
        serde_json::from_slice::<serde_json::Value>(&message.body).unwrap();
        assert_eq!(read(&message.body).unwrap().record, Some(record()));
    }

    #[test]
    fn it_is_a_cloud_event() {
        let message = sent(&record());
        let event: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
        for (attribute, value) in [
            ("specversion", "1.0"),
            ("id", "7-42"),
            ("source", "/kontor"),
            ("type", "kontor.order.placed"),
            ("time", "2023-11-14T22:13:20.123Z"),
            ("subject", "ord_x"),
            ("datacontenttype", "application/json"),
        ] {
            assert_eq!(event[attribute], value);
        }
        assert_eq!(event["data"]["cause"]["by"], "buyer");
        assert_eq!(event["data"]["data"]["total"], 1);
    }

    #[test]
    fn an_entity_or_a_kind_may_be_anything() {
        let entity = EntityId::new("sku_\",\"data\":{\"cause\":\n\\é🦀");
        let odd = Record { entity, kind: "a b.\"c".into(), ..record() };
        let message = sent(&odd);
        assert_eq!(message.subject, "kontor.events.7.stock.a_b__c");
        serde_json::from_slice::<serde_json::Value>(&message.body).unwrap();
        assert_eq!(read(&message.body).unwrap().record, Some(odd));
    }

    #[test]
    fn what_is_damaged_or_left_out_is_no_record_but_has_a_place() {
        let mut message = sent(&record());
        let text = String::from_utf8(message.body.to_vec()).unwrap();
        message.body = text.replace("buyer", "seller").into();
        let heard = read(&message.body).unwrap();
        assert_eq!((heard.shard, heard.pos, heard.record), (7, 42, None));
        let announced = sent(&record()).without_data();
        let large = Record { data: format!("\"{}\"", "x".repeat(1 << 20)).into(), ..record() };
        for message in [announced, sent(&large)] {
            let event: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
            assert!(event["omitted"].as_u64() > Some(60) && event.get("data").is_none());
            let heard = read(&message.body).unwrap();
            assert_eq!((heard.shard, heard.pos, heard.record), (7, 42, None));
            assert_eq!(heard.sum, message.sum);
        }
        for end in 0..text.len() {
            let cut = read(&text.as_bytes()[..end]);
            assert!(cut.is_none_or(|heard| heard.record.is_none()));
        }
    }
}
