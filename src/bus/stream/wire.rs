//! A committed event as a message: a CloudEvent in JSON with extension attributes, under a subject
//! that names its shard. Decoding a message gives the original record, byte for byte.
//!
//! All attributes are in the body: as headers, they would cost a NATS client more time than the
//! rest of the message.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use tokio_util::bytes::Bytes;

use crate::domain::cluster_key::{ClusterKey, MessageKind};
use crate::domain::entity::{EntityId, Record};
use crate::domain::time::Timestamp;
use crate::seeded_fault::{self, SeededFault};

/// The subjects of all events, as a pattern.
pub const SUBJECTS: &str = "kontor.events.>";

/// The most bytes of a body. A larger event is sent without its cause and data, and receivers read
/// it from the journal.
const BODY_BYTES_MAX: usize = 900 << 10;

/// The approximate size of the attributes, in bytes.
const HEAD_BYTES: usize = 512;

/// The media type of a message.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Separates the attributes from the cause. It cannot occur in an attribute, because quotes are
/// escaped there.
const OPENING: &str = ",\"data\":{\"cause\":";
const MIDDLE: &str = ",\"data\":";
const END: &str = "}}";

/// The attributes of a message: first those of every CloudEvent, then the extension attributes.
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
    /// The kind of the event, as in the journal.
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
    /// The length of the cause, in bytes.
    causebytes: usize,
    sum: &'a str,
    /// If cause and data are omitted, their approximate length, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    omitted: Option<usize>,
}

/// A message of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamMessage {
    /// The shard of its event.
    pub shard: u16,
    /// The event's position in the shard.
    pub pos: i64,
    /// Its subject: `kontor.events.<shard>.<noun>.<event>`.
    pub subject: String,
    /// Its id for deduplication: `<shard>-<pos>`.
    pub id: String,
    /// The signature of its record.
    pub sum: String,
    /// The CloudEvent.
    pub body: Bytes,
}

/// The public names of nouns and versioned rows, by the prefix of their ids. For a prefix without
/// an entry, it is the prefix itself.
pub type PublicNames = BTreeMap<&'static str, &'static str>;

/// The subjects of one shard.
#[must_use]
pub fn of_shard(shard: u16) -> String {
    format!("kontor.events.{shard}.>")
}

impl StreamMessage {
    /// The message of a record, relayed by the owner of its shard in this epoch.
    #[must_use]
    pub fn of(record: &Record, epoch: i64, names: &PublicNames, key: &ClusterKey) -> Self {
        let (shard, pos, prefix) = (record.shard, record.pos, record.entity.prefix());
        let noun = word(names.get(prefix).copied().unwrap_or(prefix));
        let kind = word(&record.kind);
        let (id, sum) = (format!("{shard}-{pos}"), sign(record, key));
        let bytes = record.cause.len() + record.data.len();
        let whole = record.intact && bytes <= BODY_BYTES_MAX;
        let mut body = Vec::with_capacity(HEAD_BYTES + if whole { bytes } else { 0 });
        // Writing to memory does not fail, and neither does the encoding of these fields.
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
            // The closing brace of the attributes is added at the end.
            body.pop();
            for part in [OPENING, &*record.cause, MIDDLE, &*record.data, END] {
                body.extend_from_slice(part.as_bytes());
            }
        }
        let subject = format!("kontor.events.{shard}.{noun}.{kind}");
        Self { shard, pos, subject, id, sum, body: body.into() }
    }

    /// The message without the event's cause and data: receivers read the event from the journal.
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

/// A decoded message.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedMessage {
    /// The shard of its event.
    pub shard: u16,
    /// The event's position in the shard.
    pub pos: i64,
    /// The signature of its record.
    pub sum: String,
    /// The record, if it is complete and a node of the cluster has signed it.
    pub record: Option<Record>,
}

/// Splits a body into the attributes, as JSON, and the rest: cause and data.
fn parts(body: &[u8]) -> Option<(String, Option<&str>)> {
    let text = std::str::from_utf8(body).ok()?;
    Some(match text.split_once(OPENING) {
        Some((head, data)) => (format!("{head}}}"), Some(data)),
        None => (text.to_owned(), None),
    })
}

/// Decodes a message; `None` if it is not an event of kontor.
#[must_use]
pub fn read(body: &[u8], key: &ClusterKey) -> Option<DecodedMessage> {
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
        let is_believed = is_signed(&record, head.sum, key)
            || seeded_fault::active(SeededFault::ForeignEventBelieved);
        is_believed.then_some(record)
    };
    let record = rebuilt();
    Some(DecodedMessage { shard: head.shard, pos: head.position, sum: head.sum.to_owned(), record })
}

/// The signature of a record, by a node of the cluster.
#[must_use]
pub fn sign(record: &Record, key: &ClusterKey) -> String {
    key.sign(MessageKind::Event, &texts(record, &head(record)), record.data.as_bytes())
}

/// Whether this is the signature of a record.
#[must_use]
pub fn is_signed(record: &Record, signature: &str, key: &ClusterKey) -> bool {
    let head = head(record);
    key.is_signed(signature, MessageKind::Event, &texts(record, &head), record.data.as_bytes())
}

/// Everything of a record but its texts.
fn head(record: &Record) -> String {
    let Record { shard, pos, seq, version, at, .. } = record;
    format!("{shard} {pos} {seq} {version} {}", at.millis())
}

fn texts<'a>(record: &'a Record, head: &'a str) -> [&'a str; 4] {
    [head, record.entity.as_str(), &record.kind, &record.cause]
}

/// A text as one token of a NATS subject: other characters than letters, digits, `_` and `-` become
/// `_`.
fn word(text: &str) -> String {
    let good = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let word: String = text.chars().map(|c| if good(c) { c } else { '_' }).collect();
    if word.is_empty() { "_".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ClusterKey {
        ClusterKey::new([7; 32])
    }

    fn read(body: &[u8]) -> Option<DecodedMessage> {
        super::read(body, &key())
    }

    fn sent(record: &Record) -> StreamMessage {
        let names = PublicNames::from([("ord", "order"), ("sku", "stock")]);
        StreamMessage::of(record, 5, &names, &key())
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
    fn stream_message_round_trips_byte_for_byte() {
        let message = sent(&record());
        assert_eq!(message.subject, "kontor.events.7.order.placed");
        assert_eq!(message.id, "7-42");
        serde_json::from_slice::<serde_json::Value>(&message.body).unwrap();
        assert_eq!(read(&message.body).unwrap().record, Some(record()));
    }

    #[test]
    fn a_record_of_another_key_is_not_believed() {
        let message = sent(&record());
        let decoded = super::read(&message.body, &ClusterKey::new([8; 32])).unwrap();
        assert_eq!((decoded.pos, decoded.record), (42, None));
        let changed: [fn(&mut Record); 8] = [
            |one| one.shard = 8,
            |one| one.pos = 43,
            |one| one.seq = 4,
            |one| one.version = 1,
            |one| one.at = Timestamp::from_millis(5),
            |one| one.entity = EntityId::new("ord_y"),
            |one| one.cause = "{}".into(),
            |one| one.data = "{}".into(),
        ];
        for change in changed {
            let mut other = record();
            change(&mut other);
            assert!(!is_signed(&other, &message.sum, &key()), "{other:?}");
        }
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
    fn any_entity_id_and_event_kind_round_trips() {
        let entity = EntityId::new("sku_\",\"data\":{\"cause\":\n\\é🦀");
        let odd = Record { entity, kind: "a b.\"c".into(), ..record() };
        let message = sent(&odd);
        assert_eq!(message.subject, "kontor.events.7.stock.a_b__c");
        serde_json::from_slice::<serde_json::Value>(&message.body).unwrap();
        assert_eq!(read(&message.body).unwrap().record, Some(odd));
    }

    #[test]
    fn damaged_message_has_a_position_and_no_record() {
        let mut message = sent(&record());
        let text = String::from_utf8(message.body.to_vec()).unwrap();
        message.body = text.replace("buyer", "seller").into();
        let decoded = read(&message.body).unwrap();
        assert_eq!((decoded.shard, decoded.pos, decoded.record), (7, 42, None));
        let announced = sent(&record()).without_data();
        let large = Record { data: format!("\"{}\"", "x".repeat(1 << 20)).into(), ..record() };
        for message in [announced, sent(&large)] {
            let event: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
            assert!(event["omitted"].as_u64() > Some(60) && event.get("data").is_none());
            let decoded = read(&message.body).unwrap();
            assert_eq!((decoded.shard, decoded.pos, decoded.record), (7, 42, None));
            assert_eq!(decoded.sum, message.sum);
        }
        for end in 0..text.len() {
            let cut = read(&text.as_bytes()[..end]);
            assert!(cut.is_none_or(|decoded| decoded.record.is_none()));
        }
    }
}
