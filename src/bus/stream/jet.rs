//! The stream on JetStream. A server acknowledges a message before it has synced it, so the end of
//! the stream may be lost in a crash. nats-server 2.9 silently ignores unknown configuration, so
//! the reported configuration is compared with the requested one.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, IntoConsumerConfig as _, pull};
use async_nats::jetstream::context::{
    Context, ContextBuilder, GetStreamErrorKind, PublishError, PublishErrorKind,
};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Config, Info, LastRawMessageErrorKind, RawMessageErrorKind, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{ErrorCode, stream};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::wire::{CONTENT_TYPE, DecodedMessage, SUBJECTS, StreamMessage, of_shard, read};
use super::{NAME, PublishFuture, Stream, StreamError, missing_of};
use crate::bus::nats::Connection;
use crate::bus::nats_problems::NatsProblems;
use crate::bus::options::Options;
use crate::domain::cluster_key::ClusterKey;
use crate::domain::time::Timestamp;

/// Timeout of a request to the server.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a message is recognized as a duplicate by its id.
const DUPLICATES: Duration = Duration::from_secs(120);
/// The most unacknowledged messages that the client allows; more than the relay ever has.
const UNACKNOWLEDGED: usize = 4_096;
/// The period of the server's heartbeats. If none arrives for twice as long, the stream is followed
/// anew.
const HEARTBEAT: Duration = Duration::from_secs(2);
const EXPIRES: Duration = Duration::from_secs(30);
const PAGE: usize = 512;
/// The number of bytes of a message that are reserved for its headers.
const HEADERS: usize = 4_096;
const ID: &str = "Nats-Msg-Id";

/// The stream on JetStream. Clones share the same state.
#[derive(Clone)]
pub struct Jet(Arc<Inner>);

struct Inner {
    nats: Connection,
    key: ClusterKey,
    context: Context,
    config: Config,
    nats_problems: NatsProblems,
    known: Mutex<Known>,
}

/// The last known state of the stream, with which losses are detected.
#[derive(Default)]
struct Known {
    incarnation: u64,
    created: Option<OffsetDateTime>,
    last: u64,
    emptied_at: u64,
    /// Random suffixes of message ids, by shard, for shards whose messages were purged. The server
    /// remembers the ids of purged messages, so without a suffix it would treat the same events,
    /// sent again, as duplicates.
    salts: HashMap<u16, u32>,
}

impl Jet {
    /// The stream with these options. Nothing is sent yet.
    #[must_use]
    pub fn new(
        nats: Connection,
        options: &Options,
        key: ClusterKey,
        nats_problems: NatsProblems,
    ) -> Self {
        let context = ContextBuilder::new()
            .timeout(PATIENCE)
            .ack_timeout(PATIENCE)
            .max_ack_inflight(UNACKNOWLEDGED)
            .build(nats.client().clone());
        let config = Config {
            name: NAME.to_owned(),
            subjects: vec![SUBJECTS.to_owned()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            max_age: Duration::from_secs(options.events_age_hours.saturating_mul(3_600)),
            max_bytes: i64::try_from(options.events_bytes_max).unwrap_or(i64::MAX),
            max_messages: -1,
            max_messages_per_subject: -1,
            max_consumers: -1,
            num_replicas: options.events_replicas,
            duplicate_window: DUPLICATES,
            ..Config::default()
        };
        let known = Mutex::default();
        Self(Arc::new(Inner { nats, key, context, config, nats_problems, known }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stream(&self) -> Result<stream::Stream<()>, StreamError> {
        self.0.context.get_stream_no_info(NAME).await.map_err(failed)
    }

    async fn info(&self) -> Result<Info, StreamError> {
        let stream = self.0.context.get_stream(NAME).await;
        let stream = stream.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(why) => of_code(&why),
            _ => failed(error),
        })?;
        Ok(stream.cached_info().clone())
    }

    /// Sends a message with an id.
    async fn publish(&self, message: &StreamMessage, id: &str) -> Result<Acked, StreamError> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", CONTENT_TYPE);
        headers.insert(ID, id);
        let publish = PublishMessage::build().payload(message.body.clone()).headers(headers);
        self.0.context.send_publish(message.subject.clone(), publish).await.map_err(of_publish)
    }

    fn keep(&self, sequence: u64) {
        let mut known = self.known();
        known.last = known.last.max(sequence);
    }

    /// Handles a message that the server reports as a duplicate. If the stream does not have the
    /// message any more, because it was purged, it is sent again with another id.
    async fn again(&self, message: &StreamMessage, sequence: u64) -> Result<(), StreamError> {
        let found = self.stream().await?.get_raw_message(sequence).await;
        match found.map_err(|error| (error.kind(), error.to_string())) {
            Ok(found)
                if found.headers.get(ID).is_some_and(|id| id.as_str().starts_with(&message.id)) =>
            {
                return Ok(());
            }
            Ok(_) | Err((RawMessageErrorKind::NoMessageFound, _)) => {}
            Err((RawMessageErrorKind::JetStream(why), _))
                if why.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                return Err(StreamError::Missing);
            }
            Err((_, text)) => return Err(StreamError::Failed(text)),
        }
        let id = format!("{}~{:08x}", message.id, rand::random::<u32>());
        let acked = self.publish(message, &id).await?.await.map_err(of_publish)?;
        self.keep(acked.sequence);
        Ok(())
    }
}

impl Jet {
    /// All positions of a shard in the stream, according to its messages' ids.
    async fn positions(&self, shard: u16) -> Result<BTreeSet<i64>, StreamError> {
        let asked = pull::Config {
            deliver_policy: DeliverPolicy::All,
            filter_subject: of_shard(shard),
            ack_policy: AckPolicy::None,
            headers_only: true,
            inactive_threshold: EXPIRES,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let stream = self.stream().await?;
        let mut consumer = stream.create_consumer(asked).await.map_err(failed)?;
        let messages = consumer.stream().max_messages_per_batch(PAGE).expires(EXPIRES).messages();
        let mut messages = messages.await.map_err(failed)?;
        let mut positions = BTreeSet::new();
        let mut left = consumer.cached_info().num_pending;
        while left > 0 {
            let Ok(next) = tokio::time::timeout(PATIENCE, messages.next()).await else {
                // The remaining messages may have expired from the stream before they were
                // delivered.
                left = consumer.info().await.map_err(failed)?.num_pending;
                if left > 0 {
                    return Err(failed("the server does not report the stream's contents"));
                }
                break;
            };
            let Some(message) = next else { break };
            let message = message.map_err(failed)?;
            left = message.info().map_err(failed)?.pending;
            let id = message.headers.as_ref().and_then(|headers| headers.get(ID));
            let pos: Option<i64> =
                id.and_then(|id| id.as_str().split(['-', '~']).nth(1)?.parse().ok());
            positions.extend(pos);
        }
        let name = consumer.cached_info().name.clone();
        if let Err(error) = stream.delete_consumer(&name).await {
            tracing::debug!(%error, "cannot delete a consumer; the server drops it later");
        }
        Ok(positions)
    }
}

type Acked = async_nats::jetstream::context::PublishAckFuture;

fn failed(error: impl std::fmt::Display) -> StreamError {
    StreamError::Failed(error.to_string())
}

fn of_code(error: &async_nats::jetstream::Error) -> StreamError {
    if error.error_code() == ErrorCode::STREAM_NOT_FOUND {
        StreamError::Missing
    } else {
        failed(error)
    }
}

fn of_publish(error: PublishError) -> StreamError {
    match error.kind() {
        PublishErrorKind::StreamNotFound => StreamError::Missing,
        _ => failed(error),
    }
}

#[async_trait]
impl Stream for Jet {
    fn key(&self) -> &ClusterKey {
        &self.0.key
    }

    fn reachable(&self) -> watch::Receiver<bool> {
        self.0.nats.connected()
    }

    async fn ready(&self) -> Result<(), StreamError> {
        let Inner { context, config, nats_problems, .. } = &*self.0;
        let about = "stream KONTOR_EVENTS";
        let info = match self.info().await {
            Err(StreamError::Missing) => {
                let made = context.create_stream(config.clone()).await.map_err(failed)?;
                tracing::info!(stream = NAME, "created the stream");
                made.cached_info().clone()
            }
            other => other?,
        };
        nats_problems.compare(about, config, &info.config);
        if nats_problems.all().iter().any(|(found, _)| *found == about) {
            match context.update_stream(config).await {
                Ok(info) => nats_problems.compare(about, config, &info.config),
                Err(error) => tracing::warn!(%error, stream = NAME, "cannot update the stream's \
                                                                     configuration"),
            }
        }
        Ok(())
    }

    async fn incarnation(&self) -> Result<u64, StreamError> {
        let info = self.info().await?;
        let state = &info.state;
        let mut known = self.known();
        let other = known.created.is_some_and(|created| created != info.created);
        let shorter = state.last_sequence < known.last;
        let emptied = state.messages == 0 && state.first_sequence > known.emptied_at.max(1);
        if other || shorter || emptied {
            known.incarnation += 1;
            known.last = state.last_sequence;
        }
        known.emptied_at = if state.messages == 0 { state.first_sequence } else { 0 };
        known.created = Some(info.created);
        Ok(known.incarnation)
    }

    async fn last(&self, shard: u16) -> Result<Option<(i64, String)>, StreamError> {
        let stream = self.stream().await?;
        match stream.get_last_raw_message_by_subject(&of_shard(shard)).await {
            Ok(message) => {
                let decoded = read(&message.payload, self.key());
                Ok(decoded.map(|decoded| (decoded.pos, decoded.sum)))
            }
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(why) => Err(of_code(&why)),
                _ => Err(failed(error)),
            },
        }
    }

    async fn missing(&self, shard: u16, from: i64) -> Result<i64, StreamError> {
        let stream = self.stream().await?;
        let first = match stream.get_first_raw_message_by_subject(of_shard(shard), 1).await {
            Ok(message) => read(&message.payload, self.key()),
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound => None,
                RawMessageErrorKind::JetStream(why) => return Err(of_code(&why)),
                _ => return Err(failed(error)),
            },
        };
        let Some(first) = first else {
            return Ok(from);
        };
        // The first position is read before the count, and the last one after it. So if messages
        // are added or expire meanwhile, the count is too small, and the comparison below fails.
        let mut counts = stream.info_with_subjects(of_shard(shard)).await.map_err(failed)?;
        let mut count = 0;
        while let Some((_, one)) = counts.try_next().await.map_err(failed)? {
            count += i64::try_from(one).unwrap_or(i64::MAX);
        }
        let last = self.last(shard).await?.map_or(0, |(last, _)| last);
        if first.pos <= from && count == last - first.pos + 1 {
            return Ok(from.max(last + 1));
        }
        // A message is missing, duplicated or out of order.
        Ok(missing_of(&self.positions(shard).await?, from))
    }

    async fn horizon(&self) -> Result<Option<Timestamp>, StreamError> {
        // The configuration is read from the server, which may have applied other limits than
        // requested.
        let Info { config, state, .. } = self.info().await?;
        let old = (!config.max_age.is_zero()).then(|| OffsetDateTime::now_utc() - config.max_age);
        // A stream that is at least 90 % full, and does not begin with its first message, has
        // dropped its oldest messages by size. In a less full stream, the first messages are
        // missing because they were purged, with their shard.
        let full = u64::try_from(config.max_bytes).unwrap_or(u64::MAX) / 10 * 9;
        let full = state.first_sequence > 1 && state.bytes >= full;
        let at = old.max(full.then_some(state.first_timestamp));
        let millis = |at: OffsetDateTime| i64::try_from(at.unix_timestamp_nanos() / 1_000_000);
        Ok(at.and_then(|at| millis(at).ok()).map(Timestamp::from_millis))
    }

    async fn purge(&self, shard: u16) -> Result<(), StreamError> {
        let purged = self.stream().await?.purge().filter(of_shard(shard)).await;
        purged.map_err(failed)?;
        self.known().salts.insert(shard, rand::random());
        Ok(())
    }

    async fn send(&self, message: StreamMessage) -> Result<PublishFuture, StreamError> {
        let fits = message.body.len() + HEADERS <= self.0.nats.message_bytes_max();
        let message = if fits { message } else { message.without_data() };
        let salt = self.known().salts.get(&message.shard).copied();
        let id = match salt {
            Some(salt) => format!("{}~{salt:08x}", message.id),
            None => message.id.clone(),
        };
        let acked = self.publish(&message, &id).await?;
        let this = self.clone();
        let kept = async move {
            let acked = acked.await.map_err(of_publish)?;
            if acked.duplicate {
                return this.again(&message, acked.sequence).await;
            }
            this.keep(acked.sequence);
            Ok(())
        };
        Ok(kept.boxed())
    }

    async fn follow(
        &self,
    ) -> Result<BoxStream<'static, Result<DecodedMessage, StreamError>>, StreamError> {
        // Checks first that the stream exists, because the error of creating a consumer without a
        // stream is less clear.
        self.info().await?;
        let asked = pull::Config {
            deliver_policy: DeliverPolicy::LastPerSubject,
            filter_subject: SUBJECTS.to_owned(),
            ack_policy: AckPolicy::None,
            inactive_threshold: EXPIRES,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let stream = self.stream().await?;
        let consumer = stream.create_consumer(asked.clone()).await.map_err(failed)?;
        let got = &consumer.cached_info().config;
        self.0.nats_problems.compare(
            "consumer of KONTOR_EVENTS",
            &asked.into_consumer_config(),
            got,
        );
        let messages = consumer
            .stream()
            .max_messages_per_batch(PAGE)
            .heartbeat(HEARTBEAT)
            .expires(EXPIRES)
            .messages()
            .await
            .map_err(failed)?;
        let key = self.key().clone();
        let decoded = messages.filter_map(move |message| {
            let decoded = match message {
                Ok(message) => read(&message.payload, &key).map(Ok),
                Err(error) => Some(Err(failed(error))),
            };
            std::future::ready(decoded)
        });
        Ok(decoded.boxed())
    }
}
